//! The prepared statements a client believes to have. Which of them a server connection has is the backend's state.

use std::collections::HashMap;
use std::sync::Arc;

use crate::backend::Body;
use crate::sql::Facts;

/// Beyond this many bytes the memory of an unnamed statement's text is given back with the next one.
const UNNAMED_BYTES_KEPT: usize = 4096;

#[derive(Default)]
pub(super) struct Statements {
    named: HashMap<Box<[u8]>, Arc<Body>, ahash::RandomState>,
    unnamed: Unnamed,
}

/// The client's unnamed statement.
#[derive(Default)]
pub(super) struct Unnamed {
    /// Counts the client's unnamed statements, so that one that was replaced isn't taken for its successor.
    serial: u64,
    /// What follows the name in its Parse; empty when there is no statement, or none that could be kept.
    rest: Vec<u8>,
    facts: Option<Arc<Facts>>,
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

    pub(super) fn clear(&mut self) {
        self.named.clear();
        self.unnamed.forget();
    }

    pub(super) const fn unnamed(&mut self) -> &mut Unnamed {
        &mut self.unnamed
    }
}

impl Unnamed {
    /// A new unnamed statement takes the place of the last one.
    pub(super) fn replace(&mut self, rest: &[u8], facts: Option<Arc<Facts>>) {
        self.forget();
        self.rest.extend_from_slice(rest);
        self.facts = facts;
    }

    /// There is none any more.
    pub(super) fn forget(&mut self) {
        self.serial += 1;
        self.rest.clear();
        if self.rest.capacity() > UNNAMED_BYTES_KEPT {
            self.rest = Vec::new();
        }
        self.facts = None;
    }

    pub(super) const fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn rest(&self) -> Option<&[u8]> {
        (!self.rest.is_empty()).then_some(&*self.rest)
    }

    pub(super) const fn facts(&self) -> Option<&Arc<Facts>> {
        self.facts.as_ref()
    }
}
