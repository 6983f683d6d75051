//! Who has more than its share while somebody waits. Connections aren't taken from those who use them; but one that its client
//! does nothing with may have to be given up.

use std::time::Duration;

use super::Roster;
use crate::domain::clock::Instant;
use crate::tenant::Tenant;

/// A workspace that has nothing at all waits for so many times the patience before somebody is to give up a connection who hasn't
/// more than its share.
const DESTITUTE: u32 = 3;

impl Roster {
    /// Those who are to give up a connection that they do nothing with, for a workspace has waited for its share for longer than
    /// its patience. One request may need two connections, so two are anybody's share, unless one has none.
    pub fn overdrawn(&self, patience: Duration, now: Instant) -> Vec<Tenant> {
        let held = |tenant: Tenant| self.held.get(&tenant).copied().unwrap_or(0);
        let waiting: Vec<(Tenant, Duration)> = self.queue.waiting(now).collect();
        let without = waiting.iter().filter(|(tenant, _)| held(*tenant) == 0).count();
        let share = self.bounds.size / (self.held.len() + without).max(1);
        let waits = |below: usize, patience: Duration| {
            waiting.iter().any(|(tenant, waited)| held(*tenant) < below && *waited >= patience)
        };
        let mut above = share.max(2);
        let mut overdrawn = self.above(above);
        if overdrawn.is_empty() || !waits(above, patience) {
            if !waits(1, patience * DESTITUTE) {
                return Vec::new();
            }
            above = 0;
            overdrawn = self.above(above);
        }
        overdrawn.sort_unstable_by_key(|tenant| std::cmp::Reverse(held(*tenant)));
        overdrawn
    }

    fn above(&self, share: usize) -> Vec<Tenant> {
        self.held.iter().filter(|(_, held)| **held > share).map(|(tenant, _)| *tenant).collect()
    }
}
