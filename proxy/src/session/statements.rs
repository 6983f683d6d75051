//! The prepared statements a client believes to have. Which of them a server connection has is the backend's state.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::backend::{Bodies, Body, Charge, Moment, Parsing};
use crate::domain::limits::{ALL_STATEMENT_BYTES_MAX, CLIENT_STATEMENT_BYTES_MAX, CLIENT_STATEMENTS_MAX};
use crate::domain::{Fault, Origin, SqlState};
use crate::sql::Facts;

use super::expect::{Expect, Injected, Own, Parsed};

/// Beyond this many bytes the memory of an unnamed statement's text is given back with the next one.
const UNNAMED_BYTES_KEPT: usize = 4096;

#[derive(Default)]
pub(super) struct Statements {
    named: HashMap<Arc<[u8]>, Statement, ahash::RandomState>,
    /// Bytes of `named`: names and texts.
    bytes: usize,
    unnamed: Unnamed,
}

/// Under which names the server connection has a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Under one of ours, if at all.
    Shared,
    /// Under the client's as well, for its SQL names it. The client is pinned.
    Surfaced,
    /// Under the client's alone. The client is pinned.
    Own,
}

/// A statement that the client prepared under a name.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) body: Arc<Body>,
    pub(super) parsing: Parsing,
    pub(super) place: Place,
    bytes: usize,
    _charge: Charge,
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
    pub(super) fn get(&self, name: &[u8]) -> Option<&Statement> {
        self.named.get(name)
    }

    /// The same, with its name to keep.
    pub(super) fn get_with_name(&self, name: &[u8]) -> Option<(&Arc<[u8]>, &Statement)> {
        self.named.get_key_value(name)
    }

    /// What a statement that is bound is known for, and what follows its name in its Parse; an empty name is the unnamed one's.
    pub(super) fn bound(&self, name: &[u8]) -> (Option<Arc<Facts>>, Option<Vec<u8>>) {
        if name.is_empty() {
            return (self.unnamed_facts().cloned(), self.unnamed().map(<[u8]>::to_vec));
        }
        self.named
            .get(name)
            .map_or((None, None), |statement| (statement.body.facts().cloned(), Some(statement.body.rest().to_vec())))
    }

    pub(super) fn get_mut(&mut self, name: &[u8]) -> Option<&mut Statement> {
        self.named.get_mut(name)
    }

    /// Why there is no room for a statement with this name, and this text and these types.
    pub(super) fn no_room_for(&self, name: &[u8], rest: &[u8], bodies: &Bodies) -> Option<Fault> {
        let adds = name.len() + rest.len();
        let text = if self.named.len() >= CLIENT_STATEMENTS_MAX {
            format!("a session can't have more than {CLIENT_STATEMENTS_MAX} prepared statements")
        } else if self.bytes + adds > CLIENT_STATEMENT_BYTES_MAX {
            format!("a session's prepared statements can't take more than {CLIENT_STATEMENT_BYTES_MAX} bytes")
        } else if bodies.bytes() + adds > ALL_STATEMENT_BYTES_MAX {
            "the prepared statements of all sessions take all the memory there is for them".to_owned()
        } else {
            return None;
        };
        let hint = "Close statements that aren't needed, or prepare without a name.";
        Some(Fault::new(Origin::Client, SqlState::CONFIGURATION_LIMIT_EXCEEDED, text).hint(hint))
    }

    /// The client's Parse of this moment is on its way.
    pub(super) fn prepare(&mut self, name: &[u8], body: Arc<Body>, sent: Moment, bodies: &Bodies) -> &mut Statement {
        let bytes = name.len() + body.rest().len();
        let parsing = Parsing::sent(sent);
        let charge = bodies.charge(name.len() + size_of::<Statement>());
        self.insert(name.into(), Statement { body, parsing, place: Place::Shared, bytes, _charge: charge })
    }

    fn insert(&mut self, name: Arc<[u8]>, statement: Statement) -> &mut Statement {
        self.remove(&name);
        self.bytes += statement.bytes;
        self.named.entry(name).insert_entry(statement).into_mut()
    }

    /// The Parse that was sent at the one moment was answered at the other.
    pub(super) fn answered(&mut self, name: &[u8], sent: Moment, answered: Moment) {
        if let Some(statement) = self.named.get_mut(name).filter(|each| each.parsing.began() == sent) {
            statement.parsing = Parsing::answered(sent, answered);
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Statement> {
        let removed = self.named.remove(name)?;
        self.bytes -= removed.bytes;
        Some(removed)
    }

    /// The server didn't get to a message: what was noted of the client's statements isn't so.
    pub(super) fn undo(&mut self, skipped: Expect) {
        match skipped {
            Expect::Parse(Parsed::Named { name, .. }) => drop(self.remove(&name)),
            Expect::Own(Own::CloseComplete(name, statement)) => {
                self.insert(name, *statement);
            }
            Expect::Injected(Injected::Surface(name) | Injected::SurfaceInCycle(name)) => {
                if let Some(statement) = self.named.get_mut(&*name) {
                    statement.place = Place::Shared;
                }
            }
            other => {
                if let Some(serial) = other.unnamed() {
                    self.unnamed.skip(serial);
                }
            }
        }
    }

    /// No named statement is prepared any more.
    pub(super) fn clear(&mut self) {
        self.named.clear();
        self.bytes = 0;
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
