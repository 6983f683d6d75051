//! What the client's transaction has done so far: its part in the quotas' books, and the writes whose outcome the trail
//! is to tell. Both follow savepoints; what they come to is known when the transaction ends.

use std::sync::Arc;

use crate::audit::{EventType, Outcome};
use crate::quota::{Ledger, Moment, ResourceId};
use crate::sql::WriteVerb;

/// More different writes than this in one transaction are told together.
const WRITES_MAX: usize = 256;

/// Writes of one kind to one relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrote {
    pub(super) kind: EventType,
    pub(super) relation: Option<Arc<str>>,
    pub(super) resource: Option<Arc<str>>,
    pub(super) statement: Option<Arc<str>>,
    /// Rows that Postgres says were written, where it says it.
    pub(super) rows: Option<u64>,
    /// How many statements these were.
    pub(super) count: u64,
    pub(super) took_us: u64,
    pub(super) outcome: Outcome,
    /// The portal that wrote it and isn't at its end, so that its rows aren't known yet.
    pub(super) portal: Option<u64>,
    /// Its place among the transaction's writes.
    pub(super) at: u64,
}

/// One transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// Its part in the books, as soon as it may have one.
    ledger: Option<Ledger>,
    writes: Vec<Wrote>,
    /// Names, and how many writes there were.
    savepoints: Vec<(Box<str>, usize)>,
    /// An error undid what isn't committed, unless a savepoint is gone back to.
    pub(super) failed: bool,
    /// Something ran that may have committed on the way.
    pub(super) hides: bool,
    /// A text that isn't understood set or released savepoints: which one a name means isn't known any more.
    pub(super) lost_savepoints: bool,
    /// Something was undone, and it isn't known what.
    doubtful: bool,
    /// Writes that were rolled back to a savepoint.
    undone: Vec<Wrote>,
    /// How many writes there were, of any outcome.
    written: u64,
}

impl Transaction {
    /// Whether nothing is to be told or settled.
    pub(super) const fn is_empty(&self) -> bool {
        self.ledger.is_none() && self.writes.is_empty() && self.undone.is_empty()
    }

    /// Whether there was nothing at all, not even a failure.
    pub(super) const fn is_untouched(&self) -> bool {
        self.is_empty() && !self.failed && !self.is_uncertain() && !self.lost_savepoints && self.savepoints.is_empty()
    }

    /// Its part in the books, which begins now if it hasn't. `since` is the books' moment when what begins it was sent.
    pub(super) fn ledger(&mut self, since: Moment) -> &mut Ledger {
        let savepoints = &self.savepoints;
        self.ledger.get_or_insert_with(|| {
            let mut ledger = Ledger::new(since);
            savepoints.iter().for_each(|(name, _)| ledger.savepoint(name));
            ledger
        })
    }

    /// Its part in the books, if it has begun.
    pub(super) const fn begun(&mut self) -> Option<&mut Ledger> {
        self.ledger.as_mut()
    }

    /// A write succeeded. Alike ones are one.
    pub(super) fn wrote(&mut self, mut wrote: Wrote) {
        let since = self.savepoints.last().map_or(0, |(_, at)| *at);
        wrote.at = self.written;
        self.written += 1;
        merge(&mut self.writes, since, wrote);
    }

    /// A portal that was executed in part, whose write was told without its rows, came to its end.
    pub(super) fn finished(&mut self, portal: u64, rows: Option<u64>) {
        let mut writes = self.writes.iter_mut().chain(&mut self.undone);
        if let Some(each) = writes.find(|each| each.portal == Some(portal)) {
            (each.rows, each.portal) = (rows, None);
        }
    }

    pub(super) fn savepoint(&mut self, name: &str) {
        self.savepoints.push((name.into(), self.writes.len()));
        if let Some(ledger) = &mut self.ledger {
            ledger.savepoint(name);
        }
    }

    pub(super) fn release_savepoint(&mut self, name: &str) {
        if let Some(at) = self.place(name) {
            self.savepoints.truncate(at);
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.release_savepoint(name);
        }
    }

    /// What was done since is undone. Returns what is to be released in the books.
    #[must_use]
    pub(super) fn rollback_to(&mut self, name: &str) -> Vec<(ResourceId, u64)> {
        self.failed = false;
        if let Some(at) = self.place(name) {
            self.savepoints.truncate(at + 1);
            let since = self.savepoints[at].1.min(self.writes.len());
            for mut each in self.writes.drain(since..) {
                each.outcome = Outcome::RolledBack;
                merge(&mut self.undone, 0, each);
            }
        }
        self.ledger.as_mut().map(|ledger| ledger.rollback_to(name)).unwrap_or_default()
    }

    /// Something of what was done was undone, and it isn't known what: its rows count as if they were there, and nothing
    /// that is gone is counted on.
    pub(super) fn undone_unseen(&mut self) {
        (self.failed, self.doubtful) = (false, true);
        self.writes.iter_mut().for_each(|each| each.outcome = Outcome::Unknown);
        if let Some(ledger) = &mut self.ledger {
            ledger.forget_room();
        }
    }

    /// Whether something of what its part in the books says may not be so.
    pub(super) const fn is_uncertain(&self) -> bool {
        self.doubtful || self.hides
    }

    /// The transaction is over, and so is this. Returns its part in the books, and its writes with how they ended.
    pub(super) fn end(&mut self, outcome: Outcome) -> (Option<Ledger>, Vec<Wrote>) {
        if self.doubtful
            && let Some(ledger) = &mut self.ledger
        {
            ledger.forget_room();
        }
        let Self { ledger, mut writes, undone, .. } = std::mem::take(self);
        let is_known = |each: &Wrote| each.outcome == Outcome::Ok || outcome == Outcome::RolledBack;
        writes.iter_mut().filter(|each| is_known(each)).for_each(|each| each.outcome = outcome);
        if !undone.is_empty() {
            writes.extend(undone);
            writes.sort_by_key(|each| each.at);
        }
        (ledger, writes)
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|(each, _)| **each == *name)
    }
}

/// Puts a write among those from `since` on: to an alike one, or, when there are too many, to any.
fn merge(writes: &mut Vec<Wrote>, since: usize, wrote: Wrote) {
    let is_full = writes.len() >= WRITES_MAX;
    let alike = |each: &Wrote| {
        each.kind == wrote.kind
            && each.relation == wrote.relation
            && each.resource == wrote.resource
            && each.statement == wrote.statement
            && each.portal.is_none()
            && wrote.portal.is_none()
    };
    let found = writes.iter().skip(since).position(alike).or((is_full && writes.len() > since).then_some(0));
    let Some(each) = found.and_then(|at| writes.get_mut(since + at)) else { return writes.push(wrote) };
    let is_alike = alike(each);
    each.rows = each.rows.zip(wrote.rows).map(|(a, b)| a.saturating_add(b));
    each.count += wrote.count;
    each.took_us = each.took_us.saturating_add(wrote.took_us);
    if !is_alike {
        (each.kind, each.relation, each.resource, each.statement) = (EventType::BulkOperation, None, None, None);
        each.portal = None;
    }
}

/// What a write is called in the trail.
pub(super) const fn kind_of(verb: WriteVerb) -> EventType {
    match verb {
        WriteVerb::Insert => EventType::ResourceCreated,
        WriteVerb::Update | WriteVerb::Merge => EventType::ResourceUpdated,
        WriteVerb::Delete | WriteVerb::Truncate => EventType::ResourceDeleted,
        WriteVerb::Copy => EventType::DataImport,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrote(relation: &str, rows: u64) -> Wrote {
        Wrote {
            kind: EventType::ResourceCreated,
            relation: Some(relation.into()),
            resource: None,
            statement: None,
            rows: Some(rows),
            count: 1,
            took_us: 1,
            outcome: Outcome::Ok,
            portal: None,
            at: 0,
        }
    }

    fn told(transaction: &mut Transaction) -> Vec<(String, u64, u64, Outcome)> {
        let (_, writes) = transaction.end(Outcome::Ok);
        let tell = |each: Wrote| {
            (each.relation.unwrap_or_default().to_string(), each.rows.unwrap_or_default(), each.count, each.outcome)
        };
        writes.into_iter().map(tell).collect()
    }

    #[test]
    fn alike_writes_are_one_and_a_savepoint_parts_them() {
        let mut transaction = Transaction::default();
        for rows in 1..=3 {
            transaction.wrote(wrote("a", rows));
        }
        transaction.savepoint("s");
        transaction.wrote(wrote("a", 10));
        transaction.wrote(wrote("b", 1));
        assert!(transaction.rollback_to("s").is_empty());
        transaction.wrote(wrote("b", 2));
        transaction.release_savepoint("s");
        transaction.wrote(wrote("a", 4));
        let expected = [
            ("a", 10, 4, Outcome::Ok),
            ("a", 10, 1, Outcome::RolledBack),
            ("b", 1, 1, Outcome::RolledBack),
            ("b", 2, 1, Outcome::Ok),
        ];
        let expected: Vec<_> =
            expected.map(|(name, rows, count, outcome)| (name.to_owned(), rows, count, outcome)).to_vec();
        assert_eq!(told(&mut transaction), expected);
        assert!(transaction.is_empty());
    }

    #[test]
    fn a_transaction_of_many_different_writes_is_told_in_bounded_memory() {
        let mut transaction = Transaction::default();
        for number in 0..1000 {
            transaction.wrote(wrote(&format!("t{number}"), 1));
        }
        let told = told(&mut transaction);
        assert_eq!(told.len(), WRITES_MAX);
        assert_eq!(told.iter().map(|(_, rows, ..)| rows).sum::<u64>(), 1000);
    }
}
