//! A statement string on its way whose outcome matters: it may write, or end or mark a transaction. It carries what was
//! known and reserved when it was sent, and how far its answers have come.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::quota::ResourceId;
use crate::sql::{Facts, Statement};

/// One string or portal that was sent.
#[derive(Debug)]
pub(super) struct Watched {
    facts: Arc<Facts>,
    /// How the trail keeps its text.
    pub(super) text: Option<Arc<str>>,
    /// How many of its statements are answered.
    answered: usize,
    /// When it was sent, in microseconds since the epoch.
    pub(super) sent_us: i64,
    /// Rows that were reserved before it was sent.
    pub(super) reserved: SmallVec<[(ResourceId, u64); 1]>,
    /// The client waits for it, and what it adds is reserved before its success is told.
    pub(super) is_held: bool,
}

impl Watched {
    pub(super) fn new(facts: Arc<Facts>, text: Option<Arc<str>>, sent_us: i64) -> Self {
        Self { facts, text, answered: 0, sent_us, reserved: SmallVec::new(), is_held: false }
    }

    /// The statement whose answer comes next. A text that wasn't understood has one that stands for all of them.
    pub(super) fn current(&self) -> Option<&Statement> {
        let statements = &self.facts.statements;
        if self.facts.hides() && statements.len() == 1 { statements.first() } else { statements.get(self.answered) }
    }

    /// A statement was answered.
    pub(super) const fn next(&mut self) {
        self.answered += 1;
    }
}

/// The portals of one client that are bound to such statements. The others aren't kept.
#[derive(Debug, Default)]
pub(super) struct Portals {
    bound: SmallVec<[(Box<[u8]>, Portal); 1]>,
}

/// A position in the queue of what is owed.
type Position = u64;

/// What a portal was bound to.
#[derive(Clone, Debug)]
pub(super) struct Portal {
    pub(super) facts: Arc<Facts>,
    pub(super) text: Option<Arc<str>>,
    /// Where its Bind stands: a ReadyForQuery in front of that doesn't end it.
    pub(super) at: Position,
}

impl Portals {
    /// A portal was bound, to nothing that matters when there is no `portal`.
    pub(super) fn bind(&mut self, name: &[u8], portal: Option<Portal>) {
        let at = self.bound.iter().position(|(each, _)| **each == *name);
        match (at, portal) {
            (Some(at), Some(portal)) => self.bound[at].1 = portal,
            (Some(at), None) => drop(self.bound.swap_remove(at)),
            (None, Some(portal)) => self.bound.push((name.into(), portal)),
            (None, None) => {}
        }
    }

    /// What is bound to a portal, if it matters.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Portal> {
        self.bound.iter().find(|(each, _)| **each == *name).map(|(_, portal)| portal)
    }

    /// The ReadyForQuery at this position came with this status: outside a transaction no portal is left that was bound before.
    pub(super) fn clear_at(&mut self, status: u8, ready: Position) {
        if status == b'I' && !self.bound.is_empty() {
            self.bound.retain(|(_, portal)| portal.at > ready);
        }
    }

    /// The transaction is over, and with it every portal.
    pub(super) fn clear(&mut self) {
        self.bound.clear();
    }
}
