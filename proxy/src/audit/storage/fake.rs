//! A disk for tests: it forgets in a crash what wasn't synced, fails when it is told to, and after a failed sync loses what was
//! to be written although the next one succeeds, as Linux does.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{SegmentFile, Storage};

#[derive(Clone, Default)]
pub(crate) struct FakeDisk(pub(crate) Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<PathBuf, FakeFile>,
    /// What becomes of the next operations: whether each fails. Those after the last succeed.
    pub(crate) fails: VecDeque<bool>,
    pub(crate) full: bool,
    pub(crate) syncs: usize,
}

#[derive(Clone, Default)]
pub(crate) struct FakeFile {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Bytes that the system dropped when a sync failed, and takes for written.
    dropped: Vec<(usize, usize)>,
    removed: bool,
}

impl State {
    fn may(&mut self) -> io::Result<()> {
        if self.full || self.fails.pop_front().unwrap_or(false) {
            return Err(io::Error::other("the disk refuses"));
        }
        Ok(())
    }
}

impl FakeDisk {
    pub(crate) fn syncs(&self) -> usize {
        self.0.lock().syncs
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    /// Somebody removes all files.
    pub(crate) fn remove_all(&self) {
        let mut state = self.0.lock();
        state.files.values_mut().for_each(|file| file.removed = true);
    }

    /// What is found after a power failure, of which each file keeps some of what wasn't synced.
    pub(crate) fn after_crash(&self, kept: usize) -> Vec<Vec<u8>> {
        let state = self.0.lock();
        let found = state.files.values().filter(|file| !file.removed).map(|file| {
            let mut bytes = file.durable.clone();
            let rest = file.cached.get(bytes.len()..).unwrap_or_default();
            bytes.extend_from_slice(&rest[..kept.min(rest.len())]);
            bytes
        });
        found.collect()
    }
}

pub(crate) struct FakeHandle(FakeDisk, PathBuf);

impl Storage for FakeDisk {
    type File = FakeHandle;

    fn create(&mut self, path: &Path) -> io::Result<FakeHandle> {
        let mut state = self.0.lock();
        state.may()?;
        state.files.insert(path.to_owned(), FakeFile::default());
        Ok(FakeHandle(self.clone(), path.to_owned()))
    }
}

impl FakeHandle {
    fn with<T>(&self, work: impl FnOnce(&mut FakeFile, io::Result<()>) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.0.lock();
        let may = state.may();
        match state.files.get_mut(&self.1) {
            Some(file) => work(file, may),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl SegmentFile for FakeHandle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.with(|file, may| {
            let written = if may.is_ok() { bytes.len() } else { bytes.len() / 2 };
            file.cached.extend_from_slice(&bytes[..written]);
            may
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.0.lock().syncs += 1;
        self.with(|file, may| {
            if let Err(error) = may {
                file.dropped.push((file.durable.len(), file.cached.len()));
                return Err(error);
            }
            file.durable = file.cached.clone();
            for (from, to) in file.dropped.drain(..) {
                let to = to.min(file.durable.len());
                file.durable.get_mut(from..to).unwrap_or_default().fill(0);
            }
            Ok(())
        })
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.with(|file, may| {
            may?;
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            file.cached.truncate(bytes);
            file.durable.truncate(bytes);
            Ok(())
        })
    }

    fn has_name(&self) -> bool {
        self.0.0.lock().files.get(&self.1).is_some_and(|file| !file.removed)
    }
}
