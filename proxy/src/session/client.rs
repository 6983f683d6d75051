//! The client's side while the session holds a server connection: each message is passed on as soon as it is there, and
//! what it will bring is queued. What is malformed in a way that leaves the framing whole goes to Postgres as it came:
//! its own error is the right one.

use std::sync::Arc;

use crate::backend::{BackendState, Unnamed};
use crate::domain::Fault;
use crate::domain::limits::{OPENED_MESSAGE_BYTES_MAX, PARSE_HEAD_BYTES, PENDING_MESSAGES_MAX};
use crate::sql::{Asks, Facts, PinReason};
use crate::wire::frame::HEAD;
use crate::wire::{Frame, inject, open};

use super::admission::{Admitted, Asking, Request};
use super::client_statements::names_ours;
use super::expect::{Expect, Injected, Parsed};
use super::idle::{invalid_length, invalid_type};
use super::{Core, Lanes, Session};

/// Functions whose call leaves state that isn't carried along: the session-level advisory locks, and `set_config` where its
/// arguments aren't seen.
const STATEFUL_FUNCTIONS: [u32; 9] = [2078, 2880, 2881, 2882, 2883, 2886, 2887, 2888, 2889];

/// What an attached client's bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All complete messages were passed on.
    All,
    /// The next message waits until the server has answered.
    Held,
    /// The next message waits until rows are reserved for it. [`Session::answered`] follows.
    Ask(Request),
    /// The next message is for the client's home. When all that was sent is answered, the server connection is given back.
    Move(Wish),
    /// The client said goodbye.
    Ended,
}

/// How a client wants to be at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// It waits for it, for a moment.
    pub is_patient: bool,
}

/// What becomes of a message.
pub(super) enum Next {
    /// It is dealt with.
    Go,
    /// It comes again when rows are reserved for it.
    Ask(Request),
    /// It comes again when all before it is answered.
    Wait,
    /// It comes again at home, or where else the client is brought.
    Move(Wish),
}

/// One message, and where it stands in the input.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) input: &'a [u8],
    pub(super) at: usize,
    pub(super) frame: Frame,
}

impl<'a> Message<'a> {
    /// What of it is there.
    pub(super) fn seen(self) -> &'a [u8] {
        let rest = &self.input[self.at..];
        &rest[..rest.len().min(self.frame.total)]
    }

    pub(super) fn is_whole(self) -> bool {
        self.frame.is_whole(&self.input[self.at..])
    }

    /// Whether the message is there as a whole and not too long to be opened: how much of a long one has arrived when
    /// it is looked at must change nothing.
    pub(super) fn can_be_opened(self) -> bool {
        self.frame.total <= OPENED_MESSAGE_BYTES_MAX && self.is_whole()
    }
}

impl Session {
    /// Passes an attached client's messages on. Returns how many bytes are dealt with.
    ///
    /// # Errors
    /// A message that no client may send: the session ends.
    pub fn on_client(
        &mut self,
        input: &[u8],
        backend: &mut BackendState,
        core: &mut Core<'_>,
        lanes: &mut Lanes,
    ) -> Result<(usize, Taken), Fault> {
        let mut at = 0;
        loop {
            if self.passing > 0 {
                let passed = self.passing.min(input.len() - at);
                lanes.server.relay(input, at..at + passed);
                self.passing -= passed;
                at += passed;
            }
            at += self.drop_unread(input.len() - at);
            if self.is_held() {
                return Ok((at, Taken::Held));
            }
            let Some(frame) = Frame::from_client(&input[at..]).map_err(|_| invalid_length())? else {
                return Ok((at, Taken::All));
            };
            if frame.tag == b'X' {
                return Ok((at, Taken::Ended));
            }
            let message = Message { input, at, frame };
            if !message.is_whole() && must_be_whole(message) {
                return Ok((at, Taken::All));
            }
            if self.is_at_boundary() && self.status == b'I' {
                self.open_context(input, backend, core, lanes);
            }
            if self.copying_in && matches!(frame.tag, b'Q' | b'F' | b'P' | b'B' | b'D' | b'E' | b'C') {
                self.refuse_copy(message, lanes);
                return Ok((at, Taken::Held));
            }
            if self.depends_on_answers(message) || self.expects.len() >= PENDING_MESSAGES_MAX {
                inject::bare(lanes.server.author(input), b'H');
                self.awaiting = true;
                return Ok((at, Taken::Held));
            }
            let repeated = if frame.tag == b'P' { self.repeat(message, backend, core, lanes) } else { None };
            let (taken, next) = match repeated {
                Some(repeated) => repeated,
                None => (message.seen().len(), self.message(message, backend, core, lanes)?),
            };
            match next {
                Next::Go => at += taken,
                Next::Ask(request) => return Ok((at, Taken::Ask(request))),
                Next::Move(wish) => return Ok((at, Taken::Move(wish))),
                Next::Wait => {
                    inject::bare(lanes.server.author(input), b'H');
                    self.awaiting = true;
                    return Ok((at, Taken::Held));
                }
            }
        }
    }

    fn message(
        &mut self,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &mut Core<'_>,
        lanes: &mut Lanes,
    ) -> Result<Next, Fault> {
        let tag = message.frame.tag;
        if self.copying_in {
            return self.copy_data(message, lanes).map(|()| Next::Go);
        }
        if self.skipping && matches!(tag, b'Q' | b'F' | b'P' | b'B' | b'D' | b'E' | b'C') {
            self.pass(message, lanes);
            return Ok(Next::Go);
        }
        if !matches!(tag, b'Q' | b'P' | b'B' | b'F') {
            self.settle_first(message, backend, lanes);
        }
        match tag {
            b'Q' => return Ok(self.query(message, backend, core, lanes)),
            b'F' => return Ok(self.call(message, backend, core, lanes)),
            b'P' => return Ok(self.parse(message, backend, core, lanes)),
            b'B' => return self.bind(message, backend, core, lanes),
            b'D' => self.describe(message, backend, core, lanes),
            b'C' => self.close(message, backend, lanes),
            b'E' => return Ok(self.execute(message, backend, core, lanes)),
            b'S' => {
                self.send(message, Expect::Sync, lanes);
                self.in_cycle = false;
                self.skipping = false;
                self.raise_barrier();
            }
            b'c' | b'f' => {
                self.early_data = false;
                self.send(message, Expect::CopyEnd, lanes);
            }
            b'H' if message.frame.total > HEAD => {
                self.send(message, Expect::Malformed, lanes);
                self.in_cycle = true;
            }
            b'd' | b'H' => {
                self.early_data |= tag == b'd' && !self.expects.is_empty();
                self.pass(message, lanes);
            }
            tag => return Err(invalid_type(tag)),
        }
        Ok(Next::Go)
    }

    /// While the server may still read copy data, nothing else reaches it: it would do what it is told as soon as the copy has
    /// failed, and nobody would wait for its answers.
    fn copy_data(&mut self, message: Message<'_>, lanes: &mut Lanes) -> Result<(), Fault> {
        match message.frame.tag {
            b'S' => self.copy_synced += 1,
            b'H' => {}
            b'd' | b'c' | b'f' => {
                self.copy_synced = 0;
                self.copying_in = message.frame.tag == b'd';
                self.pass(message, lanes);
            }
            tag => return Err(invalid_type(tag)),
        }
        Ok(())
    }

    /// The client sends something else than copy data. Postgres fails a copy by that; here it is told to, and the client's
    /// message waits until it is known what became of the copy.
    fn refuse_copy(&mut self, message: Message<'_>, lanes: &mut Lanes) {
        if !std::mem::replace(&mut self.copy_refused, true) {
            let text = format!("unexpected message type 0x{:02X} during COPY from stdin", message.frame.tag);
            inject::copy_fail(lanes.server.author(message.input), text.as_bytes());
        }
    }

    fn query(
        &mut self,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &mut Core<'_>,
        lanes: &mut Lanes,
    ) -> Next {
        let text = if message.can_be_opened() { open::query(message.seen()).ok() } else { None };
        let facts = match text {
            Some(text) => core.analysis.facts(text),
            // Too long to be opened, or not what a Query is: it may do everything.
            None => Some(Arc::new(Facts::unknown())),
        };
        if self.names_depend_on_answers(facts.as_deref()) {
            return Next::Wait;
        }
        if let Some(next) = self.lodge(facts.as_deref(), text, message, backend, core, lanes) {
            return next;
        }
        if text.is_some()
            && let Some(fault) = self.guarded(facts.as_ref(), core).or_else(|| names_ours(facts.as_ref()))
        {
            self.deny(message, fault, backend, lanes);
            return Next::Go;
        }
        let renamed = match text.map(|text| self.renamed(text, facts.as_ref(), backend, core)).transpose() {
            Ok(renamed) => renamed.flatten(),
            Err(fault) => {
                self.deny(message, fault, backend, lanes);
                return Next::Go;
            }
        };
        let watched = match self.admit(Asking { facts: facts.as_ref(), text, portal: None, rows_max: 0 }, core) {
            Admitted::Ask(request) => return Next::Ask(request),
            Admitted::Wait => return Next::Wait,
            Admitted::Denied(fault) => {
                self.deny(message, fault, backend, lanes);
                return Next::Go;
            }
            Admitted::Send(watched) => watched,
        };
        if let Some(facts) = &facts {
            if self.surface(facts, message, backend, lanes) {
                inject::bare(lanes.server.author(message.input), b'S');
                self.expects.push(Expect::Injected(Injected::Sync), &mut lanes.client);
            }
            self.note_facts(facts, backend, core);
            self.arm_all(facts, backend, core);
        }
        let (place, text) = (self.expects.next_at(), renamed.as_ref().map(|renamed| &*renamed.text).or(text));
        match (watched, text) {
            (Some(watched), Some(text)) if watched.is_held => self.hold_query(message, text, watched, backend, lanes),
            (watched, text) => {
                let serial = self.statements.unnamed_replaced(&[], None);
                backend.set_unnamed(Unnamed::None);
                let expect = Expect::Query(serial, watched);
                match text.filter(|_| renamed.is_some()) {
                    Some(text) => {
                        inject::query(lanes.server.author(message.input), text);
                        self.expects.push(expect, &mut lanes.client);
                    }
                    None => self.send(message, expect, lanes),
                }
                self.in_cycle = false;
            }
        }
        self.note_changed(place..self.expects.next_at(), renamed);
        self.raise_barrier();
        Next::Go
    }

    fn call(
        &mut self,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &mut Core<'_>,
        lanes: &mut Lanes,
    ) -> Next {
        let oid = open::function_oid(message.seen());
        let asks = Asks::by_call(oid);
        let facts = Facts { asks, ..Facts::default() };
        if let Some(next) = self.lodge(Some(&facts), None, message, backend, core, lanes) {
            return next;
        }
        if let Some(fault) = self.guarded_call(message, core) {
            self.deny(message, fault, backend, lanes);
            self.raise_barrier();
            return Next::Go;
        }
        match oid {
            Some(inject::SET_CONFIG_OID) if message.can_be_opened() => self.call_set_config(message, backend, core),
            Some(oid) if !STATEFUL_FUNCTIONS.contains(&oid) => {}
            _ => self.pin = self.pin.or(Some(PinReason::HiddenSetting)),
        }
        self.send(message, Expect::Call, lanes);
        self.raise_barrier();
        Next::Go
    }

    fn call_set_config(&mut self, message: Message<'_>, backend: &mut BackendState, core: &Core<'_>) {
        // Without a name, or with one that is no text, it fails.
        let Ok([Some(name), value]) = open::set_config(message.seen()) else { return };
        let Ok(name) = std::str::from_utf8(name).map(str::to_ascii_lowercase) else { return };
        if matches!(name.as_str(), "role" | "session_authorization") {
            self.pin = self.pin.or(Some(PinReason::Role));
        }
        self.touch(&name, backend, core);
        if value.is_none() {
            self.arm_reset(&name);
        }
    }

    fn execute(
        &mut self,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &Core<'_>,
        lanes: &mut Lanes,
    ) -> Next {
        let portal = open::portal(message.seen()).and_then(|name| self.portals.get(name));
        let portal = portal.map(|(serial, portal)| (serial, portal.clone()));
        let (facts, text) =
            portal.as_ref().map_or((None, None), |(_, portal)| (Some(&portal.facts), portal.text.as_deref()));
        if self.names_depend_on_answers(facts.map(|facts| &**facts)) {
            return Next::Wait;
        }
        let ran = portal.as_ref().map(|(serial, portal)| (*serial, portal.ran));
        let rows_max = open::rows_max(message.seen());
        let asking = Asking { facts, text: text.map(str::as_bytes), portal: ran, rows_max };
        let watched = match self.admit(asking, core) {
            Admitted::Ask(request) => return Next::Ask(request),
            Admitted::Wait => return Next::Wait,
            Admitted::Denied(fault) => {
                self.deny(message, fault, backend, lanes);
                return Next::Go;
            }
            Admitted::Send(watched) => watched,
        };
        let is_held = watched.as_ref().is_some_and(|watched| watched.is_held);
        if let Some(facts) = &facts {
            self.surface(facts, message, backend, lanes);
            self.arm_all(facts, backend, core);
        }
        self.send(message, Expect::Execute(watched), lanes);
        self.in_cycle = true;
        if is_held {
            inject::bare(lanes.server.author(message.input), b'H');
            self.awaiting = true;
        }
        Next::Go
    }

    /// Passes a message on and queues what it brings.
    pub(super) fn send(&mut self, message: Message<'_>, expect: Expect, lanes: &mut Lanes) {
        self.pass(message, lanes);
        self.expects.push(expect, &mut lanes.client);
    }

    /// Passes a message on, as far as it is there; the rest follows unread.
    pub(super) fn pass(&mut self, message: Message<'_>, lanes: &mut Lanes) {
        self.pass_from(message, 0, lanes);
    }

    /// Passes on what of a message stands behind its first `skipped` bytes.
    pub(super) fn pass_from(&mut self, message: Message<'_>, skipped: usize, lanes: &mut Lanes) {
        let seen = message.seen().len();
        lanes.server.relay(message.input, message.at + skipped..message.at + seen);
        self.passing = message.frame.total - seen;
    }

    /// A Parse that names no statement of ours: it goes as it came.
    pub(super) fn parse_free(&mut self, message: Message<'_>, lanes: &mut Lanes) {
        self.send(message, Expect::Parse(Parsed::Free), lanes);
    }
}

/// Messages that are opened must be there as a whole, unless they are too long for it; of a Bind, its names.
fn must_be_whole(message: Message<'_>) -> bool {
    let frame = message.frame;
    match frame.tag {
        b'd' => false,
        b'B' => {
            let seen = message.seen();
            seen.len() < OPENED_MESSAGE_BYTES_MAX.min(frame.total)
                && !matches!(open::BindHead::open(seen, frame.total), Ok(Some(_)))
        }
        b'Q' if frame.total > OPENED_MESSAGE_BYTES_MAX => message.seen().len() < HEAD + 64,
        b'P' if frame.total > OPENED_MESSAGE_BYTES_MAX => message.seen().len() < PARSE_HEAD_BYTES,
        b'F' if frame.total > OPENED_MESSAGE_BYTES_MAX => message.seen().len() < HEAD + 4,
        b'f' => false,
        _ => true,
    }
}
