//! Parse of an attached client: what it prepares, under a name or under none, and perhaps with another text than it sent.

use std::sync::Arc;

use crate::backend::{BackendState, Unnamed};
use crate::sql::first_word::may_execute;
use crate::sql::{Facts, PinReason};
use crate::wire::frame::HEAD;
use crate::wire::inject;
use crate::wire::open::Parse;

use super::channels;
use super::client::{Message, Next};
use super::client_statements::{executes, names_ours, unread_name};
use super::expect::{Expect, Parsed};
use super::statements::Place;
use super::{Core, Lanes, Session};

impl Session {
    pub(super) fn parse(
        &mut self,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &mut Core<'_>,
        lanes: &mut Lanes,
    ) -> Next {
        if !message.can_be_opened() {
            self.settle_first(message, backend, lanes);
            self.parse_unread(message, backend, lanes);
            return Next::Go;
        }
        let Ok(parse) = Parse::open(message.seen()) else {
            self.settle_first(message, backend, lanes);
            self.parse_free(message, lanes);
            return Next::Go;
        };
        let facts = core.analysis.facts(parse.text);
        if self.names_depend_on_answers(facts.as_deref()) {
            return Next::Wait;
        }
        if let Some(next) = self.lodge(facts.as_deref(), Some(parse.text), message, backend, core, lanes) {
            return next;
        }
        self.in_cycle = true;
        if let Some(fault) = self.guarded(facts.as_ref(), core).or_else(|| names_ours(facts.as_ref())) {
            self.deny(message, fault, backend, lanes);
            return Next::Go;
        }
        let renamed = match self.renamed(parse.text, facts.as_ref(), backend, core) {
            Ok(renamed) => renamed,
            Err(fault) => {
                self.deny(message, fault, backend, lanes);
                return Next::Go;
            }
        };
        if let Some(facts) = &facts {
            self.surface(facts, message, backend, lanes);
        }
        let parse = Parse { rest: &channels::rest(&parse, renamed.as_ref()), ..parse };
        let next = self.parse_opened(&parse, renamed.is_some(), facts, message, backend, core, lanes);
        // What is owed for it is the last that was queued.
        let behind = self.expects.next_at();
        self.note_changed(behind.saturating_sub(1)..behind, renamed);
        next
    }

    /// A Parse whose text may be another one than the message's.
    #[allow(clippy::too_many_arguments, reason = "it is the second half of `parse`")]
    fn parse_opened(
        &mut self,
        parse: &Parse<'_>,
        is_renamed: bool,
        facts: Option<Arc<Facts>>,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &mut Core<'_>,
        lanes: &mut Lanes,
    ) -> Next {
        if parse.name.is_empty() {
            let serial = self.statements.unnamed_replaced(parse.rest, facts);
            backend.set_unnamed(Unnamed::Of(self.id, serial));
            self.send_parse(parse, is_renamed, message, Expect::Parse(Parsed::Unnamed(serial)), lanes);
            return Next::Go;
        }
        let is_unread = facts.as_ref().is_none_or(|facts| !facts.is_understood());
        if is_unread && may_execute(parse.text, true) {
            self.deny(message, unread_name(), backend, lanes);
            return Next::Go;
        }
        if std::str::from_utf8(parse.name).is_err() {
            // What it says depends on the client's encoding, in which only Postgres can read it.
            self.pin = self.pin.or(Some(PinReason::NotUnderstood));
            self.send_parse(parse, is_renamed, message, Expect::Parse(Parsed::Free), lanes);
            return Next::Go;
        }
        if let Some(statement) = self.statements.get(parse.name) {
            // It has that name already. Postgres itself raises the error, and must know the name for that.
            if statement.place == Place::Shared {
                self.make_known(message, parse.name, backend, lanes);
            }
            self.send_parse(parse, is_renamed, message, Expect::Parse(Parsed::Free), lanes);
            return Next::Go;
        }
        if let Some(fault) = self.statements.no_room_for(parse.name, parse.rest, core.bodies) {
            self.deny(message, fault, backend, lanes);
            return Next::Go;
        }
        let (body, sent) = (core.bodies.intern(self.settings.meaning(), parse.rest, facts), core.bodies.moment());
        let kept = self.statements.prepare(parse.name, body.clone(), sent, core.bodies);
        if self.pin.is_some() && !executes(body.facts()) {
            // The names that its SQL knows and those of the protocol are the same, and nobody else has any here.
            kept.place = Place::Own;
            self.take_back(parse.name, message, lanes);
            let expect = Expect::Parse(Parsed::Named { name: parse.name.into(), body: body.id(), sent });
            self.send_parse(parse, is_renamed, message, expect, lanes);
            return Next::Go;
        }
        // Somebody may have prepared the same here. But tables may have been altered since, by whomever, and this client
        // is to see what they are now.
        let expect = Expect::Parse(Parsed::Named { name: parse.name.into(), body: body.id(), sent });
        self.prepare(message, &body, sent, expect, backend, lanes);
        Next::Go
    }

    /// Passes a Parse on, as it came or with another text.
    fn send_parse(
        &mut self,
        parse: &Parse<'_>,
        is_renamed: bool,
        message: Message<'_>,
        expect: Expect,
        lanes: &mut Lanes,
    ) {
        if is_renamed {
            inject::parse(lanes.server.author(message.input), parse.name, parse.rest);
            self.expects.push(expect, &mut lanes.client);
        } else {
            self.send(message, expect, lanes);
        }
    }

    /// A statement too long to be kept is on this server connection only, and so is its client.
    fn parse_unread(&mut self, message: Message<'_>, backend: &mut BackendState, lanes: &mut Lanes) {
        self.in_cycle = true;
        if message.seen().get(HEAD) != Some(&0) {
            let mut parts = message.seen()[HEAD..].splitn(3, |byte| *byte == 0).skip(1);
            if parts.next().is_none_or(|text| may_execute(text, parts.next().is_some())) {
                self.dropping = message.frame.total - message.seen().len();
                return self.deny(message, unread_name(), backend, lanes);
            }
            self.pin = self.pin.or(Some(PinReason::NotUnderstood));
            return self.parse_free(message, lanes);
        }
        self.pin = self.pin.or(Some(PinReason::NotUnderstood));
        let serial = self.statements.unnamed_replaced(&[], Some(Arc::new(Facts::unknown())));
        backend.set_unnamed(Unnamed::Of(self.id, serial));
        self.send(message, Expect::Parse(Parsed::Unnamed(serial)), lanes);
    }
}
