//! Counts what is wished for, records flows, and counts anew what has become old. It runs on one runtime, so that whoever
//! knows the truth need not be reached from every core.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::accounts::{Accounts, Key};
use super::escrow::Warning;
use super::truth::{FlowRows, Truth, Uncounted};
use crate::domain::clock;

/// How many accounts are counted at once, at most.
pub const COUNTS_AT_ONCE: usize = 4;
/// How often flows are recorded.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait before flows that couldn't be recorded are tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How long a stopping proxy tries to record flows.
const LAST_SAVE: Duration = Duration::from_secs(2);
/// Old counts are looked for this often within their interval.
const SWEEPS: u32 = 10;

/// Told of a threshold that a count found crossed.
pub type OnWarning = Box<dyn Fn(Key, Warning) + Send + Sync>;

/// Keeps the books until `stopping` says so; then records what there is of flows, within a bound.
pub async fn keep(
    accounts: Arc<Accounts>,
    truth: Arc<dyn Truth>,
    on_warning: OnWarning,
    mut stopping: watch::Receiver<bool>,
) {
    let keeper = Keeper { accounts, truth, on_warning: Arc::new(on_warning) };
    let mut batch = Vec::new();
    tokio::select! {
        () = keeper.count_wishes() => {}
        () = keeper.save_flows(&mut batch) => {}
        () = keeper.count_old() => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    if tokio::time::timeout(LAST_SAVE, keeper.save_last(&mut batch)).await.is_err() {
        let rows: u64 = batch.iter().map(|flow| flow.rows).sum();
        tracing::error!(rows, "the last rows of flows couldn't be recorded; they won't count in their window");
    }
}

#[derive(Clone)]
struct Keeper {
    accounts: Arc<Accounts>,
    truth: Arc<dyn Truth>,
    on_warning: Arc<OnWarning>,
}

impl Keeper {
    /// Counts stocks as they are wished for, some at once, each after its rest.
    async fn count_wishes(&self) {
        let (slots, mut counts) = (Arc::new(Semaphore::new(COUNTS_AT_ONCE)), JoinSet::new());
        let mut wishes = self.accounts.hear_wishes(false);
        loop {
            for key in self.accounts.take_wishes(false) {
                let (keeper, slots) = (self.clone(), slots.clone());
                counts.spawn(async move {
                    keeper.rest(key).await;
                    let _slot = slots.acquire().await;
                    keeper.count(key).await;
                });
            }
            tokio::select! {
                () = wishes.heard() => {}
                Some(_) = counts.join_next() => {}
            }
        }
    }

    async fn rest(&self, key: Key) {
        if let Some(at) = self.accounts.may_count_at(key) {
            tokio::time::sleep(at.saturating_duration_since(clock::now())).await;
        }
    }

    async fn count(&self, key: Key) {
        let (begin, number) = (clock::now(), self.accounts.count_begins(key));
        let bound = self.accounts.settings.count_timeout();
        let counted = tokio::time::timeout(bound, self.truth.count(key.0, key.1)).await;
        let counted = counted.unwrap_or_else(|_| Err(Uncounted("counting took too long".to_owned())));
        let outcome = counted.map(|rows| (rows, None)).map_err(|Uncounted(why)| {
            tracing::error!(workspace = %key.0, resource = %self.accounts.name(key.1), %why, "a quota can't be counted");
            why
        });
        self.end(key, number, outcome, begin);
    }

    fn end(
        &self,
        key: Key,
        number: u64,
        outcome: Result<(u64, Option<super::window::Window>), String>,
        begin: clock::Instant,
    ) {
        if let Some(warning) = self.accounts.count_ends(key, number, outcome, begin.elapsed()) {
            (self.on_warning)(key, warning);
        }
    }

    /// Records flows every second, and at once when somebody wishes to know. One batch at a time, and each until it is
    /// known to be recorded: `batch` is what isn't.
    async fn save_flows(&self, batch: &mut Vec<FlowRows>) {
        let mut wishes = self.accounts.hear_wishes(true);
        loop {
            batch.extend(self.accounts.take_flows());
            while !batch.is_empty() && !self.save(batch).await {
                tokio::time::sleep(RETRY).await;
            }
            let _ = tokio::time::timeout(SAVE_INTERVAL, wishes.heard()).await;
        }
    }

    async fn save_last(&self, batch: &mut Vec<FlowRows>) {
        while !batch.is_empty() && !self.save(batch).await {
            tokio::time::sleep(RETRY).await;
        }
        batch.extend(self.accounts.take_flows().into_iter().filter(|flow| flow.rows > 0));
        while !batch.is_empty() && !self.save(batch).await {
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Records a batch, and empties it. Whether it is known to be recorded.
    async fn save(&self, batch: &mut Vec<FlowRows>) -> bool {
        let begin = clock::now();
        let mut reads: Vec<(Key, usize)> = Vec::new();
        for (at, flow) in batch.iter().enumerate() {
            let key = (flow.workspace, flow.resource);
            match reads.last_mut() {
                Some((last, present)) if *last == key => *present = at,
                _ => reads.push((key, at)),
            }
        }
        let numbers: Vec<u64> = reads.iter().map(|(key, _)| self.accounts.count_begins(*key)).collect();
        let bound = self.accounts.settings.count_timeout();
        let saved = tokio::time::timeout(bound, self.truth.add(batch)).await;
        let saved = saved.unwrap_or_else(|_| Err(Uncounted("recording flows took too long".to_owned())));
        if let Err(Uncounted(why)) = &saved {
            tracing::error!(%why, rows = batch.iter().map(|flow| flow.rows).sum::<u64>(), "flows can't be recorded; tried again");
        }
        for ((key, at), number) in reads.into_iter().zip(numbers) {
            let outcome = match &saved {
                Ok(totals) => match (totals.get(at), batch.get(at)) {
                    (Some(total), Some(flow)) => Ok((*total, Some(flow.window))),
                    _ => Err("the answer misses a flow".to_owned()),
                },
                Err(Uncounted(why)) => Err(why.clone()),
            };
            self.end(key, number, outcome, begin);
        }
        if saved.is_ok() {
            batch.clear();
        }
        saved.is_ok()
    }

    /// Counts anew, one after the other, what was counted long ago and is in use; what isn't in use is forgotten.
    async fn count_old(&self) {
        let interval = self.accounts.settings.recount_interval();
        loop {
            tokio::time::sleep(interval / SWEEPS).await;
            for key in self.accounts.old(interval) {
                // No failure here harms anybody; it was logged.
                let _ = self.accounts.recount(key.0, key.1).await;
                self.rest(key).await;
            }
        }
    }
}
