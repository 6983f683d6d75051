//! Where a client lives: which server connection a message must find, and whether the client stays there. What asks for the
//! process id goes home and stays there, so that it doesn't change any more. What asks for the numbers of sequences is
//! answered only where they are the client's own; elsewhere Postgres is made to forget them first, and says so itself. Nothing
//! is asked here on the way that most messages take.

use std::time::Duration;

use crate::backend::{BackendState, Sequences, SessionId, Stay};
use crate::domain::limits::{UNASKED_WRITES_MAX, YIELD_GRACE, YIELD_SEQUENCE_GRACE, YIELD_TRIAL_GRACE, YIELD_TURN};
use crate::domain::{Fault, Origin, SqlState};
use crate::sql::{Asks, Facts, PinReason, Statement};
use crate::wire::inject;

use super::client::{Message, Next, Wish};
use super::expect::{Expect, Injected};
use super::{Core, Lanes, Session};

/// A client's home and its stay, see [`Stay`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Lodging {
    /// The server process of its home; 0 is none.
    pub(super) home: i32,
    stay: Stay,
    /// Nothing that was sent in this stay can have taken a number: everything was looked at.
    pub(super) is_blank: bool,
    /// How many more texts may be looked at.
    pub(super) looks: u16,
    /// No more texts are looked at.
    pub(super) is_tried: bool,
    /// The server connection is new to it: nothing of the client's was sent there yet.
    pub(super) arrived: bool,
    /// It was tried to bring the client home for the message that comes next.
    was_brought: bool,
    /// It has been at home.
    moved_in: bool,
    /// `DISCARD SEQUENCES` is on its way.
    pub(super) discarding: bool,
    /// It failed since the client came.
    pub(super) discard_failed: bool,
    /// Clients of its workspace ask for numbers of sequences, as of this version of what is known.
    pub(super) asks: bool,
    as_of: u64,
    /// It has prepared what asks, or what pins.
    prepared_asks: bool,
    /// How often it may have taken numbers since it asked last.
    pub(super) unasked: u8,
}

impl Lodging {
    pub(super) const fn new(session: SessionId) -> Self {
        Self {
            home: 0,
            stay: Stay { session, number: 0 },
            is_blank: false,
            looks: 0,
            is_tried: false,
            arrived: false,
            was_brought: false,
            moved_in: false,
            discarding: false,
            discard_failed: false,
            asks: false,
            as_of: 0,
            prepared_asks: false,
            unasked: 0,
        }
    }

    /// Whether every number the server connection remembers is the client's own, and none of a time before others used it.
    pub(super) fn is_own(&self, backend: &BackendState) -> bool {
        match backend.sequences() {
            Sequences::Untouched => true,
            Sequences::Of(stay) => stay == self.stay,
            Sequences::Mixed(_) => false,
        }
    }

    /// From now on the client uses the server connection.
    fn occupy(&mut self, backend: &mut BackendState) {
        let last = backend.sequences().last();
        if last != Some(self.stay) {
            self.stay.number += 1;
            self.is_blank = true;
            backend.set_sequences(match last {
                None => Sequences::Of(self.stay),
                Some(_) => Sequences::Mixed(self.stay),
            });
        }
        if backend.pid() == self.home {
            self.moved_in = true;
        }
        (self.arrived, self.was_brought, self.discard_failed) = (false, false, false);
    }
}

impl Session {
    /// The server process of the client's home; 0 is none.
    pub const fn home(&self) -> i32 {
        self.lodging.home
    }

    /// Whether the client keeps its server connection only as long as nobody waits for one, and needs it for nothing at this
    /// moment.
    pub fn may_make_way(&self) -> bool {
        self.stays.is_some() && self.pin.is_none() && self.is_at_boundary() && self.status == b'I'
    }

    /// How long it may do nothing before it must, if it has had the server connection for so long. None at all when its turn is
    /// over; but one that has just written may be about to ask.
    pub fn grace(&self, had: Duration) -> Duration {
        if (1..UNASKED_WRITES_MAX).contains(&self.lodging.unasked) {
            if self.lodging.asks { YIELD_SEQUENCE_GRACE } else { YIELD_TRIAL_GRACE }
        } else if had >= YIELD_TURN {
            Duration::ZERO
        } else {
            YIELD_GRACE
        }
    }

    /// Others may have the server connection.
    pub const fn make_way(&mut self) {
        self.stays = None;
    }

    /// Whether it must be looked into what a Bind is for.
    pub(super) const fn is_bind_looked_into(&self) -> bool {
        self.lodging.asks || self.lodging.prepared_asks || !self.lodging.is_tried
    }

    /// A message for what has these facts and this text is about to go out: it may have to go out elsewhere, or later, or
    /// not at all. No text stands for one that isn't known.
    pub(super) fn lodge(
        &mut self,
        facts: Option<&Facts>,
        text: Option<&[u8]>,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &mut Core<'_>,
        lanes: &mut Lanes,
    ) -> Option<Next> {
        let asks = facts.map_or(Asks::default(), |facts| facts.asks);
        if self.lodging.arrived {
            if self.lodging.as_of != core.habits.version() {
                self.lodging.as_of = core.habits.version();
                self.lodging.asks = core.habits.asks(self.workspace);
            }
            let pins = facts.is_some_and(|facts| facts.pins.is_some());
            if (asks.pid || pins || (asks.sequences && !self.lodging.is_own(backend))) && self.goes_home(backend) {
                return Some(Next::Move(Wish { is_patient: asks.pid || pins }));
            }
        }
        if asks.sequences && !self.lodging.is_own(backend) {
            return Some(self.forget_sequences(message, backend, core, lanes));
        }
        if self.lodging.arrived {
            self.settle_in(message.input, backend, lanes);
        }
        if asks != Asks::default() {
            self.stay_for(asks, backend, core);
        }
        self.lodging.prepared_asks |=
            message.frame.tag == b'P' && (asks != Asks::default() || facts.is_some_and(|facts| facts.pins.is_some()));
        if self.lodging.asks && !asks.sequences && self.may_take_numbers(facts, text, core) {
            self.stay_to_ask();
        } else if !self.lodging.asks {
            return self.try_out(facts, text, message, backend, core, lanes);
        }
        None
    }

    /// Whether the client is to be brought home. It is tried once for a message.
    fn goes_home(&mut self, backend: &BackendState) -> bool {
        let Lodging { home, was_brought, .. } = self.lodging;
        let goes = home != 0 && home != backend.pid() && !was_brought && self.pin.is_none();
        self.lodging.was_brought |= goes;
        goes
    }

    /// A message that asks nothing is about to go out.
    pub(super) fn settle_first(&mut self, message: Message<'_>, backend: &mut BackendState, lanes: &mut Lanes) {
        if self.lodging.arrived {
            self.settle_in(message.input, backend, lanes);
        }
    }

    /// The client's first message on a server connection is about to go out. Where a client stays, the numbers of others are
    /// discarded: at home, with its first message there, and wherever it writes if its workspace is known to ask.
    fn settle_in(&mut self, input: &[u8], backend: &mut BackendState, lanes: &mut Lanes) {
        let moves_in = backend.pid() == self.lodging.home && !self.lodging.moved_in;
        if (moves_in || self.lodging.asks) && !self.lodging.is_own(backend) {
            self.discard_sequences(input, lanes);
        }
        self.lodging.occupy(backend);
    }

    /// The client asks for numbers where there are others': Postgres forgets all, and the message comes again. Within a cycle
    /// of the extended protocol it can't be made to, and the message is denied.
    fn forget_sequences(
        &mut self,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &Core<'_>,
        lanes: &mut Lanes,
    ) -> Next {
        core.habits.learn(self.workspace);
        let in_cycle = self.in_cycle && matches!(message.frame.tag, b'P' | b'B');
        if !self.lodging.discarding && (in_cycle || self.lodging.discard_failed) {
            self.lodging.discard_failed = false;
            if self.lodging.arrived {
                self.lodging.occupy(backend);
            }
            self.deny(message, no_numbers(), backend, lanes);
            return Next::Go;
        }
        // It isn't given back before the message comes again.
        self.stays.get_or_insert(PinReason::Sequence);
        if !self.lodging.discarding && (self.lodging.arrived || self.expects.is_empty()) {
            self.discard_sequences(message.input, lanes);
        }
        Next::Wait
    }

    pub(super) fn discard_sequences(&mut self, input: &[u8], lanes: &mut Lanes) {
        inject::query(lanes.server.author(input), b"DISCARD SEQUENCES");
        self.expects.push(Expect::Injected(Injected::Discard), &mut lanes.client);
        self.lodging.discarding = true;
    }

    /// Our `DISCARD SEQUENCES` is complete: what comes behind it is the client's own.
    pub(super) fn discarded(&mut self, tag: &[u8], backend: &mut BackendState) {
        if tag.starts_with(b"DISCARD SEQUENCES") {
            self.lodging.stay.number += 1;
            backend.set_sequences(Sequences::Of(self.lodging.stay));
        }
    }

    /// What the client asks is the same from now on: it stays.
    fn stay_for(&mut self, asks: Asks, backend: &BackendState, core: &Core<'_>) {
        if asks.pid {
            self.stays.get_or_insert(PinReason::BackendPid);
            self.lodging.home = backend.pid();
        }
        if asks.sequences {
            core.habits.learn(self.workspace);
            (self.lodging.asks, self.lodging.unasked) = (true, 0);
            self.stays.get_or_insert(PinReason::Sequence);
        }
    }

    /// It may have taken numbers, and may be about to ask.
    pub(super) fn stay_to_ask(&mut self) {
        self.stays.get_or_insert(PinReason::Sequence);
        self.lodging.unasked = self.lodging.unasked.saturating_add(1);
    }

    /// Whether a text may take a number from a sequence, as far as it can be known: the answer in doubt is yes.
    fn may_take_numbers(&self, facts: Option<&Facts>, text: Option<&[u8]>, core: &mut Core<'_>) -> bool {
        if facts.is_some_and(|facts| facts.statements.iter().all(Statement::is_of_session)) {
            return false;
        }
        match (text, (core.catalog)()) {
            (Some(text), Some(catalog)) => core.analysis.effects(text, &catalog, self.reader()).changes,
            _ => true,
        }
    }

    /// A statement of the client is complete: `DISCARD SEQUENCES` leaves nothing to stay for.
    pub(super) fn note_discarded(&mut self, tag: &[u8]) {
        let is_alone = || self.expects.watched().is_some_and(|watched| watched.is_single());
        if tag.starts_with(b"DISCARD SEQUENCES") && self.stays == Some(PinReason::Sequence) && is_alone() {
            self.stays = None;
        }
    }
}

/// What Postgres says when a session has taken no number.
fn no_numbers() -> Fault {
    let text = "the numbers that this session took from sequences aren't on this server connection";
    Fault::new(Origin::Proxy, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text)
        .hint("Ask in the transaction that takes them, or use RETURNING.")
}
