//! Bind, Describe and Close of an attached client, and where its statements are (`preparing` has Parse). A named statement is prepared on a server connection under a name
//! of ours and shared by all clients that prepared the same, but each client's own Parse is Postgres' to answer: what one has prepared stands
//! for those that prepared before it. The unnamed statement is the client's own and follows it.

use std::sync::Arc;

use crate::backend::{BackendState, Body, Moment, Name, Parsing, Unnamed};
use crate::domain::{Fault, Origin, SqlState};
use crate::sql::{Facts, PinReason};
use crate::wire::frame::HEAD;
use crate::wire::inject;
use crate::wire::open::{self, BindHead, Named, named};

use super::client::{Message, Next};
use super::expect::{Bound, Expect, Injected, Own};
use super::happened::Texts;
use super::portals::{Portal, Ran};
use super::statements::Place;
use super::{Core, Lanes, Session};

impl Session {
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
            // It is left there if the DEALLOCATE fails.
            self.make_known(message, name, backend, lanes);
            surfaced = true;
        }
        surfaced
    }

    /// Makes a name known on this server connection, with an empty text, which not even a failed transaction refuses. It may be left
    /// there, so the connection is cleared when it is given back.
    pub(super) fn make_known(
        &mut self,
        message: Message<'_>,
        name: &[u8],
        backend: &mut BackendState,
        lanes: &mut Lanes,
    ) {
        let out = lanes.server.author(message.input);
        inject::about_statement(out, b'C', name);
        inject::parse(out, name, b"\0\0\0");
        self.expects.push(Expect::Injected(Injected::CloseSurfaced), &mut lanes.client);
        self.expects.push(Expect::Injected(Injected::Throwaway), &mut lanes.client);
        self.thrown_away.push(name.into());
        backend.soil();
    }

    /// A statement with these facts is about to be executed, and so are the client's that it names.
    pub(super) fn arm_all(&mut self, facts: &Arc<Facts>, backend: &mut BackendState, core: &Core<'_>) {
        if facts.may_alter() {
            // Before it runs, and when it has taken effect.
            core.bodies.alterations().note();
            self.alters = true;
        }
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
    pub(super) fn take_back(&mut self, name: &[u8], message: Message<'_>, lanes: &mut Lanes) -> bool {
        let left = self.thrown_away.iter().any(|each| **each == *name);
        if left {
            self.thrown_away.retain(|each| **each != *name);
            inject::about_statement(lanes.server.author(message.input), b'C', name);
            self.expects.push(Expect::Injected(Injected::CloseSurfaced), &mut lanes.client);
        }
        left
    }

    /// Writes a Parse of a shared statement, behind the Closes that make room for it.
    pub(super) fn prepare(
        &mut self,
        message: Message<'_>,
        body: &Arc<Body>,
        sent: Moment,
        expect: Expect,
        backend: &mut BackendState,
        lanes: &mut Lanes,
    ) -> Name {
        let (name, closed) = backend.prepare(body, sent);
        self.make_room(closed, message, lanes);
        inject::parse(lanes.server.author(message.input), name.write(&mut [0; 32]), body.rest());
        self.expects.push(expect, &mut lanes.client);
        name
    }

    /// Closes statements of ours on the server connection.
    pub(super) fn make_room(&mut self, closed: Vec<Name>, message: Message<'_>, lanes: &mut Lanes) {
        for closed in closed {
            inject::about_statement(lanes.server.author(message.input), b'C', closed.write(&mut [0; 32]));
            self.expects.push(Expect::Injected(Injected::Drop(closed)), &mut lanes.client);
        }
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
pub(super) fn executes(facts: Option<&Arc<Facts>>) -> bool {
    facts.is_some_and(|facts| !facts.prepared.is_empty() && facts.pins != Some(PinReason::Prepare))
}

/// Why a text may not have a name: Postgres could be made to recurse by it, if SQL knew that name.
pub(super) fn unread_name() -> Fault {
    let text = "a text that can't be read can't be prepared under a name if it may execute prepared statements";
    Fault::new(Origin::Client, SqlState::FEATURE_NOT_SUPPORTED, text)
        .hint("Prepare it without a name, or leave out what stands in front of its first word.")
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
