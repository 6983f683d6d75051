//! `pgcordon meter` itself: what it makes, what it refuses, and what becomes of it when tables change.

use pgcordon::control::RoleNames;
use pgcordon::control::schema::SchemaError;
use pgcordon::control::schema::check::{self, Finding, Severity};
use pgcordon::control::schema::meter::Options;
use pgcordon::control::schema::protect;
use pgcordon::quota::window::Per;
use pgcordon::tenant::ContextNames;
use tokio_postgres::Client;

use crate::scratch::{A, B, Database, MAKING, refusal, text};
use crate::tenant::named;

const EVERYTHING: &str = "\
select (select coalesce(string_agg(r::text, ';' order by id), '') from cordon.resource r) || '|' || (select coalesce(string_agg(m::text, ';' order by id), '') from cordon.meter m) \
|| '|' || (select coalesce(string_agg(format('%s %s %s %s', tgrelid::regclass, tgname, tgenabled, tgfoid::regprocedure), ';' order by tgrelid, tgname), '') from pg_trigger where tgname like 'pgcordon%') \
|| '|' || (select coalesce(string_agg(pg_get_functiondef(oid) || coalesce(proacl::text, ''), ';' order by proname), '') from pg_proc where proname like 'meter\\_%')";

fn filtered(resource: &str, table: &str, filter: &str) -> Options {
    Options { filter: Some(filter.to_owned()), ..named(resource, &[table]) }
}

async fn family() -> Database {
    Database::protected().await.with_family().await
}

async fn refused(database: &Database, options: &Options) -> String {
    let before = text(&database.admin().await, EVERYTHING).await;
    let error = database.meter(options).await.expect_err("it is refused");
    assert!(matches!(error, SchemaError::Refused(_)), "{error}");
    assert_eq!(text(&database.admin().await, EVERYTHING).await, before);
    error.to_string()
}

#[tokio::test]
async fn metering_twice_changes_nothing_and_adds_a_table_when_it_is_another() {
    let database = family().await;
    let admin = database.admin().await;
    let limited = Options { limit: Some(5), ..named("rows", &["seg", "public.seg", "child"]) };
    let first = database.meter(&limited).await.unwrap();
    assert_eq!(first.tables, ["public.seg", "public.child"]);
    let before = text(&admin, EVERYTHING).await;
    assert_eq!(database.meter(&limited).await.unwrap().resource, first.resource);
    // What isn't said stays as it is.
    assert_eq!(database.metered("rows", &["child"]).await, first.resource);
    assert_eq!(text(&admin, EVERYTHING).await, before);
    assert_eq!(database.metered("rows", &["heir"]).await, first.resource);
    assert_eq!(
        text(&admin, "select string_agg(relation, ' ' order by id) from cordon.meter").await,
        "public.seg public.child public.heir"
    );
    assert_eq!(text(&admin, "select default_limit from cordon.resource").await, "5");
    database.meter(&Options { limit: Some(0), ..named("rows", &["heir"]) }).await.unwrap();
    assert_eq!(text(&admin, "select default_limit from cordon.resource").await, "0");
    // A filter that is left out is gone, and with it the trigger for updates.
    database.meter(&filtered("rows", "seg", "state = 'on'")).await.unwrap();
    let updates = "select count(*) from pg_trigger where tgname = 'pgcordon_meter_update'";
    assert_eq!(text(&admin, updates).await, "1");
    database.metered("rows", &["seg"]).await;
    assert_eq!(text(&admin, updates).await, "0");
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_says_what_a_real_one_does() {
    let database = family().await;
    let admin = database.admin().await;
    let options = Options { limit: Some(5), dry_run: true, ..filtered("rows", "seg", "state = 'on'") };
    let state = "select count(*) from pg_trigger where tgname like 'pgcordon%'";
    let dry = database.meter(&options).await.unwrap();
    assert_eq!(text(&admin, state).await, "0");
    assert_eq!(text(&admin, "select count(*) from cordon.resource").await, "0");
    let real = database.meter(&Options { dry_run: false, ..options }).await.unwrap();
    assert_eq!(dry.statements.len(), real.statements.len());
    assert!(dry.statements.iter().any(|statement| {
        statement.starts_with("CREATE OR REPLACE TRIGGER pgcordon_meter_insert AFTER INSERT ON public.seg")
    }));
    assert_eq!(text(&admin, state).await, "3");
}

#[tokio::test]
async fn what_can_t_be_metered_is_refused_with_a_reason_and_changes_nothing() {
    let database = family().await;
    let admin = database.admin().await;
    database.metered("there", &["heir"]).await;
    admin
        .batch_execute(
            "create table open (id int, workspace_id uuid); create view shown as select * from seg; create table unforced (workspace_id uuid); \
             alter table unforced enable row level security; create function public.mine(text) returns bool language sql immutable as 'select true'; \
             create function public.same(text, text) returns bool language sql immutable as 'select true'; \
             create operator public.=== (leftarg = text, rightarg = text, function = public.same); \
             create domain public.checked as text check (public.mine(value))",
        )
        .await
        .unwrap();
    let per = |per| Options { per: Some(per), ..named("there", &["heir"]) };
    for (options, reason) in [
        (
            named("r", &["open"]),
            "isn't protected, so its rows belong to no workspace: run pgcordon protect public.open first",
        ),
        (named("r", &["unforced"]), "isn't protected"),
        (named("r", &["nothing"]), "there is no table"),
        (named("r", &["shown"]), "is no table"),
        (named("r", &["parted_1"]), "is a partition: meter public.parted"),
        (named("r", &["parted_2_low"]), "is a partition: meter public.parted"),
        (named("there", &["heir_child"]), "parent and child, and a row would count twice"),
        (named("", &["seg"]), "can't be a resource's name"),
        (named("größe", &["seg"]), "can't be a resource's name"),
        (named(&"x".repeat(64), &["seg"]), "can't be a resource's name"),
        (per(Per::Day), "counts the rows that exist, and what it counts can't be changed"),
        (Options { limit: Some(u64::MAX), ..named("r", &["seg"]) }, "a limit is at most 9223372036854775807"),
        (filtered("r", "parted", "k = 1"), "a partitioned table can't be metered with a filter"),
        (filtered("r", "seg", "state ="), "syntax error"),
        (filtered("r", "seg", ""), "syntax error"),
        (filtered("r", "seg", "nothing = 1"), "column \"nothing\" does not exist"),
        (filtered("r", "seg", "state"), "must be type boolean"),
        (filtered("r", "seg", "now() > '2020-01-01'"), "must be marked IMMUTABLE"),
        (filtered("r", "seg", "exists (select from child)"), "cannot use subquery"),
        (filtered("r", "seg", "count(*) > 1"), "aggregate functions are not allowed"),
        (filtered("r", "seg", "true); drop table seg; select (true"), "cannot insert multiple commands"),
        (
            filtered("r", "seg", "mine(state)"),
            "uses function mine(text), which would run with the rights of the schema cordon",
        ),
        (filtered("r", "seg", "state === 'x'"), "uses operator ===(text,text)"),
        (filtered("r", "seg", "state::checked = 'x'"), "uses type checked"),
    ] {
        let said = refused(&database, &options).await;
        assert!(said.contains(reason), "{options:?}: {said}");
    }
    assert_eq!(text(&admin, "select count(*) from seg").await, "0", "it is still there");
    // One that can't be metered leaves the others as they were, too.
    refused(&database, &named("r", &["seg", "open"])).await;
}

#[tokio::test]
async fn what_counts_is_the_workspaces_rows_near_and_far() {
    let database = family().await;
    let admin = database.admin().await;
    admin
        .batch_execute(
            "create table \"Journey\" (\"id\" int, \"workspaceId\" uuid not null, primary key (\"workspaceId\", \"id\"), unique (\"id\")); \
             create table detail (id int, step_id int references step)",
        )
        .await
        .unwrap();
    database.protect("Journey", &protect::Options::default()).await;
    database
        .protect("detail", &protect::Options { via: Some("step_id".to_owned()), ..protect::Options::default() })
        .await;
    admin
        .batch_execute(&format!(
            "insert into \"Journey\" values (1, '{A}'), (2, '{A}'), (3, '{B}');
             insert into seg (id, workspace_id, state) values (1, '{A}', 'on'), (2, '{A}', 'off'), (3, '{B}', 'on');
             insert into child (id, workspace_id, seg_id) values (1, '{A}', 1), (2, '{B}', 3); insert into step (id, child_id) values (1, 1), (2, 1), (3, 2);
             insert into detail values (1, 1), (2, 2), (3, 2), (4, 3), (5, null); insert into parted values (1, '{A}', 1), (1, '{A}', 2), (2, '{B}', 2);
             insert into heir values (1, '{A}'); insert into heir_child values (2, '{A}'), (3, '{B}')"
        ))
        .await
        .unwrap();
    let system = database.connect("pgcordon_system").await;
    let workspace: uuid::Uuid = A.parse().unwrap();
    for (table, filter, expected) in [
        ("Journey", None, 2),
        ("seg", None, 2),
        ("seg", Some("state = 'on'"), 1),
        ("seg", Some("state = 'off' or state = 'on'"), 2),
        ("child", None, 1),
        ("step", None, 2),
        ("step", Some("id > 1"), 1),
        ("detail", None, 3),
        ("parted", None, 2),
        ("heir", None, 2),
    ] {
        let options = Options { filter: filter.map(str::to_owned), ..named(&format!("{table} {filter:?}"), &[table]) };
        let id = database.meter(&options).await.unwrap().resource;
        let count = text(&admin, &format!("select count_sql from cordon.meter where resource_id = {id}")).await;
        let counted: i64 =
            system.query_one(&count, &[&workspace]).await.unwrap_or_else(|error| panic!("{count}: {error:?}")).get(0);
        assert_eq!(counted, expected, "{count}");
    }
}

#[tokio::test]
async fn a_dropped_table_is_forgotten_and_a_detached_partition_doesnt_hinder_it() {
    let database = family().await;
    let admin = database.admin().await;
    database.metered("rows", &["child", "heir", "parted"]).await;
    database.metered("others", &["child"]).await;
    let left = "select coalesce(string_agg(relation, ' ' order by id), 'none') || ' ' || (select count(*) from pg_proc where proname like 'meter\\_%') from cordon.meter";
    // Not by the names of temporary tables.
    let tenant = database.connect(crate::scratch::APPLICATION).await;
    tenant.batch_execute("create temporary table child (id int); drop table child").await.unwrap();
    assert_eq!(text(&admin, left).await, "public.child public.heir public.parted public.child 3");
    database
        .connect("pgcordon_system")
        .await
        .batch_execute("drop table child cascade")
        .await
        .expect_err("it isn't the owner");
    admin.batch_execute("drop table child cascade").await.unwrap();
    assert_eq!(text(&admin, left).await, "public.heir public.parted 2");
    admin.batch_execute("alter table parted detach partition parted_1; drop table parted").await.unwrap();
    assert_eq!(text(&admin, left).await, "public.heir 2");
    admin.batch_execute("drop table parted_1; create schema other; alter table heir_child set schema other; drop schema other cascade; drop owned by pgcordon_readonly").await.unwrap();
    assert_eq!(text(&admin, left).await, "public.heir 2");
    admin.batch_execute("drop schema cordon cascade").await.unwrap();
}

#[tokio::test]
async fn a_renamed_table_is_metered_on_and_found_again_under_its_new_name() {
    let database = family().await;
    let admin = database.admin().await;
    database.meter(&filtered("on", "seg", "state = 'on'")).await.unwrap();
    database.metered("rows", &["seg"]).await;
    admin.batch_execute("alter table seg rename to segment").await.unwrap();
    let tenant = database.tenant(A).await;
    let insert = |id: i32| format!("insert into segment (id, workspace_id) values ({id}, '{A}')");
    assert_eq!(tenant.reports(&insert(1)).await, "1:+1 2:+1");
    assert_eq!(database.metered("rows", &["segment"]).await, 2);
    assert_eq!(tenant.reports(&insert(2)).await, "1:+1 2:+1");
    let system = database.connect("pgcordon_system").await;
    for row in admin.query("select count_sql from cordon.meter where relation = 'public.segment'", &[]).await.unwrap() {
        let workspace: uuid::Uuid = A.parse().unwrap();
        assert_eq!(system.query_one(row.get::<_, &str>(0), &[&workspace]).await.unwrap().get::<_, i64>(0), 2);
    }
    assert_eq!(
        text(
            &admin,
            "select count(*) || ' ' || (select count(*) from pg_proc where proname like 'meter\\_%') from cordon.meter"
        )
        .await,
        "2 1"
    );
}

#[tokio::test]
async fn a_table_in_use_is_waited_for_and_no_insert_is_missed() {
    let database = family().await;
    let tenant = database.tenant(A).await;
    tenant.client.batch_execute(&format!("begin; insert into seg (id, workspace_id) values (1, '{A}')")).await.unwrap();
    let options = named("rows", &["seg"]);
    let mut metering = Box::pin(database.meter(&options));
    let admin = database.admin().await;
    let waits = async {
        while text(&admin, "select count(*) from pg_locks where not granted").await == "0" {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        done = &mut metering => panic!("it didn't wait: {done:?}"),
        () = waits => {}
    }
    tenant.client.batch_execute("commit").await.unwrap();
    metering.await.unwrap();
    assert_eq!(tenant.reports(&format!("insert into seg (id, workspace_id) values (2, '{A}')")).await, "1:+1");
}

#[tokio::test]
async fn a_database_of_an_older_program_is_told_so() {
    let database = Database::empty().await;
    let error = database.meter(&named("r", &["t"])).await.expect_err("no cordon").to_string();
    assert!(error.contains("run pgcordon migrate first"), "{error}");
}

#[tokio::test]
async fn the_control_role_reads_meters_and_writes_limits_and_flows_alone() {
    let database = family().await;
    database.metered("rows", &["seg", "parted"]).await;
    let control = database.connect("pgcordon_control").await;
    assert_eq!(text(&control, "select count(*) from cordon.resource, cordon.meter").await, "2");
    assert_eq!(
        text(&control, "select string_agg(schema || '.' || name, ' ' order by name) from cordon.metered").await,
        "public.parted public.parted_1 public.parted_2 public.parted_2_low public.parted_2_rest public.seg"
    );
    for sql in [
        "insert into cordon.resource (name) values ('x')",
        "update cordon.meter set count_sql = 'select 0'",
        "delete from cordon.meter",
    ] {
        assert_eq!(refusal(&control, sql).await, "42501", "{sql}");
    }
}

async fn findings(admin: &Client) -> Vec<Finding> {
    check::check(admin, &RoleNames::default(), &ContextNames::default()).await.unwrap()
}

/// What breaks a meter, the rule that must see it, how bad it is, and what heals it.
const BREAKS: [(&str, &str, Severity, &str); 14] = [
    (
        "alter table seg disable trigger pgcordon_meter_insert",
        "meter-missing",
        Severity::High,
        "alter table seg enable always trigger pgcordon_meter_insert",
    ),
    (
        "alter table seg enable trigger pgcordon_meter_insert",
        "meter-missing",
        Severity::High,
        "alter table seg enable always trigger pgcordon_meter_insert",
    ),
    (
        "alter table seg disable trigger pgcordon_meter_delete",
        "meter-missing",
        Severity::High,
        "alter table seg enable always trigger pgcordon_meter_delete",
    ),
    ("drop trigger pgcordon_meter_update on seg", "meter-missing", Severity::High, "$METER"),
    (
        "create function cordon.meter_other() returns trigger language plpgsql as 'begin return null; end'; \
         create or replace trigger pgcordon_meter_insert after insert on seg for each statement execute function cordon.meter_other()",
        "meter-missing",
        Severity::High,
        "$METER; drop function cordon.meter_other()",
    ),
    ("drop trigger pgcordon_meter_insert on parted_1", "partition-without-meter", Severity::High, "$METER"),
    (
        "create table parted_3 partition of parted for values in (3)",
        "partition-without-meter",
        Severity::Info,
        "drop table parted_3",
    ),
    ("alter table heir rename to renamed", "meter-of-nothing", Severity::High, "alter table renamed rename to heir"),
    (
        "alter table seg rename column state to condition",
        "meter-uncountable",
        Severity::High,
        "alter table seg rename column condition to state",
    ),
    (
        "alter table parted detach partition parted_1",
        "meter-left-behind",
        Severity::Low,
        "alter table parted attach partition parted_1 for values in (1)",
    ),
    (
        "grant execute on function $FUNCTION to public",
        "meter-function",
        Severity::Critical,
        "revoke execute on function $FUNCTION from public",
    ),
    ("alter function $FUNCTION reset search_path", "meter-function", Severity::Critical, "$METER"),
    (
        "alter function $FUNCTION owner to postgres",
        "meter-function",
        Severity::Critical,
        "alter function $FUNCTION owner to cordon",
    ),
    (
        "grant execute on function cordon.report(int[], bigint[], bool) to pgcordon_app",
        "meter-function",
        Severity::Critical,
        "revoke execute on function cordon.report(int[], bigint[], bool) from pgcordon_app",
    ),
];

#[tokio::test]
async fn check_sees_each_broken_meter_and_none_where_none_is() {
    let database = Database::hardened().await.with_family().await;
    let _alone = MAKING.lock().await;
    let admin = database.admin().await;
    let function = text(&admin, "select 'cordon.meter_' || md5('public.seg') || '()'").await;
    database.meter(&filtered("on", "seg", "state = 'on'")).await.unwrap();
    database.metered("rows", &["seg", "parted", "heir"]).await;
    let ours = |found: &[Finding]| {
        found
            .iter()
            .filter(|one| one.id.contains("meter") && one.severity != Severity::Info)
            .cloned()
            .collect::<Vec<_>>()
    };
    let whole = findings(&admin).await;
    assert_eq!(ours(&whole), [], "{whole:#?}");
    for (breaks, id, severity, heals) in BREAKS {
        let of = |sql: &str| sql.replace("$FUNCTION", &function);
        admin.batch_execute(&of(breaks)).await.unwrap_or_else(|error| panic!("{breaks}: {error:?}"));
        let found = findings(&admin).await;
        assert!(found.iter().any(|one| one.id == id && one.severity == severity), "{breaks}: {found:#?}");
        for heal in of(heals).split("; ") {
            if heal == "$METER" {
                database.metered("rows", &["seg", "parted"]).await;
            } else {
                admin.batch_execute(heal).await.unwrap_or_else(|error| panic!("{heal}: {error:?}"));
            }
        }
        let whole = findings(&admin).await;
        assert_eq!(ours(&whole), [], "after {heals}");
    }
}
