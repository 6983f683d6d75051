//! `currval()` and `lastval()` give a client its own numbers or none, and its own wherever an application relies on it.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, bind, execute, extended, function_call, parse, query, sync};

const PINNED: &str = "pgcordon_clients_pinned{reason=\"sequence\"}";
/// There is no number.
const NONE: &str = "T E(55000) Z(I)";
const LASTVAL: u32 = 2559;
const CURRVAL: &str = "select currval('item_id_seq')";

/// Two tenants with tables that count their rows' ids, and some server connections.
fn dev(pool_size: &str) -> Dev {
    let mut schema = tempfile::NamedTempFile::new().unwrap();
    schema
        .write_all(
            b"create table item (id bigserial, workspace_id uuid not null, name text, primary key (workspace_id, id));
              create table part (id bigint generated always as identity, workspace_id uuid not null, item bigint,
                                 primary key (workspace_id, id));
              create table plain (id uuid default gen_random_uuid(), workspace_id uuid not null, name text);
              create function add_item(called text) returns void language sql
                  as 'insert into item (name) values (called)';",
        )
        .unwrap();
    let dev = Dev::start(&["--pool-size", pool_size, "--schema", schema.path().to_str().unwrap()]);
    dev.admin().query("grant execute on all functions in schema public to public");
    dev
}

fn insert(wire: &mut Wire, name: &str) {
    assert_eq!(wire.query(&format!("insert into item (name) values ('{name}')")), "C(INSERT 0 1) Z(I)");
}

/// The number of a row with this name.
fn id(wire: &mut Wire, name: &str) -> String {
    wire.value(&format!("select id from item where name = '{name}'"))
}

#[test]
fn a_client_is_told_its_own_numbers_however_it_asks() {
    let dev = dev("3");
    let mut wire = Wire::open(dev.acme());
    assert_eq!(wire.query("select lastval()"), NONE);
    insert(&mut wire, "one");
    let one = id(&mut wire, "one");
    assert_eq!((wire.value("select lastval()"), wire.value(CURRVAL)), (one.clone(), one.clone()));
    wire.query("insert into part (item) values (currval('item_id_seq'))");
    assert_eq!(wire.value("select item from part"), one);
    wire.query("begin; insert into item (name) values ('two'); commit");
    let two = id(&mut wire, "two");
    wire.send(&extended("select lastval()", &[]));
    assert_eq!(wire.cycles(1), format!("1 2 D({two}) C(SELECT 1) Z(I)"));
    wire.send(
        &[parse("s", "select currval($1)"), sync(), bind("", "s", &["item_id_seq"]), execute("", 0), sync()].concat(),
    );
    assert_eq!(wire.cycles(2), format!("1 Z(I) 2 D({two}) C(SELECT 1) Z(I)"));
    wire.send(&function_call(LASTVAL, &[]));
    assert_eq!(wire.cycles(1), format!("V({two}) Z(I)"));
    let next = wire.value("select nextval('item_id_seq')");
    assert_eq!((wire.value(CURRVAL), wire.value("select lastval()")), (next.clone(), next));
}

/// What a client is told by another's numbers before anybody has asked.
fn after_a_stranger(stranger: impl Fn(&mut Wire), ask: &[u8], cycles: usize) -> String {
    let dev = dev("1");
    let (mut wire, mut other) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    insert(&mut wire, "mine");
    stranger(&mut other);
    wire.send(ask);
    wire.cycles(cycles)
}

#[test]
fn nobody_is_told_a_strangers_numbers() {
    let inserts = |other: &mut Wire| insert(other, "theirs");
    assert_eq!(after_a_stranger(inserts, &query("select lastval()"), 1), NONE);
    assert_eq!(after_a_stranger(inserts, &query(CURRVAL), 1), NONE);
    assert_eq!(after_a_stranger(inserts, &extended("select lastval()", &[]), 1), "1 2 E(55000) Z(I)");
    assert_eq!(after_a_stranger(inserts, &function_call(LASTVAL, &[]), 1), "E(55000) Z(I)");
    assert_eq!(after_a_stranger(inserts, &query("begin; select lastval()"), 1), "C(BEGIN) T E(55000) Z(E)");
    assert_eq!(
        after_a_stranger(inserts, &[query("begin"), query("select lastval()")].concat(), 2),
        "C(BEGIN) Z(T) T E(55000) Z(E)"
    );
    // By what no text shows.
    assert_eq!(
        after_a_stranger(
            |other| {
                other.value("select add_item('theirs')");
            },
            &query("select lastval()"),
            1
        ),
        NONE
    );
    // In the middle of a cycle Postgres can't be made to forget.
    let piped = [parse("", "select 1"), bind("", "", &[]), execute("", 0), extended("select lastval()", &[])].concat();
    assert_eq!(after_a_stranger(inserts, &piped, 1), "1 2 D(1) C(SELECT 1) E(55000) Z(I)");
    // A failed transaction isn't left by this.
    let failed = [query("begin"), query("select 1/0"), query("rollback; select lastval()"), query("rollback")].concat();
    let said = after_a_stranger(inserts, &failed, 4);
    assert!(said.starts_with("C(BEGIN) Z(T) E(22012) Z(E) E(25P02) Z(E)"), "{said}");
    // What the same string takes is its own.
    let both = after_a_stranger(inserts, &query("insert into item (name) values ('again'); select lastval()"), 1);
    assert!(both.starts_with("C(INSERT 0 1) T D(") && both.ends_with(") C(SELECT 1) Z(I)"), "{both}");
}

#[test]
fn an_older_number_isnt_told_for_a_newer_one() {
    let dev = dev("2");
    dev.make_process_id();
    let (mut wire, mut other) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    other.query("select 1");
    insert(&mut wire, "first");
    let home = wire.value("select process_id()");
    // Its home is taken for a moment, so that its second row is written elsewhere.
    let mut holder = Wire::open(dev.acme());
    holder.query("begin");
    let mut second = Wire::open(dev.acme());
    if holder.value("select process_id()") != home {
        second.query("begin");
        assert_eq!(second.value("select process_id()"), home);
        holder.query("commit");
    }
    insert(&mut wire, "second");
    holder.query("commit");
    second.query("commit");
    let second = id(&mut wire, "second");
    let said = wire.query("select lastval()");
    assert!(said == NONE || said.contains(&format!("D({second})")), "{said}");
}

/// Clients that insert and then ask for the number of the row, as PDO's lastInsertId does. Returns how many were told that
/// there is none; a wrong one is a failure.
fn insert_and_ask(clients: &mut [Wire], rounds: usize, in_transaction: bool) -> usize {
    static ROW: AtomicUsize = AtomicUsize::new(0);
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for wire in clients {
            let refused = &refused;
            scope.spawn(move || {
                for round in 0..rounds {
                    let name = format!("row {}", ROW.fetch_add(1, Ordering::Relaxed));
                    let ask = if round % 2 == 0 { "select lastval()" } else { CURRVAL };
                    if in_transaction {
                        wire.query("begin");
                    }
                    wire.query(&format!("insert into item (name) values ('{name}')"));
                    let told = wire.query(ask);
                    if told.starts_with("T E(55000)") {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    if in_transaction {
                        wire.query("commit");
                    }
                    if !told.starts_with("T E(55000)") {
                        let own = id(wire, &name);
                        assert!(told.starts_with(&format!("T D({own}) C(SELECT 1)")), "{told} for {own}");
                    }
                }
            });
        }
    });
    refused.into_inner()
}

#[test]
fn forty_clients_on_four_connections_are_told_their_own_numbers() {
    let dev = dev("4");
    for (workspace, in_transaction) in [(dev.acme(), false), (dev.globex(), true)] {
        let mut clients: Vec<Wire> = (0..40).map(|_| Wire::open(workspace)).collect();
        // Nobody knows yet that they will ask. Each learns at most once that it has none.
        assert!(insert_and_ask(&mut clients, 2, in_transaction) <= 40);
        assert_eq!(insert_and_ask(&mut clients, 12, in_transaction), 0, "in a transaction: {in_transaction}");
        drop(clients);
        // As PHP does: a connection for each request.
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let mut wire = [Wire::open(workspace)];
                        assert_eq!(insert_and_ask(&mut wire, 2, in_transaction), 0);
                    }
                });
            }
        });
    }
}

#[test]
fn a_client_that_keeps_its_numbers_makes_way_for_others_and_stays_otherwise() {
    let dev = dev("1");
    let mut wire = Wire::open(dev.acme());
    insert(&mut wire, "mine");
    let mine = wire.value("select lastval()");
    assert_eq!(dev.metric(PINNED), 1);
    for _ in 0..3 {
        wire.query("select 1");
        assert_eq!(wire.value("select lastval()"), mine);
    }
    // Another workspace waits for the only connection there is.
    let mut other = Wire::open(dev.globex());
    assert_eq!(other.value("select count(*) from item"), "0");
    assert_eq!(wire.query("select lastval()"), NONE);
    insert(&mut wire, "another");
    assert_eq!(wire.value("select lastval()"), id(&mut wire, "another"));
}

#[test]
fn discarding_ends_it() {
    let dev = dev("2");
    for discard in ["discard sequences", "discard all"] {
        let mut wire = Wire::open(dev.acme());
        insert(&mut wire, discard);
        wire.value("select lastval()");
        assert_eq!(dev.metric(PINNED), 1, "{discard}");
        wire.query(discard);
        assert_eq!(dev.metric(PINNED), 0, "{discard}");
        assert_eq!(wire.query("select lastval()"), NONE);
    }
}

#[test]
fn who_only_takes_numbers_is_kept_nowhere() {
    let dev = dev("8");
    let mut clients: Vec<Wire> = (0..3).map(|_| Wire::open(dev.acme())).collect();
    for wire in &mut clients {
        insert(wire, "a row");
        wire.value("select nextval('item_id_seq')");
        assert_eq!(dev.metric(PINNED), 0);
    }
    clients[0].value("select lastval()");
    assert_eq!(dev.metric(PINNED), 1);
    // Nor in another workspace, when the clients of this one ask.
    let mut other = Wire::open(dev.globex());
    insert(&mut other, "a row");
    // Reading and setting keep nobody either, but from now on writing does.
    assert_eq!(clients[1].value("select count(*) from item"), "3");
    clients[1].query("set work_mem = '7MB'");
    assert_eq!(dev.metric(PINNED), 1);
    clients[1].query("update item set name = 'another'");
    assert_eq!(dev.metric(PINNED), 2);
}
