//! What is counted about quotas themselves, for the metrics.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::resource::ResourceId;

/// The counters of one resource. They only go up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reservations that were refused because the quota is exceeded.
    pub refusals: u64,
    /// Reservations that couldn't be decided.
    pub undecided: u64,
    /// Counts of the truth.
    pub counts: u64,
    /// Counts that failed.
    pub failed_counts: u64,
    /// Rows that were booked beyond a limit.
    pub debt_rows: u64,
}

/// The counters of all resources. Nothing on the hot path touches them.
#[derive(Debug, Default)]
pub struct Tallies(Mutex<BTreeMap<ResourceId, Tally>>);

impl Tallies {
    pub(super) fn note(&self, resource: ResourceId, note: impl FnOnce(&mut Tally)) {
        note(self.0.lock().entry(resource).or_default());
    }

    /// All of them, by resource.
    pub fn all(&self) -> Vec<(ResourceId, Tally)> {
        self.0.lock().iter().map(|(resource, tally)| (*resource, *tally)).collect()
    }
}
