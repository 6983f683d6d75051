//! A text that comes again and again without a name is prepared under one of ours, so that Postgres needn't read and plan it every
//! time. Nobody is to tell it from one that is read anew:
//!
//! - only where it comes as one whole cycle, outside any transaction and with nothing else on its way, so that what fails before it ran
//!   can be sent again as it came: the client gets the answer of that one alone;
//! - only where the text is known to read, by what Postgres brings along and nothing else, and has no constant that means something else at
//!   another time (`Effects::is_repeatable`);
//! - never across an alteration that was heard of, and in any case for a moment only (`backend/repeats.rs`).

use std::sync::{Arc, OnceLock};

use crate::backend::{BackendState, Circumstances, Name, Standing, Unnamed};
use crate::domain::limits::{REPEATED_CYCLE_BYTES_MAX, REPEATED_TEXT_BYTES_MAX};
use crate::sql::Reader;
use crate::wire::frame::HEAD;
use crate::wire::open::{BindHead, Named, Parse, named, portal};
use crate::wire::{Frame, inject, open};

use super::client::{Message, Next};
use super::effects::Barrier;
use super::expect::{Bound, Expect, Injected, Parsed, Repeated};
use super::server::Fate;
use super::{Core, Lanes, Session};

/// Classes of errors that are no statement of what was prepared: a cancel or the like, a conflict, a want of resources.
const OTHERS: [&[u8]; 3] = [b"57", b"40", b"53"];
/// The same, single ones: a lock that wasn't to be had in time, transactions that took too long.
const OTHER_STATES: [&[u8]; 3] = [b"55P03", b"25P03", b"25P04"];

/// Parse, Bind, perhaps a Describe of the portal, Execute and Sync, without names, and nothing behind.
struct Cycle<'a> {
    parse: Parse<'a>,
    bind: BindHead<'a>,
    /// Bytes of the Parse, and of the whole Bind.
    parse_bytes: usize,
    bind_bytes: usize,
    is_described: bool,
}

impl<'a> Cycle<'a> {
    fn open(input: &'a [u8]) -> Option<Self> {
        let (parsing, rest) = first(input, b'P')?;
        let (binding, rest) = first(rest, b'B')?;
        let (describing, rest) = match first(rest, b'D') {
            Some((describing, rest)) => (Some(describing), rest),
            None => (None, rest),
        };
        let (executing, rest) = first(rest, b'E')?;
        let (syncing, rest) = first(rest, b'S')?;
        let parse = Parse::open(parsing).ok()?;
        let bind = BindHead::open(binding, binding.len()).ok()??;
        let is_whole = rest.is_empty() && syncing.len() == HEAD;
        let is_unnamed = parse.name.is_empty() && bind.portal.is_empty() && bind.statement.is_empty();
        let is_of_portal = describing.is_none_or(|describing| named(describing) == Ok(Named::Portal(b"")))
            && portal(executing) == Some(b"");
        (is_whole && is_unnamed && is_of_portal).then_some(Self {
            parse,
            bind,
            parse_bytes: parsing.len(),
            bind_bytes: binding.len(),
            is_described: describing.is_some(),
        })
    }

    /// Passes on the Bind, to a statement with this name, and what follows it.
    fn pass_bind(&self, name: Name, message: Message<'_>, lanes: &mut Lanes) {
        let rest = self.bind_bytes - self.bind.bytes;
        inject::bind_head(lanes.server.author(message.input), b"", name.write(&mut [0; 32]), rest);
        lanes.server.relay(message.input, message.at + self.parse_bytes + self.bind.bytes..message.input.len());
    }
}

/// The message that `input` begins with, if it is there as a whole and of this type, and what follows it.
fn first(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let frame = Frame::from_client(input).ok()?.filter(|frame| frame.tag == tag && frame.is_whole(input))?;
    Some(input.split_at(frame.total))
}

impl Session {
    /// A client's Parse comes. If it begins a cycle that is to go out by a name, all of it is dealt with: how many bytes that is, and what
    /// becomes of it.
    pub(super) fn repeat(
        &mut self,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &mut Core<'_>,
        lanes: &mut Lanes,
    ) -> Option<(usize, Next)> {
        let input = &message.input[message.at..];
        if !self.may_repeat(core) || input.len() > REPEATED_CYCLE_BYTES_MAX {
            return None;
        }
        let cycle = Cycle::open(input).filter(|cycle| cycle.parse.rest.len() <= REPEATED_TEXT_BYTES_MAX)?;
        let reported = backend.reported().clone();
        let circumstances = Circumstances {
            meaning: self.settings.meaning(),
            reported: &reported,
            alterations: core.bodies.alterations().heard()?,
            now: core.now,
        };
        let known = match backend.repeats().look(cycle.parse.rest, circumstances) {
            Standing::New => return None,
            Standing::Again if !self.is_repeatable(cycle.parse.text, core)? => {
                backend.never_repeat(cycle.parse.rest, circumstances);
                return None;
            }
            Standing::Again => None,
            Standing::Prepared(name) => Some(name),
        };
        if let Some(next) = self.lodge(None, Some(cycle.parse.text), message, backend, core, lanes) {
            return Some((0, next));
        }
        match known {
            Some(name) => {
                backend.repeats().keep_cycle(input);
                self.send_repeated(name, &cycle, message, lanes);
            }
            None => {
                let (name, closed) = backend.repeat(cycle.parse.rest, circumstances);
                self.make_room(closed, message, lanes);
                self.send_prepared(name, &cycle, message, lanes);
            }
        }
        Some((input.len(), Next::Go))
    }

    /// The cycle goes out by the name under which its text is prepared, without its Parse.
    fn send_repeated(&mut self, name: Name, cycle: &Cycle<'_>, message: Message<'_>, lanes: &mut Lanes) {
        let serial = self.statements.unnamed_replaced(cycle.parse.rest, None);
        let portal = self.portals.bind(b"", None, self.expects.next_at());
        cycle.pass_bind(name, message, lanes);
        self.repeating = true;
        let is_described = cycle.is_described;
        self.expect_cycle(Expect::Repeat(Repeated { name, serial, portal, is_described }), is_described, lanes);
    }

    /// The cycle goes out with its text prepared under a name.
    fn send_prepared(&mut self, name: Name, cycle: &Cycle<'_>, message: Message<'_>, lanes: &mut Lanes) {
        let serial = self.statements.unnamed_replaced(cycle.parse.rest, None);
        inject::parse(lanes.server.author(message.input), name.write(&mut [0; 32]), cycle.parse.rest);
        self.expects.push(Expect::Parse(Parsed::Repeated { serial, name }), &mut lanes.client);
        let portal = self.portals.bind(b"", None, self.expects.next_at());
        cycle.pass_bind(name, message, lanes);
        self.expect_cycle(Expect::Bind(Bound { portal, statement: Some(no_name()) }), cycle.is_described, lanes);
    }

    /// Whether a cycle that begins now may go out by a name. The server connection owes nothing, and the client is in no transaction.
    fn may_repeat(&self, core: &Core<'_>) -> bool {
        core.repeats
            && self.status == b'I'
            && self.expects.is_empty()
            && self.is_at_boundary()
            && self.pin.is_none()
            && self.barrier == Barrier::None
            && self.touched.is_empty()
            && self.transaction.is_untouched()
            && self.reported.is_none()
            && !self.early_data
    }

    /// Whether a text is one of those that may be prepared; none where that can't be known now.
    fn is_repeatable(&self, text: &[u8], core: &mut Core<'_>) -> Option<bool> {
        if self.reader() != Reader::DEFAULT {
            return None;
        }
        let catalog = (core.catalog)()?;
        Some(core.analysis.is_repeatable(text, &catalog))
    }

    fn expect_cycle(&mut self, bound: Expect, is_described: bool, lanes: &mut Lanes) {
        let described = is_described.then_some(Expect::Describe);
        for each in [Some(bound), described, Some(Expect::Execute(None)), Some(Expect::Sync)].into_iter().flatten() {
            self.expects.push(each, &mut lanes.client);
        }
        self.in_cycle = false;
    }

    /// What went out by a name failed before it ran. Either the error would be the same without, or the cycle is sent again as it came.
    pub(super) fn repeat_failed(&mut self, repeated: Repeated, seen: &[u8], backend: &mut BackendState) -> Fate {
        self.repeating = false;
        let state = open::error_field(seen, b'C').map_or(&b""[..], |range| &seen[range]);
        if OTHERS.iter().any(|class| state.starts_with(class)) || OTHER_STATES.contains(&state) {
            self.statements.unnamed_confirmed(repeated.serial);
            self.expects.stand_in(Expect::Bind(Bound { portal: repeated.portal, statement: None }));
            return Fate::RelayUnrepeated;
        }
        backend.repeat_aged(repeated.name);
        drop(self.expects.skip_to_sync());
        self.expects.stand_in(Expect::Injected(Injected::Again(repeated)));
        Fate::Swallow
    }

    /// The server has answered the Sync of such a cycle: the cycle goes out as the client sent it.
    pub(super) fn send_again(&mut self, backend: &mut BackendState, lanes: &mut Lanes) {
        let Some(Expect::Injected(Injected::Again(repeated))) = self.expects.pop(&[], &mut lanes.client) else {
            return;
        };
        lanes.server.author(&[]).extend_from_slice(backend.repeats().cycle());
        backend.set_unnamed(Unnamed::Of(self.id, repeated.serial));
        self.expects.push(Expect::Parse(Parsed::Unnamed(repeated.serial)), &mut lanes.client);
        let bound = Expect::Bind(Bound { portal: repeated.portal, statement: None });
        self.expect_cycle(bound, repeated.is_described, lanes);
    }
}

/// The name of the client's unnamed statement.
fn no_name() -> Arc<[u8]> {
    static NONE: OnceLock<Arc<[u8]>> = OnceLock::new();
    NONE.get_or_init(Arc::default).clone()
}
