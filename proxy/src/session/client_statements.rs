//! Parse, Bind, Describe and Close of an attached client. A named statement is prepared on a server connection under a name
//! of ours and shared by all clients that prepared the same; the unnamed one is the client's own and follows it.

use std::sync::Arc;

use crate::backend::{BackendState, Body, Unnamed};
use crate::domain::limits::CLIENT_STATEMENTS_MAX;
use crate::domain::{Fault, Origin, SqlState};
use crate::sql::{Facts, PinReason};
use crate::wire::frame::HEAD;
use crate::wire::inject;
use crate::wire::open::{self, BindHead, Named, Parse, named};

use super::client::Message;
use super::effects::Removal;
use super::expect::{Expect, Injected, Own, Parsed};
use super::happened::Texts;
use super::portals::{Portal, Ran};
use super::{Core, Lanes, Session};

impl Session {
    pub(super) fn parse(
        &mut self,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &mut Core<'_>,
        lanes: &mut Lanes,
    ) -> Result<(), Fault> {
        self.in_cycle = true;
        if !message.is_whole() {
            self.parse_unread(message, backend, lanes);
            return Ok(());
        }
        let Ok(parse) = Parse::open(message.seen()) else {
            self.parse_free(message, lanes);
            return Ok(());
        };
        let facts = core.analysis.facts(parse.text);
        if let Some(fault) = self.guarded(facts.as_ref(), core) {
            self.deny(message, fault, backend, lanes);
            return Ok(());
        }
        if parse.name.is_empty() {
            let serial = self.statements.unnamed_replaced(parse.rest, facts);
            backend.set_unnamed(Unnamed::Of(self.id, serial));
            self.send(message, Expect::Parse(Parsed::Unnamed(serial)), lanes);
            return Ok(());
        }
        if self.statements.get(parse.name).is_some() {
            self.parse_again(message, parse.name, backend, lanes);
            return Ok(());
        }
        if self.statements.len() >= CLIENT_STATEMENTS_MAX {
            let text = format!("more than {CLIENT_STATEMENTS_MAX} prepared statements in one session");
            return Err(Fault::new(Origin::Client, SqlState::CONFIGURATION_LIMIT_EXCEEDED, text));
        }
        let body = core.bodies.intern(self.settings.meaning(), parse.rest, facts);
        self.statements.insert(parse.name, body.clone());
        self.parse_shared(message, parse.name, &body, backend, lanes);
        Ok(())
    }

    /// Whether what a message means depends on answers that are still to come: an error in an earlier cycle could take its
    /// statement's name away, or bring it back; an error in its own cycle makes the server skip a Query.
    pub(super) fn depends_on_answers(&self, message: Message<'_>) -> bool {
        if self.skipping || self.copying_in || self.expects.is_empty() {
            return false;
        }
        let seen = message.seen();
        let name = match message.frame.tag {
            b'Q' => return self.in_cycle,
            // Whether it is prepared here already matters only as long as the transaction isn't a failed one.
            b'P' => return self.expects.has_earlier_cycle() && seen.get(HEAD) != Some(&0),
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
            Some(_) => self.expects.may_undo_names(),
            None => false,
        }
    }

    /// A statement too long to be kept is on this server connection only, and so is its client.
    fn parse_unread(&mut self, message: Message<'_>, backend: &mut BackendState, lanes: &mut Lanes) {
        self.pin = self.pin.or(Some(PinReason::NotUnderstood));
        if message.seen().get(HEAD) != Some(&0) {
            return self.parse_free(message, lanes);
        }
        let serial = self.statements.unnamed_replaced(&[], Some(Arc::new(Facts::unknown())));
        backend.set_unnamed(Unnamed::Of(self.id, serial));
        self.send(message, Expect::Parse(Parsed::Unnamed(serial)), lanes);
    }

    /// The client prepares a statement: on this server connection somebody may have done so already.
    fn parse_shared(
        &mut self,
        message: Message<'_>,
        name: &[u8],
        body: &Arc<Body>,
        backend: &mut BackendState,
        lanes: &mut Lanes,
    ) {
        let expect = Expect::Parse(Parsed::Named(name.into(), body.id()));
        if self.status == b'E' {
            // In a failed transaction Postgres decides by the text what may still be prepared. It is shown the text
            // without a name, so that nothing shared is made of it.
            inject::parse(lanes.server.author(message.input), b"", body.rest());
            backend.set_unnamed(Unnamed::Unknown);
            self.expects.push(expect, &mut lanes.client);
        } else if backend.statement(body).is_some() {
            self.expects.push(Expect::Own(Own::ParseComplete(name.into())), &mut lanes.client);
        } else {
            self.prepare(message, body, expect, backend, lanes);
        }
    }

    /// The client prepares under a name that it has already. Postgres itself raises the error: the name is made known
    /// to it first, with an empty text, which not even a failed transaction refuses, and the server connection is
    /// cleared when it is given back.
    fn parse_again(&mut self, message: Message<'_>, name: &[u8], backend: &mut BackendState, lanes: &mut Lanes) {
        let out = lanes.server.author(message.input);
        inject::about_statement(out, b'C', name);
        inject::parse(out, name, b"\0\0\0");
        self.expects.push(Expect::Injected(Injected::Close), &mut lanes.client);
        self.expects.push(Expect::Injected(Injected::Throwaway), &mut lanes.client);
        backend.soil();
        self.parse_free(message, lanes);
    }

    fn prepare(
        &mut self,
        message: Message<'_>,
        body: &Arc<Body>,
        expect: Expect,
        backend: &mut BackendState,
        lanes: &mut Lanes,
    ) {
        let (name, evicted) = backend.prepare(body);
        if let Some(evicted) = evicted {
            inject::about_statement(lanes.server.author(message.input), b'C', evicted.write(&mut [0; 32]));
            self.expects.push(Expect::Injected(Injected::Close), &mut lanes.client);
        }
        inject::parse(lanes.server.author(message.input), name.write(&mut [0; 32]), body.rest());
        self.expects.push(expect, &mut lanes.client);
    }

    pub(super) fn bind(
        &mut self,
        message: Message<'_>,
        backend: &mut BackendState,
        core: &Core<'_>,
        lanes: &mut Lanes,
    ) {
        self.in_cycle = true;
        let Ok(Some(head)) = BindHead::open(message.seen(), message.frame.total) else {
            return self.send(message, Expect::Bind(None), lanes);
        };
        if head.statement.is_empty() {
            let facts = self.statements.unnamed_facts().cloned();
            self.bring_unnamed(message, backend, lanes);
            let text = self.statements.unnamed().and_then(|rest| full_text(rest, core));
            let bound = self.bound(head.portal, facts.as_ref(), text, backend, core);
            return self.send(message, Expect::Bind(bound), lanes);
        }
        let Some(body) = self.statements.get(head.statement).cloned() else {
            // It may have been prepared by SQL, or by a Parse too long to be opened.
            let bound = self.bound(head.portal, Some(&Arc::new(Facts::hidden())), None, backend, core);
            return self.send(message, Expect::Bind(bound), lanes);
        };
        let name = self.bring(&body, message, backend, lanes);
        let out = lanes.server.author(message.input);
        inject::bind_head(out, head.portal, name.write(&mut [0; 32]), message.frame.total - head.bytes);
        self.pass_from(message, head.bytes, lanes);
        let bound = self.bound(head.portal, body.facts(), full_text(body.rest(), core), backend, core);
        self.expects.push(Expect::Bind(bound), &mut lanes.client);
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
            self.bound = self.bound.and(Removal::of(facts));
        }
        let bound = facts.map(|facts| Portal { facts: facts.clone(), text, ran: Ran::No });
        self.portals.bind(portal, bound, self.expects.next_at())
    }

    pub(super) fn describe(&mut self, message: Message<'_>, backend: &mut BackendState, lanes: &mut Lanes) {
        self.in_cycle = true;
        match named(message.seen()) {
            Ok(Named::Statement(b"")) => self.bring_unnamed(message, backend, lanes),
            Ok(Named::Statement(name)) => {
                if let Some(body) = self.statements.get(name).cloned() {
                    let name = self.bring(&body, message, backend, lanes);
                    inject::about_statement(lanes.server.author(message.input), b'D', name.write(&mut [0; 32]));
                    return self.expects.push(Expect::Describe, &mut lanes.client);
                }
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
                if let Some(body) = self.statements.remove(name) {
                    return self.expects.push(Expect::Own(Own::CloseComplete(name.into(), body)), &mut lanes.client);
                }
            }
            Ok(Named::Portal(name)) if self.portals.knows(name) => {
                return self.send(message, Expect::ClosePortal(name.into()), lanes);
            }
            Ok(Named::Portal(_)) | Err(_) => {}
        }
        self.send(message, Expect::Close, lanes);
    }

    /// Makes sure that a shared statement is on this server connection.
    fn bring(
        &mut self,
        body: &Arc<Body>,
        message: Message<'_>,
        backend: &mut BackendState,
        lanes: &mut Lanes,
    ) -> crate::backend::state::Name {
        if let Some(name) = backend.statement(body) {
            return name;
        }
        self.prepare(message, body, Expect::Injected(Injected::Parse(body.id())), backend, lanes);
        backend.statement(body).unwrap_or_else(|| backend.prepare(body).0)
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

/// The text in what follows a name in a Parse, if the trail keeps texts as they were sent.
fn full_text(rest: &[u8], core: &Core<'_>) -> Option<Arc<str>> {
    if core.audit.texts != Texts::Full {
        return None;
    }
    let text = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(text).into())
}
