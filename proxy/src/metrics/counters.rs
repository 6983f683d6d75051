//! The counters of the door, and one core's: only its own core writes those, so they cost no traffic between cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::sql::PinReason;

/// The counters of one core, alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CoreCounters {
    clients: AtomicI64,
    transactions: AtomicU64,
    logins_ok: AtomicU64,
    logins_refused: AtomicU64,
    /// By the reason's number.
    pinned: [AtomicI64; PinReason::ALL.len()],
}

/// The counters of the door, which is before all cores.
#[derive(Debug, Default)]
pub struct DoorCounters {
    refused: AtomicU64,
}

impl DoorCounters {
    /// There was no room for a connection.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// For how many there was none.
    pub fn total_refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// The counters of all cores, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sessions that are open.
    pub clients: i64,
    /// Times a server connection was given back at the end of a transaction.
    pub transactions: u64,
    /// Clients that were let in.
    pub logins_ok: u64,
    /// Clients that were refused.
    pub logins_refused: u64,
    /// Clients that keep their server connection, by the number of the reason in [`PinReason::ALL`].
    pub pinned: [i64; PinReason::ALL.len()],
}

/// A session that counts as open until this is dropped.
#[derive(Debug)]
pub struct OpenClient(Arc<CoreCounters>);

/// A client that counts as pinned until this is dropped.
#[derive(Debug)]
pub struct PinnedClient {
    counters: Arc<CoreCounters>,
    /// Why.
    pub reason: PinReason,
}

impl CoreCounters {
    /// A client is pinned.
    pub fn pinned(self: &Arc<Self>, reason: PinReason) -> PinnedClient {
        self.pinned[reason as usize].fetch_add(1, Ordering::Relaxed);
        PinnedClient { counters: self.clone(), reason }
    }

    /// A server connection was given back.
    pub fn transaction(&self) {
        self.transactions.fetch_add(1, Ordering::Relaxed);
    }

    /// A client was let in or refused.
    pub fn login(&self, ok: bool) {
        if ok { &self.logins_ok } else { &self.logins_refused }.fetch_add(1, Ordering::Relaxed);
    }

    /// A session begins.
    pub fn client(self: &Arc<Self>) -> OpenClient {
        self.clients.fetch_add(1, Ordering::Relaxed);
        OpenClient(self.clone())
    }
}

impl Drop for OpenClient {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for PinnedClient {
    fn drop(&mut self) {
        self.counters.pinned[self.reason as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Totals {
    /// Sums up.
    pub fn of(cores: &[Arc<CoreCounters>]) -> Self {
        cores.iter().fold(Self::default(), |sum, core| Self {
            clients: sum.clients + core.clients.load(Ordering::Relaxed),
            transactions: sum.transactions + core.transactions.load(Ordering::Relaxed),
            logins_ok: sum.logins_ok + core.logins_ok.load(Ordering::Relaxed),
            logins_refused: sum.logins_refused + core.logins_refused.load(Ordering::Relaxed),
            pinned: std::array::from_fn(|at| sum.pinned[at] + core.pinned[at].load(Ordering::Relaxed)),
        })
    }
}
