//! Denial by substitution: Postgres itself fails what the guard refuses, so that transactions, pipelines and ReadyForQuery
//! are in the state of a failed statement.

use std::process::Command;
use std::thread;
use std::time::Duration;

use pgcordon_tests::dev::{Dev, binary};
use pgcordon_tests::wire::{Url, Wire, bind, describe, execute, extended, function_call, parse, query, sync};

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

/// What breaks each rule, and what of it the message names.
const BREAKS: [(&str, &str, &str); 34] = [
    ("row_security", "set row_security = off", "row_security"),
    ("row_security", "select set_config('row_security', 'off', true)", "row_security"),
    ("ddl", "alter table \"Segment\" disable row level security", "ALTER TABLE"),
    ("ddl", "drop table if exists \"Segment\" cascade", "Segment"),
    ("ddl", "truncate public.\"Segment\"", "public.Segment"),
    ("ddl", "drop policy pgcordon_workspace on \"Segment\"", "DROP POLICY"),
    ("ddl", "create policy open on \"Segment\" using (true)", "CREATE POLICY"),
    ("ddl", "create index on \"Segment\" (name)", "CREATE INDEX"),
    ("ddl", "grant select on \"Segment\" to public", "GRANT"),
    ("ddl", "comment on table \"Segment\" is 'x'", "COMMENT"),
    ("ddl", "security label on table \"Segment\" is 'x'", "SECURITY LABEL"),
    ("ddl", "drop schema public cascade", "DROP SCHEMA"),
    ("ddl", "reindex table \"Segment\"", "REINDEX"),
    ("do", "do $$ begin null; end $$", "DO"),
    ("dynamic_sql", "select query_to_xml('select 1', true, true, '')", "query_to_xml"),
    ("dynamic_sql", "select database_to_xml(true, true, '')", "database_to_xml"),
    ("dynamic_sql", "select * from ts_stat('select null::tsvector')", "ts_stat"),
    ("dynamic_sql", "select xpath('//a', '<a/>')", "xpath"),
    ("dynamic_sql", "select * from xmltable('//a' passing ('<a/>'::xml) columns b text path '.')", "xmltable"),
    ("large_objects", "select lo_create(1)", "lo_create"),
    ("large_objects", "grant select on large object 1 to public", "GRANT ON LARGE OBJECT"),
    ("server_files", "copy \"Segment\" to '/tmp/x'", "COPY"),
    ("server_files", "copy (select 1) to program 'true'", "COPY"),
    ("server_files", "select pg_read_file('PG_VERSION')", "pg_read_file"),
    ("server_files", "load '/tmp/x.so'", "LOAD"),
    ("signals", "select pg_terminate_backend(1)", "pg_terminate_backend"),
    ("signals", "select 1 where pg_reload_conf()", "pg_reload_conf"),
    ("lock_table", "lock table \"Segment\"", "Segment"),
    ("lock_table", "lock table \"Segment\" in share update exclusive mode", "Segment"),
    ("explain", "explain select * from \"Segment\"", "EXPLAIN"),
    ("explain", "explain (costs off, analyze) select * from \"Segment\"", "EXPLAIN"),
    ("context", "set app.workspace_id = 'x'", "app.workspace_id"),
    ("role", "set role pgcordon_system", "role"),
    ("alter_role", "alter role current_user password 'x'", "ALTER ROLE"),
];

#[test]
fn every_rule_denies_with_its_name_in_the_trail() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let (mut wire, mut admin) = (Wire::open(dev.acme()), dev.admin());
    for (rule, sql, names) in BREAKS {
        wire.send(&query(sql));
        let error = wire.read().unwrap();
        wire.until(b'Z');
        let message = error.field(b'M').unwrap_or_default();
        assert_eq!(error.field(b'C').as_deref(), Some("42501"), "{sql}: {message}");
        assert!(message.starts_with("pgcordon: ") && message.contains(names), "{sql}: {message}");
        assert!(rule == "alter_role" || error.field(b'H').is_some(), "{sql}: {message}");
    }
    // By the number of a function, too.
    for number in [964, 2096, 2171, 2621, 2924, 3826] {
        wire.send(&function_call(number, &["1"]));
        assert_eq!(wire.cycles(1), "E(42501) Z(I)", "{number}");
    }
    let mut counted = std::collections::BTreeMap::new();
    BREAKS.iter().for_each(|(rule, ..)| *counted.entry(*rule).or_insert(0) += 1);
    for (rule, more) in [("large_objects", 1), ("signals", 3), ("dynamic_sql", 1), ("server_files", 1)] {
        *counted.get_mut(rule).unwrap() += more;
    }
    let expected: Vec<String> = counted.iter().map(|(rule, count)| format!("{rule}|{count}")).collect();
    let recorded = "select detail->>'rule', count(*) from cordon.audit_event where event_type = 'UNAUTHORIZED_ACCESS_ATTEMPT' \
        and severity = 'critical' and outcome = 'denied' and sqlstate = '42501' group by 1 order by 1";
    while admin.rows(recorded) != expected {}
}

#[test]
fn honest_statements_go_on_as_postgres_has_them() {
    let honest = [
        "drop table if exists nothing_there",
        "drop index if exists nothing_there",
        "drop function if exists nothing_there()",
        "drop table nothing_there",
        "create table if not exists mine (id int)",
        "create extension if not exists plpgsql",
        "create temp table mine (id int)",
        "create index on mine (id)",
        "create temp table \"Segment\" (id int)",
        "alter table \"Segment\" add column more int",
        "comment on table \"Segment\" is 'mine'",
        "lock table mine, pg_temp.\"Segment\"",
        "truncate mine, \"Segment\"",
        "drop table pg_temp.\"Segment\", mine",
        "discard all",
        "analyze \"Journey\"",
        "set row_security = on",
        "reset row_security",
        "explain (costs off) select 1",
        "lock table \"Journey\" in row share mode",
        "begin; lock table \"Journey\" in row exclusive mode; rollback",
        "select ts_rewrite('a'::tsquery, 'a'::tsquery, 'b'::tsquery)",
        "load 'plpgsql'",
    ];
    let answers = |options: &[&str]| {
        let dev = Dev::start(options);
        dev.admin().query("grant temporary on database app to public");
        let mut wire = Wire::open(dev.acme());
        honest.iter().map(|sql| format!("{sql}: {}", wire.query(sql))).collect::<Vec<_>>()
    };
    let guarded = answers(&["--pool-size", "2"]);
    assert_eq!(guarded, answers(&["--pool-size", "2", "--no-guard"]));
    assert!(guarded.iter().filter(|answer| answer.contains("E(")).count() < 7, "{guarded:#?}");
}

#[test]
fn what_a_key_is_allowed_holds_for_its_open_sessions() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let dev = Dev::start(&["--pool-size", "2", "--data-dir", data.to_str().unwrap()]);
    let pgcordon = |arguments: &[&str]| {
        let done =
            Command::new(binary()).args(arguments).env("PGCORDON_CONFIG", data.join("pgcordon.toml")).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8(said).unwrap())
    };
    let (mut wire, mut other) = (Wire::open(dev.acme()), Wire::open(dev.globex()));
    const EXPLAIN: &str = "explain select * from \"Segment\"";
    assert_eq!(wire.query(EXPLAIN), "E(42501) Z(I)");
    let key = Url::parse(dev.acme()).user;
    assert_eq!(pgcordon(&["key", "allow", &key, "explain,lock_table"]).0, Some(0));
    while wire.query(EXPLAIN).starts_with("E(42501)") {}
    assert_eq!(wire.query("begin; lock table \"Segment\"; rollback"), "C(BEGIN) C(LOCK TABLE) C(ROLLBACK) Z(I)");
    assert_eq!(wire.query("do 'begin end'"), "E(42501) Z(I)");
    assert_eq!(other.query(EXPLAIN), "E(42501) Z(I)");
    assert!(pgcordon(&["key", "list"]).1.contains("allowed: lock_table, explain"));
    assert_eq!(pgcordon(&["key", "allow", &key]).0, Some(0));
    while !wire.query(EXPLAIN).starts_with("E(42501)") {}
    let (code, made) = pgcordon(&["key", "create", "--workspace", "acme", "--allow", "explain,channels", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!((code, &made["allow"]), (Some(0), &serde_json::json!(["explain", "channels"])));
    // The proxy hears of it soon; on a busy machine it rests for longer between two loads.
    let mut allowed = (0..1000)
        .find_map(|_| {
            thread::sleep(Duration::from_millis(10));
            Wire::try_open_quietly(made["dsn"].as_str().unwrap()).ok()
        })
        .expect("let in");
    assert!(allowed.query(EXPLAIN).starts_with("T D("));
    // Such a key has the plain channels.
    allowed.query("listen news");
    assert_eq!(allowed.value("select pg_listening_channels()"), "news");
    for wrong in [&["key", "create", "--workspace", "acme", "--allow", "nope"][..], &["key", "allow", &key, "nope"]] {
        let (code, said) = pgcordon(wrong);
        assert!(code == Some(2) && said.contains("there is no rule \"nope\": the rules are context, "), "{said}");
    }
    let (code, said) = pgcordon(&["key", "create", "--kind", "system", "--allow", "do"]);
    assert!(code == Some(2) && said.contains("--allow"), "{said}");
    assert!(pgcordon(&["key", "allow", "pk_nobody", "do"]).1.contains("there is no key"));
}
