//! What `protect` makes: two workspaces, and nothing of one to be seen or changed by the other.

use pgcordon::control::RoleNames;
use pgcordon::control::schema::SchemaError;
use pgcordon::control::schema::protect::{self, Options};
use pgcordon::tenant::ContextNames;

use crate::scratch::{A, APPLICATION, B, Database, refusal, text};

async fn with_rows() -> Database {
    let database = Database::protected().await;
    for (workspace, id) in [(A, 1), (B, 2)] {
        let client = database.bound(workspace).await;
        let rows =
            format!("insert into note (body) values ('of {workspace}'); insert into comment values ({id}, {id}, 'x')");
        client.batch_execute(&rows).await.unwrap();
    }
    database
}

#[tokio::test]
async fn a_workspace_sees_and_changes_its_own_rows_only() {
    let database = with_rows().await;
    let client = database.bound(A).await;
    assert_eq!(text(&client, "select string_agg(body, ',') from note").await, format!("of {A}"));
    assert_eq!(text(&client, "select string_agg(id::text, ',') from comment").await, "1");
    assert_eq!(client.execute("update note set body = 'mine'", &[]).await.unwrap(), 1);
    assert_eq!(client.execute("delete from comment", &[]).await.unwrap(), 1);
    let admin = database.admin().await;
    assert_eq!(text(&admin, "select count(*) from note where body = 'mine'").await, "1");
    assert_eq!(text(&admin, "select string_agg(id::text, ',') from comment").await, "2");
}

#[tokio::test]
async fn a_row_cant_be_put_into_another_workspace() {
    let database = with_rows().await;
    let client = database.bound(A).await;
    for sql in [
        format!("insert into note (workspace_id) values ('{B}')"),
        format!("update note set workspace_id = '{B}'"),
        format!(
            "insert into note (id, workspace_id) values (1, '{B}') on conflict (id) do update set workspace_id = '{B}'"
        ),
        "insert into note (id, body) values (2, 'x') on conflict (id) do update set body = 'stolen'".to_owned(),
        format!("copy note (workspace_id) from program 'echo {B}'"),
        "insert into comment values (3, 2, 'on a note of B')".to_owned(),
        "update comment set note_id = 2".to_owned(),
        "truncate note cascade".to_owned(),
        "alter table note disable row level security".to_owned(),
        "drop policy pgcordon_workspace on note".to_owned(),
        "set row_security = off; select * from note".to_owned(),
        "select setval('note_id_seq', 1)".to_owned(),
        "create index on note (body)".to_owned(),
        "set role pgcordon_system".to_owned(),
        "set session authorization pgcordon_system".to_owned(),
    ] {
        assert_eq!(refusal(&client, &sql).await, "42501", "{sql}");
        client.batch_execute("rollback; reset row_security").await.unwrap();
    }
}

#[tokio::test]
async fn without_a_workspace_no_rows_and_no_writes() {
    let database = with_rows().await;
    for role in [APPLICATION, "pgcordon_owner_login"] {
        if role != APPLICATION {
            let make = "create role pgcordon_owner_login login in role pgcordon_owner";
            database.admin().await.batch_execute(make).await.unwrap();
        }
        let client = database.connect(role).await;
        assert_eq!(text(&client, "select count(*) from note").await, "0", "{role}");
        assert_eq!(text(&client, "select count(*) from comment").await, "0", "{role}");
        assert_eq!(client.execute("update note set body = 'x'", &[]).await.unwrap(), 0, "{role}");
        let insert = format!("insert into note (workspace_id) values ('{A}')");
        assert_eq!(refusal(&client, &insert).await, "42501", "{role}");
        assert_eq!(refusal(&client, "insert into note (body) values ('x')").await, "42501", "{role}");
    }
    database.admin().await.batch_execute("drop role pgcordon_owner_login").await.unwrap();
}

#[tokio::test]
async fn another_permissive_policy_doesnt_open_the_table() {
    let database = with_rows().await;
    let admin = database.admin().await;
    admin.batch_execute("create policy everybody on note using (true) with check (true)").await.unwrap();
    let client = database.bound(A).await;
    assert_eq!(text(&client, "select count(*) from note").await, "1");
    let insert = format!("insert into note (workspace_id) values ('{B}')");
    assert_eq!(refusal(&client, &insert).await, "42501");
}

#[tokio::test]
async fn the_reader_reads_and_the_system_role_does_all() {
    let database = with_rows().await;
    let reader = database.connect("pgcordon_readonly").await;
    assert_eq!(text(&reader, "select count(*) from note").await, "0");
    assert_eq!(refusal(&reader, "delete from note").await, "42501");
    let system = database.connect("pgcordon_system").await;
    assert_eq!(text(&system, "select count(*) from note").await, "2");
}

#[tokio::test]
async fn what_the_system_role_creates_is_the_owners() {
    let database = with_rows().await;
    let system = database.connect("pgcordon_system").await;
    system
        .batch_execute(
            "create table t (id serial primary key, workspace_id uuid not null); create view v as select * from note;
             create function f() returns bigint language sql security definer as 'select count(*) from public.note';
             grant select on v to pgcordon_app; create temp table mine as select 1 as one; select * from mine; drop table mine;
             create table again as select 1 as one; alter table again add column two int; drop table again",
        )
        .await
        .unwrap();
    let owned = "select count(*) from pg_shdepend where refobjid = 'pgcordon_system'::regrole and deptype = 'o' and dbid = (select oid from pg_database where datname = current_database())";
    assert_eq!(text(&database.admin().await, owned).await, "0");
    let client = database.bound(A).await;
    assert_eq!(text(&client, "select count(*) from v").await, "1");
    assert_eq!(text(&client, "select f()").await, "1");
}

#[tokio::test]
async fn a_migration_without_a_workspace_touches_tenant_rows_as_the_system_role() {
    let database = with_rows().await;
    let system = database.connect("pgcordon_system").await;
    let script = "begin; alter table note add column title text; update note set title = body; alter table note alter column title set not null; commit";
    system.batch_execute(script).await.unwrap();
    assert_eq!(text(&system, "select count(*) from note where title is not null").await, "2");
}

#[tokio::test]
async fn protecting_twice_changes_nothing() {
    let database = with_rows().await;
    let admin = database.admin().await;
    let state = "select (select string_agg(pg_get_indexdef(indexrelid), ';' order by indexrelid) from pg_index where indrelid = 'note'::regclass) \
                 || (select string_agg(p::text, ';' order by policyname) from pg_policies p) || (select string_agg(a::text, ';' order by a::text) from pg_class, unnest(relacl) a where oid = 'note'::regclass)";
    let before = text(&admin, state).await;
    database.protect("note", &Options::default()).await;
    assert_eq!(text(&admin, state).await, before);
}

#[tokio::test]
async fn an_added_column_takes_its_value_from_the_context() {
    let database = Database::protected().await;
    let admin = database.admin().await;
    admin
        .batch_execute(r#"create table "Odd ""Name" (id int); alter table "Odd ""Name" owner to pgcordon_owner; create table "camelCase" ("workspaceId" uuid not null); alter table "camelCase" owner to pgcordon_owner"#)
        .await
        .unwrap();
    database.protect(r#"Odd "Name"#, &Options { add_column: true, ..Options::default() }).await;
    database.protect("camelCase", &Options::default()).await;
    for workspace in [A, B] {
        let client = database.bound(workspace).await;
        client
            .batch_execute(r#"insert into "Odd ""Name" values (1); insert into "camelCase" default values"#)
            .await
            .unwrap();
        assert_eq!(text(&client, r#"select count(*) from "Odd ""Name""#).await, "1");
        assert_eq!(text(&client, r#"select "workspaceId" from "camelCase""#).await, workspace);
    }
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let database = Database::protected().await;
    let admin = database.admin().await;
    admin.batch_execute("create table t (id int)").await.unwrap();
    let statements = database.protect("t", &Options { add_column: true, dry_run: true, ..Options::default() }).await;
    assert!(statements.iter().any(|statement| statement.contains("FORCE ROW LEVEL SECURITY")), "{statements:?}");
    let columns = "select count(*) from pg_attribute where attrelid = 't'::regclass and attnum > 0";
    assert_eq!(text(&admin, columns).await, "1");
}

#[tokio::test]
async fn what_cant_be_protected_is_refused_with_a_reason() {
    let database = Database::protected().await;
    let mut admin = database.admin().await;
    admin
        .batch_execute(
            "create table plain (id int); create table odd (workspace_id int); create view seen as select 1 as one",
        )
        .await
        .unwrap();
    let via = |column: &str| Options { via: Some(column.to_owned()), ..Options::default() };
    for (table, options, reason) in [
        ("nowhere", Options::default(), "there is no table"),
        ("plain", Options::default(), "has no workspace column"),
        ("odd", Options::default(), "a workspace is a uuid"),
        ("seen", Options::default(), "is no table"),
        ("plain", via("id"), "has no foreign key"),
        ("comment", via("comment_pkey"), "has no foreign key"),
        ("cordon.api_key", Options::default(), "is pgcordon's own"),
        ("cordon.quota", Options::default(), "is pgcordon's own"),
        ("pg_catalog.pg_class", Options { add_column: true, ..Options::default() }, "is Postgres' own"),
        ("information_schema.sql_features", Options::default(), "is Postgres' own"),
    ] {
        let (roles, names) = (RoleNames::default(), ContextNames::default());
        let error = protect::protect(&mut admin, &roles, &names, table, &options).await.expect_err(table).to_string();
        assert!(error.contains(reason), "{table}: {error}");
    }
}

#[tokio::test]
async fn the_tables_of_cordon_and_of_postgres_are_nobodys_to_unprotect() {
    let database = Database::protected().await;
    let mut admin = database.admin().await;
    for table in ["cordon.workspace", "pg_catalog.pg_class"] {
        let error = protect::unprotect(&mut admin, &RoleNames::default(), table, false).await.expect_err(table);
        assert!(matches!(error, SchemaError::Refused(_)) && error.to_string().contains(" own"), "{error}");
    }
}

#[tokio::test]
async fn a_foreign_key_is_named_by_itself_or_by_its_column() {
    let database = Database::protected().await;
    let by = |via: &str| Options { via: Some(via.to_owned()), dry_run: true, ..Options::default() };
    let by_column = database.protect("comment", &by("note_id")).await;
    assert_eq!(database.protect("comment", &by("comment_note_id_fkey")).await, by_column);
    assert!(by_column.iter().any(|statement| statement.contains("parent.\"id\" = ")), "{by_column:?}");
}

#[tokio::test]
async fn an_unprotected_table_is_out_of_the_tenants_reach() {
    let database = with_rows().await;
    let mut admin = database.admin().await;
    protect::unprotect(&mut admin, &RoleNames::default(), "note", false).await.unwrap();
    let client = database.bound(A).await;
    assert_eq!(refusal(&client, "select * from note").await, "42501");
    assert_eq!(text(&admin, "select relrowsecurity from pg_class where relname = 'note'").await, "f");
}
