//! The arbiter at work: clients that insert as the application role, each of which asks the books first. No meter and no
//! proxy are between, so what is shown here is the arithmetic's and the truth's alone.

use std::sync::Arc;

use pgcordon::quota::{Accounts, Answer, Doubt, Moment, Refusal, ResourceId, Settlement};
use tokio_postgres::Client;

use crate::scratch::text;
use crate::stage::{Stage, acme, books};

const INSERT: &str = "insert into note (workspace_id, body) values ('00000000-0000-0000-0000-00000000000a', 'x')";

/// One client that asks before it inserts.
struct Asking {
    accounts: Arc<Accounts>,
    segments: ResourceId,
    client: Client,
}

impl Asking {
    async fn new(stage: &Stage, accounts: &Arc<Accounts>) -> Self {
        let client = stage.database.bound(crate::scratch::A).await;
        Self { accounts: accounts.clone(), segments: stage.id("segments"), client }
    }

    async fn reserve(&self) -> Result<Moment, Refusal> {
        let since = self.accounts.moment();
        if self.accounts.try_reserve(acme(), self.segments, 1) == Answer::Unsure {
            self.accounts.reserve(acme(), self.segments, 1, 0).await?;
        }
        Ok(since)
    }

    fn settle(&self, credited: u64, since: Moment) {
        let reserved = 1 - credited;
        self.accounts.commit(acme(), self.segments, Settlement { reserved, credited, since });
    }

    /// A transaction with an insert. Whether it was let in.
    async fn insert(&self, keeps: bool) -> bool {
        let Ok(since) = self.reserve().await else { return false };
        let end = if keeps { "commit" } else { "rollback" };
        self.client.batch_execute(&format!("begin isolation level repeatable read; {INSERT}; {end}")).await.unwrap();
        if keeps {
            self.settle(0, since);
        } else {
            self.accounts.release(acme(), self.segments, 1);
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_racing_inserters_end_at_five_of_five() {
    let stage = Stage::new().await;
    let accounts = books(&stage, 60_000);
    let mut racing = Vec::new();
    for number in 0..40 {
        let asking = Asking::new(&stage, &accounts).await;
        racing.push(tokio::spawn(async move { asking.insert(number % 4 != 0).await }));
    }
    for client in racing {
        client.await.unwrap();
    }
    assert_eq!(text(&stage.admin, "select count(*) from note").await, "5");
    let usage = accounts.counted_usage(acme()).await.unwrap();
    let segments = usage.iter().find(|usage| &*usage.name == "segments").unwrap();
    assert_eq!((segments.used, segments.reserved, segments.exact), (5, 0, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inserts_and_deletes_at_the_limit_leave_exact_books() {
    let stage = Stage::new().await;
    let accounts = books(&stage, 20);
    let mut racing = Vec::new();
    for number in 0..8 {
        let asking = Asking::new(&stage, &accounts).await;
        racing.push(tokio::spawn(async move {
            for round in 0..25 {
                asking.insert((number + round) % 5 != 0).await;
                if round % 3 == 0 {
                    let since = asking.accounts.moment();
                    let delete =
                        "delete from note where id = (select id from note order by id limit 1 for update skip locked)";
                    let deleted = asking.client.execute(delete, &[]).await.unwrap();
                    if deleted == 1 {
                        asking.settle(1, since);
                    }
                }
            }
        }));
    }
    let watching = async {
        for _ in 0..200 {
            let there: u64 = text(&stage.admin, "select count(*) from note").await.parse().unwrap();
            assert!(there <= 5, "{there} rows");
        }
    };
    watching.await;
    for client in racing {
        client.await.unwrap();
    }
    let there: u64 = text(&stage.admin, "select count(*) from note").await.parse().unwrap();
    let segments = stage.id("segments");
    accounts.recount(acme(), segments).await.unwrap();
    let usage = accounts.usage(acme()).into_iter().find(|usage| usage.resource == segments).unwrap();
    assert_eq!((usage.used, usage.reserved), (there, 0));
}

#[tokio::test]
async fn a_row_whose_outcome_nobody_heard_of_isnt_given_away() {
    let stage = Stage::new().await;
    stage.insert("note", acme(), 4).await;
    let accounts = books(&stage, 1);
    let asking = Asking::new(&stage, &accounts).await;
    asking.reserve().await.unwrap();
    asking.client.batch_execute(&format!("begin; {INSERT}")).await.unwrap();
    // The proxy loses the connection; Postgres hasn't noticed yet, and the transaction may still commit.
    accounts.doubt(acme(), stage.id("segments"), Doubt::Outcome { reserved: 1 });
    let refused = accounts.reserve(acme(), stage.id("segments"), 1, 0).await;
    assert!(matches!(refused, Err(Refusal::Undecided { .. })), "{refused:?}");
    asking.client.batch_execute("commit").await.unwrap();
    let refused = accounts.reserve(acme(), stage.id("segments"), 1, 0).await;
    assert!(matches!(&refused, Err(Refusal::Exceeded(exceeded)) if exceeded.limit == 5), "{refused:?}");
}

#[tokio::test]
async fn a_count_that_waits_behind_a_lock_which_waits_for_us_ends() {
    let stage = Stage::new().await;
    stage.insert("note", acme(), 5).await;
    let accounts = books(&stage, 1);
    // An open transaction of ours has the table; somebody wants it for himself; the count comes behind both.
    let asking = Asking::new(&stage, &accounts).await;
    asking.client.batch_execute("begin; update note set body = 'y'").await.unwrap();
    let altering = stage.database.admin().await;
    let alter = tokio::spawn(async move { altering.batch_execute("alter table note add column more text").await });
    while text(&stage.admin, "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'").await
        == "0"
    {
        tokio::task::yield_now().await;
    }
    let refused = accounts.reserve(acme(), stage.id("segments"), 1, 0).await;
    assert!(matches!(refused, Err(Refusal::Undecided { .. })), "{refused:?}");
    asking.client.batch_execute("rollback").await.unwrap();
    alter.await.unwrap().unwrap();
    let refused = accounts.reserve(acme(), stage.id("segments"), 1, 0).await;
    assert!(matches!(refused, Err(Refusal::Exceeded(_))), "{refused:?}");
}
