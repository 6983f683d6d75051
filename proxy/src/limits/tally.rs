//! How often which limit was reached.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Overstay;

/// Counters, one for each limit.
#[derive(Debug, Default)]
pub struct Tally {
    overstays: [AtomicU64; Overstay::ALL.len()],
    clients: AtomicU64,
}

impl Tally {
    /// Somebody took too long.
    pub fn overstayed(&self, overstay: Overstay) {
        self.overstays[overstay as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A client was one too many for its workspace.
    pub fn refused(&self) {
        self.clients.fetch_add(1, Ordering::Relaxed);
    }

    /// The limits by the names of their settings, without the unit, and how often each was reached.
    pub fn report(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let overstays =
            Overstay::ALL.iter().map(|each| (each.name(), self.overstays[*each as usize].load(Ordering::Relaxed)));
        overstays.chain([("client_connections", self.clients.load(Ordering::Relaxed))])
    }
}
