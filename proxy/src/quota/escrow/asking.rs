//! What becomes of a question that the books alone can't answer: each step until it is granted or refused for certain.

use super::{Account, Answer, Trust, clamp};

/// What somebody asks for who wasn't granted it at once.
#[derive(Clone, Copy, Debug)]
pub(in crate::quota) struct Ask {
    pub(in crate::quota) rows: u64,
    /// What the same transaction has reserved already.
    pub(in crate::quota) own: u64,
    /// The first count that began after the question.
    pub(in crate::quota) need: u64,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::quota) enum Verdict {
    /// It is reserved.
    Granted,
    /// It is reserved; there is no limit.
    Unlimited,
    /// Ask again when this count has arrived.
    Count { need: u64 },
    /// Ask again when something has changed: transactions are in flight.
    Wait,
    /// It doesn't fit, and that is true.
    Exceeded { used: u64, reserved: u64, limit: u64 },
    /// It can't be found out.
    Undecided(String),
}

impl Account {
    /// The number that the next count will have.
    pub(in crate::quota) const fn next_count(&self) -> u64 {
        self.begun + 1
    }

    /// Decides what `try_reserve` was unsure of. `late` tells that others were waited for long enough.
    pub(in crate::quota) fn decide(&mut self, ask: Ask, late: bool) -> Verdict {
        match self.try_reserve(ask.rows) {
            Answer::Granted => return Verdict::Granted,
            Answer::Unlimited => return Verdict::Unlimited,
            Answer::Unsure => {}
        }
        if self.arrived < ask.need {
            let failed = self.failed >= ask.need;
            return if failed { Verdict::Undecided(self.failure.clone()) } else { Verdict::Count { need: ask.need } };
        }
        let Some(limit) = self.limit.filter(|_| self.trust == Trust::Counted) else {
            return Verdict::Count { need: self.next_count() };
        };
        let (rows, own, limit) = (u128::from(ask.rows), u128::from(ask.own), u128::from(limit));
        let exceeded =
            Verdict::Exceeded { used: clamp(self.total()), reserved: clamp(self.reserved), limit: clamp(limit) };
        // What the count found beside its own is true, and no waiting changes it.
        if self.counted + own + rows > limit {
            return exceeded;
        }
        if self.counted + self.reserved + rows <= limit {
            // Only what was settled since, or what isn't known, stands in the way.
            return match (self.used > self.counted, late) {
                (true, _) => Verdict::Count { need: self.next_count() },
                (false, false) => Verdict::Wait,
                (false, true) => Verdict::Undecided("a transaction's outcome is unknown".to_owned()),
            };
        }
        // Those who wait themselves give nothing back before somebody is refused.
        let others = self.reserved.saturating_sub(self.waiting).saturating_sub(own);
        match (others > 0, late) {
            (true, false) => Verdict::Wait,
            // What was counted and what is held must have been there together.
            (false, _) if self.arrived <= self.changed => Verdict::Count { need: self.next_count() },
            _ => exceeded,
        }
    }

    /// Somebody who has reserved this much waits for others.
    pub(in crate::quota) fn wait_begins(&mut self, own: u64) {
        self.waiting += u128::from(own);
    }

    /// What those have reserved who wait for others.
    #[cfg(test)]
    pub(in crate::quota) const fn waiting(&self) -> u128 {
        self.waiting
    }

    /// And waits no more.
    pub(in crate::quota) fn wait_ends(&mut self, own: u64) {
        self.waiting = self.waiting.saturating_sub(u128::from(own));
    }
}
