//! The reading end of spools: which streams and segments there are, and what is in them.
//!
//! `SPOOL/STREAM/NUMBER.jsonl` holds the records from that number on; `SPOOL/STREAM/lock` is locked by the proxy that writes the
//! stream, or by the one that ships what a dead one left.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use super::row::{self, LINE_BYTES_MAX, Row};
use super::storage::make_directory;

const LOCK: &str = "lock";

/// The file name of the segment that begins with this record.
pub fn segment_name(first: u64) -> String {
    format!("{first:020}.jsonl")
}

/// A segment on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its first record's number, by its name.
    pub first: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// The directory of one stream, locked for as long as this lives.
#[derive(Debug)]
pub struct Shelf {
    /// The stream.
    pub stream: Arc<str>,
    /// Where it is.
    pub directory: PathBuf,
    _lock: File,
}

impl Shelf {
    /// Makes the directory of a new stream.
    ///
    /// # Errors
    /// As the disk says, which is how a spool that can't be written is found.
    pub fn create(spool: &Path, stream: &str) -> io::Result<Self> {
        let directory = spool.join(stream);
        make_directory(&directory)?;
        Self::lock(directory, stream)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::AlreadyExists, "the stream is taken"))
    }

    /// The streams of a spool that nobody writes any more and nobody else has taken; those in `known` are left out.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn adopt(spool: &Path, known: &[Arc<str>]) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for stream in streams(spool)? {
            if known.iter().any(|known| **known == *stream) {
                continue;
            }
            if let Ok(Some(shelf)) = Self::lock(spool.join(&stream), &stream) {
                found.push(shelf);
            }
        }
        Ok(found)
    }

    fn lock(directory: PathBuf, stream: &str) -> io::Result<Option<Self>> {
        let lock = File::options().create(true).truncate(false).write(true).open(directory.join(LOCK))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { stream: stream.into(), directory, _lock: lock })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Its segments, in order.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn segments(&self) -> io::Result<Vec<SegmentInfo>> {
        segments(&self.directory)
    }

    /// Removes the directory of a stream that has no segments any more.
    ///
    /// # Errors
    /// Something is still in it, or as the disk says.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(self.directory.join(LOCK))?;
        fs::remove_dir(&self.directory)
    }
}

/// Whether a spool can be written here: makes the directory, and a file in it, and removes the file again.
///
/// # Errors
/// It can't.
pub fn probe(spool: &Path) -> io::Result<()> {
    make_directory(spool)?;
    let path = spool.join(format!("probe-{}", std::process::id()));
    File::options().create_new(true).write(true).open(&path)?.sync_all()?;
    fs::remove_file(path)
}

/// The names of the streams in a spool, the oldest first.
///
/// # Errors
/// The directory can't be read.
pub fn streams(spool: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(spool)?
        .flatten()
        .filter(|entry| {
            entry.path().join(LOCK).exists() || segments(&entry.path()).is_ok_and(|there| !there.is_empty())
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// The segments in a stream's directory, in order. None in a directory that is gone.
///
/// # Errors
/// The directory can't be read.
pub fn segments(directory: &Path) -> io::Result<Vec<SegmentInfo>> {
    let info = |entry: fs::DirEntry| -> Option<SegmentInfo> {
        let name = entry.file_name().into_string().ok()?;
        let first = name.strip_suffix(".jsonl")?.parse().ok()?;
        Some(SegmentInfo { first, path: entry.path(), bytes: entry.metadata().ok()?.len() })
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut segments: Vec<SegmentInfo> = entries.flatten().filter_map(info).collect();
    segments.sort_unstable_by_key(|segment| segment.first);
    Ok(segments)
}

/// Everything in a segment, line by line; what follows the last end of a line was torn off by a crash and is left out.
///
/// # Errors
/// The file can't be read.
pub fn rows(segment: &Path) -> io::Result<Vec<Option<Row>>> {
    Ok(lines(&fs::read(segment)?))
}

/// The same of bytes.
pub fn lines(bytes: &[u8]) -> Vec<Option<Row>> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end);
    if whole == 0 {
        return Vec::new();
    }
    bytes[..whole].split(|byte| *byte == b'\n').map(Row::read).collect()
}

/// Reads a stream's records in order, from segment to segment, while it may still be written.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    at: Option<(SegmentInfo, File)>,
    /// What was read of the segment and isn't a whole line yet.
    rest: Vec<u8>,
    /// The number of the record that is wanted next; what comes before it is skipped.
    next: u64,
}

impl Reader {
    /// A reader that begins with this record, or with the first after it that is there.
    pub fn new(directory: &Path, next: u64) -> Self {
        Self { directory: directory.to_owned(), at: None, rest: Vec::new(), next }
    }

    /// The number of the record that is wanted next.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// The records before this one aren't wanted: they were had elsewhere.
    pub fn skip_to(&mut self, next: u64) {
        *self = Self::new(&self.directory, next);
    }

    /// Up to so many records or bytes, and how many lines were no records. Nothing for now when both are empty.
    ///
    /// # Errors
    /// A directory or file can't be read.
    pub fn read(&mut self, rows_max: usize, bytes_max: usize) -> io::Result<(Vec<Row>, u64)> {
        let (mut rows, mut bytes, mut unreadable) = (Vec::new(), 0, 0);
        loop {
            let mut taken = 0;
            while rows.len() < rows_max
                && bytes + taken < bytes_max
                && let Some(length) = self.rest[taken..].iter().position(|byte| *byte == b'\n')
            {
                let line = &self.rest[taken..taken + length];
                taken += length + 1;
                if row::seq_of(line).is_some_and(|seq| seq < self.next) {
                    continue;
                }
                match Row::read(line) {
                    Some(row) if row.seq >= self.next => {
                        self.next = row.seq + 1;
                        rows.push(row);
                    }
                    Some(_) => {}
                    None => unreadable += 1,
                }
            }
            self.rest.drain(..taken);
            bytes += taken;
            let enough = rows.len() >= rows_max || bytes >= bytes_max;
            if enough || (!self.fill()? && !self.advance()?) {
                return Ok((rows, unreadable));
            }
        }
    }

    /// Reads on in the segment. False at its end.
    fn fill(&mut self) -> io::Result<bool> {
        let Some((_, file)) = &mut self.at else { return Ok(false) };
        let before = self.rest.len();
        Read::take(file, LINE_BYTES_MAX as u64).read_to_end(&mut self.rest)?;
        Ok(self.rest.len() > before)
    }

    /// Goes to the next segment, if there is one.
    fn advance(&mut self) -> io::Result<bool> {
        let segments = segments(&self.directory)?;
        let next = match &self.at {
            Some((current, _)) => segments.into_iter().find(|segment| segment.first > current.first),
            None => {
                let from = segments.iter().rposition(|segment| segment.first <= self.next).unwrap_or(0);
                segments.into_iter().nth(from)
            }
        };
        let Some(next) = next else { return Ok(false) };
        // It was complete before the next one was made: what was written since the last look is read first.
        if self.fill()? {
            return Ok(true);
        }
        let file = File::open(&next.path)?;
        self.at = Some((next, file));
        self.rest.clear();
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
