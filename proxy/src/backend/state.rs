//! What one server connection remembers of those it served.

use std::collections::HashMap;
use std::sync::Arc;

use super::settings::Settings;
use super::statement::Body;
use crate::domain::limits::BACKEND_STATEMENTS_MAX;
use crate::tenant::MeterTag;

/// A session of ours, told apart from all others while the process lives.
pub type SessionId = u64;

/// The state of one server connection, as far as clients may depend on it.
#[derive(Debug)]
pub struct BackendState {
    pid: i32,
    clock_offset: i64,
    sealed_until: Option<i64>,
    meter_tag: Option<MeterTag>,
    settings: Arc<Settings>,
    statements: HashMap<u64, Prepared, ahash::RandomState>,
    uses: u64,
    named: u64,
    unnamed: Unnamed,
    must_clear: bool,
}

/// Whose the unnamed statement on a server connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed {
    /// There is none.
    None,
    /// A session's, and which of its unnamed statements.
    Of(SessionId, u64),
    /// There may be one, and nobody knows whose.
    Unknown,
}

#[derive(Debug)]
struct Prepared {
    name: u64,
    used: u64,
    _body: Arc<Body>,
}

impl BackendState {
    /// The state of a fresh server connection: its process id, and by how many seconds the database's clock is ahead of ours.
    pub fn new(pid: i32, clock_offset: i64) -> Self {
        Self {
            pid,
            clock_offset,
            sealed_until: None,
            meter_tag: None,
            settings: Settings::none(),
            statements: HashMap::default(),
            uses: 0,
            named: 0,
            unnamed: Unnamed::None,
            must_clear: false,
        }
    }

    /// `DISCARD ALL` was run: nothing is left of anybody.
    pub fn cleared(&mut self) {
        self.sealed_until = None;
        self.settings = Settings::none();
        self.statements.clear();
        self.unnamed = Unnamed::None;
        self.must_clear = false;
    }

    /// The server process.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Seconds to add to our clock to get the database's.
    pub const fn clock_offset(&self) -> i64 {
        self.clock_offset
    }

    /// Whether the context is sealed beyond `now` (seconds since the epoch, our clock).
    pub fn is_sealed(&self, now: i64) -> bool {
        self.sealed_until.is_some_and(|until| now < until)
    }

    /// The context is sealed, and is to be sealed anew after `until` (our clock).
    pub const fn sealed(&mut self, until: i64) {
        self.sealed_until = Some(until);
    }

    /// The tag that this server process' meters put into their reports, as of the last seal.
    pub const fn meter_tag(&self) -> Option<&MeterTag> {
        self.meter_tag.as_ref()
    }

    /// The tag, made with the key of the seal.
    pub fn set_meter_tag(&mut self, tag: MeterTag) {
        self.meter_tag = Some(tag);
    }

    /// The context may be gone or another: it is to be sealed anew before the next statement.
    pub const fn unsealed(&mut self) {
        self.sealed_until = None;
    }

    /// The settings that were given to the server connection.
    pub const fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The server connection now has these settings.
    pub fn given(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
    }

    /// The name under which `body` is prepared here.
    pub fn statement(&mut self, body: &Body) -> Option<Name> {
        self.uses += 1;
        let prepared = self.statements.get_mut(&body.id())?;
        prepared.used = self.uses;
        Some(Name(prepared.name))
    }

    /// Prepares `body` under a new name; with it comes the name of the statement that must be closed to make room.
    pub fn prepare(&mut self, body: &Arc<Body>) -> (Name, Option<Name>) {
        let evicted = if self.statements.len() < BACKEND_STATEMENTS_MAX { None } else { self.evict() };
        self.uses += 1;
        self.named += 1;
        let prepared = Prepared { name: self.named, used: self.uses, _body: body.clone() };
        self.statements.insert(body.id(), prepared);
        (Name(self.named), evicted)
    }

    /// The statement isn't there: its Parse failed.
    pub fn unprepared(&mut self, body_id: u64) {
        self.statements.remove(&body_id);
    }

    /// No named statement is left.
    pub fn deallocated(&mut self) {
        self.statements.clear();
    }

    /// The unnamed statement on the server connection.
    pub const fn unnamed(&self) -> Unnamed {
        self.unnamed
    }

    /// The unnamed statement is another one now.
    pub const fn set_unnamed(&mut self, unnamed: Unnamed) {
        self.unnamed = unnamed;
    }

    /// Something is left that the next client must not find: the server connection is cleared when it is released.
    pub const fn soil(&mut self) {
        self.must_clear = true;
    }

    /// Whether it must be cleared before it serves anybody else.
    pub const fn is_soiled(&self) -> bool {
        self.must_clear
    }

    fn evict(&mut self) -> Option<Name> {
        let oldest = self.statements.iter().min_by_key(|(_, each)| each.used).map(|(id, _)| *id)?;
        self.statements.remove(&oldest).map(|each| Name(each.name))
    }
}

/// The name of a shared statement on one server connection: `pgcordon:NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(u64);

impl Name {
    /// The name as it goes over the wire, written into `buffer`.
    pub fn write(self, buffer: &mut [u8; 32]) -> &[u8] {
        const PREFIX: &[u8] = b"pgcordon:";
        let mut at = buffer.len();
        let mut rest = self.0;
        loop {
            at -= 1;
            buffer[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        at -= PREFIX.len();
        buffer[at..at + PREFIX.len()].copy_from_slice(PREFIX);
        &buffer[at..]
    }
}

#[cfg(test)]
mod tests {
    use super::super::statement::Bodies;
    use super::*;

    #[test]
    fn the_least_recently_used_statement_makes_room() {
        let (bodies, mut state) = (Bodies::default(), BackendState::new(1, 0));
        let all: Vec<_> = (0..=BACKEND_STATEMENTS_MAX)
            .map(|number| bodies.intern(0, format!("select {number}").as_bytes(), None))
            .collect();
        let first = state.prepare(&all[0]).0;
        for body in &all[1..BACKEND_STATEMENTS_MAX] {
            assert_eq!(state.prepare(body).1, None);
        }
        assert_eq!(state.statement(&all[0]), Some(first));
        let (_, evicted) = state.prepare(&all[BACKEND_STATEMENTS_MAX]);
        assert_eq!(evicted, Some(Name(2)));
        assert_eq!(state.statement(&all[1]), None);
    }

    #[test]
    fn clearing_forgets_everything() {
        let (bodies, mut state) = (Bodies::default(), BackendState::new(1, 0));
        let body = bodies.intern(0, b"select 1", None);
        state.prepare(&body);
        state.sealed(100);
        state.soil();
        state.set_unnamed(Unnamed::Of(1, 1));
        state.given(Settings::of([("a".to_owned(), b"1")]));
        state.cleared();
        assert!(!state.is_sealed(0) && !state.is_soiled() && state.unnamed() == Unnamed::None);
        assert!(state.statement(&body).is_none() && state.settings().iter().count() == 0);
    }

    #[test]
    fn names_are_written_in_decimals() {
        assert_eq!(Name(0).write(&mut [0; 32]), b"pgcordon:0");
        assert_eq!(Name(u64::MAX).write(&mut [0; 32]), b"pgcordon:18446744073709551615");
    }
}
