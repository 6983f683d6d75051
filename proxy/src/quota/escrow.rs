//! The books of one workspace's one resource, as plain arithmetic.
//!
//! `used` is what is committed, never less than the truth as far as it can be known here; `reserved` is what transactions
//! in flight hold. What is granted keeps `used + reserved ≤ limit`.
//!
//! The truth is counted while transactions go on, so a count says nothing certain of those that were settled between its
//! begin and its arrival, nor of those that were committed before it and are settled after it: they may be in it and may
//! not. Their rows are added in any case, and their deletes aren't credited, for the count may know them already. So `used`
//! may be too much, and nobody is refused on it: who is refused didn't fit beside what a count found that began after the
//! question, or beside what others hold who can't give it back.

mod asking;

use std::time::Duration;

use super::flow::Flow;
use super::resource::Limit;
use super::window::{Per, Window};
use crate::domain::clock::Instant;

pub(super) use asking::{Ask, Verdict};

/// How long the rows of a transaction whose outcome is unknown may still be on their way into the table: the server
/// doesn't notice at once that its client is gone.
pub const DOUBT_LINGERS: Duration = Duration::from_secs(30);

/// How many transactions of unknown outcome are told apart. More are taken together, until the last of them is known.
const DOUBTFUL_MAX: usize = 16;

/// A moment of the books: how many counts had arrived. A transaction takes one before it sends anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub(super) u64);

/// What a reservation gets at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The rows are reserved, within the limit.
    Granted,
    /// The rows are reserved; there is no limit.
    Unlimited,
    /// Nothing is reserved: never counted, stale, or it doesn't fit. The truth must be asked before anybody is refused.
    Unsure,
}

/// What isn't known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// There may be fewer rows than the books say. Nothing is granted wrongly, and before a refusal the truth is counted.
    Fewer,
    /// There may be more rows than the books say: nothing more is granted before the truth was counted.
    More,
    /// A transaction's outcome is unknown, and so is when it will be settled. What it had reserved is given up to this.
    Outcome {
        /// What it had reserved.
        reserved: u64,
    },
}

/// A threshold was crossed, upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning {
    /// 80, 90 or 100.
    pub percent: u8,
    /// Rows that are used.
    pub used: u64,
    /// Rows at most. Fewer than `used`: the workspace is beyond its limit.
    pub limit: u64,
}

/// How far a count reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Nothing is known.
    Never,
    /// `used` is no less than the truth.
    Counted,
    /// It may be less.
    Doubted,
}

/// A count that was begun and hasn't arrived.
#[derive(Clone, Copy, Debug)]
struct Counting {
    number: u64,
    /// Rows that were settled since it began.
    settled: u128,
    /// Whether it may not know all that it should: it can be less than the truth.
    doubted: bool,
    /// Whether something was settled, credited or gone since it began.
    blurred: bool,
}

/// Rows of a transaction whose outcome is unknown.
#[derive(Clone, Copy, Debug)]
struct Doubtful {
    rows: u128,
    until: Instant,
    /// The count that will tell.
    told_by: Option<u64>,
}

/// One workspace's books of one resource.
#[derive(Clone, Debug)]
pub struct Account {
    limit: Limit,
    used: u128,
    reserved: u128,
    trust: Trust,
    /// What the last count found.
    counted: u128,
    counted_at: Moment,
    /// Whether `used` may be more than the truth.
    blurred: bool,
    /// The last count that had begun when something was reserved, settled or given back.
    changed: u64,
    /// Numbers of counts: the last one begun, arrived, failed.
    begun: u64,
    arrived: u64,
    failed: u64,
    failure: String,
    counting: Option<Counting>,
    doubtful: Vec<Doubtful>,
    /// What those have reserved who wait for others.
    waiting: u128,
    /// The highest threshold that was told.
    told: u8,
    flow: Option<Box<Flow>>,
}

impl Account {
    /// Books of which nothing is known yet.
    pub fn new(limit: Limit, per: Option<Per>, now: i64) -> Self {
        Self {
            limit,
            used: 0,
            reserved: 0,
            trust: Trust::Never,
            counted: 0,
            counted_at: Moment::default(),
            blurred: false,
            changed: 0,
            begun: 0,
            arrived: 0,
            failed: 0,
            failure: String::new(),
            counting: None,
            doubtful: Vec::new(),
            waiting: 0,
            told: 0,
            flow: per.map(|per| Box::new(Flow::new(per, now))),
        }
    }

    /// Reserves rows, if that is surely right.
    pub fn try_reserve(&mut self, rows: u64) -> Answer {
        let answer = match self.limit {
            None => Answer::Unlimited,
            _ if rows == 0 => Answer::Granted,
            Some(limit) if self.trust == Trust::Counted && self.total() + u128::from(rows) <= u128::from(limit) => {
                Answer::Granted
            }
            Some(_) => return Answer::Unsure,
        };
        self.reserved += u128::from(rows);
        self.changed = self.begun;
        answer
    }

    /// Reserves rows that nobody could stop. Returns how many of them are beyond the limit, if that is known.
    pub fn force(&mut self, rows: u64) -> Option<u64> {
        self.reserved += u128::from(rows);
        self.changed = self.begun;
        match self.limit {
            None => Some(0),
            Some(_) if self.trust != Trust::Counted => None,
            Some(limit) => Some(clamp(self.total().saturating_sub(u128::from(limit))).min(rows)),
        }
    }

    /// Gives back what was reserved.
    pub fn release(&mut self, rows: u64) {
        if u128::from(rows) > self.reserved {
            // More than there is: the books are wrong, and a count will put them right.
            self.mistrust();
        }
        self.reserved = self.reserved.saturating_sub(u128::from(rows));
        self.changed = self.begun;
    }

    /// A transaction was committed that began at `since`: what it had reserved is used from now on, and what it deleted isn't.
    pub fn settle(&mut self, reserved: u64, credited: u64, since: Moment) -> Option<Warning> {
        self.release(reserved);
        let (rows, credit) = (u128::from(reserved), u128::from(credited));
        self.used += rows;
        if let Some(flow) = &mut self.flow {
            flow.add(rows);
            return self.warning();
        }
        if let Some(counting) = &mut self.counting {
            counting.settled += rows;
            counting.blurred = true;
        }
        if since >= self.counted_at {
            self.used = self.used.saturating_sub(credit);
        } else {
            // The last count was made while the transaction was on its way, and may know it.
            self.blurred = true;
        }
        self.warning()
    }

    /// Something isn't known any more.
    pub fn doubt(&mut self, doubt: Doubt, now: Instant) {
        match doubt {
            // A flow knows nothing but what it was told. What may have been inserted is counted.
            Doubt::Outcome { reserved } if self.flow.is_some() => {
                self.settle(reserved, 0, self.counted_at);
            }
            _ if self.flow.is_some() => {}
            Doubt::Fewer => {
                self.blurred = true;
                if let Some(counting) = &mut self.counting {
                    counting.blurred = true;
                }
            }
            Doubt::More => self.mistrust(),
            Doubt::Outcome { reserved } => {
                self.release(reserved);
                self.lose(reserved.into(), now);
                self.mistrust();
            }
        }
    }

    fn lose(&mut self, rows: u128, now: Instant) {
        if self.limit.is_none() {
            // Nobody counts without a limit; and with one nothing is granted before a count.
            self.doubtful.retain(|doubtful| doubtful.until > now);
        }
        let (until, is_full) = (now + DOUBT_LINGERS, self.doubtful.len() >= DOUBTFUL_MAX);
        match self.doubtful.last_mut() {
            Some(last) if is_full => {
                *last = Doubtful { rows: last.rows + rows, until, told_by: None };
            }
            _ => self.doubtful.push(Doubtful { rows, until, told_by: None }),
        }
    }

    /// Another limit holds from now on, or it is another kind of resource.
    pub fn define(&mut self, limit: Limit, per: Option<Per>, now: i64) {
        self.limit = limit;
        if self.flow.as_ref().map(|flow| flow.per()) != per {
            let before = self.flow.take();
            self.flow = per.map(|per| Box::new(Flow::new(per, now).after(before)));
            self.forget();
        }
    }

    /// A flow's window may be over: the count starts anew. What is reserved is so in the new window too, for it counts when
    /// it is committed. Windows follow the clock, wherever it goes.
    pub fn turn(&mut self, now: i64) {
        let Some(flow) = &mut self.flow else { return };
        if flow.turn(now) {
            self.told = 0;
            self.forget();
        }
    }

    /// Whether it is a flow, whose window must be looked at first.
    pub const fn is_flow(&self) -> bool {
        self.flow.is_some()
    }

    /// A count begins now. Returns its number.
    pub fn count_begins(&mut self, now: Instant) -> u64 {
        self.begun += 1;
        let number = self.begun;
        self.counting = Some(Counting { number, settled: 0, doubted: false, blurred: false });
        for doubtful in self.doubtful.iter_mut().filter(|doubtful| doubtful.until <= now) {
            doubtful.told_by = Some(number);
        }
        number
    }

    /// A count arrived: so many rows there were at some moment since it began; of a flow, in this window.
    pub fn count_arrives(&mut self, number: u64, rows: u64, window: Option<Window>, moment: Moment) -> Option<Warning> {
        let counting = self.counting.take_if(|counting| counting.number == number)?;
        self.arrived = number;
        if window != self.window() {
            // It is of a window that is over. Who waits for it sees that nothing is known yet.
            return None;
        }
        let since = self.flow.as_ref().map_or(counting.settled, |flow| flow.unsaved());
        self.counted = u128::from(rows);
        self.used = self.counted + since;
        self.blurred = counting.blurred && self.flow.is_none();
        self.trust = if counting.doubted { Trust::Doubted } else { Trust::Counted };
        self.counted_at = moment;
        self.doubtful.retain(|doubtful| doubtful.told_by != Some(number));
        self.warning()
    }

    /// A count failed.
    pub fn count_fails(&mut self, number: u64, why: String) {
        if self.counting.take_if(|counting| counting.number == number).is_some() {
            self.failed = number;
            self.failure = why;
        }
    }

    /// What of a flow is to be recorded now, by window. The current one is always among it, for its total is asked for.
    /// It stays in `used`.
    pub fn take_unsaved(&mut self) -> Vec<(Window, u64)> {
        let taken = self.flow.as_mut().map(|flow| flow.take_unsaved()).unwrap_or_default();
        taken.into_iter().map(|(window, rows)| (window, clamp(rows))).collect()
    }

    /// Whether there is something of a flow to be recorded.
    pub fn has_unsaved(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.has_unsaved())
    }

    /// Whether `used` is exactly what was counted and settled, as far as it is known.
    pub(super) fn is_exact(&self) -> bool {
        self.trust == Trust::Counted && !self.blurred
    }

    /// Whether everything can be forgotten without a loss.
    pub(super) fn is_idle(&self) -> bool {
        self.reserved == 0 && self.counting.is_none() && self.doubtful.is_empty() && !self.has_unsaved()
    }

    /// As if it had never been counted. What is reserved stays.
    pub(super) fn forget(&mut self) {
        (self.used, self.trust) = (0, Trust::Never);
        if let Some(flow) = &self.flow {
            self.used = flow.unsaved();
        }
    }

    /// The number of the last count that arrived.
    pub(super) const fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Why the count with this number or a later one failed, if it did.
    pub(super) fn failure(&self, need: u64) -> Option<&str> {
        (self.failed >= need).then_some(self.failure.as_str())
    }

    /// Rows that are used.
    pub fn used(&self) -> u64 {
        clamp(self.used)
    }

    /// Rows that transactions in flight hold, those of unknown outcome among them.
    pub fn reserved(&self) -> u64 {
        clamp(self.total() - self.used)
    }

    /// Rows at most.
    pub const fn limit(&self) -> Limit {
        self.limit
    }

    /// The window of a flow.
    pub fn window(&self) -> Option<Window> {
        self.flow.as_ref().map(|flow| flow.window())
    }

    /// Everything that is or may become used.
    fn total(&self) -> u128 {
        self.used + self.reserved + self.doubtful.iter().map(|doubtful| doubtful.rows).sum::<u128>()
    }

    fn mistrust(&mut self) {
        if self.flow.is_some() {
            return;
        }
        if self.trust == Trust::Counted {
            self.trust = Trust::Doubted;
        }
        if let Some(counting) = &mut self.counting {
            counting.doubted = true;
        }
    }

    fn warning(&mut self) -> Option<Warning> {
        let limit = self.limit.filter(|limit| *limit > 0 && self.trust == Trust::Counted)?;
        let percent = self.used.saturating_mul(100) / u128::from(limit);
        // 101 is beyond the limit.
        let level = match percent {
            0..80 => 0,
            80..90 => 80,
            90..100 => 90,
            _ if self.used > u128::from(limit) => 101,
            _ => 100,
        };
        let before = std::mem::replace(&mut self.told, level);
        (level > before).then(|| Warning { percent: level.min(100), used: clamp(self.used), limit })
    }
}

/// Sums are wider than what is told, so that none can overflow.
fn clamp(rows: u128) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model_tests;
