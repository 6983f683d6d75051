//! Who has more than its share while somebody waits. One that its client does nothing with is given up first; one that is in use
//! only for a workspace that has none.

use std::time::Duration;

use super::Roster;
use super::backends::State;
use crate::domain::clock::Instant;
use crate::tenant::Tenant;

/// A workspace that has nothing at all waits for so many times the patience before somebody is to give up a connection who uses it,
/// or who hasn't more than its share.
pub const DESTITUTE: u32 = 3;

/// Who is to give up a connection for others, those who hold the most in front.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Overdrawn {
    /// One that it does nothing with.
    pub idle: Vec<Tenant>,
    /// One that it has had for long, whatever it does with it.
    pub busy: Vec<Tenant>,
}

impl Roster {
    /// Who is to give up a connection, for a workspace has waited for its share for longer than its patience. One request may
    /// need two connections, so two are anybody's share, unless somebody has none.
    pub fn overdrawn(&self, patience: Duration, now: Instant) -> Overdrawn {
        let held = |tenant: Tenant| self.held.get(&tenant).copied().unwrap_or(0);
        let waiting: Vec<(Tenant, Duration)> = self.queue.waiting(now).collect();
        if waiting.iter().filter(|(_, waited)| *waited >= patience).count() <= self.coming_soon(patience, now) {
            return Overdrawn::default();
        }
        let without = waiting.iter().filter(|(tenant, _)| held(*tenant) == 0).count();
        let share = self.bounds.size / (self.held.len() + without).max(1);
        let waits = |below: usize, patience: Duration| {
            waiting.iter().any(|(tenant, waited)| held(*tenant) < below && *waited >= patience)
        };
        if waits(1, patience * DESTITUTE) {
            return Overdrawn { idle: self.above(0), busy: self.above(share.max(1)) };
        }
        let enough = share.max(2);
        let idle = if waits(enough, patience) { self.above(enough) } else { Vec::new() };
        Overdrawn { idle, busy: Vec::new() }
    }

    /// Connections that are on their way to those who wait. One that is being cleared or ended counts for as long as the patience lasts,
    /// or a process that nothing interrupts would keep others waiting for ever; one that is being opened, unless that failed just now.
    fn coming_soon(&self, patience: Duration, now: Instant) -> usize {
        let soon = self.backends.iter().filter(|(_, each)| match each.state() {
            State::Clearing(since) | State::Ending(_, since) => now.duration_since(since) < patience,
            State::Idle { .. } | State::Held { .. } => false,
        });
        let fails = self.closed_until.as_ref().is_some_and(|(until, _)| now < *until);
        soon.count() + if fails { 0 } else { self.opening }
    }

    fn above(&self, share: usize) -> Vec<Tenant> {
        let mut above: Vec<(usize, Tenant)> =
            self.held.iter().filter(|(_, held)| **held > share).map(|(tenant, held)| (*held, *tenant)).collect();
        above.sort_unstable_by_key(|(held, _)| std::cmp::Reverse(*held));
        above.into_iter().map(|(_, tenant)| tenant).collect()
    }
}
