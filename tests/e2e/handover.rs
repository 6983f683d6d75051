//! What a pooler may and may not rely on when a server connection changes hands: facts about Postgres itself, shown by
//! raw messages without any proxy. For each, the tempting design that leaks stands beside the one that doesn't.

use std::sync::Arc;

use pgcordon_tests::cluster::Cluster;
use pgcordon_tests::wire::{Wire, bind, execute, extended, function_call, parse, query, sync};

const SET_CONFIG: u32 = 2078;
const SETSEED: u32 = 1599;

/// A table with rows of `a` and `b` behind a policy, and a tenant's session.
fn stage() -> (Arc<Cluster>, Wire) {
    let cluster = Cluster::shared();
    let mut admin = cluster.open("postgres");
    admin.query(
        "select pg_advisory_lock(1); do $$ begin if not exists (select from pg_roles where rolname = 'tenant') then \
         create role tenant login; create table rows_of (workspace text, what text); \
         insert into rows_of values ('a', 'of a'), ('b', 'of b'); grant select, insert, update, delete on rows_of to tenant; \
         alter table rows_of enable row level security; \
         create policy p on rows_of using (workspace = current_setting('app.workspace_id', true)) with check (workspace = current_setting('app.workspace_id', true)); \
         create procedure rolls_back() language plpgsql as 'begin rollback; end'; \
         end if; end $$; select pg_advisory_unlock(1)",
    );
    let tenant = cluster.open("tenant");
    (cluster, tenant)
}

/// The bind as pgcordon does it: FunctionCalls, each a cycle of its own.
fn function_calls(workspace: &str) -> Vec<u8> {
    [function_call(SET_CONFIG, &["app.workspace_id", workspace, "f"]), function_call(SETSEED, &["0.25"])].concat()
}

/// The tempting bind: no Sync, so no cycle of its own.
fn bind_without_sync(workspace: &str) -> Vec<u8> {
    let sql = format!("select set_config('app.workspace_id', '{workspace}', false)");
    [parse("tempting", &sql), bind("", "tempting", &[]), execute("", 0)].concat()
}

fn clear(wire: &mut Wire) {
    let answer = wire.query("DISCARD ALL");
    assert!(answer.starts_with("C(DISCARD ALL) ") && answer.ends_with("Z(I)"), "{answer}");
}

const WHOSE: &str = "select string_agg(what, ',') from rows_of";

#[test]
fn a_bind_in_the_clients_transaction_is_undone_in_mid_string_and_shows_the_last_tenants_rows() {
    for escape in ["select 1; rollback; ", "call rolls_back(); "] {
        let (_cluster, mut wire) = stage();
        wire.send(&function_calls("a"));
        wire.cycles(2);
        // The tempting way: bind and statement in one transaction.
        wire.send(&[bind_without_sync("b"), query(&format!("{escape}{WHOSE}"))].concat());
        let leaked = wire.cycles(1);
        let undone = leaked.contains("D(of a)") || leaked.contains("E(2D000)");
        assert!(undone, "{escape}: {leaked}");
    }
    let (_cluster, mut wire) = stage();
    wire.send(&function_calls("a"));
    wire.cycles(2);
    clear(&mut wire);
    wire.send(&[function_calls("b"), query(&format!("select 1; rollback; {WHOSE}"))].concat());
    let answer = wire.cycles(3);
    assert!(answer.contains("D(of b)") && !answer.contains("of a"), "{answer}");
}

#[test]
fn a_failed_segment_undoes_a_bind_that_shares_its_transaction() {
    let (_cluster, mut wire) = stage();
    wire.send(&function_calls("a"));
    wire.cycles(2);
    wire.send(&[bind_without_sync("b"), extended("select 1/0", &[]), extended(WHOSE, &[])].concat());
    let leaked = wire.cycles(2);
    assert!(leaked.contains("E(22012)") && leaked.contains("D(of a)"), "{leaked}");

    clear(&mut wire);
    wire.send(&[function_calls("b"), extended("select 1/0", &[]), extended(WHOSE, &[])].concat());
    let answer = wire.cycles(4);
    assert!(answer.contains("E(22012)") && answer.contains("D(of b)"), "{answer}");
}

#[test]
fn when_the_bind_fails_on_a_cleared_connection_there_are_no_rows_and_no_writes() {
    let (_cluster, mut wire) = stage();
    wire.send(&function_calls("a"));
    wire.cycles(2);
    clear(&mut wire);
    let failing = function_call(SET_CONFIG, &["role", "nobody_of_this_name", "f"]);
    let statements = [
        query("select count(*) from rows_of"),
        query("insert into rows_of values ('a', 'x')"),
        query("delete from rows_of"),
    ];
    wire.send(&[failing, statements.concat()].concat());
    let answer = wire.cycles(4);
    assert!(answer.starts_with("E(22023) Z(I) T D(0)"), "{answer}");
    assert!(answer.contains("E(42501)") && answer.ends_with("C(DELETE 0) Z(I)"), "{answer}");
}

#[test]
fn an_unnamed_parse_destroys_the_clients_unnamed_statement_and_a_function_call_does_not() {
    let (_cluster, mut wire) = stage();
    wire.send(&[parse("", "select 41 + 1"), sync()].concat());
    wire.cycles(1);
    wire.send(&[function_calls("a"), [bind("", "", &[]), execute("", 0), sync()].concat()].concat());
    assert!(wire.cycles(3).ends_with("2 D(42) C(SELECT 1) Z(I)"));
    wire.send(&extended("select set_config('app.workspace_id', 'a', false)", &[]));
    wire.cycles(1);
    wire.send(&[bind("", "", &[]), execute("", 0), sync()].concat());
    assert_eq!(wire.cycles(1), "2 D(a) C(SELECT 1) Z(I)");
}

#[test]
fn a_named_statement_can_be_replaced_behind_the_poolers_back_and_clearing_removes_it() {
    let (_cluster, mut wire) = stage();
    wire.send(&[parse("s_1", "select 'the pooler''s'"), sync()].concat());
    wire.cycles(1);
    wire.query("do $$ begin execute 'deallocate s_1'; execute 'prepare s_1 as select ''the attacker''''s'''; end $$");
    wire.send(&[bind("", "s_1", &[]), execute("", 0), sync()].concat());
    assert!(wire.cycles(1).contains("D(the attacker's)"));
    clear(&mut wire);
    wire.send(&[bind("", "s_1", &[]), execute("", 0), sync()].concat());
    assert_eq!(wire.cycles(1), "E(26000) Z(I)");
}

#[test]
fn a_planted_temporary_table_shadows_the_next_tenants_and_clearing_removes_it() {
    let (_cluster, mut wire) = stage();
    wire.query("create temp table rows_of as select 'a'::text as workspace, 'planted'::text as what");
    wire.query("reset all");
    wire.send(&[function_calls("b"), query(WHOSE)].concat());
    assert!(wire.cycles(3).contains("D(planted)"), "RESET ALL isn't enough");
    clear(&mut wire);
    wire.send(&[function_calls("b"), query(WHOSE)].concat());
    assert!(wire.cycles(3).contains("D(of b)"));
}

#[test]
fn the_sequence_of_random_outlives_clearing_and_the_bind_begins_another() {
    let (_cluster, mut wire) = stage();
    wire.rows("select setseed(0.5)");
    let expected = [wire.value("select random()"), wire.value("select random()")];
    wire.rows("select setseed(0.5)");
    wire.value("select random()");
    clear(&mut wire);
    assert_eq!(wire.value("select random()"), expected[1], "DISCARD ALL leaves the seed");
    wire.rows("select setseed(0.5)");
    wire.value("select random()");
    clear(&mut wire);
    wire.send(&function_calls("b"));
    wire.cycles(2);
    assert_ne!(wire.value("select random()"), expected[1]);
}

#[test]
fn locks_listening_cursors_settings_and_roles_are_gone_after_clearing() {
    let (_cluster, mut wire) = stage();
    wire.query("select pg_advisory_lock(77); listen residue; declare held cursor with hold for select 1; set work_mem = '1MB'; set role none");
    clear(&mut wire);
    assert_eq!(wire.value("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"), "0");
    assert_eq!(wire.value("select count(*) from pg_listening_channels()"), "0");
    assert_eq!(wire.value("select count(*) from pg_cursors where name = 'held'"), "0");
    assert_ne!(wire.value("show work_mem"), "1MB");
}

#[test]
fn what_a_role_gave_itself_comes_back_with_discard_all_unless_the_startup_packet_said_otherwise() {
    let (cluster, _) = stage();
    let mut admin = cluster.open("postgres");
    admin.query("create role greedy login");
    cluster.open("greedy").query("alter role current_user set work_mem = '99MB'");
    let mut fresh = cluster.open("greedy");
    clear(&mut fresh);
    assert_eq!(fresh.value("show work_mem"), "99MB", "the attacker's value is the default now");
    assert_eq!(fresh.query("alter role current_user reset all"), "C(ALTER ROLE) Z(I)");
    admin.query("drop role greedy");
}

#[test]
fn discard_all_inside_a_transaction_fails_and_so_the_connection_counts_as_not_cleared() {
    let (_cluster, mut wire) = stage();
    wire.query("begin");
    assert_eq!(wire.query("DISCARD ALL"), "E(25001) Z(E)");
    wire.query("rollback");
    wire.query("set default_transaction_read_only = on; set lock_timeout = 1; set idle_session_timeout = 0");
    clear(&mut wire);
}

#[test]
fn a_cancel_followed_to_the_end_of_its_connection_kills_no_later_statement() {
    let (_cluster, mut wire) = stage();
    for round in 0..300 {
        wire.send(&query("select 1"));
        wire.cancel(true);
        wire.cycles(1);
        let next = wire.query("select 2");
        assert_eq!(next, "T D(2) C(SELECT 1) Z(I)", "round {round}");
    }
}
