//! What one server connection remembers of those it served.

use std::collections::HashMap;
use std::sync::Arc;

use super::parameters::Parameters;
use super::repeats::{Circumstances, Repeats};
use super::sequences::Sequences;
use super::settings::Settings;
use super::statement::{Body, Moment, Parsing};
use crate::domain::limits::{BACKEND_STATEMENT_BYTES_MAX, BACKEND_STATEMENTS_MAX};
use crate::tenant::{BindBy, MeterTag, SigningKey};

/// A session of ours, told apart from all others while the process lives.
pub type SessionId = u64;

/// The state of one server connection, as far as clients may depend on it.
#[derive(Debug)]
pub struct BackendState {
    pid: i32,
    clock_offset: i64,
    bind_by: BindBy,
    /// Until when by our clock, and with which key.
    sealed: Option<(i64, i32)>,
    /// With the number of the key that it is made with.
    meter_tag: Option<(i32, MeterTag)>,
    settings: Arc<Settings>,
    reported: Arc<Parameters>,
    statements: HashMap<u64, Prepared, ahash::RandomState>,
    repeats: Repeats,
    /// Bytes of the texts of `statements`.
    bytes: usize,
    /// Statements of ours that are of no use any more, and whose Close the server never got to.
    leftover: Vec<Name>,
    uses: u64,
    named: u64,
    unnamed: Unnamed,
    sequences: Sequences,
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
    name: Name,
    used: u64,
    parsed: Moment,
    body: Arc<Body>,
}

impl BackendState {
    /// The state of a fresh server connection: its process id, and by how many seconds the database's clock is ahead of ours.
    pub fn new(pid: i32, clock_offset: i64) -> Self {
        Self {
            pid,
            clock_offset,
            bind_by: BindBy::default(),
            sealed: None,
            meter_tag: None,
            settings: Settings::none(),
            reported: Arc::default(),
            statements: HashMap::default(),
            repeats: Repeats::default(),
            bytes: 0,
            leftover: Vec::new(),
            uses: 0,
            named: 0,
            unnamed: Unnamed::None,
            sequences: Sequences::Untouched,
            must_clear: false,
        }
    }

    /// `DISCARD ALL` was run: nothing is left of anybody.
    pub fn cleared(&mut self) {
        self.sealed = None;
        self.settings = Settings::none();
        self.deallocated();
        self.unnamed = Unnamed::None;
        self.sequences = Sequences::Untouched;
        self.must_clear = false;
    }

    /// The same, of a server connection that has reported these settings.
    #[must_use]
    pub fn reporting(self, reported: Arc<Parameters>) -> Self {
        Self { reported, ..self }
    }

    /// The same, in a database that is bound like this.
    #[must_use]
    pub fn bound_by(self, bind_by: BindBy) -> Self {
        Self { bind_by, ..self }
    }

    /// How its database is bound.
    pub const fn bind_by(&self) -> BindBy {
        self.bind_by
    }

    /// What the server has reported of its settings, whoever was served.
    pub const fn reported(&self) -> &Arc<Parameters> {
        &self.reported
    }

    /// The server reports a setting.
    pub fn reports(&mut self, name: &[u8], value: &[u8]) {
        // With each clearing it says the same again.
        if self.reported.get(name) != Some(value) {
            Arc::make_mut(&mut self.reported).put(name, value);
        }
    }

    /// The server process.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Seconds to add to our clock to get the database's.
    pub const fn clock_offset(&self) -> i64 {
        self.clock_offset
    }

    /// Whether the context is sealed beyond `now` (seconds since the epoch, our clock), with this key.
    pub fn is_sealed(&self, now: i64, key_id: i32) -> bool {
        self.sealed.is_some_and(|(until, with)| now < until && with == key_id)
    }

    /// The context is sealed with this key, and is to be sealed anew after `until` (our clock), or with another key.
    pub const fn sealed(&mut self, until: i64, key_id: i32) {
        self.sealed = Some((until, key_id));
    }

    /// The tag that this server process' meters put into their reports, as of the last seal.
    pub fn meter_tag(&self) -> Option<&MeterTag> {
        self.meter_tag.as_ref().map(|(_, tag)| tag)
    }

    /// The tag, made with the key of the seal: it is the same as long as that is.
    pub fn tag_meters(&mut self, key: &SigningKey) {
        if self.meter_tag.as_ref().is_none_or(|(made_with, _)| *made_with != key.id()) {
            self.meter_tag = Some((key.id(), MeterTag::new(key, self.pid)));
        }
    }

    /// The context may be gone or another: it is to be sealed anew before the next statement.
    pub const fn unsealed(&mut self) {
        self.sealed = None;
    }

    /// The settings that were given to the server connection.
    pub const fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The server connection now has these settings.
    pub fn given(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
    }

    /// The name under which `body` is prepared here, if what is here may stand for what a client prepared then.
    pub fn statement(&mut self, body: &Body, then: Parsing) -> Option<Name> {
        self.uses += 1;
        let prepared = self.statements.get_mut(&body.id()).filter(|each| then.is_met_by(each.parsed))?;
        prepared.used = self.uses;
        Some(prepared.name)
    }

    /// Prepares `body` under a new name, with a Parse that is sent at this moment. With it come the names of the statements
    /// that must be closed first: its predecessor, and those that make room.
    pub fn prepare(&mut self, body: &Arc<Body>, parsed: Moment) -> (Name, Vec<Name>) {
        let mut closed = std::mem::take(&mut self.leftover);
        closed.extend(self.remove(body.id()));
        while !self.statements.is_empty()
            && (self.statements.len() >= BACKEND_STATEMENTS_MAX
                || self.bytes + body.rest().len() > BACKEND_STATEMENT_BYTES_MAX)
        {
            closed.extend(self.evict());
        }
        self.uses += 1;
        self.named += 1;
        let name = Name(self.named);
        self.bytes += body.rest().len();
        self.statements.insert(body.id(), Prepared { name, used: self.uses, parsed, body: body.clone() });
        (name, closed)
    }

    /// The statement isn't there: the Parse of this moment failed, or the server didn't get to it.
    pub fn unprepared(&mut self, body_id: u64, parsed: Moment) {
        if self.statements.get(&body_id).is_some_and(|each| each.parsed == parsed) {
            self.remove(body_id);
        }
    }

    /// The server didn't get to the Close of a statement: it goes when the next one is prepared.
    pub fn not_closed(&mut self, name: Name) {
        self.leftover.push(name);
    }

    /// The texts that come again and again.
    pub const fn repeats(&mut self) -> &mut Repeats {
        &mut self.repeats
    }

    /// Prepares such a text under a new name. With it come the names of the statements that must be closed first.
    pub fn repeat(&mut self, rest: &[u8], circumstances: Circumstances<'_>) -> (Name, Vec<Name>) {
        let mut closed = std::mem::take(&mut self.leftover);
        self.named += 1;
        let name = Name(self.named);
        closed.extend(self.repeats.put(rest, Some(name), circumstances));
        (name, closed)
    }

    /// Such a text isn't to be prepared.
    pub fn never_repeat(&mut self, rest: &[u8], circumstances: Circumstances<'_>) {
        let closed = self.repeats.put(rest, None, circumstances);
        self.leftover.extend(closed);
    }

    /// What was prepared under this name brought more than its answer: it isn't to be again.
    pub fn repeat_refused(&mut self, name: Name) {
        self.repeats.refused(name);
        self.leftover.push(name);
    }

    /// The Parse of such a text failed, or the server didn't get to it.
    pub fn repeat_unprepared(&mut self, name: Name) {
        self.repeats.lost(name);
    }

    /// What was prepared under this name isn't what it was.
    pub fn repeat_aged(&mut self, name: Name) {
        self.repeats.lost(name);
        self.leftover.push(name);
    }

    /// No named statement is left.
    pub fn deallocated(&mut self) {
        self.statements.clear();
        self.repeats.clear();
        self.leftover.clear();
        self.bytes = 0;
    }

    /// The unnamed statement on the server connection.
    pub const fn unnamed(&self) -> Unnamed {
        self.unnamed
    }

    /// The unnamed statement is another one now.
    pub const fn set_unnamed(&mut self, unnamed: Unnamed) {
        self.unnamed = unnamed;
    }

    /// Whose numbers of sequences it remembers.
    pub const fn sequences(&self) -> Sequences {
        self.sequences
    }

    /// From now on it remembers these.
    pub const fn set_sequences(&mut self, sequences: Sequences) {
        self.sequences = sequences;
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
        self.remove(oldest)
    }

    fn remove(&mut self, body_id: u64) -> Option<Name> {
        let removed = self.statements.remove(&body_id)?;
        self.bytes -= removed.body.rest().len();
        Some(removed.name)
    }
}

/// The name of a shared statement on one server connection: `pgcordon:NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(u64);

impl Name {
    /// The one with this number.
    #[cfg(test)]
    pub(super) const fn of(number: u64) -> Self {
        Self(number)
    }

    /// What every name begins with.
    pub const PREFIX: &[u8] = b"pgcordon:";

    /// The name as it goes over the wire, written into `buffer`.
    pub fn write(self, buffer: &mut [u8; 32]) -> &[u8] {
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
        at -= Self::PREFIX.len();
        buffer[at..at + Self::PREFIX.len()].copy_from_slice(Self::PREFIX);
        &buffer[at..]
    }
}

#[cfg(test)]
mod tests {
    use super::super::repeats::Standing;
    use super::super::sequences::Stay;
    use super::super::statement::Bodies;
    use super::*;

    #[test]
    fn the_least_recently_used_statement_makes_room() {
        let (bodies, mut state) = (Bodies::default(), BackendState::new(1, 0));
        let then = Parsing::sent(bodies.moment());
        let all: Vec<_> = (0..=BACKEND_STATEMENTS_MAX)
            .map(|number| bodies.intern(0, format!("select {number}").as_bytes(), None))
            .collect();
        let first = state.prepare(&all[0], bodies.moment()).0;
        for body in &all[1..BACKEND_STATEMENTS_MAX] {
            assert_eq!(state.prepare(body, bodies.moment()).1, []);
        }
        assert_eq!(state.statement(&all[0], then), Some(first));
        let (_, evicted) = state.prepare(&all[BACKEND_STATEMENTS_MAX], bodies.moment());
        assert_eq!(evicted, [Name(2)]);
        assert_eq!(state.statement(&all[1], then), None);
    }

    #[test]
    fn long_texts_make_room_for_one_another() {
        let (bodies, mut state) = (Bodies::default(), BackendState::new(1, 0));
        let mut closed = 0;
        for number in 0..20 {
            let text = format!("{number}{}", "x".repeat(BACKEND_STATEMENT_BYTES_MAX / 8));
            closed += state.prepare(&bodies.intern(0, text.as_bytes(), None), bodies.moment()).1.len();
            assert!(state.bytes <= BACKEND_STATEMENT_BYTES_MAX);
        }
        assert_eq!((closed, state.statements.len()), (13, 7));
        state.deallocated();
        assert_eq!(state.bytes, 0);
    }

    #[test]
    fn a_statement_stands_for_those_that_were_prepared_before_it_and_for_its_own_client() {
        let (bodies, mut state) = (Bodies::default(), BackendState::new(1, 0));
        let body = bodies.intern(0, b"select * from t", None);
        let sent = bodies.moment();
        let (first, _) = state.prepare(&body, sent);
        let (own, before) = (Parsing::answered(sent, bodies.moment()), Parsing::sent(sent));
        assert_eq!((state.statement(&body, own), state.statement(&body, before)), (Some(first), Some(first)));
        // Somebody prepares it elsewhere: what is here may be older than what that saw.
        let later = bodies.moment();
        let later = Parsing::answered(later, bodies.moment());
        assert_eq!(state.statement(&body, later), None);
        let (second, closed) = state.prepare(&body, bodies.moment());
        assert_eq!(closed, [first]);
        for then in [own, before, later] {
            assert_eq!(state.statement(&body, then), Some(second));
        }
    }

    #[test]
    fn what_was_not_closed_is_closed_with_the_next_one() {
        let (bodies, mut state) = (Bodies::default(), BackendState::new(1, 0));
        let body = bodies.intern(0, b"select 1", None);
        let (first, _) = state.prepare(&body, bodies.moment());
        let sent = bodies.moment();
        let (_, closed) = state.prepare(&body, sent);
        assert_eq!(closed, [first]);
        // An error in front of both.
        state.unprepared(body.id(), sent);
        state.not_closed(first);
        assert_eq!(state.statement(&body, Parsing::sent(sent)), None);
        assert_eq!(state.prepare(&body, bodies.moment()).1, [first]);
    }

    #[test]
    fn clearing_forgets_everything() {
        let (bodies, mut state) = (Bodies::default(), BackendState::new(1, 0));
        let body = bodies.intern(0, b"select 1", None);
        let sent = bodies.moment();
        state.prepare(&body, sent);
        state.sealed(100, 1);
        state.soil();
        state.set_sequences(Sequences::Mixed(Stay::default()));
        state.set_unnamed(Unnamed::Of(1, 1));
        state.given(Settings::of([("a".to_owned(), b"1")]));
        let reported = state.reported().clone();
        let circumstances = Circumstances { meaning: 0, reported: &reported, alterations: 0, now: 0 };
        let (name, _) = state.repeat(b"select 2", circumstances);
        assert_eq!(state.repeats().look(b"select 2", circumstances), Standing::Prepared(name));
        state.cleared();
        assert_eq!(state.repeats().look(b"select 2", circumstances), Standing::New);
        assert_eq!(state.sequences(), Sequences::Untouched);
        assert!(!state.is_sealed(0, 1) && !state.is_soiled() && state.unnamed() == Unnamed::None);
        assert!(state.statement(&body, Parsing::sent(sent)).is_none() && state.settings().iter().count() == 0);
    }

    #[test]
    fn names_are_written_in_decimals() {
        assert_eq!(Name(0).write(&mut [0; 32]), b"pgcordon:0");
        assert_eq!(Name(u64::MAX).write(&mut [0; 32]), b"pgcordon:18446744073709551615");
    }
}
