//! The books and the trail after every way in which a driver can drive the protocol. acme's `Segment` has 24 rows to begin
//! with; each test says what must be there in the end, in the table and in the books.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, bind, close, execute, extended, flush, frame, parse, query, sync};

const ONE: &str = "insert into \"Segment\" (name) values ('one ' || gen_random_uuid())";
const TWO: &str =
    "insert into \"Segment\" (name) values ('one ' || gen_random_uuid()), ('two ' || gen_random_uuid()) returning 7";
const COUNT: &str = "select count(*) from \"Segment\"";

struct Stage {
    dev: Dev,
    wire: Wire,
    limit: usize,
}

impl Stage {
    /// A proxy with room for so many more of acme's segments.
    fn with_room(room: usize) -> Self {
        let dev = Dev::start(&["--pool-size", "3", "--quota", &format!("segments=Segment:{}", 24 + room)]);
        let wire = Wire::open(dev.acme());
        Self { dev, wire, limit: 24 + room }
    }

    /// What the proxy's books say is used.
    fn used(&self) -> usize {
        let path = format!("/api/workspaces/{}/quota", self.dev.text("/workspaces/0/id"));
        usize::try_from(self.dev.http(&path)["quotas"][0]["currentUsage"].as_u64().unwrap()).unwrap()
    }

    /// So many rows are there, the books know it, and what room there is can be used to the last row.
    fn ends_with(&mut self, added: usize) {
        let mut wire = Wire::open(self.dev.acme());
        let count: usize = wire.value(COUNT).parse().unwrap();
        assert_eq!(count, 24 + added);
        assert_eq!(self.used(), count);
        for _ in count..self.limit {
            assert_eq!(wire.query(ONE), "C(INSERT 0 1) Z(I)");
        }
        assert_eq!(wire.query(ONE), "E(53400) Z(I)");
    }

    /// The trail's writes and refusals as lines, once there are `count` of them.
    fn trail(&self, count: usize) -> Vec<String> {
        let sql = "select concat_ws(' ', event_type, outcome, relation, resource, coalesce(rows::text, '?'), sqlstate) from cordon.audit_event \
            where event_type ~ '^(RESOURCE|DATA|BULK|QUOTA_EXCEEDED)' order by stream, seq";
        let mut admin = self.dev.admin();
        for _ in 0..400 {
            let rows = admin.rows(sql);
            if rows.len() >= count {
                return rows;
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        panic!("fewer than {count}: {:#?}", admin.rows(sql));
    }
}

/// Copy data, and its end.
fn copied(rows: &[&str]) -> Vec<u8> {
    let mut bytes: Vec<u8> = rows.iter().flat_map(|row| frame(b'd', format!("{row}\n").as_bytes())).collect();
    bytes.extend(frame(b'c', b""));
    bytes
}

#[test]
fn what_follows_a_rollback_in_the_same_write_is_counted() {
    let mut stage = Stage::with_room(8);
    let wire = &mut stage.wire;
    wire.query("begin");
    wire.query("savepoint s");
    wire.send(&[query("rollback to s"), query(ONE), query("commit")].concat());
    assert_eq!(wire.cycles(3), "C(ROLLBACK) Z(T) C(INSERT 0 1) Z(T) C(COMMIT) Z(I)");
    wire.query("begin");
    assert_eq!(wire.query(&format!("{ONE}; rollback; {ONE}")), "C(INSERT 0 1) C(ROLLBACK) C(INSERT 0 1) Z(I)");
    wire.query("begin");
    wire.query("select 1/0");
    wire.send(&[query("rollback"), extended(ONE, &[])].concat());
    assert_eq!(wire.cycles(2), "C(ROLLBACK) Z(I) 1 2 C(INSERT 0 1) Z(I)");
    wire.query("begin");
    wire.query("savepoint s");
    wire.query(&format!("savepoint s /*{}*/", "x".repeat(70_000)));
    wire.query(ONE);
    wire.query("rollback to s");
    wire.query(ONE);
    wire.query("commit");
    stage.ends_with(4);
}

#[test]
fn what_postgres_skipped_or_failed_gives_its_room_back() {
    let mut stage = Stage::with_room(2);
    let wire = &mut stage.wire;
    let one = [parse("", ONE), bind("", "", &[]), execute("", 0)].concat();
    let fails = [parse("", "select 1 / (select 0)"), bind("", "", &[]), execute("", 0)].concat();
    for _ in 0..5 {
        wire.send(&[&fails[..], &one, &one, &sync()].concat());
        assert_eq!(wire.cycles(1), "1 2 E(22012) Z(I)");
        wire.query("begin");
        wire.query("savepoint s");
        wire.send(&[&fails[..], &one, &one, &sync(), &query("rollback to s"), &query("commit")].concat());
        assert_eq!(wire.cycles(3), "1 2 E(22012) Z(E) C(ROLLBACK) Z(T) C(COMMIT) Z(I)");
        let bad = "insert into \"Segment\" (name, definition) values ('x', 'no json')";
        assert_eq!(wire.query(bad), "E(22P02) Z(I)");
    }
    stage.ends_with(0);
}

#[test]
fn a_portal_that_is_executed_in_parts_counts_once() {
    let mut stage = Stage::with_room(6);
    let wire = &mut stage.wire;
    wire.send(&[parse("a", TWO), sync()].concat());
    wire.cycles(1);
    wire.query("begin");
    wire.send(&[bind("p", "a", &[]), execute("p", 1), sync(), query("select 1"), execute("p", 0), sync()].concat());
    assert_eq!(wire.cycles(3), "2 D(7) s Z(T) T D(1) C(SELECT 1) Z(T) D(7) C(INSERT 0 1) Z(T)");
    wire.send(&[bind("q", "a", &[]), execute("q", 1), close(b'P', "q"), sync()].concat());
    assert_eq!(wire.cycles(1), "2 D(7) s 3 Z(T)");
    // When it is full, what is left of a portal still comes.
    wire.send(&[bind("r", "a", &[]), execute("r", 1), sync()].concat());
    assert_eq!(wire.cycles(1), "2 D(7) s Z(T)");
    wire.send(&[execute("r", 1), execute("r", 1), sync()].concat());
    assert_eq!(wire.cycles(1), "D(7) s C(INSERT 0 0) Z(T)");
    assert_eq!(wire.query("commit"), "C(COMMIT) Z(I)");
    stage.ends_with(6);
    let line = |rows: &str| format!("RESOURCE_CREATED ok public.Segment {rows}");
    assert_eq!(stage.trail(4)[..3], [line("2"), line("?"), line("2")]);
}

#[test]
fn portals_are_known_whatever_their_bind_was_followed_by() {
    let mut stage = Stage::with_room(3);
    let wire = &mut stage.wire;
    wire.send(&[parse("a", ONE), sync()].concat());
    wire.cycles(1);
    // Bound behind a Query that is answered only then.
    wire.send(&[query("select 1"), bind("", "a", &[]), flush()].concat());
    assert_eq!(wire.cycles(1), "T D(1) C(SELECT 1) Z(I)");
    assert_eq!(wire.until(b'2'), "2");
    wire.send(&[execute("", 0), sync()].concat());
    assert_eq!(wire.cycles(1), "C(INSERT 0 1) Z(I)");
    // Postgres takes these two names for one.
    wire.query("begin");
    let (long, longer) = ("p".repeat(63), "p".repeat(80));
    wire.send(&[bind(&longer, "a", &[]), sync(), query("select 1"), execute(&long, 0), sync()].concat());
    assert_eq!(wire.cycles(3), "2 Z(T) T D(1) C(SELECT 1) Z(T) C(INSERT 0 1) Z(T)");
    // A Bind that fails leaves the portal that had the name.
    wire.send(&[bind("p", "a", &[]), sync(), query("savepoint s")].concat());
    wire.cycles(2);
    wire.send(
        &[parse("", "select 1"), bind("p", "", &[]), sync(), query("rollback to s"), execute("p", 0), sync()].concat(),
    );
    assert_eq!(wire.cycles(3), "1 E(42P03) Z(E) C(ROLLBACK) Z(T) C(INSERT 0 1) Z(T)");
    assert_eq!(wire.query("commit"), "C(COMMIT) Z(I)");
    stage.ends_with(3);
    assert_eq!(stage.trail(3)[..3], ["RESOURCE_CREATED ok public.Segment 1"; 3]);
}

#[test]
fn a_statement_that_sql_prepared_is_counted_and_told() {
    let mut stage = Stage::with_room(3);
    let wire = &mut stage.wire;
    wire.query(&format!("prepare a as {ONE}"));
    assert_eq!(wire.query("execute a"), "C(INSERT 0 1) Z(I)");
    wire.send(&[bind("", "a", &[]), execute("", 0), sync()].concat());
    assert_eq!(wire.cycles(1), "2 C(INSERT 0 1) Z(I)");
    stage.ends_with(2);
    assert_eq!(stage.trail(2)[..2], ["RESOURCE_CREATED ok 1", "RESOURCE_CREATED ok 1"]);
}

#[test]
fn a_copy_that_postgres_refuses_leaves_the_protocol_and_the_books_right() {
    // Into a table under row-level security nobody copies. What a client has sent of its data by then is ignored.
    let mut stage = Stage::with_room(3);
    let wire = &mut stage.wire;
    let copy = "copy \"Segment\" (name) from stdin";
    assert_eq!(wire.query(copy), "E(0A000) Z(I)");
    wire.send(&[query(copy), copied(&["a", "b"]), query("select 1")].concat());
    assert_eq!(wire.cycles(2), "E(0A000) Z(I) T D(1) C(SELECT 1) Z(I)");
    wire.send(
        &[parse("", copy), bind("", "", &[]), execute("", 0), copied(&["a"]), sync(), query("select 1")].concat(),
    );
    assert_eq!(wire.cycles(2), "1 2 E(0A000) Z(I) T D(1) C(SELECT 1) Z(I)");
    wire.send(&[query(&format!("begin; {ONE}; commit; {copy}")), copied(&["a"]), sync(), query(ONE)].concat());
    assert_eq!(wire.cycles(3), "C(BEGIN) C(INSERT 0 1) C(COMMIT) E(0A000) Z(I) Z(I) C(INSERT 0 1) Z(I)");
    stage.ends_with(2);
}

#[test]
fn a_report_from_deep_inside_is_taken_out_of_the_stream_as_a_whole() {
    let mut stage = Stage::with_room(5);
    let mut admin = stage.dev.admin();
    for sql in [
        "create function public.deep(n int) returns int language plpgsql as 'begin if n = 0 then insert into public.\"Segment\" (name) values (''deep '' || gen_random_uuid()); raise notice ''here''; return 1; end if; return public.deep(n - 1); end'",
        "grant execute on function public.deep(int) to pgcordon_app",
    ] {
        let said = admin.query(sql);
        assert!(!said.contains("E("), "{said}");
    }
    let wire = &mut stage.wire;
    // A CONTEXT of some 60 kB for each.
    for depth in ["10", "150", "600"] {
        assert_eq!(wire.query(&format!("select public.deep({depth})")), "T N(00000) D(1) C(SELECT 1) Z(I)");
        wire.send(&extended("select public.deep($1::int)", &[depth]));
        // The last one is a debt.
        assert_eq!(wire.cycles(1), "1 2 N(00000) D(1) C(SELECT 1) Z(I)");
    }
    assert!(!String::from_utf8_lossy(&wire.received).contains("pgcordon meter"));
    let count: usize = wire.value(COUNT).parse().unwrap();
    assert_eq!((count, stage.used()), (30, 30));
}

#[test]
fn a_client_that_hangs_up_in_any_state_leaves_the_books_right() {
    let stage = Stage::with_room(60);
    let one = [parse("", ONE), bind("", "", &[]), execute("", 0)].concat();
    let many = "insert into \"Segment\" (name) select 'q ' || gen_random_uuid() from generate_series(1, 3)";
    let copy = query("copy \"Segment\" (name) from stdin");
    let states: [(&str, Vec<u8>); 12] = [
        ("", query(ONE)),
        ("", extended(ONE, &[])),
        ("", one.clone()),
        ("", [&one[..], &flush()].concat()),
        ("", query(many)),
        ("begin", query(ONE)),
        ("begin", [query(ONE), query("commit")].concat()),
        ("begin", [query(many), query("rollback")].concat()),
        ("begin", [&one[..], &one, &sync(), &query("savepoint s"), &one].concat()),
        ("", copy.clone()),
        ("", [&copy[..], &frame(b'd', b"left 1\n")].concat()),
        ("", [&copy[..], &copied(&["left 2"])].concat()),
    ];
    for (first, sent) in &states {
        for wait in [false, true] {
            let mut wire = Wire::open(stage.dev.acme());
            if !first.is_empty() {
                wire.query(first);
            }
            wire.send(sent);
            if wait {
                wire.read_some();
            }
            wire.hang_up();
        }
    }
    // Whatever became of them: the books know it in the end, and the room that is left is there.
    let mut wire = Wire::open(stage.dev.acme());
    loop {
        let said = wire.query(ONE);
        match said.as_str() {
            "C(INSERT 0 1) Z(I)" => {}
            "E(53400) Z(I)" => break,
            // A transaction's outcome isn't known yet.
            "E(57P03) Z(I)" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(wire.value(COUNT), stage.limit.to_string());
    assert_eq!(stage.used(), stage.limit);
    stage.wire.hang_up();
}
