//! Counting what is there.

use pgcordon::quota::{Limit, Truth};

use crate::stage::{Stage, acme, globex};

fn message(result: Result<u64, pgcordon::quota::Uncounted>) -> String {
    result.expect_err("it can't be counted").0
}

#[tokio::test]
async fn a_workspaces_rows_are_counted_over_all_tables_and_no_others() {
    let stage = Stage::new().await;
    stage.insert("note", acme(), 3).await;
    stage.insert("memo", acme(), 2).await;
    stage.insert("note", globex(), 7).await;
    let (truth, segments) = (stage.truth(), stage.id("segments"));
    assert_eq!(truth.count(acme(), segments).await, Ok(5));
    assert_eq!(truth.count(globex(), segments).await, Ok(7));
    assert_eq!(truth.count("00000000-0000-0000-0000-0000000000ff".parse().unwrap(), segments).await, Ok(0));
}

#[tokio::test]
async fn a_role_that_no_longer_sees_every_row_is_an_error_and_not_zero() {
    let stage = Stage::new().await;
    stage.insert("note", acme(), 3).await;
    // The role is the whole server's: this takes away in one database what BYPASSRLS gives.
    let mut settings = stage.settings();
    settings.upstream.roles.system = "pgcordon_app".to_owned();
    let truth = pgcordon::control::quota_truth::PostgresTruth::new(
        stage.snapshot.clone(),
        settings.count_target().unwrap(),
        stage.control_target(),
    );
    stage.admin.batch_execute("grant select on memo to pgcordon_app").await.unwrap();
    let said = message(truth.count(acme(), stage.id("segments")).await);
    assert!(said.contains("row-level security"), "{said}");
}

#[tokio::test]
async fn counting_writes_nothing() {
    let stage = Stage::new().await;
    let change = "update cordon.meter set count_sql = 'with x as (insert into public.note (workspace_id) values ($1) returning 1) select count(*) from x'";
    stage.admin.batch_execute("grant insert on note to pgcordon_system").await.unwrap();
    stage.admin.batch_execute(change).await.unwrap();
    stage.reload().await;
    let said = message(stage.truth().count(acme(), stage.id("segments")).await);
    // It isn't even a subquery that Postgres takes; and if it were, the transaction is read-only.
    assert!(said.contains("WITH clause") || said.contains("read-only"), "{said}");
}

#[tokio::test]
async fn a_table_that_is_gone_or_locked_is_an_error_that_says_so() {
    let stage = Stage::new().await;
    let (truth, segments) = (stage.truth(), stage.id("segments"));
    stage.admin.batch_execute("begin; lock table memo in access exclusive mode").await.unwrap();
    let said = message(truth.count(acme(), segments).await);
    assert!(said.contains("lock timeout"), "{said}");
    stage.admin.batch_execute("drop table memo; commit").await.unwrap();
    let said = message(truth.count(acme(), segments).await);
    assert!(said.contains("memo"), "{said}");
}

#[tokio::test]
async fn a_connection_that_died_idle_is_replaced() {
    let stage = Stage::new().await;
    let (truth, segments) = (stage.truth(), stage.id("segments"));
    assert_eq!(truth.count(acme(), segments).await, Ok(0));
    let kill = format!(
        "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where usename = 'pgcordon_system' and datname = '{}'",
        stage.database.name()
    );
    assert_eq!(crate::scratch::text(&stage.admin, &kill).await, "1");
    assert_eq!(truth.count(acme(), segments).await, Ok(0));
}

#[tokio::test]
async fn definitions_are_loaded_with_defaults_and_limits_of_their_own() {
    let stage = Stage::new().await;
    let segments = stage.resource("segments");
    assert_eq!((segments.per, segments.default_limit, segments.meters.len()), (None, Some(5), 2));
    let set = format!(
        "insert into cordon.quota select '{}', id, 9 from cordon.resource where name = 'segments'; \
         insert into cordon.quota select '{}', id, null from cordon.resource where name = 'segments'",
        acme(),
        globex()
    );
    stage.admin.batch_execute(&set).await.unwrap();
    stage.reload().await;
    let definitions = stage.definitions();
    let limit = |workspace| -> Limit { definitions.limit(workspace, segments.id) };
    assert_eq!((limit(acme()), limit(globex())), (Some(9), None));
    assert_eq!(limit("00000000-0000-0000-0000-0000000000ff".parse().unwrap()), Some(5));
}
