//! The questions before a statement goes out: may it be recorded, does the guard let it pass, does what it adds fit. What
//! is denied is replaced by a statement that makes Postgres itself raise an error; what may add an unknown number of rows
//! is held: it goes out, but its end doesn't before its rows are reserved.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::audit::{EventType, Outcome};
use crate::backend::{BackendState, Unnamed};
use crate::domain::{Fault, Origin, SqlState};
use crate::quota::{Answer, Moment, ResourceId};
use crate::sql::{
    Catalog, Effects, Facts, GuardHit, Object, Reader, Relation, RowBound, Rules, Statement, StatementKind,
};
use crate::tenant::guard::{self, Verdict};
use crate::wire::inject;

use super::client::Message;
use super::expect::{Expect, Injected};
use super::happened::{Happened, Texts};
use super::portals::Ran;
use super::watched::Watched;
use super::{Core, Lanes, Session};

/// What pg_dump and pg_restore call themselves.
const DUMPS: [&[u8]; 2] = [b"pg_dump", b"pg_restore"];
/// The settings without which a text means what its facts say.
const MEANING: [&str; 3] = crate::sql::effects::CHANGES_MEANING;

/// Rows that must be asked for before the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Of what.
    pub resource: ResourceId,
    /// How many are to be reserved.
    pub rows: u64,
    /// How many the same transaction has reserved already.
    pub own: u64,
    /// How many rows the statement adds; some of them may take the place of rows it deleted.
    pub(super) adds: u64,
}

/// A string or portal that is to be executed.
pub(super) struct Asking<'a> {
    pub(super) facts: Option<&'a Arc<Facts>>,
    /// Its text, where it is at hand.
    pub(super) text: Option<&'a [u8]>,
    /// The portal, by its serial number, and how far it was executed.
    pub(super) portal: Option<(u64, Ran)>,
    /// The most rows that the portal is to give out; none is no bound.
    pub(super) rows_max: u32,
}

/// What becomes of a statement.
pub(super) enum Admitted {
    /// It goes out.
    Send(Option<Box<Watched>>),
    /// Something must be asked first; then the same message comes again.
    Ask(Request),
    /// What it needs depends on what becomes of those before it; then the same message comes again.
    Wait,
    /// It doesn't go out.
    Denied(Fault),
}

/// What came of reserving for a message.
enum Claimed {
    /// What can be reserved before it is; what can't is to be held, or to be booked as it comes.
    All {
        /// It is to be held.
        is_held: bool,
    },
    Ask(Request),
    Wait,
}

/// What was asked for the message that comes next.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Reserved for it so far.
    claims: SmallVec<[(ResourceId, u64); 1]>,
    refused: Option<Fault>,
}

impl Session {
    /// Whether a text may go out at all: it is looked at when it comes, as a Query or a Parse.
    pub(super) fn guarded(&mut self, facts: Option<&Arc<Facts>>, core: &Core<'_>) -> Option<Fault> {
        let facts = facts.filter(|facts| self.workspace.is_some() && !facts.guard.is_empty())?;
        self.judged(&facts.guard, kept_text(facts, None, core), core)
    }

    /// The guard's word on these hits of a tenant's.
    pub(super) fn judged(&mut self, hits: &[GuardHit], statement: Option<Arc<str>>, core: &Core<'_>) -> Option<Fault> {
        let is_meant = |hit: &&GuardHit| self.is_meant(hit, core);
        match core.guard.verdict(hits.iter().filter(is_meant), self.allowed(core)) {
            Verdict::Allowed => None,
            Verdict::Warned(hit) => {
                self.happened.push(Happened::attempted(hit, false, statement));
                None
            }
            Verdict::Refused(hit) => {
                self.happened.push(Happened::attempted(hit, true, statement));
                Some(guard::fault(hit))
            }
        }
    }

    /// The rules that the session's key may break.
    pub(super) fn allowed(&self, core: &Core<'_>) -> Rules {
        self.key.as_ref().map_or_else(Rules::default, |key| (core.allowed)(key))
    }

    /// Whether an object that a text names is one of the application's. What no catalog knows is temporary, or isn't there,
    /// and Postgres says so itself.
    fn is_meant(&self, hit: &GuardHit, core: &Core<'_>) -> bool {
        let may_be_temporary = |relation: &Relation| relation.schema.is_none() && self.reader().has_temporary;
        let knows = |known: &dyn Fn(&Catalog) -> bool| (core.catalog)().is_some_and(|catalog| known(&catalog));
        match hit {
            GuardHit::Locks(relation) | GuardHit::ChangesObject(_, Object::Relation(relation)) => {
                !may_be_temporary(relation) && knows(&|catalog| catalog.has_relation(relation))
            }
            GuardHit::ChangesObject(_, Object::Function(name)) => knows(&|catalog| catalog.has_own_function(name)),
            GuardHit::ChangesObject(_, Object::Other) => !self.reader().has_temporary,
            // It begins with that, and Postgres fails it where rows would be left out. For anybody else that is no more.
            GuardHit::SetsRowSecurity => {
                !self.startup.get("application_name").is_some_and(|name| DUMPS.contains(&name))
            }
            _ => true,
        }
    }

    /// Asks what is to be asked before a string or portal is executed.
    pub(super) fn admit(&mut self, asking: Asking<'_>, core: &Core<'_>) -> Admitted {
        let Asking { facts, text, portal, rows_max } = asking;
        let Some(facts) = facts else { return Admitted::Send(None) };
        if let Some(fault) = self.asked.refused.take() {
            self.give_up_claims(core);
            return Admitted::Denied(fault);
        }
        if core.audit.refuses && facts.statements.iter().any(|each| !each.writes.is_empty()) {
            self.give_up_claims(core);
            let text = "the audit trail can't be written, so writes are refused";
            return Admitted::Denied(
                Fault::new(Origin::Proxy, SqlState::IO_ERROR, text).hint("Try again in a moment."),
            );
        }
        let again = portal.is_some_and(|(_, ran)| ran != Ran::No);
        let is_held = match self.claim(facts, again, core) {
            Claimed::All { is_held } => is_held,
            Claimed::Ask(request) => return Admitted::Ask(request),
            Claimed::Wait => return Admitted::Wait,
        };
        // Its moment is before whatever the statement deletes.
        let since = if self.workspace.is_some() { core.accounts.moment() } else { Moment::default() };
        let mut watched = Watched::new(facts.clone(), kept_text(facts, text, core), (core.clock)(), since);
        watched.is_held = is_held;
        watched.portal = portal.map(|(serial, _)| serial);
        watched.rows_max = rows_max;
        watched.again = again;
        for (resource, rows) in std::mem::take(&mut self.asked.claims) {
            watched.claim(resource, rows);
        }
        Admitted::Send(Some(Box::new(watched)))
    }

    /// Reserves what the statements add at most, as far as that is surely right. A portal that was executed before has done
    /// all that its own text adds.
    fn claim(&mut self, facts: &Arc<Facts>, again: bool, core: &Core<'_>) -> Claimed {
        const NOTHING: Claimed = Claimed::All { is_held: false };
        let Some(workspace) = self.workspace else { return NOTHING };
        let may_add = facts.statements.iter().any(|each| each.hidden || !each.writes.is_empty());
        if !may_add || core.accounts.definitions().resources().is_empty() || self.does_nothing(facts) {
            return NOTHING;
        }
        let reader = self.reader();
        let effects = match (core.catalog)() {
            Some(catalog) => Effects::of(facts, &catalog, reader),
            None => Effects::anything(),
        };
        let is_single = facts.statements.len() == 1;
        let can_hold = is_single
            && facts.statements.iter().all(|one| {
                matches!(
                    one.kind,
                    StatementKind::Insert
                        | StatementKind::Update
                        | StatementKind::Delete
                        | StatementKind::Merge
                        | StatementKind::Select
                )
            });
        let is_upsert = facts.statements.iter().any(|each| each.writes.iter().any(|write| write.upsert));
        let mut must_hold = effects.adds_hidden;
        let adds = if again { &[][..] } else { &effects.adds };
        for (resource, bound) in adds {
            let (resource, RowBound::AtMost(adds)) = (ResourceId(*resource), *bound) else {
                must_hold = true;
                continue;
            };
            if self.asked.claims.iter().any(|(claimed, ..)| *claimed == resource) {
                continue;
            }
            let (needed, own) = match self.transaction.begun() {
                Some(ledger) => (ledger.needed(resource, adds), ledger.own(resource)),
                None => (adds, 0),
            };
            // Room that the same transaction made is counted on only where it is sure that it is the same.
            let is_same = needed < adds && can_hold && !self.expects.may_change_transaction();
            let rows = if is_same { needed } else { adds };
            match core.accounts.try_reserve(workspace, resource, rows) {
                Answer::Granted | Answer::Unlimited => self.asked.claims.push((resource, rows)),
                // It may turn out to add nothing.
                Answer::Unsure if is_upsert && can_hold => must_hold = true,
                // Those before it may give back what they hold, or make room, or fail, and this one with them.
                Answer::Unsure if self.expects.may_change_transaction() => return Claimed::Wait,
                Answer::Unsure => return Claimed::Ask(Request { resource, rows, own, adds }),
            }
        }
        Claimed::All { is_held: must_hold && can_hold }
    }

    /// How the session reads texts.
    pub(super) fn reader(&self) -> Reader {
        Reader { default_settings: MEANING.iter().all(|name| self.is_default(name)), has_temporary: self.pin.is_some() }
    }

    /// Whether statements come into a failed transaction and don't end it. What is still on its way may end it.
    fn does_nothing(&self, facts: &Facts) -> bool {
        let ends = |one: &Statement| {
            one.hidden
                || matches!(
                    one.kind,
                    StatementKind::Commit { .. } | StatementKind::Rollback { .. } | StatementKind::RollbackTo(_)
                )
        };
        self.status == b'E' && !facts.statements.iter().any(ends) && !self.expects.may_change_transaction()
    }

    /// Whether a setting of [`MEANING`] is what the catalog was read with. Drivers ask for UTF8 by themselves.
    fn is_default(&self, name: &str) -> bool {
        match self.settings.get(name) {
            None => true,
            Some(value) => name == "client_encoding" && value.eq_ignore_ascii_case(b"utf8"),
        }
    }

    /// What was asked for was answered: the same message is to come again.
    pub fn answered(&mut self, request: Request, answer: Result<(), Fault>, core: &Core<'_>) {
        if self.deciding.is_some() {
            return self.decided(request, answer);
        }
        match answer {
            Ok(()) => self.asked.claims.push((request.resource, request.rows)),
            Err(fault) => {
                self.quota_refused(request.resource, &fault, core);
                self.asked.refused = Some(fault);
            }
        }
    }

    pub(super) fn quota_refused(&mut self, resource: ResourceId, fault: &Fault, core: &Core<'_>) {
        if fault.sqlstate == SqlState::CONFIGURATION_LIMIT_EXCEEDED {
            let kind = EventType::QuotaExceeded;
            self.happened.push(Happened {
                resource: Some(core.accounts.name(resource)),
                sqlstate: super::happened::sqlstate(fault.sqlstate.0),
                detail: fault.detail.as_deref().and_then(|detail| serde_json::from_str(detail).ok()),
                ..Happened::new(kind, kind.severity(), Outcome::Denied)
            });
        }
    }

    /// What was reserved for a message that doesn't go out is given back.
    pub(super) fn give_up_claims(&mut self, core: &Core<'_>) {
        let Some(workspace) = self.workspace else { return };
        for (resource, reserved) in std::mem::take(&mut self.asked.claims) {
            core.accounts.release(workspace, resource, reserved);
        }
        self.asked.refused = None;
    }

    /// Puts a statement in a message's place that makes Postgres raise an error, which the client is told as `fault`.
    pub(super) fn deny(&mut self, message: Message<'_>, fault: Fault, backend: &mut BackendState, lanes: &mut Lanes) {
        let tag = message.frame.tag;
        let replaced = match tag {
            b'Q' => true,
            b'P' => message.seen().get(crate::wire::frame::HEAD) == Some(&0),
            _ => false,
        };
        let first = if replaced {
            Injected::Replacing(self.statements.unnamed_replaced(&[], None))
        } else {
            Injected::Throwaway
        };
        self.write_denial(message.input, first, fault, lanes);
        backend.set_unnamed(Unnamed::Unknown);
        if matches!(tag, b'Q' | b'F') {
            inject::bare(lanes.server.author(message.input), b'S');
            self.expects.push(Expect::Sync, &mut lanes.client);
            self.in_cycle = false;
        } else {
            self.in_cycle = true;
        }
    }

    pub(super) fn write_denial(&mut self, input: &[u8], first: Injected, fault: Fault, lanes: &mut Lanes) {
        let text = format!("select cordon.deny('{}')\0\0\0", fault.sqlstate.0);
        let out = lanes.server.author(input);
        inject::parse(out, b"", text.as_bytes());
        inject::bind_unnamed(out);
        inject::execute_unnamed(out);
        for injected in [first, Injected::Bound, Injected::Denial(fault)] {
            self.expects.push(Expect::Injected(injected), &mut lanes.client);
        }
    }

    /// Sends a simple Query in the extended protocol, and its Sync only when its rows are reserved.
    pub(super) fn hold_query(
        &mut self,
        message: Message<'_>,
        text: &[u8],
        watched: Box<Watched>,
        backend: &mut BackendState,
        lanes: &mut Lanes,
    ) {
        let out = lanes.server.author(message.input);
        inject::parse(out, b"", &[text, b"\0\0\0"].concat());
        inject::bind_unnamed(out);
        inject::describe_portal(out);
        inject::execute_unnamed(out);
        inject::bare(out, b'H');
        let serial = self.statements.unnamed_replaced(&[], None);
        for injected in [Injected::Replacing(serial), Injected::Bound, Injected::Columns] {
            self.expects.push(Expect::Injected(injected), &mut lanes.client);
        }
        self.expects.push(Expect::Execute(Some(watched)), &mut lanes.client);
        backend.set_unnamed(Unnamed::Unknown);
        self.in_cycle = true;
        self.holds_query = true;
        self.awaiting = true;
    }

    /// Sends the Sync of a held Query, which ends its transaction and brings its ReadyForQuery.
    pub(super) fn sync_held_query(&mut self, lanes: &mut Lanes) {
        if std::mem::take(&mut self.holds_query) {
            inject::bare(lanes.server.author(&[]), b'S');
            self.expects.push(Expect::Sync, &mut lanes.client);
            self.in_cycle = false;
            self.skipping = false;
        }
    }
}

/// A statement's text as the trail keeps it.
pub(super) fn kept_text(facts: &Facts, text: Option<&[u8]>, core: &Core<'_>) -> Option<Arc<str>> {
    match core.audit.texts {
        Texts::None => None,
        Texts::Normalized => facts.normalized.clone(),
        Texts::Full => text.map(|text| String::from_utf8_lossy(text).into()).or_else(|| facts.normalized.clone()),
    }
}
