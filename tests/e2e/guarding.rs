//! Denial by substitution: Postgres itself fails what the guard refuses, so that transactions, pipelines and ReadyForQuery
//! are in the state of a failed statement.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, bind, describe, execute, extended, parse, query, sync};

const SET: &str = "set app.workspace_id = 'x'";

#[test]
fn a_denied_statement_is_told_in_our_words_and_the_session_goes_on() {
    let dev = Dev::shared(1);
    let mut wire = Wire::open(dev.acme());
    for (sql, message) in [
        (SET, "pgcordon: the setting app.workspace_id can't be changed: it carries the workspace"),
        ("select set_config('app.workspace_seal', '', false)", "pgcordon: the setting app.workspace_seal"),
        ("reset \"app\".\"workspace_id\"", "pgcordon: the setting app.workspace_id"),
        ("select * from cordon.signing_key", "pgcordon: permission denied for cordon.signing_key"),
        ("set role pgcordon_system", "pgcordon: another role"),
        ("set session authorization postgres", "pgcordon: another role"),
        ("alter role current_user set search_path = 'x'", "pgcordon: ALTER ROLE"),
    ] {
        wire.send(&query(sql));
        let error = wire.read().unwrap();
        assert_eq!(error.field(b'C').as_deref(), Some("42501"), "{sql}");
        assert!(error.field(b'M').unwrap().starts_with(message), "{sql}: {error:?}");
        assert_eq!(error.field(b'W'), None, "{sql}");
        assert_eq!(wire.cycles(1), "Z(I)");
    }
    assert_eq!(wire.query("prepare transaction 'x'"), "E(0A000) Z(I)");
    for harmless in [
        "reset role",
        "set session authorization default",
        "select cordon.workspace_id() is not null",
        "reset all",
        "discard all",
    ] {
        assert!(!wire.query(harmless).contains("E("), "{harmless}");
    }
    assert_eq!(wire.query("select 'set app.workspace_id', 'cordon.api_key'").split(' ').next(), Some("T"));
}

#[test]
fn a_denial_fails_transactions_and_pipelines_as_any_error_does() {
    let dev = Dev::shared(1);
    let mut wire = Wire::open(dev.acme());
    wire.query("begin");
    assert_eq!(wire.query(SET), "E(42501) Z(E)");
    assert_eq!(wire.query(SET), "E(25P02) Z(E)");
    assert_eq!(wire.query("rollback"), "C(ROLLBACK) Z(I)");
    assert_eq!(wire.query(&format!("select 1; {SET}; select 2")), "E(42501) Z(I)");
    wire.send(&[parse("a", SET), bind("", "a", &[]), execute("", 0), sync(), query("select 1")].concat());
    assert_eq!(wire.cycles(2), "E(42501) Z(I) T D(1) C(SELECT 1) Z(I)");
    // The statement isn't there afterwards, and what was there before is.
    wire.send(
        &[parse("", "select 7"), sync(), parse("b", SET), sync(), bind("", "", &[]), execute("", 0), sync()].concat(),
    );
    assert_eq!(wire.cycles(3), "1 Z(I) E(42501) Z(I) 2 D(7) C(SELECT 1) Z(I)");
    wire.send(&[describe(b'S', "a"), sync(), parse("", SET), sync(), bind("", "", &[]), sync()].concat());
    assert_eq!(wire.cycles(3), "E(26000) Z(I) E(42501) Z(I) E(26000) Z(I)");
    wire.send(&[extended("select 1", &[]), extended(SET, &[]), extended("select 2", &[])].concat());
    assert_eq!(wire.cycles(3), "1 2 D(1) C(SELECT 1) Z(I) E(42501) Z(I) 1 2 D(2) C(SELECT 1) Z(I)");
}

#[test]
fn the_walls_hold_and_the_session_goes_on_without_the_guard() {
    let dev = Dev::start(&["--pool-size", "1", "--no-guard"]);
    let mut wire = Wire::open(dev.acme());
    let theirs = dev.text("/workspaces/1/id").to_owned();
    assert_eq!(
        wire.query(&format!("set app.workspace_id = '{theirs}'; select * from \"Secret\"")),
        "C(SET) T E(42501) Z(I)"
    );
    assert_eq!(wire.query("select * from cordon.api_key"), "E(42501) Z(I)");
    assert_eq!(wire.query("set role pgcordon_system"), "E(42501) Z(I)");
    assert_eq!(wire.value("select count(distinct \"workspaceId\") from \"Segment\""), "1");
}

#[test]
fn a_rule_that_only_warns_lets_the_statement_through_and_records_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("warn.toml");
    std::fs::write(&config, "[guard]\ncontext = \"warn\"\n").unwrap();
    let dev = Dev::start(&["--pool-size", "1", "--config", config.to_str().unwrap()]);
    let (mut wire, mut admin) = (Wire::open(dev.acme()), dev.admin());
    assert_eq!(wire.query(SET), "C(SET) Z(I)");
    assert_eq!(wire.value("select count(*) > 0 from \"Segment\""), "t");
    let recorded = "select count(*) from cordon.audit_event where event_type = 'UNAUTHORIZED_ACCESS_ATTEMPT' and severity = 'critical' and outcome = 'ok'";
    while admin.value(recorded) != "1" {}
}
