//! When a meter's report arrives, relative to what the client is owed: facts about Postgres itself, shown by raw messages
//! without any proxy. The trigger stands in for one of `pgcordon meter`; `N(CM100)` is a report.

use std::sync::Arc;

use pgcordon_tests::cluster::Cluster;
use pgcordon_tests::wire::{Wire, bind, execute, extended, flush, frame, function_call, parse, query, sync};

/// A metered table, functions that insert into it, and a table whose deferred trigger does.
fn stage() -> (Arc<Cluster>, Wire) {
    let cluster = Cluster::shared();
    let mut admin = cluster.open("postgres");
    let made = admin.query(
        "select pg_advisory_xact_lock(2); do $do$ begin if to_regclass('metered') is null then \
         create table metered (id int); create table deferring (id int); \
         create function report() returns trigger language plpgsql as $$ begin if exists (select from rows) then \
             raise info using errcode = 'CM100', message = 'pgcordon meter'; end if; return null; end $$; \
         create trigger i after insert on metered referencing new table as rows for each statement execute function report(); \
         create trigger d after delete on metered referencing old table as rows for each statement execute function report(); \
         create function ins(n int) returns int language plpgsql as $$ begin insert into metered values (n); return n; end $$; \
         create function later() returns trigger language plpgsql as $$ begin perform ins(1); return null; end $$; \
         create constraint trigger l after insert on deferring deferrable initially deferred for each row execute function later(); \
         create procedure twice() language plpgsql as $$ begin insert into metered values (1); commit; insert into metered values (1); end $$; \
         end if; end $do$",
    );
    assert!(!made.contains("E("), "{made}");
    let wire = cluster.open("postgres");
    (cluster, wire)
}

const INSERT: &str = "insert into metered values (1)";
const RETURNING: &str = "insert into metered select generate_series(1, 3) returning 7";
const CALLS: &str = "select ins(n) from generate_series(1, 3) n";

#[test]
fn a_report_stands_before_the_command_complete_of_its_statement() {
    let (_cluster, mut wire) = stage();
    for (sql, transcript) in [
        (INSERT, "N(CM100) C(INSERT 0 1) Z(I)"),
        ("insert into metered select 1 where false", "C(INSERT 0 0) Z(I)"),
        // Before the first row, too, and before the description of rows.
        (RETURNING, "N(CM100) T D(7) D(7) D(7) C(INSERT 0 3) Z(I)"),
        ("with a as (insert into metered values (1) returning id) select * from a", "N(CM100) T D(1) C(SELECT 1) Z(I)"),
        (
            "insert into metered values (1); select 2; insert into metered values (1)",
            "N(CM100) C(INSERT 0 1) T D(2) C(SELECT 1) N(CM100) C(INSERT 0 1) Z(I)",
        ),
        ("insert into metered values (1); select 1/0", "N(CM100) C(INSERT 0 1) E(22012) Z(I)"),
        ("begin; insert into metered values (1); rollback", "C(BEGIN) N(CM100) C(INSERT 0 1) C(ROLLBACK) Z(I)"),
        ("do $$ begin perform ins(1); perform ins(2); end $$", "N(CM100) N(CM100) C(DO) Z(I)"),
        ("do $$ begin perform ins(1); commit; perform 1/0; end $$", "N(CM100) E(22012) Z(I)"),
        ("call twice()", "N(CM100) N(CM100) C(CALL) Z(I)"),
        ("prepare p as insert into metered values (1)", "C(PREPARE) Z(I)"),
        ("execute p", "N(CM100) C(INSERT 0 1) Z(I)"),
        ("copy (insert into metered values (1) returning 7) to stdout", "H d(7\n) c N(CM100) C(COPY 1) Z(I)"),
        // A deferred trigger fires inside COMMIT, its own or an implicit one, which precedes the answer to the last statement.
        ("insert into deferring values (1)", "N(CM100) C(INSERT 0 1) Z(I)"),
        ("insert into deferring values (1); select 2", "C(INSERT 0 1) T D(2) N(CM100) C(SELECT 1) Z(I)"),
        ("begin; insert into deferring values (1)", "C(BEGIN) C(INSERT 0 1) Z(T)"),
        ("set constraints all immediate", "N(CM100) C(SET CONSTRAINTS) Z(T)"),
        ("set constraints all deferred; insert into deferring values (1)", "C(SET CONSTRAINTS) C(INSERT 0 1) Z(T)"),
        ("commit", "N(CM100) C(COMMIT) Z(I)"),
        // A cursor inserts as it is fetched from, and one WITH HOLD the rest inside COMMIT.
        ("begin; declare c cursor for select ins(n) from generate_series(1, 3) n", "C(BEGIN) C(DECLARE CURSOR) Z(T)"),
        ("fetch 2 from c", "N(CM100) N(CM100) T D(1) D(2) C(FETCH 2) Z(T)"),
        ("move 1 in c", "N(CM100) C(MOVE 1) Z(T)"),
        ("commit", "C(COMMIT) Z(I)"),
        (
            "begin; declare c cursor with hold for select ins(n) from generate_series(1, 2) n",
            "C(BEGIN) C(DECLARE CURSOR) Z(T)",
        ),
        ("commit", "N(CM100) N(CM100) C(COMMIT) Z(I)"),
        ("close c", "C(CLOSE CURSOR) Z(I)"),
    ] {
        wire.send(&query(sql));
        let answer = wire.until(b'Z');
        assert_eq!(answer, transcript, "{sql}");
    }
}

#[test]
fn a_function_in_a_plain_select_reports_among_its_rows() {
    let (_cluster, mut wire) = stage();
    wire.send(&query(CALLS));
    assert_eq!(wire.until(b'Z'), "T N(CM100) D(1) N(CM100) D(2) N(CM100) D(3) C(SELECT 3) Z(I)");
}

#[test]
fn before_sync_everything_but_a_deferred_trigger_has_reported() {
    let (_cluster, mut wire) = stage();
    for (sql, before, at_sync) in [
        (INSERT, "1 2 N(CM100) C(INSERT 0 1)", "Z(I)"),
        (RETURNING, "1 2 N(CM100) D(7) D(7) D(7) C(INSERT 0 3)", "Z(I)"),
        ("call twice()", "1 2 N(CM100) N(CM100) C(CALL)", "Z(I)"),
        ("insert into deferring values (1)", "1 2 C(INSERT 0 1)", "N(CM100) Z(I)"),
        ("begin", "1 2 C(BEGIN)", "Z(T)"),
        ("insert into deferring values (1)", "1 2 C(INSERT 0 1)", "Z(T)"),
        ("commit", "1 2 N(CM100) C(COMMIT)", "Z(I)"),
    ] {
        let unsynced = [parse("", sql), bind("", "", &[]), execute("", 0), flush()].concat();
        wire.send(&unsynced);
        assert_eq!(wire.until(b'C'), before, "{sql}");
        wire.send(&sync());
        assert_eq!(wire.until(b'Z'), at_sync, "{sql}");
    }
    // Each statement of a pipeline beside its own answer; the deferred ones of all at the Sync.
    let pipeline = [INSERT, "select 2", "insert into deferring values (1)", INSERT].map(|sql| extended(sql, &[]));
    let unsynced = pipeline.map(|cycle| cycle[..cycle.len() - sync().len()].to_vec()).concat();
    wire.send(&[unsynced, sync()].concat());
    assert_eq!(
        wire.until(b'Z'),
        "1 2 N(CM100) C(INSERT 0 1) 1 2 D(2) C(SELECT 1) 1 2 C(INSERT 0 1) 1 2 N(CM100) C(INSERT 0 1) N(CM100) Z(I)"
    );
}

#[test]
fn a_suspended_portal_has_reported_the_rows_it_hasnt_shown_yet() {
    let (_cluster, mut wire) = stage();
    for (sql, first, second) in [
        (RETURNING, "1 2 N(CM100) D(7) s", "D(7) s"),
        (
            "with a as (insert into metered select generate_series(1, 3) returning 7) select * from a",
            "1 2 N(CM100) D(7) s",
            "D(7) s",
        ),
        // Only what calls a function row by row goes on reporting.
        (CALLS, "1 2 N(CM100) D(1) s", "N(CM100) D(2) s"),
    ] {
        wire.send(&[parse("", sql), bind("p", "", &[]), execute("p", 1), flush()].concat());
        assert_eq!(wire.until(b's'), first, "{sql}");
        wire.send(&[execute("p", 1), flush()].concat());
        assert_eq!(wire.until(b's'), second, "{sql}");
        // Without a transaction the portal ends here, and what it inserted is committed.
        wire.send(&sync());
        assert_eq!(wire.until(b'Z'), "Z(I)", "{sql}");
    }
}

#[test]
fn copy_and_function_calls_report_before_they_are_complete() {
    let (_cluster, mut wire) = stage();
    wire.send(&query("copy metered from stdin"));
    assert_eq!(wire.until(b'G'), "G");
    wire.send(&[frame(b'd', b"1\n2\n"), frame(b'c', b"")].concat());
    assert_eq!(wire.until(b'Z'), "N(CM100) C(COPY 2) Z(I)");
    let oid: u32 = wire.value("select 'ins(int)'::regprocedure::oid").parse().unwrap();
    wire.send(&function_call(oid, &["1"]));
    let answer = wire.until(b'Z');
    assert!(answer.starts_with("N(CM100) V(") && answer.ends_with("Z(I)"), "{answer}");
}

#[test]
fn a_report_may_carry_a_long_context_behind_what_counts() {
    let (_cluster, mut wire) = stage();
    wire.send(&query("do $$ begin execute 'insert into metered values (1) /*' || repeat('x', 100000) || '*/'; end $$"));
    let report = wire.read().unwrap();
    assert_eq!((report.tag, report.field(b'C').as_deref()), (b'N', Some("CM100")));
    assert!(report.body.len() > 100_000, "a tenant decides how long it is");
    let at = |code: u8| report.body.windows(2).position(|pair| pair == [0, code]).unwrap();
    assert!(at(b'C') < at(b'M') && at(b'M') < at(b'W') && at(b'M') < 50);
    assert_eq!(wire.until(b'Z'), "C(DO) Z(I)");
}
