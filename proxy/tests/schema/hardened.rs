//! What `harden` takes away, and what must go on working.

use pgcordon::control::RoleNames;
use pgcordon::control::schema::check;
use pgcordon::control::schema::harden::{self, Allow};
use pgcordon::tenant::ContextNames;

use crate::scratch::{A, B, Database, MAKING, refusal, text};

#[tokio::test]
async fn nothing_of_the_siblings_is_seen_or_touched() {
    let database = Database::hardened().await;
    let client = database.bound(A).await;
    for sql in [
        "select pg_terminate_backend(1)",
        "select pg_cancel_backend(1)",
        "select * from pg_stat_activity",
        "select pg_stat_get_activity(null)",
        "select pg_stat_get_backend_activity(1)",
        "select pg_stat_get_backend_idset()",
        "select pg_stat_get_xact_tuples_inserted('note'::regclass)",
        "select pg_stat_get_live_tuples('note'::regclass)",
        "select * from pg_stat_user_tables",
        "select * from pg_locks",
        "select pg_lock_status()",
        "select * from pg_prepared_statements",
        "select pg_prepared_statement()",
        "select * from pg_cursors",
        "select pg_cursor()",
        "select pg_blocking_pids(1)",
        "select lo_create(0)",
        "select lo_get(1)",
        "select lo_from_bytea(0, 'x')",
        "select pg_export_snapshot()",
        "select pg_log_backend_memory_contexts(1)",
        "select pg_notify('x', 'y')",
        "create temp table t ()",
        "create table public.t ()",
        "create schema s",
        "do $$ begin null; end $$",
        "do language sql $$ select 1 $$",
        "create function pg_temp.f() returns int language sql as 'select 1'",
        "copy note to program 'cat'",
        "copy note to '/tmp/x'",
        "select pg_read_file('postgresql.conf')",
        "create extension dblink",
        "load 'auto_explain'",
        "select pg_logical_emit_message(true, 'x', 'x')",
        "select * from pg_authid",
        "select * from pg_statistic",
        "select pg_ls_dir('.')",
        "select pg_reload_conf()",
        "select pg_stat_reset()",
    ] {
        let refused = refusal(&client, sql).await;
        assert!(["42501", "0A000", "58P01"].contains(&refused.as_str()), "{sql}: {refused:?}");
    }
}

/// What newer versions brought, without a privilege of its own.
#[tokio::test]
async fn newer_functions_tell_nothing_of_the_siblings() {
    let database = Database::hardened().await;
    let client = database.bound(A).await;
    let version = database.version().await;
    for (since, sql) in [
        (16, "select * from pg_stat_io"),
        (16, "select pg_stat_get_io()"),
        (17, "select * from pg_stat_checkpointer"),
        (17, "select pg_available_wal_summaries()"),
        (17, "select pg_wal_summary_contents(1, '0/1', '0/2')"),
        (17, "select pg_get_wal_summarizer_state()"),
        (17, "select pg_sync_replication_slots()"),
        (18, "select pg_stat_get_backend_io(1)"),
        (18, "select pg_stat_get_backend_wal(1)"),
        (18, "select * from pg_aios"),
        (18, "select * from pg_shmem_allocations_numa"),
        (18, "select pg_clear_relation_stats('public', 'note')"),
        (18, "select pg_restore_relation_stats('schemaname', 'public', 'relname', 'note', 'reltuples', 5::real)"),
        (18, "vacuum only note"),
    ] {
        if version >= since {
            let refused = refusal(&client, sql).await;
            // Vacuum passes over what isn't one's own, with a warning.
            let expected = if sql.starts_with("vacuum") { "" } else { "42501" };
            assert_eq!(refused, expected, "{sql}");
        }
    }
}

#[tokio::test]
async fn drivers_and_psql_go_on_working() {
    let database = Database::hardened().await;
    for sql in [
        "\\d",
        "\\d note",
        "\\d+ note",
        "\\dt+",
        "\\df",
        "\\dn+",
        "\\du",
        "\\dT",
        "\\l",
        "\\dp",
        "\\di",
        "\\conninfo",
        "\\sf cordon.workspace_id",
    ] {
        let said = database.psql(crate::scratch::APPLICATION, sql);
        // A psql knows no catalog of a server that is newer than itself, and says so.
        let newer = said.contains("column d.daticulocale does not exist");
        assert!(newer || !said.contains("ERROR"), "{sql}: {said}");
    }
    let client = database.bound(A).await;
    for sql in [
        "select * from information_schema.columns",
        "select * from information_schema.table_constraints",
        "select * from information_schema.referential_constraints",
        "select * from pg_indexes",
        "select * from pg_tables",
        "select * from pg_views",
        "select * from pg_settings",
        "select * from pg_timezone_names limit 1",
        "select pg_get_serial_sequence('note', 'id')",
        "select version(), current_database(), pg_backend_pid(), pg_is_in_recovery()",
        "select pg_total_relation_size('note')",
        "insert into note (body) values ('x') returning id",
        "select pg_advisory_xact_lock(1)",
        "listen x; notify x; unlisten x",
        "declare c cursor with hold for select 1; close c",
    ] {
        assert_eq!(refusal(&client, sql).await, "", "{sql}");
    }
}

#[tokio::test]
async fn hardening_twice_is_no_error_and_what_is_allowed_stays() {
    let database = Database::hardened().await;
    let admin = database.admin().await;
    let again = harden::harden(&admin, &RoleNames::default(), &[], false).await.unwrap();
    assert_eq!(again.refused, []);
    let other = Database::protected().await;
    let allow = [Allow::Temp, Allow::Do, Allow::LargeObjects, Allow::Notify];
    harden::harden(&other.admin().await, &RoleNames::default(), &allow, false).await.unwrap();
    let client = other.bound(A).await;
    let sql = "create temp table t (); do $$ begin perform pg_notify('x', 'y'); end $$; select lo_unlink(lo_create(0))";
    assert_eq!(refusal(&client, sql).await, "");
}

/// What a provider's administrator is: no superuser, and owner of nothing that Postgres brought along.
const CLERK: &str = "\
drop role if exists clerk; create role clerk login createrole;
grant cordon, pgcordon_owner, pgcordon_app, pgcordon_readonly to clerk;";

#[tokio::test]
async fn what_an_administrator_may_not_take_away_is_told_and_stays_a_finding_for_a_superuser() {
    let database = Database::protected().await;
    let _alone = MAKING.lock().await;
    database.admin().await.batch_execute(CLERK).await.unwrap();
    let (clerk, roles) = (database.connect("clerk").await, RoleNames::default());
    let hardened = harden::harden(&clerk, &roles, &[], false).await.unwrap();
    let found = check::check(&clerk, &roles, &ContextNames::default()).await.unwrap();
    let anew = harden::harden(&database.admin().await, &roles, &[], false).await.unwrap();
    let left = check::check(&clerk, &roles, &ContextNames::default()).await.unwrap();
    drop(clerk);
    database.admin().await.batch_execute("drop role clerk").await.unwrap();
    for what in ["pg_terminate_backend", "pg_stat_activity", "LANGUAGE plpgsql", "TEMPORARY ON DATABASE", "lo_create"] {
        let is_it = |statement: &str| statement.starts_with("REVOKE") && statement.contains(what);
        assert!(hardened.refused.iter().any(|(statement, _)| is_it(statement)), "{what}: {hardened:#?}");
        assert!(!hardened.done.iter().any(|statement| is_it(statement)), "{what}: {hardened:#?}");
        assert!(anew.done.iter().any(|statement| is_it(statement)), "{what}: {anew:#?}");
    }
    assert_eq!(anew.refused, []);
    for id in ["catalog-unhardened", "temp-granted", "language-open"] {
        let finding = found.iter().find(|finding| finding.id == id).unwrap();
        assert!(finding.fix.contains("superuser"), "{finding:?}");
        assert!(!left.iter().any(|finding| finding.id == id), "{id}: {left:#?}");
    }
}

#[tokio::test]
async fn the_owners_migrations_go_on_working() {
    let database = Database::hardened().await;
    let system = database.connect("pgcordon_system").await;
    system
        .batch_execute(
            "create function tick() returns trigger language plpgsql as 'begin return new; end';
             create trigger tick before insert on note for each row execute function tick();
             do $$ begin perform 1; end $$; create temp table t (); create schema more; create table more.t (id int)",
        )
        .await
        .unwrap();
    let client = database.bound(A).await;
    client.batch_execute("insert into note (body) values ('x')").await.unwrap();
    assert_eq!(text(&client, "select count(*) from note").await, "1");
}

#[tokio::test]
async fn the_system_role_keeps_what_postgres_gives_to_everybody_and_gets_no_more() {
    let database = Database::hardened().await;
    let admin = database.admin().await;
    let system = database.connect("pgcordon_system").await;
    let kept = [
        "begin; select pg_export_snapshot(); rollback",
        "select * from pg_stat_activity",
        "select * from pg_locks",
        "select * from pg_stat_user_tables",
        "select pg_blocking_pids(1), pg_cancel_backend(0)",
        "select lo_unlink(lo_create(0))",
        "select * from pg_stats_ext",
    ];
    for sql in kept {
        assert_eq!(refusal(&system, sql).await, "", "{sql}");
    }
    for sql in [
        "select pg_read_file('postgresql.conf')",
        "select pg_ls_dir('.')",
        "select pg_stat_reset()",
        "select * from pg_statistic_ext_data",
        "select pg_log_backend_memory_contexts(1)",
    ] {
        assert_eq!(refusal(&system, sql).await, "42501", "{sql}");
    }
    // An older version took it from this role too.
    admin.batch_execute("revoke execute on function pg_export_snapshot() from pgcordon_system").await.unwrap();
    assert_eq!(refusal(&system, kept[0]).await, "42501");
    refusal(&system, "rollback").await;
    harden::harden(&admin, &RoleNames::default(), &[], false).await.unwrap();
    assert_eq!(refusal(&system, kept[0]).await, "");
}

#[tokio::test]
async fn statistics_of_protected_tables_are_hidden() {
    let database = Database::hardened().await;
    let admin = database.admin().await;
    let rows = format!(
        "insert into note (workspace_id, body) select '{B}', 'of B' from generate_series(1, 1000); analyze note"
    );
    admin.batch_execute(&rows).await.unwrap();
    let client = database.bound(A).await;
    assert_eq!(text(&client, "select count(*) from pg_stats where tablename = 'note'").await, "0");
    assert_eq!(text(&client, "select count(*) from pg_stats_ext_exprs").await, "0");
}

/// No privilege takes these away: they are the statement guard's, and the timeouts'.
#[tokio::test]
async fn what_hardening_leaves_open() {
    let database = Database::hardened().await;
    let admin = database.admin().await;
    let rows = format!(
        "insert into note (workspace_id, body) select '{B}', 'of B' from generate_series(1, 1000); analyze note"
    );
    admin.batch_execute(&rows).await.unwrap();
    let client = database.bound(A).await;
    for sql in [
        "listen cordon_control; notify cordon_control",
        "begin; lock table note in access exclusive mode; rollback",
        "select pg_try_advisory_lock(1)",
    ] {
        assert_eq!(refusal(&client, sql).await, "", "{sql}");
    }
    // The planner's estimates come from everybody's rows: EXPLAIN tells which values are common among the others.
    assert!(text(&client, "explain select from note where body = 'of B'").await.contains("rows=1000 "));
    assert!(text(&client, "explain select from note where body = 'nobody'").await.contains("rows=1 "));
}
