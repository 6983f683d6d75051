//! Parse, Bind, Describe and Close of an attached client. A named statement is prepared on a server connection under a name
//! of ours and shared by all clients that prepared the same, but each client's own Parse is Postgres' to answer: what one has prepared stands
//! for those that prepared before it. The unnamed statement is the client's own and follows it.

use std::sync::Arc;

use crate::backend::{BackendState, Body, Moment, Name, Parsing, Unnamed};
use crate::domain::{Fault, Origin, SqlState};
use crate::sql::{Facts, PinReason};
use crate::wire::frame::HEAD;
use crate::wire::inject;
use crate::wire::open::{self, BindHead, Named, Parse, named};

use super::channels;
use super::client::{Message, Next};
use super::expect::{Bound, Expect, Injected, Own, Parsed};
use super::happened::Texts;
use super::portals::{Portal, Ran};
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
        if std::str::from_utf8(parse.name).is_err() {
            // What it says depends on the client's encoding, in which only Postgres can read it.
            self.pin = self.pin.or(Some(PinReason::NotUnderstood));
            self.send_parse(parse, is_renamed, message, Expect::Parse(Parsed::Free), lanes);
            return Next::Go;
        }
        if self.statements.get(parse.name).is_some() {
            self.know_again(message, parse.name, backend, lanes);
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

    /// Whether a text names prepared statements of which an error could still take one away, or bring one back.
    pub(super) fn names_depend_on_answers(&self, facts: Option<&Facts>) -> bool {
        facts.is_some_and(|facts| !facts.prepared.is_empty() || !facts.deallocates.is_empty())
            && (self.may_lose_names() || self.expects.may_undo_names())
            && !self.expects.is_empty()
    }

    /// Whether what a message means depends on answers that are still to come: an error in an earlier cycle could take its
    /// statement's name away, or bring it back; an error in its own cycle makes the server skip a Query; and what follows copy
    /// data may be read as such, or not.
    pub(super) fn depends_on_answers(&self, message: Message<'_>) -> bool {
        if self.skipping || self.copying_in || self.expects.is_empty() {
            return false;
        }
        if self.early_data && !matches!(message.frame.tag, b'd' | b'c' | b'f') {
            return true;
        }
        let seen = message.seen();
        let may_lose_names = self.may_lose_names();
        let name = match message.frame.tag {
            b'Q' | b'F' => return self.in_cycle,
            b'P' => return (may_lose_names || self.expects.may_undo_names()) && seen.get(HEAD) != Some(&0),
            b'E' => {
                // Another cycle's error may leave the portal bound to what it was before.
                let bound_at = open::portal(seen).and_then(|name| self.portals.bound_at(name));
                return bound_at.is_some_and(|at| self.expects.is_of_earlier_cycle(at));
            }
            b'B' => BindHead::open(seen, message.frame.total).ok().flatten().map(|head| head.statement),
            b'C' | b'D' => match named(seen) {
                Ok(Named::Statement(name)) => Some(name),
                _ => None,
            },
            _ => None,
        };
        match name {
            Some(b"") => self.expects.may_undo_unnamed() && message.frame.tag != b'C',
            Some(_) => may_lose_names || self.expects.may_undo_names(),
            None => false,
        }
    }

    /// A statement too long to be kept is on this server connection only, and so is its client.
    fn parse_unread(&mut self, message: Message<'_>, backend: &mut BackendState, lanes: &mut Lanes) {
        self.in_cycle = true;
        self.pin = self.pin.or(Some(PinReason::NotUnderstood));
        if message.seen().get(HEAD) != Some(&0) {
            return self.parse_free(message, lanes);
        }
        let serial = self.statements.unnamed_replaced(&[], Some(Arc::new(Facts::unknown())));
        backend.set_unnamed(Unnamed::Of(self.id, serial));
        self.send(message, Expect::Parse(Parsed::Unnamed(serial)), lanes);
    }

    /// The client prepares under a name that it has already. Postgres itself raises the error: the name is made known
    /// to it first, with an empty text, which not even a failed transaction refuses, and the server connection is
    /// cleared when it is given back.
    fn know_again(&mut self, message: Message<'_>, name: &[u8], backend: &mut BackendState, lanes: &mut Lanes) {
        if self.statements.get(name).is_none_or(|statement| statement.place == Place::Shared) {
            let out = lanes.server.author(message.input);
            inject::about_statement(out, b'C', name);
            inject::parse(out, name, b"\0\0\0");
            self.expects.push(Expect::Injected(Injected::CloseSurfaced), &mut lanes.client);
            self.expects.push(Expect::Injected(Injected::Throwaway), &mut lanes.client);
            self.thrown_away.push(name.into());
            backend.soil();
        }
    }

    /// Makes the client's statements that are named in SQL known under the client's own names. What executes them or takes
    /// their names keeps the client on this server connection; what removes them finds an empty text there, which no
    /// transaction refuses. Within a cycle they are part of it; else a Sync must follow, if this says so.
    pub(super) fn surface(
        &mut self,
        facts: &Facts,
        message: Message<'_>,
        backend: &mut BackendState,
        lanes: &mut Lanes,
    ) -> bool {
        let in_cycle = message.frame.tag != b'Q';
        let mut surfaced = false;
        for name in facts.prepared.iter().map(|name| name.as_bytes()) {
            let Some(statement) = self.statements.get_mut(name) else {
                surfaced |= self.take_back(name, message, lanes);
                continue;
            };
            // What executes others isn't known to SQL, but its name is taken.
            let is_hidden = executes(statement.body.facts());
            if is_hidden && facts.pins != Some(PinReason::Prepare) {
                continue;
            }
            self.pin.get_or_insert(PinReason::Prepare);
            if statement.place != Place::Shared {
                continue;
            }
            statement.place = Place::Surfaced;
            let out = lanes.server.author(message.input);
            // An empty text may have been left there.
            inject::about_statement(out, b'C', name);
            inject::parse(out, name, if is_hidden { b"\0\0\0" } else { statement.body.rest() });
            self.expects.push(Expect::Injected(Injected::CloseSurfaced), &mut lanes.client);
            let kept = name.into();
            let injected = if in_cycle { Injected::SurfaceInCycle(kept) } else { Injected::Surface(kept) };
            self.expects.push(Expect::Injected(injected), &mut lanes.client);
            surfaced = true;
        }
        if message.frame.tag == b'P' {
            return surfaced;
        }
        for name in facts.deallocates.iter().map(|name| name.as_bytes()) {
            if self.statements.get(name).is_none_or(|statement| statement.place != Place::Shared) {
                continue;
            }
            let out = lanes.server.author(message.input);
            inject::about_statement(out, b'C', name);
            inject::parse(out, name, b"\0\0\0");
            self.expects.push(Expect::Injected(Injected::CloseSurfaced), &mut lanes.client);
            self.expects.push(Expect::Injected(Injected::Throwaway), &mut lanes.client);
            // It is left there if the DEALLOCATE fails.
            self.thrown_away.push(name.into());
            backend.soil();
            surfaced = true;
        }
        surfaced
    }

    /// A statement with these facts is about to be executed, and so are the client's that it names.
    pub(super) fn arm_all(&mut self, facts: &Arc<Facts>, backend: &mut BackendState, core: &Core<'_>) {
        self.arm(facts);
        for name in &facts.prepared {
            let named = self.statements.get(name.as_bytes()).and_then(|statement| statement.body.facts().cloned());
            if let Some(named) = named {
                self.note_facts(&named, backend, core);
                self.arm(&named);
            }
        }
    }

    /// Closes an empty text of ours that was left under a name. Says whether there may have been one.
    fn take_back(&mut self, name: &[u8], message: Message<'_>, lanes: &mut Lanes) -> bool {
        let left = self.thrown_away.iter().any(|each| **each == *name);
        if left {
            self.thrown_away.retain(|each| **each != *name);
            inject::about_statement(lanes.server.author(message.input), b'C', name);
            self.expects.push(Expect::Injected(Injected::CloseSurfaced), &mut lanes.client);
        }
        left
    }

    /// Writes a Parse of a shared statement, behind the Closes that make room for it.
    fn prepare(
        &mut self,
        message: Message<'_>,
        body: &Arc<Body>,
        sent: Moment,
        expect: Expect,
        backend: &mut BackendState,
        lanes: &mut Lanes,
    ) -> Name {
        let (name, closed) = backend.prepare(body, sent);
        for closed in closed {
            inject::about_statement(lanes.server.author(message.input), b'C', closed.write(&mut [0; 32]));
            self.expects.push(Expect::Injected(Injected::Drop(closed)), &mut lanes.client);
        }
        inject::parse(lanes.server.author(message.input), name.write(&mut [0; 32]), body.rest());
        self.expects.push(expect, &mut lanes.client);
        name
    }

    pub(super) fn bind(
        &mut self,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &mut Core<'_>,
        lanes: &mut Lanes,
    ) -> Result<Next, Fault> {
        if let Some(fault) = self.portals.no_room() {
            return Err(fault);
        }
        let Ok(Some(head)) = BindHead::open(message.seen(), message.frame.total) else {
            self.settle_first(message, backend, lanes);
            self.in_cycle = true;
            self.send(message, Expect::Bind(Bound::default()), lanes);
            return Ok(Next::Go);
        };
        if self.is_bind_looked_into() {
            let (facts, rest) = self.statements.bound(head.statement);
            let text = rest.as_deref().and_then(|rest| rest.split(|byte| *byte == 0).next());
            if let Some(next) = self.lodge(facts.as_deref(), text, message, backend, core, lanes) {
                return Ok(next);
            }
        }
        self.settle_first(message, backend, lanes);
        self.in_cycle = true;
        self.bind_to(head, message, backend, core, lanes);
        Ok(Next::Go)
    }

    fn bind_to(
        &mut self,
        head: BindHead<'_>,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &Core<'_>,
        lanes: &mut Lanes,
    ) {
        if head.statement.is_empty() {
            let facts = self.statements.unnamed_facts().cloned();
            self.bring_unnamed(message, backend, lanes);
            let text = self.statements.unnamed().and_then(|rest| full_text(rest, core));
            let portal = self.bound(head.portal, facts.as_ref(), text, backend, core);
            return self.send(message, Expect::Bind(Bound { portal, statement: None }), lanes);
        }
        let Some((own_name, statement)) = self.statements.get_with_name(head.statement) else {
            self.take_back(head.statement, message, lanes);
            // It may have been prepared by SQL, or by a Parse too long to be opened.
            let portal = self.bound(head.portal, Some(&Arc::new(Facts::hidden())), None, backend, core);
            return self.send(message, Expect::Bind(Bound { portal, statement: None }), lanes);
        };
        let (own_name, body, parsing) = (own_name.clone(), statement.body.clone(), statement.parsing);
        if statement.place == Place::Own {
            let portal = self.bound(head.portal, body.facts(), full_text(body.rest(), core), backend, core);
            return self.send(message, Expect::Bind(Bound { portal, statement: None }), lanes);
        }
        let name = self.bring(&body, parsing, message, backend, core, lanes);
        let out = lanes.server.author(message.input);
        inject::bind_head(out, head.portal, name.write(&mut [0; 32]), message.frame.total - head.bytes);
        self.pass_from(message, head.bytes, lanes);
        let portal = self.bound(head.portal, body.facts(), full_text(body.rest(), core), backend, core);
        self.expects.push(Expect::Bind(Bound { portal, statement: Some(own_name) }), &mut lanes.client);
    }

    fn bound(
        &mut self,
        portal: &[u8],
        facts: Option<&Arc<Facts>>,
        text: Option<Arc<str>>,
        backend: &mut BackendState,
        core: &Core<'_>,
    ) -> Option<u64> {
        if let Some(facts) = facts {
            self.note_facts(facts, backend, core);
        }
        let bound = facts.map(|facts| Portal { facts: facts.clone(), text, ran: Ran::No });
        self.portals.bind(portal, bound, self.expects.next_at())
    }

    pub(super) fn describe(
        &mut self,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &Core<'_>,
        lanes: &mut Lanes,
    ) {
        self.in_cycle = true;
        match named(message.seen()) {
            Ok(Named::Statement(b"")) => self.bring_unnamed(message, backend, lanes),
            Ok(Named::Statement(name)) => {
                if let Some(statement) = self.statements.get(name).filter(|each| each.place != Place::Own) {
                    let (body, parsing) = (statement.body.clone(), statement.parsing);
                    let name = self.bring(&body, parsing, message, backend, core, lanes);
                    inject::about_statement(lanes.server.author(message.input), b'D', name.write(&mut [0; 32]));
                    return self.expects.push(Expect::Describe, &mut lanes.client);
                }
                self.take_back(name, message, lanes);
            }
            Ok(Named::Portal(_)) | Err(_) => {}
        }
        self.send(message, Expect::Describe, lanes);
    }

    pub(super) fn close(&mut self, message: Message<'_>, backend: &mut BackendState, lanes: &mut Lanes) {
        self.in_cycle = true;
        match named(message.seen()) {
            Ok(Named::Statement(b"")) => {
                let serial = self.statements.unnamed_replaced(&[], None);
                backend.set_unnamed(Unnamed::None);
                return self.send(message, Expect::CloseUnnamed(serial), lanes);
            }
            Ok(Named::Statement(name)) => {
                if let Some(statement) = self.statements.remove(name) {
                    if statement.place != Place::Shared {
                        inject::about_statement(lanes.server.author(message.input), b'C', name);
                        self.expects.push(Expect::Injected(Injected::CloseSurfaced), &mut lanes.client);
                    }
                    let own = Own::CloseComplete(name.into(), Box::new(statement));
                    return self.expects.push(Expect::Own(own), &mut lanes.client);
                }
            }
            Ok(Named::Portal(name)) if self.portals.knows(name) => {
                return self.send(message, Expect::ClosePortal(name.into()), lanes);
            }
            Ok(Named::Portal(_)) | Err(_) => {}
        }
        self.send(message, Expect::Close, lanes);
    }

    /// Makes sure that a shared statement is on this server connection, as a client's Parse saw it or later.
    fn bring(
        &mut self,
        body: &Arc<Body>,
        parsing: Parsing,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &Core<'_>,
        lanes: &mut Lanes,
    ) -> Name {
        if let Some(name) = backend.statement(body, parsing) {
            return name;
        }
        let sent = core.bodies.moment();
        let expect = Expect::Injected(Injected::Parse(body.id(), sent));
        self.prepare(message, body, sent, expect, backend, lanes)
    }

    /// Makes sure that the unnamed statement on this server connection is the client's, or none.
    fn bring_unnamed(&mut self, message: Message<'_>, backend: &mut BackendState, lanes: &mut Lanes) {
        let mine = Unnamed::Of(self.id, self.statements.unnamed_serial());
        if backend.unnamed() == mine {
            return;
        }
        if let Some(rest) = self.statements.unnamed() {
            inject::parse(lanes.server.author(message.input), b"", rest);
            backend.set_unnamed(mine);
            self.expects.push(Expect::Injected(Injected::Unnamed), &mut lanes.client);
        } else if backend.unnamed() != Unnamed::None {
            inject::about_statement(lanes.server.author(message.input), b'C', b"");
            backend.set_unnamed(Unnamed::None);
            self.expects.push(Expect::Injected(Injected::Close), &mut lanes.client);
        }
    }
}

/// Whether a statement executes prepared ones; PREPARE doesn't. Such a one is never known to SQL: EXPLAIN EXECUTE of a statement that executes
/// itself recurses in Postgres until the server process is gone, and all others with it.
fn executes(facts: Option<&Arc<Facts>>) -> bool {
    facts.is_some_and(|facts| !facts.prepared.is_empty() && facts.pins != Some(PinReason::Prepare))
}

/// Why SQL may not name prepared statements as it does: names of ours are nobody's.
pub(super) fn names_ours(facts: Option<&Arc<Facts>>) -> Option<Fault> {
    let mut names = facts.into_iter().flat_map(|facts| facts.prepared.iter().chain(&facts.deallocates));
    let name = names.find(|name| name.as_bytes().starts_with(Name::PREFIX))?;
    let text = format!("prepared statement \"{name}\" does not exist: names that begin so are the proxy's own");
    Some(Fault::new(Origin::Client, SqlState::UNKNOWN_STATEMENT, text))
}

/// The text in what follows a name in a Parse, if the trail keeps texts as they were sent.
fn full_text(rest: &[u8], core: &Core<'_>) -> Option<Arc<str>> {
    if core.audit.texts != Texts::Full {
        return None;
    }
    let text = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(text).into())
}
