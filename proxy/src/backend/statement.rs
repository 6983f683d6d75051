//! Bodies of prepared statements: what clients share under names of our own.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;

use crate::sql::Facts;

/// One statement as a client prepared it: two clients with the same body share what a server connection made of it.
#[derive(Debug)]
pub struct Body {
    id: u64,
    rest: Box<[u8]>,
    facts: Option<Arc<Facts>>,
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

type Key = (u64, Box<[u8]>);

/// All bodies that some client has prepared, each once. Entries don't keep a body alive.
#[derive(Debug, Default)]
pub struct Bodies {
    known: DashMap<Key, Weak<Body>, ahash::RandomState>,
    next: AtomicU64,
    sweep_at: AtomicUsize,
}

impl Bodies {
    /// The body with this content, under settings with this meaning.
    pub fn intern(&self, meaning: u64, rest: &[u8], facts: Option<Arc<Facts>>) -> Arc<Body> {
        self.sweep();
        let mut entry = self.known.entry((meaning, rest.into())).or_default();
        if let Some(body) = entry.upgrade() {
            return body;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let body = Arc::new(Body { id, rest: rest.into(), facts });
        *entry = Arc::downgrade(&body);
        body
    }

    /// Forgets bodies that nobody uses, whenever their number has doubled.
    fn sweep(&self) {
        if self.known.len() > self.sweep_at.load(Ordering::Relaxed).max(1024) {
            self.known.retain(|_, body| body.strong_count() > 0);
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
        for number in 0..5000 {
            bodies.intern(0, format!("select {number}").as_bytes(), None);
        }
        assert!(bodies.known.len() <= 1100, "{}", bodies.known.len());
    }
}
