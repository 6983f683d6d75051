//! The prepared statements a client believes to have. Which of them a server connection has is the backend's state.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::backend::Body;
use crate::sql::Facts;

use super::expect::{Expect, Own, Parsed};

/// Beyond this many bytes the memory of an unnamed statement's text is given back with the next one.
const UNNAMED_BYTES_KEPT: usize = 4096;

#[derive(Default)]
pub(super) struct Statements {
    named: HashMap<Box<[u8]>, Arc<Body>, ahash::RandomState>,
    unnamed: Unnamed,
}

/// The client's unnamed statement. A Parse, a Query and a Close replace it as soon as they are sent, and the server may
/// skip them; so every version is kept until the message that replaced it is answered.
struct Unnamed {
    /// From the last one that is known to have come about to the newest. Never empty.
    versions: VecDeque<Version>,
    /// Counts the client's unnamed statements, so that one that was replaced isn't taken for its successor.
    serial: u64,
    /// Memory for the text of the next one.
    spare: Vec<u8>,
}

/// One unnamed statement, or that there is none.
#[derive(Default)]
struct Version {
    serial: u64,
    /// What follows the name in its Parse; empty when there is no statement, or none that could be kept.
    rest: Vec<u8>,
    facts: Option<Arc<Facts>>,
    /// The server didn't get to it: it goes as soon as it is the newest, or when a later one is confirmed.
    skipped: bool,
}

impl Statements {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<Body>> {
        self.named.get(name)
    }

    pub(super) fn insert(&mut self, name: &[u8], body: Arc<Body>) {
        self.named.insert(name.into(), body);
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Arc<Body>> {
        self.named.remove(name)
    }

    pub(super) fn len(&self) -> usize {
        self.named.len()
    }

    /// The server didn't get to a message: what was noted of the client's statements isn't so.
    pub(super) fn undo(&mut self, skipped: Expect) {
        match skipped {
            Expect::Parse(Parsed::Named(name, _)) | Expect::Own(Own::ParseComplete(name)) => {
                self.named.remove(&name);
            }
            Expect::Own(Own::CloseComplete(name, body)) => {
                self.named.insert(name, body);
            }
            other => {
                if let Some(serial) = other.unnamed() {
                    self.unnamed.skip(serial);
                }
            }
        }
    }

    /// Nothing is prepared any more, and nothing is on its way.
    pub(super) fn clear(&mut self) {
        self.named.clear();
        self.unnamed = Unnamed { serial: self.unnamed.serial, ..Unnamed::default() };
        let serial = self.unnamed_replaced(&[], None);
        self.unnamed_confirmed(serial);
    }

    /// What follows the unnamed statement's name in its Parse, if there is one.
    pub(super) fn unnamed(&self) -> Option<&[u8]> {
        self.unnamed.newest().map(|newest| &*newest.rest).filter(|rest| !rest.is_empty())
    }

    pub(super) fn unnamed_facts(&self) -> Option<&Arc<Facts>> {
        self.unnamed.newest().and_then(|newest| newest.facts.as_ref())
    }

    /// Which of the client's unnamed statements it is.
    pub(super) fn unnamed_serial(&self) -> u64 {
        self.unnamed.newest().map_or(0, |newest| newest.serial)
    }

    /// A message that replaces the unnamed statement was sent. An empty rest stands for none. Returns its serial number.
    pub(super) fn unnamed_replaced(&mut self, rest: &[u8], facts: Option<Arc<Facts>>) -> u64 {
        let unnamed = &mut self.unnamed;
        unnamed.serial += 1;
        let mut kept = std::mem::take(&mut unnamed.spare);
        kept.clear();
        kept.extend_from_slice(rest);
        unnamed.versions.push_back(Version { serial: unnamed.serial, rest: kept, facts, skipped: false });
        unnamed.serial
    }

    /// The message that replaced it was answered: what was before is no longer needed.
    pub(super) fn unnamed_confirmed(&mut self, serial: u64) {
        while self.unnamed.versions.get(1).is_some_and(|next| next.serial <= serial) {
            let Some(Version { rest, .. }) = self.unnamed.versions.pop_front() else { return };
            if rest.capacity() <= UNNAMED_BYTES_KEPT {
                self.unnamed.spare = rest;
            }
        }
    }

    /// The Parse that was to replace it failed: the one before is gone, and there is no new one.
    pub(super) fn unnamed_failed(&mut self, serial: u64) {
        self.unnamed_confirmed(serial);
        if let Some(failed) = self.unnamed.versions.front_mut() {
            failed.rest.clear();
            failed.facts = None;
        }
    }
}

impl Unnamed {
    fn newest(&self) -> Option<&Version> {
        self.versions.back()
    }

    fn skip(&mut self, serial: u64) {
        // Never the first, which is known to have come about.
        match self.versions.binary_search_by_key(&serial, |each| each.serial) {
            Ok(at @ 1..) => self.versions[at].skipped = true,
            _ => return,
        }
        while self.versions.back().is_some_and(|newest| newest.skipped) {
            self.versions.pop_back();
        }
    }
}

impl Default for Unnamed {
    fn default() -> Self {
        Self { versions: VecDeque::from([Version::default()]), serial: 0, spare: Vec::new() }
    }
}
