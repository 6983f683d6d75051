//! One transaction's part in the books: what it has reserved and deleted of each resource, by savepoint. It decides
//! nothing and knows no books; it says what is to be reserved, released and settled.

use smallvec::SmallVec;

use super::accounts::Settlement;
use super::escrow::Moment;
use super::resource::ResourceId;

/// Numbers of one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    /// Reserved in the books.
    reserved: u64,
    /// Deleted by the client's own statements.
    deleted: u64,
    /// Inserted into the room that was made so, without a reservation.
    reused: u64,
}

/// What was done since one savepoint.
#[derive(Clone, Copy, Debug)]
struct Part {
    resource: ResourceId,
    /// How many savepoints there were.
    depth: usize,
    sum: Sum,
}

/// A transaction's part in the books.
#[derive(Clone, Debug)]
pub struct Ledger {
    since: Moment,
    savepoints: Vec<Box<str>>,
    /// By depth, which only grows.
    parts: SmallVec<[Part; 2]>,
    totals: SmallVec<[(ResourceId, Sum); 2]>,
}

impl Ledger {
    /// The part of a transaction that hasn't sent anything yet. `since` is the books' moment.
    pub fn new(since: Moment) -> Self {
        Self { since, savepoints: Vec::new(), parts: SmallVec::new(), totals: SmallVec::new() }
    }

    /// How many rows must be reserved to insert so many: what the same transaction has deleted makes room for its own.
    pub fn needed(&self, resource: ResourceId, rows: u64) -> u64 {
        let Sum { deleted, reused, .. } = self.total(resource);
        rows.saturating_sub(deleted.saturating_sub(reused))
    }

    /// What it has reserved so far.
    pub fn own(&self, resource: ResourceId) -> u64 {
        self.total(resource).reserved
    }

    /// Rows were inserted, and `reserved` of them were reserved in the books.
    pub fn inserts(&mut self, resource: ResourceId, rows: u64, reserved: u64) {
        let reused = rows.saturating_sub(reserved);
        self.add(resource, Sum { reserved, deleted: 0, reused });
    }

    /// The client's own DELETE took rows away.
    pub fn deletes(&mut self, resource: ResourceId, rows: u64) {
        self.add(resource, Sum { reserved: 0, deleted: rows, reused: 0 });
    }

    /// What was deleted may have been undone unseen: no more room is made of it than was used already.
    pub fn forget_room(&mut self) {
        let sums = self.parts.iter_mut().map(|part| &mut part.sum).chain(self.totals.iter_mut().map(|(_, sum)| sum));
        // An insert that used it came later, and was undone with it.
        sums.for_each(|sum| sum.deleted = sum.reused);
    }

    /// A savepoint was set.
    pub fn savepoint(&mut self, name: &str) {
        self.savepoints.push(name.into());
    }

    /// A savepoint was released, and those after it: what was done since belongs to what was before.
    pub fn release_savepoint(&mut self, name: &str) {
        let Some(depth) = self.place(name) else { return };
        self.savepoints.truncate(depth);
        let since: SmallVec<[Part; 2]> = self.parts.drain(self.first_below(depth)..).collect();
        for part in since {
            put(self.part(part.resource), part.sum);
        }
    }

    /// Everything since a savepoint was undone; it stays. Returns what is to be released.
    #[must_use]
    pub fn rollback_to(&mut self, name: &str) -> Vec<(ResourceId, u64)> {
        let Some(depth) = self.place(name) else { return Vec::new() };
        self.savepoints.truncate(depth + 1);
        let undone: Vec<Part> = self.parts.drain(self.first_below(depth)..).collect();
        for part in &undone {
            let total = self.total_mut(part.resource);
            total.reserved = total.reserved.saturating_sub(part.sum.reserved);
            total.deleted = total.deleted.saturating_sub(part.sum.deleted);
            total.reused = total.reused.saturating_sub(part.sum.reused);
        }
        let released = undone.into_iter().map(|part| (part.resource, part.sum.reserved));
        released.filter(|(_, rows)| *rows > 0).collect()
    }

    /// The transaction was committed: what is to be settled.
    #[must_use]
    pub fn commit(self) -> Vec<(ResourceId, Settlement)> {
        let since = self.since;
        let settle = |(resource, Sum { reserved, deleted, reused })| {
            let settlement = Settlement { reserved, credited: u64::saturating_sub(deleted, reused), since };
            (settlement.reserved > 0 || settlement.credited > 0).then_some((resource, settlement))
        };
        self.totals.into_iter().filter_map(settle).collect()
    }

    /// The transaction was rolled back, or its outcome is unknown: what it had reserved.
    #[must_use]
    pub fn rollback(self) -> Vec<(ResourceId, u64)> {
        self.totals.into_iter().map(|(resource, sum)| (resource, sum.reserved)).filter(|(_, rows)| *rows > 0).collect()
    }

    /// Whether it has no part in any books.
    pub fn is_empty(&self) -> bool {
        self.totals.iter().all(|(_, sum)| *sum == Sum::default())
    }

    /// Where the last savepoint of this name stands.
    fn place(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|savepoint| **savepoint == *name)
    }

    /// Where the parts begin that were done after savepoint number `depth` was set.
    fn first_below(&self, depth: usize) -> usize {
        self.parts.partition_point(|part| part.depth <= depth)
    }

    fn add(&mut self, resource: ResourceId, sum: Sum) {
        put(self.part(resource), sum);
        put(self.total_mut(resource), sum);
    }

    /// What was done since the last savepoint.
    fn part(&mut self, resource: ResourceId) -> &mut Sum {
        let depth = self.savepoints.len();
        let mut present = self.parts.iter().rev().take_while(|part| part.depth == depth);
        let at = match present.position(|part| part.resource == resource) {
            Some(back) => self.parts.len() - 1 - back,
            None => {
                self.parts.push(Part { resource, depth, sum: Sum::default() });
                self.parts.len() - 1
            }
        };
        &mut self.parts[at].sum
    }

    fn total(&self, resource: ResourceId) -> Sum {
        self.totals.iter().find(|(id, _)| *id == resource).map(|(_, sum)| *sum).unwrap_or_default()
    }

    fn total_mut(&mut self, resource: ResourceId) -> &mut Sum {
        let at = self.totals.iter().position(|(id, _)| *id == resource).unwrap_or_else(|| {
            self.totals.push((resource, Sum::default()));
            self.totals.len() - 1
        });
        &mut self.totals[at].1
    }
}

const fn put(into: &mut Sum, sum: Sum) {
    into.reserved = into.reserved.saturating_add(sum.reserved);
    into.deleted = into.deleted.saturating_add(sum.deleted);
    into.reused = into.reused.saturating_add(sum.reused);
}

#[cfg(test)]
mod tests;
