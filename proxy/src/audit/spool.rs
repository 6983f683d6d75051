//! The writing end of one stream: records become lines of segment files, in order, and are kept in memory until the disk has
//! them for sure.
//!
//! After an error of the disk nothing that wasn't synced before is believed to be there (a later sync may succeed although the
//! system has dropped what it couldn't write): the segment is cut back to what was, and the lines go into a new one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::chain::Head;
use super::event::Event;
use super::parcel::{Handover, Parcel};
use super::row::Row;
use super::segments::segment_name;
use super::storage::{SegmentFile, Storage};

/// A segment of this many bytes is the last of its kind; the next record begins another.
pub const SEGMENT_BYTES: u64 = 8 << 20;
/// Lines that the disk doesn't take are kept in memory up to this many bytes.
pub const UNSAVED_BYTES_MAX: usize = 16 << 20;

/// One stream that is being written.
pub struct Spool<S: Storage> {
    storage: S,
    directory: PathBuf,
    stream: Arc<str>,
    head: Head,
    segment: Option<Segment<S::File>>,
    /// Lines that aren't on disk for sure, of which the first `written` bytes were given to the segment.
    unsaved: Parcel,
    written: usize,
    /// The number of the first of them.
    unsaved_from: u64,
    used: Arc<AtomicU64>,
    bytes_max: u64,
    segment_bytes: u64,
    /// Where what is on disk for sure is handed on.
    handover: Option<Arc<Handover>>,
}

struct Segment<F> {
    file: F,
    /// What is on disk for sure.
    saved: u64,
}

/// What a successful save has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// Nothing.
    Quietly,
    /// The segment had lost its name: somebody removed it, and what it held that wasn't in the database is gone.
    AfterRemoval,
}

impl<S: Storage> Spool<S> {
    /// A new stream. `used` counts the bytes of the whole spool.
    pub fn new(storage: S, directory: PathBuf, stream: Arc<str>, used: Arc<AtomicU64>, bytes_max: u64) -> Self {
        Self {
            storage,
            directory,
            stream,
            head: Head::default(),
            segment: None,
            unsaved: Parcel::default(),
            written: 0,
            unsaved_from: 1,
            used,
            bytes_max,
            segment_bytes: SEGMENT_BYTES,
            handover: None,
        }
    }

    /// From now on what is on disk for sure is handed on too.
    pub(super) fn hand_over_to(&mut self, handover: Arc<Handover>) {
        self.handover = Some(handover);
    }

    /// Smaller segments, for tests.
    #[must_use]
    pub const fn with_segments_of(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// The last record that was taken.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Whether there are lines that aren't on disk for sure.
    pub const fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// Whether no more lines are to be kept in memory.
    pub const fn is_overfull(&self) -> bool {
        self.unsaved.bytes().len() >= UNSAVED_BYTES_MAX
    }

    /// Numbers, links and keeps a record. It is on disk after the next [`Spool::save`] that succeeds.
    pub fn push(&mut self, event: Event) {
        let mut row = Row::unlinked(&self.stream, event);
        self.head.link(&mut row);
        self.unsaved.push(&row);
    }

    /// Gives the disk what it hasn't been given.
    ///
    /// # Errors
    /// As the disk says, or the spool is full. The lines are kept, and tried again the next time.
    pub fn write(&mut self) -> io::Result<Saved> {
        let told = self.find_segment()?;
        let fresh = (self.unsaved.bytes().len() - self.written) as u64;
        if fresh == 0 {
            return Ok(told);
        }
        if self.used.load(Ordering::Relaxed) + fresh > self.bytes_max {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "audit.spool_bytes_max is reached"));
        }
        let Some(segment) = &mut self.segment else { return Ok(told) };
        let appended = segment.file.append(&self.unsaved.bytes()[self.written..]);
        self.used.fetch_add(fresh, Ordering::Relaxed);
        self.written = self.unsaved.bytes().len();
        match appended {
            Ok(()) => Ok(told),
            Err(error) => Err(self.abandon(error)),
        }
    }

    /// Writes, and returns when everything that was pushed is on disk for sure.
    ///
    /// # Errors
    /// As [`Spool::write`].
    pub fn save(&mut self) -> io::Result<Saved> {
        let told = self.write()?;
        let Some(segment) = &mut self.segment else { return Ok(told) };
        if let Err(error) = segment.file.sync() {
            return Err(self.abandon(error));
        }
        segment.saved += self.written as u64;
        if segment.saved >= self.segment_bytes {
            self.segment = None;
        }
        if let Some(handover) = &self.handover {
            handover.give(&self.unsaved);
        }
        self.unsaved.clear(UNSAVED_BYTES_MAX / 16);
        self.written = 0;
        self.unsaved_from = self.head.seq + 1;
        Ok(told)
    }

    /// A segment to write to: the one there is, unless somebody removed it, or a new one.
    fn find_segment(&mut self) -> io::Result<Saved> {
        let removed = self.segment.as_ref().is_some_and(|segment| !segment.file.has_name());
        if removed {
            self.segment = None;
            self.forget_written();
        }
        if self.segment.is_none() && self.has_unsaved() {
            let path = self.directory.join(segment_name(self.unsaved_from));
            self.segment = Some(Segment { file: self.storage.create(&path)?, saved: 0 });
        }
        Ok(if removed { Saved::AfterRemoval } else { Saved::Quietly })
    }

    /// Leaves a segment behind that can't be trusted any more.
    fn abandon(&mut self, error: io::Error) -> io::Error {
        if let Some(mut segment) = self.segment.take() {
            // If this fails too, the next segment repeats what may be there: readers know that.
            let _ = segment.file.cut(segment.saved);
        }
        self.forget_written();
        error
    }

    fn forget_written(&mut self) {
        self.used.fetch_sub(self.written as u64, Ordering::Relaxed);
        self.written = 0;
    }
}

#[cfg(test)]
mod tests;
