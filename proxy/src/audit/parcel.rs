//! Records on their way to the database: their lines, as they stand in the spool, and how they are linked. What the writing
//! thread has just put on disk is handed over in memory, so that it isn't read back and taken apart to be written once more.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::chain::{Hash, Head};
use super::row::Row;

/// Records that are offered to the database at once, at most.
pub const PARCEL_ROWS: usize = 1000;
/// Bytes of them, about.
pub const PARCEL_BYTES: usize = 1 << 20;
/// Parcels that wait in memory. What is more is read from the spool when its turn comes.
const WAITING_MAX: usize = 8;

/// Records of one stream that follow each other.
#[derive(Clone, Debug, Default)]
pub struct Parcel {
    /// Each with its end.
    lines: Vec<u8>,
    links: Vec<Link>,
}

/// What links a record to its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub seq: u64,
    /// The hash of the record before it.
    pub prev_hash: Hash,
    /// Its own.
    pub hash: Hash,
    /// Where its line begins.
    start: usize,
}

impl Link {
    /// The stream's head behind it.
    pub const fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }
}

impl From<&[Row]> for Parcel {
    fn from(rows: &[Row]) -> Self {
        let mut parcel = Self::default();
        rows.iter().for_each(|row| parcel.push(row));
        parcel
    }
}

impl Parcel {
    /// Adds a record.
    pub fn push(&mut self, row: &Row) {
        let start = self.lines.len();
        self.links.push(Link { seq: row.seq, prev_hash: row.prev_hash, hash: row.hash, start });
        row.write(&mut self.lines);
    }

    /// How many records.
    pub const fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// The first record's link.
    pub fn first(&self) -> Option<&Link> {
        self.links.first()
    }

    /// The last one's.
    pub fn last(&self) -> Option<&Link> {
        self.links.last()
    }

    /// All lines, each with its end.
    pub const fn bytes(&self) -> &Vec<u8> {
        &self.lines
    }

    /// Each record's line, without its end.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.links.iter().skip(1).map(|next| next.start).chain([self.lines.len()]);
        self.links.iter().zip(ends).map(|(link, end)| &self.lines[link.start..end - 1])
    }

    /// The records, read again. None of a line that isn't one.
    pub fn rows(&self) -> Option<Vec<Row>> {
        self.lines().map(Row::read).collect()
    }

    /// Forgets all, and keeps no more memory than this.
    pub(super) fn clear(&mut self, bytes_kept: usize) {
        self.lines.clear();
        self.lines.shrink_to(bytes_kept);
        self.links.clear();
        self.links.shrink_to(PARCEL_ROWS);
    }

    /// Takes over what follows.
    fn append(&mut self, more: &Self) {
        let before = self.lines.len();
        self.lines.extend_from_slice(&more.lines);
        self.links.extend(more.links.iter().map(|link| Link { start: link.start + before, ..*link }));
    }

    /// Without the records before this one.
    fn without(mut self, before: u64) -> Self {
        let gone = self.links.partition_point(|link| link.seq < before);
        let bytes = self.links.get(gone).map_or(self.lines.len(), |link| link.start);
        self.links.drain(..gone);
        self.lines.drain(..bytes);
        self.links.iter_mut().for_each(|link| link.start -= bytes);
        self
    }

    fn is_full(&self) -> bool {
        self.links.len() >= PARCEL_ROWS || self.lines.len() >= PARCEL_BYTES
    }
}

/// What is on disk and was handed over, for whoever ships it: a run of records without a gap, of bounded size.
#[derive(Debug, Default)]
pub(super) struct Handover {
    waiting: Mutex<VecDeque<Parcel>>,
}

impl Handover {
    /// Records that are on disk for sure.
    pub(super) fn give(&self, saved: &Parcel) {
        let Some(first) = saved.first() else { return };
        let mut waiting = self.waiting.lock();
        if saved.is_full() {
            // More at once than is offered at once: it is read from the spool in parts.
            return waiting.clear();
        }
        let has_room = waiting.len() < WAITING_MAX;
        match waiting.back_mut().filter(|back| back.last().is_some_and(|last| last.seq + 1 == first.seq)) {
            Some(back) if !back.is_full() => return back.append(saved),
            Some(_) if has_room => {}
            // Who ships is far behind, and reads from the spool; what is new is what he needs last.
            Some(_) | None => waiting.clear(),
        }
        waiting.push_back(saved.clone());
    }

    /// The records from this one on, if they are here; what comes before it isn't needed any more.
    pub(super) fn take(&self, next: u64) -> Option<Parcel> {
        let mut waiting = self.waiting.lock();
        while waiting.front()?.last().is_none_or(|last| last.seq < next) {
            waiting.pop_front();
        }
        let is_here = waiting.front()?.first().is_some_and(|first| first.seq <= next);
        is_here.then(|| waiting.pop_front()).flatten().map(|parcel| parcel.without(next))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::{Event, EventType};

    fn rows(count: u64) -> Vec<Row> {
        let mut head = Head::default();
        let event = |rows| Event { rows: Some(rows), ..Event::new(EventType::ResourceCreated, Arc::default()) };
        let linked = |number| {
            let mut row = Row::unlinked(&"s".into(), event(number));
            head.link(&mut row);
            row
        };
        (0..count).map(linked).collect()
    }

    fn numbers(parcel: &Parcel) -> Vec<u64> {
        parcel.rows().expect("records").iter().map(|row| row.seq).collect()
    }

    #[test]
    fn what_is_handed_over_comes_out_as_it_went_in_from_any_record_on() {
        let rows = rows(20);
        for next in 1..=20 {
            let handover = Handover::default();
            for some in rows.chunks(3) {
                handover.give(&some.into());
            }
            let parcel = handover.take(next).expect("it is there");
            assert_eq!(parcel.rows().as_deref(), rows.get(next as usize - 1..));
            let (first, last) = (parcel.first().expect("one"), parcel.last().expect("one"));
            let row = &rows[next as usize - 1];
            assert_eq!((first.seq, first.hash, first.prev_hash), (row.seq, row.hash, row.prev_hash));
            assert_eq!(last.head(), Head { seq: 20, hash: rows[19].hash });
            assert!(handover.take(next).is_none(), "it is taken");
        }
    }

    #[test]
    fn what_comes_before_what_is_here_is_to_be_read_elsewhere() {
        let (handover, rows) = (Handover::default(), rows(9));
        handover.give(&rows[3..6].into());
        assert!(handover.take(3).is_none());
        assert_eq!(numbers(&handover.take(4).expect("it is there")), [4, 5, 6]);
        handover.give(&rows[6..9].into());
        assert!(handover.take(10).is_none() && handover.take(7).is_none(), "what is behind isn't kept");
    }

    #[test]
    fn what_is_too_much_at_once_is_to_be_read_elsewhere_and_what_follows_is_here() {
        let (handover, rows) = (Handover::default(), rows(PARCEL_ROWS as u64 + 20));
        handover.give(&rows[..10].into());
        handover.give(&rows[10..PARCEL_ROWS + 10].into());
        handover.give(&rows[PARCEL_ROWS + 10..].into());
        assert!(handover.take(1).is_none());
        let last = handover.take(PARCEL_ROWS as u64 + 11).expect("it is there");
        assert_eq!(last.rows().as_deref(), rows.get(PARCEL_ROWS + 10..));
    }

    #[test]
    fn a_gap_is_never_closed_over() {
        let (handover, rows) = (Handover::default(), rows(9));
        handover.give(&rows[..3].into());
        handover.give(&rows[4..6].into());
        assert!(handover.take(1).is_none());
        assert_eq!(numbers(&handover.take(5).expect("it is there")), [5, 6]);
    }

    #[test]
    fn memory_is_bounded_and_what_is_newest_stays() {
        let (handover, rows) = (Handover::default(), rows(3 * PARCEL_ROWS as u64 * WAITING_MAX as u64));
        for some in rows.chunks(100) {
            handover.give(&some.into());
            let waiting = handover.waiting.lock();
            assert!(waiting.len() <= WAITING_MAX);
            assert!(waiting.iter().all(|parcel| parcel.len() < PARCEL_ROWS + 100));
        }
        assert!(handover.take(1).is_none());
        let first = handover.waiting.lock().front().and_then(Parcel::first).copied().expect("one");
        let mut next = first.seq;
        while let Some(parcel) = handover.take(next) {
            next = parcel.last().expect("one").seq + 1;
        }
        assert_eq!(next, rows.len() as u64 + 1, "all of it, up to the end");
    }
}
