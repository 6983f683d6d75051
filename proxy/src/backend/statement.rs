//! Bodies of prepared statements: what clients share under names of our own.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use smallvec::SmallVec;

use super::alterations::Alterations;
use crate::sql::Facts;

/// One statement as a client prepared it: two clients with the same body share what a server connection made of it.
#[derive(Debug)]
pub struct Body {
    id: u64,
    meaning: u64,
    rest: Box<[u8]>,
    facts: Option<Arc<Facts>>,
    _charge: Charge,
}

/// Bytes that count among those of all clients' statements until this is dropped.
#[derive(Debug)]
pub struct Charge {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Body {
    /// A number of its own for as long as the process lives.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// What follows the name in a Parse message: text, terminator, parameter types.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// What its execution may leave behind.
    pub const fn facts(&self) -> Option<&Arc<Facts>> {
        self.facts.as_ref()
    }
}

/// A point in the order of all Parses of named statements, and of the answers to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// When a client prepared a statement. Postgres looked at the catalog in between, so only a statement that was prepared
/// later, or by this very Parse, is sure to see what this one saw: somebody may have altered a table meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsing {
    sent: Moment,
    answered: Moment,
}

impl Parsing {
    /// The Parse is on its way.
    pub const fn sent(sent: Moment) -> Self {
        Self { sent, answered: sent }
    }

    /// The Parse is answered.
    pub const fn answered(sent: Moment, answered: Moment) -> Self {
        Self { sent, answered }
    }

    /// When the Parse was sent.
    pub const fn began(self) -> Moment {
        self.sent
    }

    /// Whether what a Parse of this moment made may stand for it.
    pub(super) fn is_met_by(self, parsed: Moment) -> bool {
        parsed == self.sent || parsed > self.answered
    }
}

/// All bodies that some client has prepared, each once. Entries don't keep a body alive.
#[derive(Debug, Default)]
pub struct Bodies {
    /// By a hash of meaning and content.
    known: DashMap<u64, SmallVec<[Weak<Body>; 1]>, ahash::RandomState>,
    hashing: ahash::RandomState,
    next: AtomicU64,
    moments: AtomicU64,
    sweep_at: AtomicUsize,
    bytes: Arc<AtomicUsize>,
    alterations: Arc<Alterations>,
}

impl Bodies {
    /// None, in databases of whose alterations this hears.
    pub fn hearing(alterations: Arc<Alterations>) -> Self {
        Self { alterations, ..Self::default() }
    }

    /// How often anything was altered.
    pub fn alterations(&self) -> &Alterations {
        &self.alterations
    }

    /// The next moment.
    pub fn moment(&self) -> Moment {
        Moment(self.moments.fetch_add(1, Ordering::SeqCst))
    }

    /// How many bytes all statements take that are in use: each text once, and what was charged beside.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts these bytes among them.
    pub fn charge(&self, bytes: usize) -> Charge {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Charge { all: self.bytes.clone(), bytes }
    }

    /// The body with this content, under settings with this meaning.
    pub fn intern(&self, meaning: u64, rest: &[u8], facts: Option<Arc<Facts>>) -> Arc<Body> {
        self.sweep();
        let mut entry = self.known.entry(self.hashing.hash_one((meaning, rest))).or_default();
        let is_it = |body: &Arc<Body>| body.meaning == meaning && *body.rest == *rest;
        if let Some(body) = entry.iter().filter_map(Weak::upgrade).find(is_it) {
            return body;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let body = Arc::new(Body { id, meaning, rest: rest.into(), facts, _charge: self.charge(rest.len()) });
        entry.retain(|each| each.strong_count() > 0);
        entry.push(Arc::downgrade(&body));
        body
    }

    /// Forgets bodies that nobody uses, whenever their number has doubled.
    fn sweep(&self) {
        if self.known.len() > self.sweep_at.load(Ordering::Relaxed).max(1024) {
            self.known.retain(|_, bodies| bodies.iter().any(|body| body.strong_count() > 0));
            self.sweep_at.store(self.known.len() * 2, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_one_body_and_another_meaning_is_another() {
        let bodies = Bodies::default();
        let first = bodies.intern(0, b"select 1\0\0\0", None);
        assert_eq!(first.id(), bodies.intern(0, b"select 1\0\0\0", None).id());
        assert_ne!(first.id(), bodies.intern(1, b"select 1\0\0\0", None).id());
    }

    #[test]
    fn bodies_nobody_uses_are_forgotten() {
        let bodies = Bodies::default();
        let kept = bodies.intern(0, b"select 1", None);
        for number in 0..5000 {
            bodies.intern(0, format!("select {number}").as_bytes(), None);
        }
        assert!(bodies.known.len() <= 1100, "{}", bodies.known.len());
        assert_eq!(bodies.bytes(), kept.rest().len());
    }
}
