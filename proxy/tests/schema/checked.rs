//! `check` sees each wall that is broken, and nothing where none is.

use pgcordon::control::RoleNames;
use pgcordon::control::schema::check::{self, Finding, Severity};
use pgcordon::control::schema::protect::Options;
use pgcordon::tenant::ContextNames;

use crate::scratch::{self, A, B, Database, text};

async fn findings(database: &Database) -> Vec<Finding> {
    check::check(&database.admin().await, &RoleNames::default(), &ContextNames::default()).await.unwrap()
}

/// What breaks a wall, the rule that must see it, how bad it is, and what heals it where the server is shared.
const BREAKS: [(&str, &str, Severity, &str); 55] = [
    (
        "create table t (workspace_id uuid); create index on t (workspace_id); grant select on t to pgcordon_app",
        "table-without-policy",
        Severity::Critical,
        "drop table t",
    ),
    ("create table t (workspace_id uuid)", "table-without-policy", Severity::Info, "drop table t"),
    (
        "alter table comment disable row level security",
        "policy-not-enabled",
        Severity::Critical,
        "alter table comment enable row level security",
    ),
    (
        "alter table note disable row level security",
        "table-without-policy",
        Severity::Critical,
        "alter table note enable row level security",
    ),
    (
        "alter table note no force row level security",
        "rls-not-forced",
        Severity::High,
        "alter table note force row level security",
    ),
    (
        "alter policy pgcordon_workspace on note using (workspace_id = (select cordon.workspace_id()) or true)",
        "no-sealed-policy",
        Severity::Critical,
        "",
    ),
    ("alter policy pgcordon_workspace on note with check (true)", "no-sealed-policy", Severity::Critical, ""),
    (
        "alter policy pgcordon_workspace on note using (true) with check (true)",
        "open-without-context",
        Severity::Critical,
        "",
    ),
    (
        "alter policy pgcordon_workspace on note using (workspace_id = current_setting('app.workspace_id')::uuid)",
        "context-forgeable",
        Severity::Critical,
        "",
    ),
    ("alter policy pgcordon_workspace on note using (true)", "reads-across", Severity::Critical, ""),
    ("alter policy pgcordon_workspace on note using (true)", "updates-across", Severity::Critical, ""),
    ("alter policy pgcordon_workspace on note using (true)", "deletes-across", Severity::Critical, ""),
    ("alter policy pgcordon_workspace on note with check (true)", "fakes-across", Severity::Critical, ""),
    ("alter policy pgcordon_workspace on note with check (true)", "moves-across", Severity::Critical, ""),
    (
        "alter policy pgcordon_workspace on comment using (true) with check (true)",
        "fakes-across",
        Severity::Critical,
        "alter policy pgcordon_workspace on comment using (exists (select from note as parent where parent.id = comment.note_id)) \
         with check (exists (select from note as parent where parent.id = comment.note_id))",
    ),
    (
        "create view all_notes as select * from note; grant select on all_notes to pgcordon_readonly",
        "reads-across",
        Severity::Critical,
        "drop view all_notes",
    ),
    (
        "alter policy pgcordon_workspace on note to pgcordon_readonly",
        "no-sealed-policy",
        Severity::Critical,
        "alter policy pgcordon_workspace on note to public",
    ),
    (
        "create table t (id int); grant insert on t to pgcordon_app",
        "shared-table-written",
        Severity::High,
        "drop table t",
    ),
    (
        "grant truncate on note to pgcordon_app",
        "truncate-granted",
        Severity::Critical,
        "revoke truncate on note from pgcordon_app",
    ),
    (
        "grant trigger on note to pgcordon_app",
        "trigger-granted",
        Severity::High,
        "revoke trigger on note from pgcordon_app",
    ),
    ("create table t (id int); alter table t owner to pgcordon_app", "role-owns", Severity::Critical, "drop table t"),
    (
        "create table t (id int); alter table t owner to pgcordon_system; alter event trigger pgcordon_hand_over disable; alter table t owner to pgcordon_system",
        "role-owns",
        Severity::High,
        "drop table t; alter event trigger pgcordon_hand_over enable",
    ),
    ("alter role cordon createrole", "role-powerful", Severity::Critical, "alter role cordon nocreaterole"),
    (
        "grant pg_monitor to pgcordon_readonly",
        "role-member",
        Severity::Critical,
        "revoke pg_monitor from pgcordon_readonly",
    ),
    (
        "alter role pgcordon_readonly set work_mem = '1MB'",
        "role-settings",
        Severity::High,
        "alter role pgcordon_readonly reset all",
    ),
    (
        "create view v as select * from note; grant select on v to pgcordon_app",
        "view-of-its-owner",
        Severity::Critical,
        "drop view v",
    ),
    (
        "create view v as select * from note; alter view v owner to pgcordon_owner; grant select on v to pgcordon_app",
        "view-of-its-owner",
        Severity::Low,
        "drop view v",
    ),
    (
        "create materialized view v as select * from note; grant select on v to pgcordon_app",
        "rows-beside-policies",
        Severity::Critical,
        "drop materialized view v",
    ),
    (
        "create function f() returns int language sql security definer as 'select 1'",
        "security-definer",
        Severity::Critical,
        "drop function f()",
    ),
    (
        "create function f() returns int language sql security definer as 'select 1'; alter function f() owner to pgcordon_owner",
        "security-definer",
        Severity::High,
        "drop function f()",
    ),
    (
        "grant select on cordon.signing_key to public",
        "cordon-open",
        Severity::Critical,
        "revoke select on cordon.signing_key from public",
    ),
    (
        "alter function cordon.sealed_workspace_id() reset search_path",
        "sealed-function",
        Severity::Critical,
        "alter function cordon.sealed_workspace_id() set search_path = pg_catalog, pg_temp",
    ),
    (
        "alter function cordon.workspace_id() security definer",
        "sealed-function",
        Severity::Critical,
        "alter function cordon.workspace_id() security invoker",
    ),
    (
        "alter function cordon.mark() security invoker",
        "sealed-function",
        Severity::Critical,
        "alter function cordon.mark() security definer",
    ),
    (
        "alter domain cordon.attestation add constraint more check (value is not null)",
        "sealed-function",
        Severity::Critical,
        "alter domain cordon.attestation drop constraint more",
    ),
    (
        "alter domain cordon.attestation owner to pgcordon_owner",
        "sealed-function",
        Severity::Critical,
        "alter domain cordon.attestation owner to cordon",
    ),
    (
        "create or replace function cordon.workspace_id() returns uuid language sql stable parallel restricted return nullif(current_setting('app.workspace_id', true), '')::uuid",
        "sealed-function",
        Severity::Critical,
        "create or replace function cordon.workspace_id() returns uuid language sql stable parallel restricted
         return case when coalesce(current_setting('app.workspace_id', true), '') = '' then null
             when replace(current_setting('app.workspace_id', true), '-', '') = current_setting('backtrace_functions', true)
             then current_setting('backtrace_functions', true)::uuid else cordon.sealed_workspace_id() end",
    ),
    (
        "alter domain cordon.binding add constraint more check (value is not null)",
        "sealed-function",
        Severity::Critical,
        "alter domain cordon.binding drop constraint more",
    ),
    (
        "alter domain cordon.keeping owner to pgcordon_owner",
        "sealed-function",
        Severity::Critical,
        "alter domain cordon.keeping owner to cordon",
    ),
    (
        "alter table cordon.signing_key enable trigger another_epoch",
        "sealed-function",
        Severity::Critical,
        "alter table cordon.signing_key enable always trigger another_epoch",
    ),
    (
        "alter table cordon.signing_key disable trigger another_epoch_when_emptied",
        "sealed-function",
        Severity::Critical,
        "alter table cordon.signing_key enable always trigger another_epoch_when_emptied",
    ),
    (
        "drop function cordon.bind(text); create function cordon.bind(bound text) returns text language plpgsql strict security definer as $$\nBEGIN\n    RETURN bound;\nEND\n$$; \
         alter function cordon.bind(text) owner to cordon",
        "sealed-function",
        Severity::Critical,
        "drop function cordon.bind(text); create function cordon.bind(bound text) returns cordon.binding language plpgsql strict security definer as $$\nBEGIN\n    RETURN bound;\nEND\n$$; \
         alter function cordon.bind(text) owner to cordon",
    ),
    (
        "grant usage on sequence cordon.epoch_in_force to pgcordon_readonly",
        "cordon-open",
        Severity::Critical,
        "revoke usage on sequence cordon.epoch_in_force from pgcordon_readonly",
    ),
    (
        "select setval('cordon.epoch_in_force', 1)",
        "key-not-kept",
        Severity::Low,
        "update cordon.signing_key set retired_at = null",
    ),
    (
        "grant set on parameter backtrace_functions to pgcordon_readonly",
        "mark-granted",
        Severity::Critical,
        "revoke set on parameter backtrace_functions from pgcordon_readonly",
    ),
    (
        "grant create on schema public to pgcordon_app",
        "create-granted",
        Severity::High,
        "revoke create on schema public from pgcordon_app",
    ),
    (
        "alter default privileges grant select on tables to pgcordon_app",
        "default-privileges",
        Severity::Medium,
        "alter default privileges revoke select on tables from pgcordon_app",
    ),
    ("create unique index u on note (body)", "unique-across-workspaces", Severity::Medium, "drop index u"),
    (
        "create unique index u on note (body) include (workspace_id)",
        "unique-across-workspaces",
        Severity::Medium,
        "drop index u",
    ),
    ("create unique index u on comment (body)", "unique-across-workspaces", Severity::Medium, "drop index u"),
    ("create unique index u on comment (lower(body))", "unique-across-workspaces", Severity::Medium, "drop index u"),
    (
        "create table t (workspace_id uuid references cordon.workspace, note_id int references note)",
        "foreign-key-across-workspaces",
        Severity::Medium,
        "drop table t",
    ),
    (
        "drop index note_workspace_id_pgcordon",
        "index-missing",
        Severity::Low,
        "create index note_workspace_id_pgcordon on note (workspace_id)",
    ),
    (
        "grant execute on function pg_terminate_backend(int, bigint) to public",
        "catalog-unhardened",
        Severity::Medium,
        "revoke execute on function pg_terminate_backend(int, bigint) from public",
    ),
    (
        "grant usage on language plpgsql to public",
        "language-open",
        Severity::Low,
        "revoke usage on language plpgsql from public",
    ),
];

#[tokio::test]
async fn each_broken_wall_is_seen_and_a_whole_house_has_none() {
    let database = Database::hardened().await;
    let _alone = scratch::MAKING.lock().await;
    let admin = database.admin().await;
    let rows = format!("insert into note (workspace_id, body) values ('{A}', 'a'), ('{B}', 'b')");
    admin.batch_execute(&rows).await.unwrap();
    let holes = |findings: &[Finding]| findings.iter().filter(|finding| finding.severity != Severity::Info).count();
    let whole = findings(&database).await;
    assert_eq!(holes(&whole), 0, "{whole:#?}");
    let policy = "using (workspace_id = (select cordon.workspace_id())) with check (workspace_id = (select cordon.workspace_id()))";
    for (breaks, id, severity, heals) in BREAKS {
        admin.batch_execute(breaks).await.unwrap_or_else(|error| panic!("{breaks}: {error:?}"));
        let found = findings(&database).await;
        let heals = if heals.is_empty() { &format!("alter policy pgcordon_workspace on note {policy}") } else { heals };
        admin.batch_execute(heals).await.unwrap_or_else(|error| panic!("{heals}: {error:?}"));
        assert!(found.iter().any(|one| one.id == id && one.severity == severity), "{breaks}: {found:#?}");
        assert!(found.is_sorted_by_key(|one| one.severity));
        let whole = findings(&database).await;
        assert_eq!(holes(&whole), 0, "after {heals}: {whole:#?}");
    }
}

#[tokio::test]
async fn what_is_unique_within_a_workspace_is_no_finding() {
    let database = Database::hardened().await;
    let admin = database.admin().await;
    admin
        .batch_execute(
            "create unique index of_note on note (body, workspace_id); create unique index of_comment on comment (note_id, body)",
        )
        .await
        .unwrap();
    // What tenants may only read tells nothing: a list of the workspaces, say.
    let list = "create table listed (id uuid primary key, name text unique); grant select on listed to pgcordon_app; \
        alter table listed enable row level security, force row level security; \
        create policy pgcordon_workspace on listed as restrictive using (id = (select cordon.workspace_id()))";
    admin.batch_execute(list).await.unwrap();
    let found = findings(&database).await;
    let objects: Vec<(&str, &str)> = found
        .iter()
        .filter(|finding| finding.id == "unique-across-workspaces")
        .map(|finding| (finding.object.as_str(), finding.fix.as_str()))
        .collect();
    let expected = [
        ("public.comment_pkey", "make note_id, by which its rows belong to a workspace, its first column"),
        ("public.note_pkey", "make the workspace column workspace_id its first column"),
    ];
    assert_eq!(objects, expected);
}

#[tokio::test]
async fn a_check_changes_nothing_and_believes_no_search_path() {
    let database = Database::hardened().await;
    let admin = database.admin().await;
    admin.batch_execute("create view public.pg_policy as select * from pg_catalog.pg_policy where false; set search_path = public, pg_catalog").await.unwrap();
    let before = text(&admin, "show search_path").await;
    let found = check::check(&admin, &RoleNames::default(), &ContextNames::default()).await.unwrap();
    assert!(!found.iter().any(|finding| finding.id == "no-sealed-policy"), "{found:#?}");
    assert_eq!(text(&admin, "show search_path").await, before);
    assert_eq!(text(&admin, "select current_user").await, "postgres");
}

/// Rows of every kind of column are made up where there are none, and nothing is left of them.
#[tokio::test]
async fn walls_of_empty_tables_are_tried_with_rows_that_are_made_up() {
    let database = Database::hardened().await;
    let admin = database.admin().await;
    let types = "create type mood as enum ('fine', 'bad'); create domain code as varchar(2) check (value <> '');
        create table zoo (id int generated always as identity primary key, workspace_id uuid not null, n serial, name code not null unique, mood mood not null,
            tags text[] not null, span int4range not null, price numeric(5, 2) not null, raw bytea not null, one char(1) not null, at timestamp not null,
            doc jsonb not null, host inet not null, is_it bool not null, twice int generated always as (1 + 1) stored, note_id int not null references note);
        create table cage (zoo_id int primary key references zoo, body text);
        create table parted (id bigserial, workspace_id uuid not null, kind int not null) partition by list (kind);
        create table parted_1 partition of parted for values in (-1, -2);
        alter table zoo owner to pgcordon_owner; alter table cage owner to pgcordon_owner; alter table parted owner to pgcordon_owner;";
    admin.batch_execute(types).await.unwrap();
    for (table, via) in [("zoo", None), ("cage", Some("zoo_id")), ("parted", None)] {
        let options = Options { via: via.map(str::to_owned), ..Options::default() };
        database.protect(table, &options).await;
    }
    let sequences = "select string_agg(concat_ws(' ', sequencename, last_value), ',' order by sequencename) from pg_sequences where schemaname = 'public'";
    let before = text(&admin, sequences).await;
    let whole = findings(&database).await;
    assert!(!whole.iter().any(|one| one.id.ends_with("-across") || one.id == "not-probed"), "{whole:#?}");
    for (breaks, object) in [("zoo", "public.zoo"), ("cage", "public.cage"), ("parted", "public.parted")] {
        admin
            .batch_execute(&format!("alter policy pgcordon_workspace on {breaks} using (true) with check (true)"))
            .await
            .unwrap();
        let found = findings(&database).await;
        for id in ["reads-across", "fakes-across", "moves-across", "updates-across", "deletes-across"] {
            assert!(found.iter().any(|one| one.id == id && one.object == object), "{id} {object}: {found:#?}");
        }
    }
    assert_eq!(text(&admin, sequences).await, before);
    assert_eq!(text(&admin, "select (select count(*) from zoo) + (select count(*) from parted)").await, "0");
}

/// What can't be made up is told, and isn't a hole.
#[tokio::test]
async fn a_table_that_no_row_can_be_made_up_for_is_named() {
    let database = Database::hardened().await;
    let table = "create table picky (workspace_id uuid not null, body text not null check (body = 'abracadabra')); alter table picky owner to pgcordon_owner";
    database.admin().await.batch_execute(table).await.unwrap();
    database.protect("picky", &Options::default()).await;
    let found = findings(&database).await;
    let told = found.iter().find(|one| one.id == "not-probed").expect("it is told");
    assert_eq!((told.object.as_str(), told.severity), ("public.picky", Severity::Info), "{told:?}");
    assert!(told.what.contains("picky_body_check"), "{told:?}");
}

#[tokio::test]
async fn what_was_never_hardened_is_reported() {
    let database = Database::protected().await;
    let found = findings(&database).await;
    for id in ["catalog-unhardened", "temp-granted", "language-open", "notify-open"] {
        assert!(found.iter().any(|finding| finding.id == id), "{id}: {found:#?}");
    }
}

#[tokio::test]
async fn a_database_without_cordon_cant_be_checked() {
    let database = Database::empty().await;
    let client = database.admin().await;
    let error = check::check(&client, &RoleNames::default(), &ContextNames::default()).await.expect_err("no cordon");
    assert!(error.to_string().contains("pgcordon migrate"), "{error}");
}

/// Powers that newer versions brought: a tenant that has one is a finding.
#[tokio::test]
async fn privileges_and_roles_of_newer_versions_are_seen() {
    let database = Database::hardened().await;
    let _alone = scratch::MAKING.lock().await;
    let (admin, version) = (database.admin().await, database.version().await);
    for (since, id, grant, revoke) in [
        (17, "maintain-granted", "grant maintain on note to pgcordon_app", "revoke maintain on note from pgcordon_app"),
        (17, "maintain-granted", "grant maintain on comment to public", "revoke maintain on comment from public"),
        (17, "role-member", "grant pg_maintain to pgcordon_app", "revoke pg_maintain from pgcordon_app"),
        (
            16,
            "role-member",
            "grant pg_create_subscription to pgcordon_app",
            "revoke pg_create_subscription from pgcordon_app",
        ),
        (
            16,
            "role-member",
            "grant pg_use_reserved_connections to pgcordon_readonly",
            "revoke pg_use_reserved_connections from pgcordon_readonly",
        ),
        (
            18,
            "role-member",
            "grant pg_signal_autovacuum_worker to pgcordon_app",
            "revoke pg_signal_autovacuum_worker from pgcordon_app",
        ),
        (
            17,
            "catalog-unhardened",
            "grant execute on function pg_wal_summary_contents to public",
            "revoke execute on function pg_wal_summary_contents from public",
        ),
    ] {
        if version >= since {
            admin.batch_execute(grant).await.unwrap();
            let found = findings(&database).await;
            admin.batch_execute(revoke).await.unwrap();
            assert!(found.iter().any(|one| one.id == id && one.severity < Severity::Low), "{grant}: {found:#?}");
            let left = findings(&database).await;
            assert!(!left.iter().any(|one| one.id == id), "after {revoke}: {left:#?}");
        }
    }
}
