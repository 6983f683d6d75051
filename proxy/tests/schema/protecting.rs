//! `protect` on schemas that have a past: rows, partitions, children, views, unique constraints; and `unprotect` behind it.

use pgcordon::control::RoleNames;
use pgcordon::control::schema::protect::{self, Options, Protected};
use pgcordon::tenant::ContextNames;

use crate::scratch::{A, APPLICATION, B, Database, refusal, text};

/// A database with these tables, which the owner's role owns.
async fn with(tables: &str) -> Database {
    let database = Database::protected().await;
    let workspaces = format!("insert into cordon.workspace (id, name) values ('{A}', 'acme'), ('{B}', 'globex')");
    let admin = database.admin().await;
    admin.batch_execute(&format!("{workspaces}; set role pgcordon_owner; {tables}")).await.unwrap();
    database
}

async fn protect(database: &Database, table: &str, options: &Options) -> Protected {
    let (roles, names) = (RoleNames::default(), ContextNames::default());
    protect::protect(&mut database.admin().await, &roles, &names, table, options).await.unwrap()
}

async fn refused(database: &Database, table: &str, options: &Options) -> String {
    let (roles, names) = (RoleNames::default(), ContextNames::default());
    protect::protect(&mut database.admin().await, &roles, &names, table, options).await.expect_err(table).to_string()
}

/// All that protecting may change of a table.
const STATE: &str = "select concat_ws(E'\\n', c.relrowsecurity, c.relforcerowsecurity, \
    (select string_agg(concat_ws(' ', attname, attnotnull, pg_get_expr(adbin, adrelid)), ',' order by attnum) from pg_attribute \
        left join pg_attrdef on adrelid = attrelid and adnum = attnum where attrelid = c.oid and attnum > 0 and not attisdropped), \
    (select string_agg(pg_get_indexdef(indexrelid), ',' order by indexrelid::regclass::text) from pg_index where indrelid = c.oid), \
    (select string_agg(pg_get_constraintdef(oid), ',' order by conname) from pg_constraint where conrelid = c.oid and contype <> 'n'), \
    (select string_agg(polname, ',' order by polname) from pg_policy where polrelid = c.oid)) from pg_class c where c.oid = ";

async fn state(database: &Database, table: &str) -> String {
    text(&database.admin().await, &format!("{STATE} '{table}'::regclass")).await
}

#[tokio::test]
async fn rows_that_are_there_belong_to_who_is_named_or_to_their_parents_workspace() {
    let database = with("create table task (id int primary key, note_id int references note, title text);").await;
    let admin = database.admin().await;
    let rows = format!(
        "insert into note (id, workspace_id) values (1, '{A}'), (2, '{B}'); insert into task values (1, 1, 'a'), (2, 2, 'b')"
    );
    admin.batch_execute(&rows).await.unwrap();
    let add = Options { add_column: true, ..Options::default() };
    let told = refused(&database, "task", &add).await;
    assert!(told.contains("nothing says whose they are") && told.contains("--workspace"), "{told}");
    let unknown = Options { workspace: Some("nobody".to_owned()), ..add.clone() };
    assert!(refused(&database, "task", &unknown).await.contains("there is no workspace \"nobody\""));
    assert!(!state(&database, "task").await.contains("workspace_id"), "nothing is half-done");

    protect(&database, "task", &Options { via: Some("note_id".to_owned()), ..add.clone() }).await;
    let whose = "select string_agg(id || ' ' || workspace_id, ',' order by id) from task";
    assert_eq!(text(&admin, whose).await, format!("1 {A},2 {B}"));
    assert_eq!(text(&database.bound(B).await, "select string_agg(title, ',') from task").await, "b");

    admin.batch_execute("create table tag (name text); insert into tag values ('x'), ('y'); alter table tag owner to pgcordon_owner").await.unwrap();
    protect(&database, "tag", &Options { workspace: Some("globex".to_owned()), ..add }).await;
    assert_eq!(text(&database.bound(A).await, "select count(*) from tag").await, "0");
    assert_eq!(text(&database.bound(B).await, "select count(*) from tag").await, "2");
    let client = database.bound(A).await;
    client.batch_execute("insert into tag values ('z')").await.unwrap();
    assert_eq!(text(&client, "select workspace_id from tag").await, A);
}

#[tokio::test]
async fn a_child_without_a_parent_is_told_before_anything_is_done() {
    let database = with("create table task (id int primary key, note_id int references note);").await;
    database.admin().await.batch_execute("insert into task values (1, null)").await.unwrap();
    let options = Options { add_column: true, via: Some("note_id".to_owned()), ..Options::default() };
    assert!(refused(&database, "task", &options).await.contains("rows without a parent"));
}

#[tokio::test]
async fn what_was_unique_is_unique_within_a_workspace() {
    let database = with(
        "create table tag (id serial primary key, name text not null unique, slug text, gone bool not null default false);
         create unique index tag_slug on tag (lower(slug)) where not gone;
         create table uses (tag_name text references tag (name));",
    )
    .await;
    let add = Options { add_column: true, ..Options::default() };
    // A foreign key refers to the name.
    let done = protect(&database, "tag", &add).await;
    let note = |done: &Protected, word: &str| done.notes.iter().any(|note| note.contains(word));
    assert!(
        note(&done, "tag_slug is unique within a workspace now") && note(&done, "tag_name_key stays unique"),
        "{done:?}"
    );
    for workspace in [A, B] {
        let client = database.bound(workspace).await;
        let insert = format!("insert into tag (name, slug) values ('{workspace}', 'Same')");
        client.batch_execute(&insert).await.unwrap();
        assert_eq!(refusal(&client, "insert into tag (name, slug) values ('other', 'sAME')").await, "23505");
    }
    let kept = with("create table tag (name text unique nulls not distinct deferrable initially deferred);").await;
    let before = state(&kept, "tag").await;
    protect(&kept, "tag", &Options { keep_unique: true, ..add.clone() }).await;
    assert!(state(&kept, "tag").await.contains("UNIQUE NULLS NOT DISTINCT (name) DEFERRABLE INITIALLY DEFERRED"));
    protect::unprotect(&mut kept.admin().await, &RoleNames::default(), "tag", false).await.unwrap();
    kept.admin().await.batch_execute("alter table tag drop column workspace_id").await.unwrap();
    protect(&kept, "tag", &add).await;
    let widened = state(&kept, "tag").await;
    assert!(
        widened.contains("UNIQUE NULLS NOT DISTINCT (workspace_id, name) DEFERRABLE INITIALLY DEFERRED"),
        "{widened}"
    );
    protect::unprotect(&mut kept.admin().await, &RoleNames::default(), "tag", false).await.unwrap();
    kept.admin().await.batch_execute("alter table tag drop column workspace_id").await.unwrap();
    assert_eq!(state(&kept, "tag").await, before);
}

#[tokio::test]
async fn partitions_and_children_have_walls_of_their_own() {
    let database = with(
        "create table event (id bigserial, workspace_id uuid not null, at date not null) partition by range (at);
         create table event_old partition of event for values from ('2020-01-01') to ('2021-01-01');
         create table event_new partition of event for values from ('2021-01-01') to ('2099-01-01') partition by list (workspace_id);
         create table event_rest partition of event_new default;
         create table base (workspace_id uuid not null, body text); create table derived (more text) inherits (base);
         grant select on event_old, event_rest, derived to public;",
    )
    .await;
    for table in ["event", "base"] {
        protect(&database, table, &Options::default()).await;
    }
    for workspace in [A, B] {
        let client = database.bound(workspace).await;
        client
            .batch_execute(
                "insert into event (at) values ('2020-02-02'), ('2022-02-02'); insert into base (body) values ('x')",
            )
            .await
            .unwrap();
        assert_eq!(text(&client, "select count(*) from event").await, "2");
        assert_eq!(text(&client, "select count(*) from base").await, "1");
        for closed in ["event_old", "event_new", "event_rest", "derived"] {
            assert_eq!(refusal(&client, &format!("select * from {closed}")).await, "42501", "{closed}");
        }
    }
    let admin = database.admin().await;
    admin.batch_execute(&format!("insert into derived values ('{B}', 'x', 'y'); grant select on event_old, event_rest, derived to pgcordon_app")).await.unwrap();
    let client = database.bound(A).await;
    for (table, rows) in [("event_old", "1"), ("event_rest", "1"), ("derived", "0"), ("base", "1")] {
        assert_eq!(text(&client, &format!("select count(*) from {table}")).await, rows, "{table}");
    }
    let without = database.connect(APPLICATION).await;
    assert_eq!(text(&without, "select count(*) from event_old").await, "0");
}

#[tokio::test]
async fn rows_follow_a_foreign_key_of_several_columns() {
    let database = with(
        "create table place (workspace_id uuid not null, row int, seat int, primary key (row, seat));
         create table ticket (id int primary key, row int, seat int, constraint sits foreign key (row, seat) references place);",
    )
    .await;
    protect(&database, "place", &Options::default()).await;
    protect(&database, "ticket", &Options { via: Some("sits".to_owned()), ..Options::default() }).await;
    for (number, workspace) in [(1, A), (2, B)] {
        let client = database.bound(workspace).await;
        let rows = format!(
            "insert into place (row, seat) values ({number}, 7); insert into ticket values ({number}, {number}, 7)"
        );
        client.batch_execute(&rows).await.unwrap();
        assert_eq!(text(&client, "select count(*) from ticket").await, "1");
    }
    assert_eq!(refusal(&database.bound(A).await, "insert into ticket values (3, 2, 7)").await, "42501");
}

#[tokio::test]
async fn views_that_see_everything_are_run_as_who_asks() {
    let database = with("create table item (workspace_id uuid not null, body text);").await;
    let admin = database.admin().await;
    admin
        .batch_execute(
            "create view all_items as select * from item; create materialized view kept as select * from item;
             grant select on all_items, kept to pgcordon_app",
        )
        .await
        .unwrap();
    let done = protect(&database, "item", &Options::default()).await;
    assert!(done.notes.iter().any(|note| note.contains("kept keeps rows of every workspace")), "{done:?}");
    for workspace in [A, B] {
        let client = database.bound(workspace).await;
        client.batch_execute("insert into item (body) values ('x')").await.unwrap();
        assert_eq!(text(&client, "select count(*) from all_items").await, "1");
        assert_eq!(refusal(&client, "select * from kept").await, "42501");
    }
}

#[tokio::test]
async fn a_reference_that_may_cross_is_proposed_to_be_closed_and_the_proposal_closes_it() {
    let database = with(
        "create table list (id int primary key, workspace_id uuid not null);
         create table entry (id int primary key, workspace_id uuid not null, list_id int constraint of_list references list on delete set null);",
    )
    .await;
    protect(&database, "list", &Options::default()).await;
    let done = protect(&database, "entry", &Options::default()).await;
    let [note] = done.notes.as_slice() else { panic!("{done:?}") };
    let (told, proposal) = note.split_once("Proposed: ").unwrap();
    assert!(told.starts_with("of_list lets a row refer to another workspace's"), "{note}");
    for (number, workspace) in [(1, A), (2, B)] {
        database
            .bound(workspace)
            .await
            .batch_execute(&format!("insert into list (id) values ({number})"))
            .await
            .unwrap();
    }
    let client = database.bound(A).await;
    assert_eq!(
        refusal(&client, "begin; insert into entry (id, list_id) values (1, 2); rollback").await,
        "",
        "as it was"
    );
    database.admin().await.batch_execute(proposal).await.unwrap();
    let client = database.bound(A).await;
    assert_eq!(refusal(&client, "insert into entry (id, list_id) values (1, 2)").await, "23503");
    client.batch_execute("insert into entry (id, list_id) values (1, 1); delete from list").await.unwrap();
    assert_eq!(
        text(&client, "select concat_ws(' ', list_id is null, workspace_id) from entry").await,
        format!("t {A}")
    );
    assert_eq!(protect(&database, "entry", &Options::default()).await.notes, Vec::<String>::new());
}

#[tokio::test]
async fn protecting_twice_is_as_once_and_unprotecting_takes_all_of_it_back() {
    for (tables, table, options) in [
        (
            "create table t (id serial primary key, workspace_id uuid not null default gen_random_uuid());",
            "t",
            Options::default(),
        ),
        ("create table t (id int, \"workspaceId\" uuid); create view v as select * from t;", "t", Options::default()),
        (
            "create table t (id int, workspace_id uuid not null) partition by list (id); create table t_1 partition of t default;",
            "t",
            Options::default(),
        ),
        (
            "create table t (id int primary key, note_id int references note);",
            "t",
            Options { via: Some("note_id".to_owned()), ..Options::default() },
        ),
    ] {
        let database = with(tables).await;
        let before = state(&database, table).await;
        protect(&database, table, &options).await;
        let once = state(&database, table).await;
        assert_ne!(once, before);
        protect(&database, table, &options).await;
        assert_eq!(state(&database, table).await, once, "{tables}");
        protect::unprotect(&mut database.admin().await, &RoleNames::default(), table, false).await.unwrap();
        assert_eq!(state(&database, table).await, before, "{tables}");
        assert_eq!(
            text(&database.admin().await, "select count(*) from cordon.protection where relation = 'public.t'").await,
            "0"
        );
        assert_eq!(refusal(&database.bound(A).await, &format!("select * from {table}")).await, "42501");
    }
}

/// Two workspaces have by now what was unique before: that can't be taken back, and then nothing is.
#[tokio::test]
async fn what_cant_be_taken_back_leaves_the_table_protected() {
    let database = with("create table tag (name text unique);").await;
    protect(&database, "tag", &Options { add_column: true, ..Options::default() }).await;
    for workspace in [A, B] {
        database.bound(workspace).await.batch_execute("insert into tag values ('same')").await.unwrap();
    }
    let error = protect::unprotect(&mut database.admin().await, &RoleNames::default(), "tag", false).await;
    assert!(error.expect_err("not unique").to_string().contains("could not create unique index"));
    assert_eq!(text(&database.bound(A).await, "select count(*) from tag").await, "1");
}

#[tokio::test]
async fn the_sql_of_a_dry_run_does_alone_what_protect_does() {
    let tables = "create table tag (id serial primary key, name text unique);";
    let (by_hand, by_us) = (with(tables).await, with(tables).await);
    let options = Options { add_column: true, ..Options::default() };
    let dry = protect(&by_hand, "tag", &Options { dry_run: true, ..options.clone() }).await;
    assert!(!state(&by_hand, "tag").await.contains("workspace_id"));
    by_hand.admin().await.batch_execute(&format!("begin; {}; commit", dry.statements.join(";\n"))).await.unwrap();
    protect(&by_us, "tag", &options).await;
    assert_eq!(state(&by_hand, "tag").await, state(&by_us, "tag").await);
}

#[tokio::test]
async fn a_workspace_that_is_no_uuid_and_an_owner_who_is_a_tenant_are_told_for_what_they_are() {
    let database = with(
        "create table by_name (workspace_id text); insert into by_name values ('acme');
         create table by_text (workspace_id text); insert into by_text values ('00000000-0000-0000-0000-00000000000a');
         create table by_number (workspace_id bigint); create table theirs (workspace_id uuid);
         create table halves (workspace_id uuid); insert into halves values (null);",
    )
    .await;
    database.admin().await.batch_execute("alter table theirs owner to pgcordon_app").await.unwrap();
    for (table, reason) in [
        ("by_name", "Some of its values aren't uuids"),
        (
            "by_text",
            "ALTER TABLE public.by_text ALTER COLUMN \"workspace_id\" TYPE uuid USING \"workspace_id\"::uuid first",
        ),
        ("by_number", "is of type bigint, and a workspace is a uuid"),
        ("theirs", "is owned by pgcordon_app, as which tenants run"),
    ] {
        let told = refused(&database, table, &Options::default()).await;
        assert!(told.contains(reason), "{table}: {told}");
    }
    let done = protect(&database, "halves", &Options::default()).await;
    assert!(done.notes.iter().any(|note| note.contains("no tenant will see them")), "{done:?}");
    let done = protect(&database, "halves", &Options { workspace: Some(B.to_owned()), ..Options::default() }).await;
    assert!(done.notes.is_empty(), "{done:?}");
    assert_eq!(text(&database.bound(B).await, "select count(*) from halves").await, "1");
}
