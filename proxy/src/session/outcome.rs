//! What became of the client's statements: what each CommandComplete, error and ReadyForQuery means for the transaction's
//! part in the books, and what the trail is told of it.

use smallvec::SmallVec;

use crate::audit::{EventType, Outcome, Severity};
use crate::backend::{BackendState, Unnamed};
use crate::domain::Fault;
use crate::quota::meter::Change;
use crate::quota::{Adjusted, Answer, Doubt, Moment, ResourceId};
use crate::sql::StatementKind;
use crate::wire::frame::HEAD;
use crate::wire::{inject, open};

use super::admission::Request;
use super::expect::{Bound, Expect, Injected};
use super::happened::{Happened, sqlstate};
use super::portals::Ran;
use super::transaction::{Wrote, kind_of};
use super::watched::Watched;
use super::writes::qualified;
use super::{Core, Lanes, Session};

/// What cordon.workspace_id() raises for a context that isn't ours.
const FORGED: &[u8] = b"the workspace context is forged or has expired";

/// A held statement was executed, and what it added is being reserved.
#[derive(Debug)]
pub(super) struct Deciding {
    /// Its CommandComplete, which the client hasn't seen.
    complete: Box<[u8]>,
    /// What it added that isn't reserved yet.
    added: SmallVec<[(ResourceId, u64); 2]>,
    refused: Option<(ResourceId, Fault)>,
}

impl Session {
    /// A statement of the client's is complete, or its portal is suspended. Returns what must be asked for before the client
    /// may know: then the message isn't passed on.
    pub(super) fn completed(&mut self, seen: &[u8], core: &Core<'_>) -> Option<Request> {
        let mut watched = self.expects.take_watched();
        let is_held = watched.as_ref().is_some_and(|watched| watched.is_held);
        if is_held && self.metered.iter().any(|(_, change)| matches!(change, Change::Added(_))) {
            let since = watched.as_ref().map(|watched| watched.since).unwrap_or_default();
            let added = self.book_removed(since, core);
            self.expects.give_watched(watched);
            self.deciding = Some(Deciding { complete: seen.into(), added, refused: None });
            return self.next_request(core);
        }
        self.book(watched.as_deref_mut(), core);
        self.note_answer(seen, watched.as_deref_mut(), core);
        self.expects.give_watched(watched);
        None
    }

    /// What was reported is in the books: what the answer to a statement means for its transaction, its portal and the trail.
    fn note_answer(&mut self, seen: &[u8], mut watched: Option<&mut Watched>, core: &Core<'_>) {
        if seen.first() == Some(&b'C') {
            let tag = seen.get(HEAD..).unwrap_or_default();
            self.note_completion(tag.strip_suffix(b"\0").unwrap_or(tag), watched.as_deref_mut(), core);
        } else if let Some(watched) = watched.as_deref()
            && let (b's', Some(serial)) = (seen.first().copied().unwrap_or_default(), watched.portal)
        {
            self.note_suspended(serial, watched, core);
        }
        let Some(watched) = watched else { return };
        watched.next();
        if matches!(self.expects.head(), Some(Expect::Execute(_))) {
            self.end_claims(watched, core);
        }
    }

    /// A portal stopped at the client's row limit. What it writes it has written by then, for Postgres runs such a statement
    /// as a whole before it gives out the first row.
    fn note_suspended(&mut self, serial: u64, watched: &Watched, core: &Core<'_>) {
        let (told, before) = match self.portals.ran(serial) {
            Some(Ran::No) => {
                let statement = watched.current().filter(|statement| !statement.writes.is_empty());
                if let Some(statement) = statement {
                    self.note_writes(None, b"", watched, statement, core);
                }
                (statement.is_some(), 0)
            }
            Some(Ran::Partly { told, rows }) => (told, rows),
            Some(Ran::Whole) | None => return,
        };
        self.portals.note_ran(serial, Ran::Partly { told, rows: before.saturating_add(watched.rows_max.into()) });
    }

    /// Reserves what a held statement added, as far as that can be done at once.
    fn next_request(&mut self, core: &Core<'_>) -> Option<Request> {
        let workspace = self.workspace?;
        let deciding = self.deciding.as_mut().filter(|deciding| deciding.refused.is_none())?;
        while let Some((resource, adds)) = deciding.added.last().copied() {
            let mut watched = self.expects.watched_mut();
            let since = watched.as_ref().map(|watched| watched.since).unwrap_or_default();
            let claimed = watched.as_ref().map_or(0, |watched| watched.claimed(resource));
            let ledger = self.transaction.ledger(since);
            let (needed, own) = (ledger.needed(resource, adds), ledger.own(resource).saturating_add(claimed));
            let rows = needed.saturating_sub(claimed);
            if core.accounts.try_reserve(workspace, resource, rows) == Answer::Unsure {
                return Some(Request { resource, rows, own, adds });
            }
            if let Some(watched) = &mut watched {
                watched.take_claim(resource, needed);
            }
            ledger.inserts(resource, adds, needed);
            deciding.added.pop();
        }
        None
    }

    /// What a held statement added is reserved, or is not to be.
    pub(super) fn decided(&mut self, request: Request, answer: Result<(), Fault>) {
        let Some(deciding) = &mut self.deciding else { return };
        match answer {
            Ok(()) => {
                let covered =
                    self.expects.watched_mut().map_or(0, |watched| watched.take_claim(request.resource, request.adds));
                if let Some(ledger) = self.transaction.begun() {
                    ledger.inserts(request.resource, request.adds, request.rows.saturating_add(covered));
                }
                deciding.added.pop();
            }
            Err(fault) => deciding.refused = Some((request.resource, fault)),
        }
    }

    /// Goes on with a held statement: the client is told of its success, or of the refusal, which Postgres raises. Returns
    /// what must be asked for first. `input` is what is being read from the server.
    pub fn proceed(
        &mut self,
        input: &[u8],
        backend: &mut BackendState,
        core: &Core<'_>,
        lanes: &mut Lanes,
    ) -> Option<Request> {
        if let Some(request) = self.next_request(core) {
            return Some(request);
        }
        let Deciding { complete, refused, .. } = self.deciding.take()?;
        let mut watched = self.expects.take_watched();
        if let Some((resource, fault)) = refused {
            self.metered.clear();
            self.quota_refused(resource, &fault, core);
            if let Some(watched) = &mut watched {
                self.end_claims(watched, core);
            }
            self.expects.pop(input, &mut lanes.client);
            self.write_denial(&[], Injected::Throwaway, fault, lanes);
            backend.set_unnamed(Unnamed::Unknown);
            inject::bare(lanes.server.author(&[]), b'H');
            return None;
        }
        self.note_answer(&complete, watched.as_deref_mut(), core);
        lanes.client.author(input).extend_from_slice(&complete);
        self.expects.pop(input, &mut lanes.client);
        self.sync_held_query(lanes);
        None
    }

    /// Takes the meters' reports into the books: what was reserved covers them, and what nobody could stop is a debt.
    fn book(&mut self, mut watched: Option<&mut Watched>, core: &Core<'_>) {
        let Some(workspace) = self.workspace else { return };
        if self.metered.is_empty() {
            return;
        }
        // Of what nobody watched it isn't known when it was sent. An old moment is always right.
        let since = watched.as_ref().map(|watched| watched.since).unwrap_or_default();
        let is_hidden = watched.is_none();
        for (resource, adds) in self.book_removed(since, core) {
            let ledger = self.transaction.ledger(since);
            let needed = ledger.needed(resource, adds);
            ledger.inserts(resource, adds, needed);
            let covered = watched.as_deref_mut().map_or(0, |watched| watched.take_claim(resource, needed));
            let name = core.accounts.name(resource);
            if needed > covered
                && let Adjusted::Debt(rows) = core.accounts.adjust(workspace, resource, 0, needed - covered)
            {
                self.happened.push(Happened::debt(name.clone(), rows));
            }
            if is_hidden {
                self.transaction.wrote(Wrote {
                    kind: EventType::ResourceCreated,
                    relation: None,
                    resource: Some(name),
                    statement: None,
                    rows: Some(adds),
                    count: 1,
                    took_us: 0,
                    outcome: Outcome::Ok,
                    portal: None,
                    at: 0,
                });
            }
        }
    }

    /// Takes in what the meters report of rows that are gone, which may make room for what the same statement adds. Returns
    /// what it added.
    fn book_removed(&mut self, since: Moment, core: &Core<'_>) -> SmallVec<[(ResourceId, u64); 2]> {
        let mut added = SmallVec::new();
        for (resource, change) in std::mem::take(&mut self.metered) {
            match (change, self.workspace) {
                (Change::Added(rows), _) => added.push((resource, rows)),
                (Change::Removed(rows), _) => self.transaction.ledger(since).deletes(resource, rows),
                (Change::Doubtful(_), Some(workspace)) => core.accounts.doubt(workspace, resource, Doubt::Fewer),
                (Change::Doubtful(_), None) => {}
            }
        }
        added
    }

    /// A string or portal has ended: what was reserved for it and not used is given back.
    pub(super) fn end_claims(&self, watched: &mut Watched, core: &Core<'_>) {
        let Some(workspace) = self.workspace else { return };
        for (resource, left) in watched.take_claims() {
            if left > 0 {
                core.accounts.release(workspace, resource, left);
            }
        }
    }

    /// The server didn't get to a message: what was noted and reserved for it isn't so.
    pub(super) fn skipped(&mut self, mut skipped: Expect, core: &Core<'_>) {
        if let Some(watched) = skipped.watched_mut() {
            self.end_claims(watched, core);
        }
        match skipped {
            Expect::Bind(Bound { portal: Some(serial), .. }) => self.portals.undone(serial),
            other => self.statements.undo(other),
        }
    }

    fn note_completion(&mut self, tag: &[u8], watched: Option<&mut Watched>, core: &Core<'_>) {
        let watched = watched.map(|watched| &*watched);
        let statement = watched.and_then(Watched::current);
        if let Some(serial) = watched.and_then(|watched| watched.portal) {
            let ran = self.portals.ran(serial);
            self.portals.note_ran(serial, Ran::Whole);
            match ran {
                // The tag tells of the rows that this Execute gave out.
                Some(Ran::Partly { told: true, rows }) => {
                    let all = rows_of(tag).map(|last| last.saturating_add(rows));
                    return self.transaction.finished(serial, all);
                }
                Some(Ran::Whole) if statement.is_some_and(|statement| !statement.writes.is_empty()) => return,
                _ => {}
            }
        }
        let word = tag.split(|byte| *byte == b' ').next().unwrap_or_default();
        match (word, statement.map(|statement| &statement.kind)) {
            (b"COMMIT", _) => self.end_transaction(Outcome::Ok, core),
            (b"ROLLBACK", Some(StatementKind::RollbackTo(_))) if self.transaction.lost_savepoints => {
                self.transaction.undone_unseen();
            }
            (b"ROLLBACK", Some(StatementKind::RollbackTo(name))) => {
                let released = self.transaction.rollback_to(name);
                if let Some(workspace) = self.workspace {
                    released.into_iter().for_each(|(resource, rows)| core.accounts.release(workspace, resource, rows));
                }
            }
            (b"ROLLBACK", Some(_)) if statement.is_some_and(|statement| statement.hidden) => {
                // To a savepoint or as a whole: the text doesn't tell.
                self.transaction.undone_unseen();
            }
            (b"ROLLBACK", _) => self.end_transaction(Outcome::RolledBack, core),
            (b"PREPARE", Some(StatementKind::PrepareTransaction)) => self.end_transaction(Outcome::Unknown, core),
            (b"SAVEPOINT" | b"RELEASE", Some(_)) if statement.is_some_and(|statement| statement.hidden) => {
                self.transaction.lost_savepoints = true;
            }
            (_, Some(StatementKind::Savepoint(name))) => self.transaction.savepoint(name),
            (_, Some(StatementKind::Release(name))) => self.transaction.release_savepoint(name),
            (_, Some(_)) => {
                if let (Some(watched), Some(statement)) = (watched, statement) {
                    self.note_writes(rows_of(tag), word, watched, statement, core);
                }
            }
            (_, None) => {}
        }
    }

    /// A statement of the client's failed.
    pub(super) fn failed(&mut self, seen: &[u8], core: &Core<'_>) {
        self.transaction.failed = true;
        let mut watched = self.expects.take_watched();
        if let Some(watched) = &mut watched {
            self.end_claims(watched, core);
        }
        let field = |code: u8| open::error_field(seen, code).map(|range| &seen[range]);
        let may_have_committed = |watched: &Watched| {
            watched
                .current()
                .is_some_and(|one| one.hidden || matches!(one.kind, StatementKind::Call | StatementKind::Do))
        };
        if let Some(workspace) = self.workspace
            && (self.transaction.hides || watched.as_deref().is_some_and(may_have_committed))
        {
            for (resource, _) in &self.metered {
                core.accounts.doubt(workspace, *resource, Doubt::More);
            }
        }
        self.metered.clear();
        let code = field(b'C').and_then(|code| std::str::from_utf8(code).ok()).unwrap_or_default();
        if code == "42501" && field(b'M') == Some(FORGED) {
            self.happened.push(Happened {
                sqlstate: sqlstate(code),
                ..Happened::new(EventType::SuspiciousActivity, Severity::Critical, Outcome::Denied)
            });
        } else if let Some(statement) = watched.as_deref().and_then(Watched::current) {
            let write = statement.writes.last();
            let (kind, outcome) = match (code, write) {
                ("42501", _) => (EventType::ResourceAccessDenied, Outcome::Denied),
                (_, Some(write)) => (kind_of(write.verb), Outcome::Failed),
                (_, None) => return,
            };
            self.happened.push(Happened {
                relation: write.map(|write| qualified(&write.relation, core)),
                statement: watched.as_ref().and_then(|watched| watched.text.clone()),
                sqlstate: sqlstate(code),
                ..Happened::new(kind, kind.severity(), outcome)
            });
        } else if code == "42501" {
            self.happened.push(Happened {
                sqlstate: sqlstate(code),
                ..Happened::new(
                    EventType::ResourceAccessDenied,
                    EventType::ResourceAccessDenied.severity(),
                    Outcome::Denied,
                )
            });
        }
    }

    /// ReadyForQuery of the client's: outside a transaction block whatever ran is over.
    pub(super) fn at_ready(&mut self, core: &Core<'_>) {
        if self.status == b'I' {
            self.portals.end(self.expects.head_at());
        }
        if self.transaction.is_untouched() && self.metered.is_empty() && !self.expects.is_watched() {
            return;
        }
        // Deferred triggers fire when the transaction commits, behind the last answer to a statement.
        self.book(None, core);
        if let Some(mut watched) = self.expects.take_watched() {
            self.end_claims(&mut watched, core);
            self.expects.give_watched(Some(watched));
        }
        if self.status != b'I' {
            return;
        }
        let outcome = if self.transaction.failed { Outcome::RolledBack } else { Outcome::Ok };
        self.end_transaction(outcome, core);
    }

    /// The transaction is over: its part in the books is settled, and its writes are told.
    fn end_transaction(&mut self, outcome: Outcome, core: &Core<'_>) {
        if outcome != Outcome::Unknown {
            self.portals.end(self.expects.head_at());
        }
        let is_uncertain = self.transaction.is_uncertain();
        let (ledger, writes) = self.transaction.end(outcome);
        self.happened.extend(writes.into_iter().map(Happened::wrote));
        self.owes_records |= core.audit.strict && self.happened.iter().any(Happened::is_done_write);
        let (Some(workspace), Some(ledger)) = (self.workspace, ledger) else { return };
        match outcome {
            Outcome::Ok => {
                for (resource, settlement) in ledger.commit() {
                    if let Some(warning) = core.accounts.commit(workspace, resource, settlement) {
                        self.happened.push(Happened::warned(core.accounts.name(resource), warning));
                    }
                    if is_uncertain {
                        // What was reported may have been rolled back on the way.
                        core.accounts.doubt(workspace, resource, Doubt::Fewer);
                    }
                }
            }
            Outcome::RolledBack | Outcome::Denied | Outcome::Failed => {
                for (resource, reserved) in ledger.rollback() {
                    core.accounts.release(workspace, resource, reserved);
                }
            }
            Outcome::Unknown => {
                for (resource, reserved) in ledger.rollback() {
                    core.accounts.doubt(workspace, resource, Doubt::Outcome { reserved });
                }
            }
        }
    }

    /// Whether what was sent may still be committed, as far as it isn't answered.
    pub fn may_yet_commit(&self) -> bool {
        !self.copying_in && self.expects.may_commit(self.status != b'I')
    }

    /// The server connection is given up in the middle of something. What runs there may still come to its end; what
    /// doesn't run is rolled back.
    pub fn abandon(&mut self, core: &Core<'_>) {
        let outcome = if self.may_yet_commit() { Outcome::Unknown } else { Outcome::RolledBack };
        self.give_up(outcome, core);
    }

    /// The server connection had no workspace: nothing that was sent there did anything.
    pub fn annul(&mut self, core: &Core<'_>) {
        self.give_up(Outcome::RolledBack, core);
    }

    fn give_up(&mut self, outcome: Outcome, core: &Core<'_>) {
        if std::mem::take(&mut self.alters) {
            core.bodies.alterations().note();
        }
        self.give_up_claims(core);
        self.metered.clear();
        self.deciding = None;
        let claims: Vec<_> = self.expects.all_watched().flat_map(Watched::take_claims).collect();
        for (resource, reserved) in claims.into_iter().filter(|(_, reserved)| *reserved > 0) {
            let Some(workspace) = self.workspace else { break };
            match outcome {
                Outcome::Unknown => core.accounts.doubt(workspace, resource, Doubt::Outcome { reserved }),
                _ => core.accounts.release(workspace, resource, reserved),
            }
        }
        if !self.transaction.is_empty() {
            self.end_transaction(outcome, core);
        }
    }
}

/// How many rows a tag tells of.
fn rows_of(tag: &[u8]) -> Option<u64> {
    tag.rsplit(|byte| *byte == b' ').next().and_then(|last| std::str::from_utf8(last).ok()?.parse().ok())
}
