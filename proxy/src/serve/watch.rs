//! Looks again and again at what clients do with server connections, and for how long, and holds them to the limits. It stands
//! beside the cores, on the thread of everything else: no client waits for it, and none can keep it from looking.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::domain::clock::{self, Instant};
use crate::limits::tenure::{Seen, Verdict};
use crate::limits::{Overstay, Phase, Settings};
use crate::pool::PoolsShared;
use crate::pool::roster::DESTITUTE;
use crate::pool::signals::Signals;
use crate::pool::upstream::CancelFailure;
use crate::tenant::Tenant;

use super::core::Shared;
use super::registry::{Order, Slot};

/// How often locks are asked for: that isn't free for Postgres.
const LOCKS_EVERY: Duration = Duration::from_millis(500);

/// Holds clients to the limits.
pub struct Watch {
    shared: Arc<Shared>,
    pools: Arc<PoolsShared>,
    signals: Signals,
    began: Instant,
}

/// A client with a server connection.
struct Holder {
    slot: Arc<Slot>,
    seen: Seen,
}

impl Watch {
    /// A watch over these sessions and pools.
    pub fn new(shared: Arc<Shared>, pools: Arc<PoolsShared>, signals: Signals) -> Self {
        Self { shared, pools, signals, began: clock::now() }
    }

    /// Looks until the task is dropped. Postgres may take its time to answer who waits for locks: nobody waits for that.
    pub async fn keep(self) {
        tokio::join!(self.keep_time(), self.keep_locks());
    }

    async fn keep_time(&self) {
        let mut beat_ms = 0;
        let mut beat = interval(LOCKS_EVERY);
        loop {
            let limits = self.shared.live.load().limits.clone();
            if beat_ms != limits.beat_ms() {
                beat_ms = limits.beat_ms();
                beat = interval(Duration::from_millis(beat_ms));
                beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            }
            beat.tick().await;
            self.shared.beat.set(clock::now().duration_since(self.began));
            let (holders, now) = (self.holders(), self.shared.beat.now());
            for holder in holders.iter().filter(|each| each.slot.workspace.is_some()) {
                if let Some(overstay) = holder.seen.overstay(&limits, now) {
                    self.hold(holder, overstay, now);
                }
            }
            self.look_at_shares(&limits, &holders, now);
        }
    }

    async fn keep_locks(&self) {
        let mut turn = interval(LOCKS_EVERY);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            let limits = self.shared.live.load().limits.clone();
            self.look_at_locks(&limits).await;
        }
    }

    /// Who has a server connection.
    fn holders(&self) -> Vec<Holder> {
        let mut holders = Vec::new();
        self.shared.registry.each(|slot| {
            let seen = slot.tenure.seen();
            if seen.phase != Phase::Away {
                holders.push(Holder { slot: slot.clone(), seen });
            }
        });
        holders
    }

    /// Does what is to be done about a client that took too long.
    fn hold(&self, holder: &Holder, overstay: Overstay, now: u64) {
        let Holder { slot, seen } = holder;
        match overstay.verdict(seen, slot.stopped().map(|(_, at)| at), now) {
            Verdict::Wait => {}
            Verdict::End => {
                if overstay.is_still_so(seen, &slot.tenure.seen()) {
                    slot.order(Order::Overstayed(overstay));
                }
            }
            Verdict::Cancel => {
                let Some(cancel) = slot.stop(overstay, now) else { return };
                if slot.tenure.seen() != *seen {
                    slot.unstop();
                    return cancel.settle();
                }
                let upstream = self.shared.upstream.clone();
                tokio::spawn(async move {
                    match upstream.cancel(cancel.target.pid, &cancel.target.secret).await {
                        Ok(()) | Err(CancelFailure::Unsent(_)) => cancel.settle(),
                        Err(CancelFailure::Unknown(fault)) => {
                            tracing::warn!(%fault, "a cancel request was lost sight of")
                        }
                    }
                });
            }
        }
    }

    /// Asks who waits for locks, if anybody has run for long enough to.
    async fn look_at_locks(&self, limits: &Settings) {
        let bounds = [limits.lock_timeout_ms, limits.table_lock_timeout_ms];
        let Some(least) = bounds.into_iter().filter(|bound| *bound > 0).min() else { return };
        let (holders, now) = (self.holders(), self.shared.beat.now());
        let may_wait = |each: &Holder| each.seen.phase == Phase::Running && each.seen.age(now) >= least;
        if !holders.iter().any(may_wait) {
            return;
        }
        let by_pid: HashMap<i32, &Holder> =
            holders.iter().filter_map(|holder| Some((holder.slot.holds()?, holder))).collect();
        let suspects = by_pid.iter().filter(|(_, holder)| may_wait(holder)).map(|(pid, _)| *pid).collect();
        for wait in self.signals.locks(suspects).await {
            let Some(waiter) = by_pid.get(&wait.pid) else { continue };
            let is_over = |bound: u64| bound > 0 && wait.waited >= Duration::from_millis(bound);
            if is_over(limits.lock_timeout_ms) && waiter.slot.workspace.is_some() {
                self.hold(waiter, Overstay::Lock, self.shared.beat.now());
            }
            if !is_over(limits.table_lock_timeout_ms) {
                continue;
            }
            for locker in wait.table_lockers.iter().filter_map(|pid| by_pid.get(pid)) {
                if locker.slot.workspace.is_some() && locker.slot.workspace != waiter.slot.workspace {
                    self.hold(locker, Overstay::TableLock, self.shared.beat.now());
                }
            }
        }
    }

    /// Of those that hold more than their share while others wait, one client gives its connection up: the one that has done nothing
    /// for the longest; for a workspace that has none also the one that has had its own for the longest.
    fn look_at_shares(&self, limits: &Settings, holders: &[Holder], now: u64) {
        let patience = limits.share_timeout_ms;
        if patience == 0 {
            return;
        }
        for (pool, overdrawn) in self.pools.overdrawn(Duration::from_millis(patience)) {
            // One at a time.
            let is_giving_way = |slot: &Slot| slot.ordered() == Some(Order::Overstayed(Overstay::Share));
            if holders.iter().any(|holder| holder.slot.pool == pool && is_giving_way(&holder.slot)) {
                continue;
            }
            let of = |tenants: &[Tenant]| {
                let workspaces: Vec<_> = tenants.iter().filter_map(|tenant| tenant.workspace).collect();
                holders.iter().filter(move |holder| {
                    holder.slot.pool == pool && holder.slot.workspace.is_some_and(|each| workspaces.contains(&each))
                })
            };
            let idle = of(&overdrawn.idle).filter(|holder| {
                matches!(holder.seen.phase, Phase::InTransaction | Phase::Kept) && holder.seen.age(now) >= patience
            });
            let long = patience.saturating_mul(DESTITUTE.into());
            let busy = of(&overdrawn.busy).filter(|holder| holder.seen.had(now) >= long);
            let longest = idle.max_by_key(|holder| holder.seen.age(now));
            if let Some(holder) = longest.or_else(|| busy.max_by_key(|holder| holder.seen.had(now))) {
                self.hold(holder, Overstay::Share, now);
            }
        }
    }
}
