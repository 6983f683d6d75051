//! Recording what was inserted into flows, once.

use std::time::Duration;

use pgcordon::quota::truth::FlowRows;
use pgcordon::quota::window::{Per, Window};
use pgcordon::quota::{Truth, Uncounted};

use crate::scratch::text;
use crate::stage::{Stage, acme, globex};

const JANUARY: i64 = 1_767_225_600;

fn window() -> Window {
    Per::Month.window(JANUARY)
}

fn flow(stage: &Stage, rows: u64) -> FlowRows {
    FlowRows { workspace: acme(), resource: stage.id("messages"), window: window(), rows }
}

#[tokio::test]
async fn what_is_added_is_recorded_and_nothing_added_only_asks() {
    let stage = Stage::new().await;
    let truth = stage.truth();
    assert_eq!(truth.add(&[flow(&stage, 0)]).await, Ok(vec![0]));
    assert_eq!(text(&stage.admin, "select count(*) from cordon.flow").await, "0");
    assert_eq!(truth.add(&[flow(&stage, 3)]).await, Ok(vec![3]));
    // Another proxy on the same database.
    assert_eq!(stage.truth().add(&[flow(&stage, 4)]).await, Ok(vec![7]));
    let other = FlowRows { workspace: globex(), ..flow(&stage, 1) };
    let later = FlowRows { window: Per::Month.window(window().end), ..flow(&stage, 2) };
    assert_eq!(truth.add(&[later, other, flow(&stage, 0)]).await, Ok(vec![2, 1, 7]));
    let starts = "select string_agg(to_char(window_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'), ' ' order by window_start) \
                  from cordon.flow where workspace_id = '00000000-0000-0000-0000-00000000000a'";
    assert_eq!(text(&stage.admin, starts).await, "2026-01-01 00:00:00 2026-02-01 00:00:00");
}

#[tokio::test]
async fn a_number_that_is_too_large_stays_the_largest() {
    let stage = Stage::new().await;
    let truth = stage.truth();
    for _ in 0..2 {
        let total = truth.add(&[flow(&stage, u64::MAX), flow(&stage, 5)]).await;
        assert_eq!(total, Ok(vec![i64::MAX.cast_unsigned(); 2]));
    }
}

#[tokio::test]
async fn what_was_deleted_meanwhile_doesnt_keep_the_others_from_being_recorded() {
    let stage = Stage::new().await;
    let truth = stage.truth();
    let gone = FlowRows { workspace: "00000000-0000-0000-0000-0000000000ff".parse().unwrap(), ..flow(&stage, 1) };
    let undefined = FlowRows { resource: pgcordon::quota::ResourceId(999), ..flow(&stage, 1) };
    assert_eq!(truth.add(&[gone, undefined, flow(&stage, 2)]).await, Ok(vec![0, 0, 2]));
}

/// A commit on `cordon.flow` waits for this lock.
const SLOW_COMMIT: &str = "\
create function slow() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(7); return null; end $$;
create constraint trigger slow after insert or update on cordon.flow deferrable initially deferred
    for each row execute function slow();
select pg_advisory_lock(7);";

async fn until_somebody_waits_for_the_lock(stage: &Stage) {
    let waits = format!(
        "select count(*) from pg_locks l join pg_database d on d.oid = l.database \
         where locktype = 'advisory' and not granted and d.datname = '{}'",
        stage.database.name()
    );
    while text(&stage.admin, &waits).await != "1" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_batch_whose_commit_was_answered_to_nobody_is_recorded_once() {
    let stage = Stage::new().await;
    let truth = stage.truth();
    stage.admin.batch_execute(SLOW_COMMIT).await.unwrap();
    let batch = [flow(&stage, 3)];
    tokio::select! {
        done = truth.add(&batch) => panic!("the commit waits for a lock: {done:?}"),
        () = until_somebody_waits_for_the_lock(&stage) => {}
    }
    // The client has gone away; Postgres goes on.
    let Err(Uncounted(said)) = truth.add(&batch).await else { panic!("nobody knows yet whether it is recorded") };
    assert!(said.contains("hasn't ended"), "{said}");
    stage.admin.batch_execute("select pg_advisory_unlock(7)").await.unwrap();
    let recorded = async {
        loop {
            if let Ok(totals) = truth.add(&batch).await {
                return totals;
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), recorded).await.unwrap(), [3]);
    assert_eq!(truth.add(&batch).await, Ok(vec![6]), "the next batch is another");
}

#[tokio::test]
async fn a_batch_whose_transaction_was_rolled_back_is_recorded_by_the_next_try() {
    let stage = Stage::new().await;
    let truth = stage.truth();
    stage.admin.batch_execute(SLOW_COMMIT).await.unwrap();
    let batch = [flow(&stage, 3)];
    let killed = async {
        until_somebody_waits_for_the_lock(&stage).await;
        let kill = format!(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'pgcordon_control' and datname = '{}'",
            stage.database.name()
        );
        text(&stage.admin, &kill).await
    };
    let (done, killed) = tokio::join!(truth.add(&batch), killed);
    assert_eq!((done.is_err(), killed.as_str()), (true, "1"));
    stage.admin.batch_execute("select pg_advisory_unlock(7)").await.unwrap();
    assert_eq!(truth.add(&batch).await, Ok(vec![3]));
}
