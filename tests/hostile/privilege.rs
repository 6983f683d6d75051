//! Reaching for what the role must not have.

use crate::stage::on_one_and_on_many;

/// Statements that must fail, for want of privilege or because there is nothing.
const FORBIDDEN: [&str; 44] = [
    "truncate \"Segment\"",
    "alter table \"Segment\" disable row level security",
    "drop policy pgcordon_workspace on \"Segment\"",
    "create policy open on \"Segment\" using (true)",
    "grant select on \"Segment\" to public",
    "create trigger t before insert on \"Segment\" execute function f()",
    "create table public.t (x int)",
    "create schema s",
    "create function f() returns int language sql as 'select 1'",
    "create extension dblink",
    "create role r",
    "alter role pgcordon_system password 'x'",
    "set role pgcordon_system",
    "set role pgcordon_owner",
    "set session authorization postgres",
    "select * from cordon.api_key",
    "select * from cordon.signing_key",
    "select * from cordon.workspace",
    "select * from cordon.schema_history",
    "insert into cordon.workspace (name) values ('x')",
    "select cordon.hand_over()",
    "create or replace function cordon.workspace_id() returns uuid language sql as 'select null::uuid'",
    "select * from pg_authid",
    "select * from pg_shadow",
    "select pg_read_file('PG_VERSION')",
    "select pg_ls_dir('.')",
    "copy \"Segment\" to '/tmp/x'",
    "copy (select 1) to program 'true'",
    "copy \"Segment\" from '/etc/passwd'",
    "select lo_import('/etc/passwd')",
    "select lo_create(1)",
    "select pg_terminate_backend(1)",
    "select pg_cancel_backend(1)",
    "select * from pg_stat_activity",
    "select * from pg_stat_get_activity(null)",
    "select * from pg_locks",
    "select * from pg_prepared_statements",
    "select * from pg_cursors",
    "select * from pg_hba_file_rules",
    "select * from pg_statistic",
    "alter system set work_mem = '1GB'",
    "vacuum full cordon.api_key",
    "do $$ begin perform 1; end $$",
    "reindex database app",
];

#[test]
fn what_a_tenant_must_not_do_fails() {
    on_one_and_on_many(|stage| {
        for sql in FORBIDDEN {
            let answer = stage.attempt(sql);
            assert!(answer.contains("E(") || answer.contains("N("), "{sql}: {answer}");
        }
    });
}

#[test]
fn catalogs_that_must_be_readable_name_no_tenant() {
    on_one_and_on_many(|stage| {
        for sql in [
            "select * from pg_stats",
            "select * from pg_settings",
            "select * from pg_db_role_setting",
            "select * from pg_roles",
            "select * from pg_stat_user_tables",
            "select * from pg_class",
            "select * from pg_description",
            "select * from information_schema.tables",
            "explain analyze select * from \"Secret\"",
            "explain (verbose, costs) select * from \"Secret\" where name like 'canary%'",
            "select query_to_xml('select * from \"Secret\"', true, true, '')",
            "select database_to_xml(true, true, '')",
            "select * from \"Secret\" where value = 'x' or 1 = 1/(case when value like 'canary%' then 0 else 1 end)",
            "select count(*) from \"Secret\" s where s.*::text like '%canary%'",
        ] {
            stage.attempt(sql);
        }
    });
}

#[test]
fn rows_of_others_cant_be_reached_through_keys_and_joins() {
    on_one_and_on_many(|stage| {
        let theirs = stage.dev.text("/workspaces/1/id").to_owned();
        for sql in [
            format!("select * from \"Secret\" where \"workspaceId\" = '{theirs}'"),
            format!("select * from \"Workspace\" where id = '{theirs}'"),
            format!("update \"Secret\" set value = 'x' where \"workspaceId\" = '{theirs}'"),
            format!("delete from \"Workspace\" where id = '{theirs}'"),
            format!(
                "insert into \"Secret\" (\"workspaceId\", name, value) values ('{theirs}', 'canary-of-globex', 'x') on conflict (\"workspaceId\", name) do update set value = 'stolen' returning *"
            ),
            "select * from \"JourneyStep\"".to_owned(),
            "select * from \"Secret\" tablesample bernoulli (100)".to_owned(),
            "select * from only \"Secret\"".to_owned(),
            "table \"Secret\"".to_owned(),
            "copy \"Secret\" to stdout".to_owned(),
            "merge into \"Secret\" s using (select 1) x on true when matched then update set value = 'x'".to_owned(),
            "update \"Secret\" set value = 'own' returning *".to_owned(),
        ] {
            stage.attempt(&sql);
        }
    });
}
