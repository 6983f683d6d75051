//! How long the writing thread waits for more before it syncs. A sync costs as much for one as for fifty: when many write, each
//! in its own time, the first of them waits a little for the others. It decides by what it is told and by `now`.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::clock::Instant;

/// After so many tickets it is looked at anew who they were from.
const LOOK: usize = 64;
/// So many share a sync well enough: where the disk is what is waited for, as many come during the sync before.
pub(super) const ENOUGH: usize = 8;
/// Nobody waits longer than this for others.
pub(super) const GATHER_MAX: Duration = Duration::from_millis(4);
/// Nor longer than this part of the time between two writes of his own, so that writers who wait for each answer hardly
/// notice.
const PART: u32 = 8;

/// One who writes, by a number that stays his.
pub(super) type Who = usize;

/// What is known of those who write.
pub(super) struct Pace {
    /// How many handed in something since the last look.
    tickets: usize,
    /// Who, and when last: since the last look, and between that and the one before.
    seen: HashMap<Who, Instant, ahash::RandomState>,
    before: HashMap<Who, Instant, ahash::RandomState>,
    since: Instant,
    gather: Duration,
    /// How often in a row waiting has brought nobody.
    in_vain: u8,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        let (seen, before) = (HashMap::default(), HashMap::default());
        Self { tickets: 0, seen, before, since: now, gather: Duration::ZERO, in_vain: 0 }
    }

    /// How long these wait for others, who wait for the disk. The quickest of them decides: how long others take between two
    /// writes is none of his concern, and many slow ones would otherwise slow down a quick one.
    pub(super) fn gather(&self, waiting: impl Iterator<Item = Who>, now: Instant) -> Duration {
        let (mut gather, mut count) = (self.gather, 0);
        for who in waiting {
            count += 1;
            if let Some(last) = self.seen.get(&who).or_else(|| self.before.get(&who)) {
                gather = gather.min(now.saturating_duration_since(*last) / PART);
            }
        }
        if 0 < count && count < ENOUGH { gather } else { Duration::ZERO }
    }

    /// How many came together after waiting so long.
    pub(super) fn gathered(&mut self, tickets: usize) {
        self.in_vain = if tickets > 1 { 0 } else { self.in_vain + 1 };
        if self.in_vain > 1 {
            // Those who wrote a moment ago have stopped.
            (self.gather, self.in_vain) = (Duration::ZERO, 0);
        }
    }

    /// Somebody handed in what must be on disk.
    pub(super) fn came(&mut self, who: Who, now: Instant) {
        self.seen.insert(who, now);
        self.tickets += 1;
        if self.tickets < LOOK {
            return;
        }
        let writers = u32::try_from(self.seen.len()).unwrap_or(u32::MAX);
        let gap = now.saturating_duration_since(self.since) / u32::try_from(LOOK).unwrap_or(u32::MAX);
        let bearable = (gap * writers / PART).min(GATHER_MAX);
        // Where nobody is likely to come in that time nobody is waited for.
        self.gather = if bearable >= gap { bearable } else { Duration::ZERO };
        (self.in_vain, self.tickets, self.since) = (0, 0, now);
        std::mem::swap(&mut self.seen, &mut self.before);
        self.seen.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock;

    /// So many clients in turn, with this time between two tickets; and when the last one came.
    fn after(clients: usize, gap: Duration) -> (Pace, Instant) {
        let start = clock::now();
        let mut pace = Pace::new(start);
        (1..=LOOK).for_each(|number| pace.came(number % clients, start + gap * number as u32));
        (pace, start + gap * LOOK as u32)
    }

    /// How long somebody waits who isn't one of them.
    fn stranger(pace: &Pace, now: Instant) -> Duration {
        pace.gather([1_000].into_iter(), now)
    }

    #[test]
    fn one_client_or_a_few_wait_for_nobody() {
        for clients in 1..8 {
            for gap in [1, 200, 5_000, 1_000_000] {
                let (pace, now) = after(clients, Duration::from_micros(gap));
                assert_eq!(stranger(&pace, now), Duration::ZERO, "{clients}, {gap} µs");
            }
        }
    }

    #[test]
    fn many_are_gathered_for_a_small_part_of_their_own_time() {
        let of = |clients, gap| {
            let (pace, now) = after(clients, gap);
            stranger(&pace, now)
        };
        let gap = Duration::from_micros(100);
        assert_eq!(of(16, gap), gap * 2, "an eighth of 16 times the gap");
        assert_eq!(of(64, gap), gap * 8);
        assert_eq!(of(64, Duration::from_millis(1)), GATHER_MAX, "and never longer");
        assert_eq!(of(64, Duration::from_millis(10)), Duration::ZERO, "who writes rarely finds nobody");
    }

    #[test]
    fn who_is_quicker_than_the_others_waits_for_a_part_of_his_own_time() {
        let (mut pace, now) = after(64, Duration::from_millis(1));
        let quick = 2_000;
        pace.came(quick, now);
        let (again, part) = (now + Duration::from_micros(800), Duration::from_micros(100));
        assert_eq!(pace.gather([quick].into_iter(), again), part);
        assert_eq!(pace.gather([1_000, quick, 1_001].into_iter(), again), part, "in whose company whatever");
        assert_eq!(stranger(&pace, again), GATHER_MAX);
        // He is known for as long as another look takes.
        for number in 0..LOOK {
            pace.came(number, again + Duration::from_millis(1) * number as u32);
        }
        let later = again + Duration::from_millis(LOOK as u64);
        assert_eq!(pace.gather([quick].into_iter(), later), GATHER_MAX, "slow by now");
        pace.came(quick, later);
        assert_eq!(pace.gather([quick].into_iter(), later + Duration::from_micros(800)), part);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let (mut pace, now) = after(64, Duration::from_micros(100));
        (0..10_000).for_each(|who| pace.came(who, now));
        assert!(pace.seen.len() + pace.before.len() <= 2 * LOOK);
    }

    #[test]
    fn nobody_waits_for_more_when_enough_have_come() {
        let (pace, now) = after(64, Duration::from_micros(100));
        let waiting = |count: usize| pace.gather(1_000..1_000 + count, now);
        assert!(waiting(ENOUGH - 1) > Duration::ZERO);
        assert_eq!((waiting(0), waiting(ENOUGH)), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn who_waited_twice_in_vain_waits_no_more() {
        let (mut pace, now) = after(64, Duration::from_micros(100));
        pace.gathered(1);
        pace.gathered(3);
        pace.gathered(1);
        assert!(stranger(&pace, now) > Duration::ZERO);
        pace.gathered(1);
        assert_eq!(stranger(&pace, now), Duration::ZERO);
    }
}
