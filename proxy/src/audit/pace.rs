//! How long the writing thread waits for more before it syncs. A sync costs as much for one as for fifty: when many write, each
//! in its own time, the first of them waits a little for the others. It decides by what it is told and by `now`.

use std::time::Duration;

use crate::domain::clock::Instant;

/// After so many tickets it is looked at anew who they were from.
const LOOK: usize = 64;
/// So many share a sync well enough: where the disk is what is waited for, as many come during the sync before.
const ENOUGH: usize = 8;
/// Nobody waits longer than this for others.
pub(super) const GATHER_MAX: Duration = Duration::from_millis(4);
/// Nor longer than this part of the time between two writes of his own, so that writers who wait for each answer hardly
/// notice.
const PART: u32 = 8;

/// What is known of those who write.
pub(super) struct Pace {
    /// Who handed in what since the last look.
    seen: Vec<usize>,
    since: Instant,
    gather: Duration,
    /// How often in a row waiting has brought nobody.
    in_vain: u8,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { seen: Vec::with_capacity(LOOK), since: now, gather: Duration::ZERO, in_vain: 0 }
    }

    /// How long to wait for others, when so many wait for the disk.
    pub(super) const fn gather(&self, waiting: usize) -> Duration {
        if 0 < waiting && waiting < ENOUGH { self.gather } else { Duration::ZERO }
    }

    /// How many came together after waiting so long.
    pub(super) fn gathered(&mut self, tickets: usize) {
        self.in_vain = if tickets > 1 { 0 } else { self.in_vain + 1 };
        if self.in_vain > 1 {
            // Those who wrote a moment ago have stopped.
            (self.gather, self.in_vain) = (Duration::ZERO, 0);
        }
    }

    /// Somebody handed in what must be on disk. `who` is the same number for the same client.
    pub(super) fn came(&mut self, who: usize, now: Instant) {
        self.seen.push(who);
        if self.seen.len() < LOOK {
            return;
        }
        self.seen.sort_unstable();
        self.seen.dedup();
        let writers = u32::try_from(self.seen.len()).unwrap_or(u32::MAX);
        let gap = now.saturating_duration_since(self.since) / u32::try_from(LOOK).unwrap_or(u32::MAX);
        let bearable = (gap * writers / PART).min(GATHER_MAX);
        // Where nobody is likely to come in that time nobody is waited for.
        self.gather = if bearable >= gap { bearable } else { Duration::ZERO };
        self.in_vain = 0;
        self.seen.clear();
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock;

    /// So many clients in turn, with this time between two tickets.
    fn after(clients: usize, gap: Duration) -> Pace {
        let start = clock::now();
        let mut pace = Pace::new(start);
        (1..=LOOK).for_each(|number| pace.came(number % clients, start + gap * number as u32));
        pace
    }

    #[test]
    fn one_client_or_a_few_wait_for_nobody() {
        for clients in 1..8 {
            for gap in [1, 200, 5_000, 1_000_000] {
                assert_eq!(after(clients, Duration::from_micros(gap)).gather(1), Duration::ZERO, "{clients}, {gap} µs");
            }
        }
    }

    #[test]
    fn many_are_gathered_for_a_small_part_of_their_own_time() {
        let gap = Duration::from_micros(100);
        assert_eq!(after(16, gap).gather(1), gap * 2, "an eighth of 16 times the gap");
        assert_eq!(after(64, gap).gather(1), gap * 8);
        assert_eq!(after(64, Duration::from_millis(1)).gather(1), GATHER_MAX, "and never longer");
        assert_eq!(after(64, Duration::from_millis(10)).gather(1), Duration::ZERO, "who writes rarely finds nobody");
    }

    #[test]
    fn nobody_waits_for_more_when_enough_have_come() {
        let pace = after(64, Duration::from_micros(100));
        assert!(pace.gather(ENOUGH - 1) > Duration::ZERO);
        assert_eq!((pace.gather(0), pace.gather(ENOUGH)), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn who_waited_twice_in_vain_waits_no_more() {
        let mut pace = after(64, Duration::from_micros(100));
        pace.gathered(1);
        pace.gathered(3);
        pace.gathered(1);
        assert!(pace.gather(1) > Duration::ZERO);
        pace.gathered(1);
        assert_eq!(pace.gather(1), Duration::ZERO);
    }
}
