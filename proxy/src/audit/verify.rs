//! Walks along a stream and says where it isn't whole: changed, removed (also at the end, or all of it), reordered, inserted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::chain::{self, Hash, Head};
use super::row::Row;

/// What is wrong at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The record isn't what it was when it was written.
    Changed,
    /// The record doesn't follow the one before it: one of the two was written anew.
    Unlinked,
    /// These records are missing, the first and the last of them.
    Removed(u64, u64),
    /// These records are missing at the end: the stream's head says they were there.
    RemovedAtEnd(u64, u64),
    /// There are two records of this number.
    Inserted,
    /// The record stands behind a later one.
    Reordered,
    /// A line that is no record.
    NoRecord,
    /// The copy on the proxy's disk and the one in the database differ.
    Differs,
    /// The stream's head isn't its last record.
    Head,
    /// The stream was registered, and is gone.
    StreamRemoved,
    /// The stream was never registered: somebody put it in.
    StreamInserted,
    /// The file ends before its last line.
    CutOff,
}

/// One finding. `Display` says where and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The stream.
    pub stream: Arc<str>,
    /// The record's number, or 0 for the stream as a whole.
    pub seq: u64,
    /// What is wrong.
    pub what: What,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, seq, what } = self;
        let range = |first: &u64, last: &u64| match last - first {
            0 => format!("record {first} is missing"),
            _ => format!("records {first} to {last} are missing"),
        };
        write!(out, "stream {stream}, ")?;
        match what {
            What::Changed => write!(out, "record {seq}: was changed"),
            What::Unlinked => {
                write!(out, "record {seq}: doesn't follow the one before it; one of the two was replaced")
            }
            What::Removed(first, last) => write!(out, "record {seq}: {} before it", range(first, last)),
            What::RemovedAtEnd(first, last) => write!(out, "at its end: {}", range(first, last)),
            What::Inserted => write!(out, "record {seq}: there is another of this number"),
            What::Reordered => write!(out, "record {seq}: stands behind a later one"),
            What::NoRecord => write!(out, "after record {seq}: a line that is no record, or was changed"),
            What::Differs => {
                write!(out, "record {seq}: isn't the same as the copy that was kept: the spool's, or a head")
            }
            What::Head => write!(out, "at its end: the head in cordon.audit_stream isn't record {seq}"),
            What::StreamRemoved => out.write_str("the whole: it was registered and is gone"),
            What::StreamInserted => out.write_str("the whole: it was never registered, somebody put it in"),
            What::CutOff => out.write_str("the file: its end is missing"),
        }
    }
}

/// A walk along one stream, record by record.
pub struct Walk {
    stream: Arc<str>,
    head: Head,
    /// The chain may begin anywhere: what is before was moved elsewhere.
    anywhere: bool,
    /// What the record before should have had for a hash, if it was changed: the next may link to either.
    also: Option<Hash>,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Walk {
    /// A walk that must begin with the first record.
    pub fn from_the_first(stream: Arc<str>) -> Self {
        Self { stream, head: Head::default(), anywhere: false, also: None, findings: Vec::new() }
    }

    /// A walk over what is left of a stream whose beginning is elsewhere.
    pub fn from_anywhere(stream: Arc<str>) -> Self {
        Self { anywhere: true, ..Self::from_the_first(stream) }
    }

    /// Where the walk is.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// The next record.
    pub fn row(&mut self, row: &Row) {
        let true_hash = chain::hash(row);
        if self.link(row.seq, row.prev_hash, row.hash) && true_hash != row.hash {
            self.also = Some(true_hash);
            self.found(row.seq, What::Changed);
        }
    }

    /// The next record, by its number and hashes alone. Whether it was walked on to.
    pub fn link(&mut self, seq: u64, prev_hash: Hash, hash: Hash) -> bool {
        let expected = self.head.seq + 1;
        if seq < expected && !self.anywhere {
            self.found(seq, if seq == self.head.seq { What::Inserted } else { What::Reordered });
            return false;
        }
        if std::mem::take(&mut self.anywhere) {
            self.head.hash = prev_hash;
        } else if seq > expected {
            self.found(seq, What::Removed(expected, seq - 1));
        } else if prev_hash != self.head.hash && self.also != Some(prev_hash) {
            self.found(seq, What::Unlinked);
        }
        (self.head, self.also) = (Head { seq, hash }, None);
        true
    }

    /// A line that is no record.
    pub fn no_record(&mut self) {
        self.found(self.head.seq, What::NoRecord);
    }

    /// The end, where the head that was kept elsewhere says the stream ends.
    pub fn end(&mut self, kept: Head) {
        if kept.seq > self.head.seq {
            self.found(0, What::RemovedAtEnd(self.head.seq + 1, kept.seq));
        } else if kept.seq == self.head.seq && kept.hash != self.head.hash && self.also != Some(kept.hash) {
            self.found(kept.seq, What::Head);
        }
    }

    /// Notes a finding.
    pub fn found(&mut self, seq: u64, what: What) {
        self.findings.push(Finding { stream: self.stream.clone(), seq, what });
    }
}

/// What a spool has of each stream, held against what the database has. Only numbers and hashes are kept: a spool may be large.
#[derive(Debug, Default)]
pub struct Copies {
    streams: BTreeMap<Arc<str>, BTreeMap<u64, (Hash, Hash)>>,
    /// What was wrong with the copies themselves.
    pub findings: Vec<Finding>,
}

impl Copies {
    /// Takes what a spool has of one stream, segment by segment. A segment that begins with records the one before it has
    /// too is as a disk error left it: they must be the same.
    pub fn take(&mut self, stream: &Arc<str>, segments: impl IntoIterator<Item = Vec<Option<Row>>>) {
        let mut walk = Walk::from_anywhere(stream.clone());
        let kept = self.streams.entry(stream.clone()).or_default();
        for segment in segments {
            for (place, line) in segment.into_iter().enumerate() {
                let repeats = |row: &Row| {
                    let same = kept.get(&row.seq) == Some(&(row.prev_hash, row.hash));
                    place == 0 && same && chain::hash(row) == row.hash
                };
                match line {
                    Some(row) if row.stream != *stream => walk.found(row.seq, What::Inserted),
                    Some(row) if repeats(&row) => {
                        // Walked again from here: what follows must follow this one.
                        (walk.head, walk.also) = (Head { seq: row.seq, hash: row.hash }, None);
                    }
                    Some(row) => {
                        walk.row(&row);
                        kept.entry(row.seq).or_insert((row.prev_hash, row.hash));
                    }
                    None => walk.no_record(),
                }
            }
        }
        self.findings.append(&mut walk.findings);
    }

    /// The streams there are copies of.
    pub fn streams(&self) -> Vec<Arc<str>> {
        self.streams.keys().cloned().collect()
    }

    /// Holds a record of the database against the copy, if there is one.
    pub fn compare(&mut self, row: &Row, walk: &mut Walk) {
        let copy = self.streams.get_mut(&row.stream).and_then(|rows| rows.remove(&row.seq));
        if copy.is_some_and(|(_, hash)| hash != row.hash) {
            walk.found(row.seq, What::Differs);
        }
    }

    /// Walks on over the copies that the database doesn't have yet.
    pub fn rest(&mut self, stream: &str, walk: &mut Walk, mut each: impl FnMut(Head)) {
        let rows = self.streams.remove(stream).unwrap_or_default();
        for (seq, (prev_hash, hash)) in rows.range(walk.head.seq + 1..) {
            each(Head { seq: *seq, hash: *hash });
            walk.link(*seq, *prev_hash, *hash);
        }
    }
}

#[cfg(test)]
mod tests;
