//! What became of the client's statements: what Postgres' meters report, what each CommandComplete, error and
//! ReadyForQuery means for the transaction's part in the books, and what the trail is told of it.

use std::sync::Arc;

use bytes::Bytes;

use crate::audit::{EventType, Outcome, Severity};
use crate::backend::BackendState;
use crate::domain::Fault;
use crate::quota::meter::{self, Change, Unread};
use crate::quota::{Adjusted, Answer, Doubt, ResourceId};
use crate::sql::{Relation, Statement, StatementKind};
use crate::wire::open;

use super::admission::Request;
use super::expect::{Expect, Injected};
use super::happened::{Happened, sqlstate};
use super::transaction::{Wrote, kind_of};
use super::watched::Watched;
use super::{Core, Lanes, Session};

/// What cordon.workspace_id() raises for a context that isn't ours.
const FORGED: &[u8] = b"the workspace context is forged or has expired";

/// A held statement was executed, and what it added is being reserved.
#[derive(Debug)]
pub(super) struct Deciding {
    /// Its CommandComplete, which the client hasn't seen.
    complete: Bytes,
    /// What it added that isn't reserved yet.
    added: Vec<(ResourceId, u64)>,
    refused: Option<(ResourceId, Fault)>,
}

impl Session {
    /// Whether a notice is a meter's report, and if so takes note of it. The client never sees one.
    pub(super) fn is_report(&mut self, seen: &[u8], backend: &mut BackendState, core: &Core<'_>) -> bool {
        let field = |code: u8| open::error_field(seen, code).map(|range| &seen[range]);
        if field(b'C') != Some(&meter::SQLSTATE) || field(b'V') != Some(b"INFO") {
            return false;
        }
        let Some(workspace) = self.workspace else { return true };
        let read = match backend.meter_tag() {
            Some(tag) => meter::read(field(b'D').unwrap_or_default(), tag),
            None => Err(Unread::Forged),
        };
        match read {
            Ok(changes) => self.metered.extend(changes),
            Err(unread) => {
                // Either somebody forges reports, or the signing key was replaced: nothing known of the counts holds.
                backend.unsealed();
                for resource in core.accounts.definitions().resources() {
                    core.accounts.doubt(workspace, resource.id, Doubt::More);
                }
                let detail = serde_json::json!({ "reason": unread.to_string() });
                self.happened.push(Happened {
                    detail: Some(detail),
                    ..Happened::new(EventType::SuspiciousActivity, Severity::High, Outcome::Ok)
                });
            }
        }
        true
    }

    /// A statement of the client's is complete, or its portal is suspended. Returns what must be asked for before the client
    /// may know: then the message isn't passed on.
    pub(super) fn completed(&mut self, seen: &[u8], core: &Core<'_>) -> Option<Request> {
        let mut watched = self.expects.take_watched();
        let is_held = watched.as_ref().is_some_and(|watched| watched.is_held);
        if is_held && self.metered.iter().any(|(_, change)| matches!(change, Change::Added(_))) {
            let added = self.metered.iter().filter_map(|(resource, change)| match change {
                Change::Added(rows) => Some((*resource, *rows)),
                Change::Removed(_) | Change::Doubtful(_) => None,
            });
            let added = self.unclaimed(added.collect(), watched.as_deref_mut());
            let deciding = Deciding { complete: Bytes::copy_from_slice(seen), added, refused: None };
            self.metered.retain(|(_, change)| !matches!(change, Change::Added(_)));
            self.expects.give_watched(watched);
            self.deciding = Some(deciding);
            return self.next_request(core);
        }
        self.book(watched.as_deref_mut(), core);
        let tag = seen.get(crate::wire::frame::HEAD..).unwrap_or_default();
        if seen.first() == Some(&b'C') {
            self.note_completion(tag.strip_suffix(b"\0").unwrap_or(tag), watched.as_deref_mut(), core);
        }
        if let Some(watched) = &mut watched {
            watched.next();
            if matches!(self.expects.head(), Some(Expect::Execute(_))) {
                self.end_claims(watched, core);
            }
        }
        self.expects.give_watched(watched);
        None
    }

    /// Takes off what was reserved before the statement was sent.
    fn unclaimed(&self, added: Vec<(ResourceId, u64)>, watched: Option<&mut Watched>) -> Vec<(ResourceId, u64)> {
        let Some(watched) = watched else { return added };
        let rest = added.into_iter().map(|(resource, mut rows)| {
            if let Some((_, claimed)) = watched.reserved.iter_mut().find(|(claimed, _)| *claimed == resource) {
                let taken = rows.min(*claimed);
                *claimed -= taken;
                rows -= taken;
            }
            (resource, rows)
        });
        rest.filter(|(_, rows)| *rows > 0).collect()
    }

    /// Reserves what a held statement added, as far as that can be done at once.
    fn next_request(&mut self, core: &Core<'_>) -> Option<Request> {
        let workspace = self.workspace?;
        let deciding = self.deciding.as_mut().filter(|deciding| deciding.refused.is_none())?;
        while let Some((resource, adds)) = deciding.added.last().copied() {
            let ledger = self.transaction.ledger(|| core.accounts.moment());
            let (rows, own) = (ledger.needed(resource, adds), ledger.own(resource));
            if core.accounts.try_reserve(workspace, resource, rows) == Answer::Unsure {
                return Some(Request { resource, rows, own, adds });
            }
            ledger.inserts(resource, adds, rows);
            deciding.added.pop();
        }
        None
    }

    /// What a held statement added is reserved, or is not to be.
    pub(super) fn decided(&mut self, request: Request, answer: Result<(), Fault>) {
        let Some(deciding) = &mut self.deciding else { return };
        match answer {
            Ok(()) => {
                if let Some(ledger) = self.transaction.begun() {
                    ledger.inserts(request.resource, request.adds, request.rows);
                }
                deciding.added.pop();
            }
            Err(fault) => deciding.refused = Some((request.resource, fault)),
        }
    }

    /// Goes on with a held statement: the client is told of its success, or of the refusal, which Postgres raises. Returns
    /// what must be asked for first. `input` is what is being read from the server.
    pub fn proceed(&mut self, input: &[u8], core: &Core<'_>, lanes: &mut Lanes) -> Option<Request> {
        if let Some(request) = self.next_request(core) {
            return Some(request);
        }
        let Deciding { complete, refused, .. } = self.deciding.take()?;
        if let Some((resource, fault)) = refused {
            self.quota_refused(resource, &fault, core);
            self.expects.pop(input, &mut lanes.client);
            self.write_denial(&[], Injected::Throwaway, fault, lanes);
            crate::wire::inject::bare(lanes.server.author(&[]), b'H');
            return None;
        }
        let mut watched = self.expects.take_watched();
        self.book(watched.as_deref_mut(), core);
        if complete.first() == Some(&b'C') {
            let tag = &complete[crate::wire::frame::HEAD..];
            self.note_completion(tag.strip_suffix(b"\0").unwrap_or(tag), watched.as_deref_mut(), core);
        }
        if let Some(watched) = &mut watched {
            self.end_claims(watched, core);
        }
        lanes.client.author(input).extend_from_slice(&complete);
        self.expects.pop(input, &mut lanes.client);
        self.sync_held_query(lanes);
        None
    }

    /// Takes the meters' reports into the books: what was reserved covers them, and what nobody could stop is a debt.
    fn book(&mut self, watched: Option<&mut Watched>, core: &Core<'_>) {
        let Some(workspace) = self.workspace else { return };
        if self.metered.is_empty() {
            return;
        }
        let reported = std::mem::take(&mut self.metered);
        let added = reported.iter().filter_map(|(resource, change)| match change {
            Change::Added(rows) => Some((*resource, *rows)),
            Change::Removed(_) | Change::Doubtful(_) => None,
        });
        let is_hidden = watched.is_none();
        let extra = self.unclaimed(added.collect(), watched);
        for (resource, change) in &reported {
            match change {
                Change::Added(_) => {}
                Change::Removed(rows) => {
                    self.transaction.ledger(|| core.accounts.moment()).deletes(*resource, *rows);
                }
                Change::Doubtful(_) => core.accounts.doubt(workspace, *resource, Doubt::Fewer),
            }
        }
        for (resource, adds) in extra {
            let ledger = self.transaction.ledger(|| core.accounts.moment());
            let rows = ledger.needed(resource, adds);
            let adjusted = core.accounts.adjust(workspace, resource, 0, rows);
            ledger.inserts(resource, adds, rows);
            let name = core.accounts.name(resource);
            if let Adjusted::Debt(rows) = adjusted {
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
                });
            }
        }
    }

    /// A string or portal has ended: what was reserved for it and not used is given back.
    fn end_claims(&mut self, watched: &mut Watched, core: &Core<'_>) {
        let Some(workspace) = self.workspace else { return };
        for (resource, left) in std::mem::take(&mut watched.reserved) {
            if left > 0 {
                let surplus = self.transaction.ledger(|| core.accounts.moment()).surplus(resource, left);
                core.accounts.release(workspace, resource, surplus);
            }
        }
    }

    fn note_completion(&mut self, tag: &[u8], watched: Option<&mut Watched>, core: &Core<'_>) {
        let watched = watched.map(|watched| &*watched);
        let statement = watched.and_then(Watched::current);
        let word = tag.split(|byte| *byte == b' ').next().unwrap_or_default();
        match (word, statement.map(|statement| &statement.kind)) {
            (b"COMMIT", _) => self.end_transaction(Outcome::Ok, core),
            (b"ROLLBACK", Some(StatementKind::RollbackTo(name))) => {
                let released = self.transaction.rollback_to(name);
                if let Some(workspace) = self.workspace {
                    released.into_iter().for_each(|(resource, rows)| core.accounts.release(workspace, resource, rows));
                }
            }
            (b"ROLLBACK", Some(_)) if statement.is_some_and(|statement| statement.hidden) => {
                // To a savepoint or as a whole: the text doesn't tell.
                self.end_transaction(Outcome::Unknown, core);
            }
            (b"ROLLBACK", _) => self.end_transaction(Outcome::RolledBack, core),
            (b"PREPARE", Some(StatementKind::PrepareTransaction)) => self.end_transaction(Outcome::Unknown, core),
            (_, Some(StatementKind::Savepoint(name))) => self.transaction.savepoint(name),
            (_, Some(StatementKind::Release(name))) => self.transaction.release_savepoint(name),
            (_, Some(_)) => {
                if let (Some(watched), Some(statement)) = (watched, statement) {
                    self.note_writes(tag, word, watched, statement, core);
                }
            }
            (_, None) => {}
        }
    }

    fn note_writes(&mut self, tag: &[u8], word: &[u8], watched: &Watched, statement: &Statement, core: &Core<'_>) {
        let rows =
            tag.rsplit(|byte| *byte == b' ').next().and_then(|last| std::str::from_utf8(last).ok()?.parse().ok());
        let took_us = u64::try_from(core.now_us.saturating_sub(watched.sent_us)).unwrap_or(0);
        let mut wrote = |kind: EventType, relation: Option<Arc<str>>, rows: Option<u64>| {
            self.transaction.wrote(Wrote {
                kind,
                relation,
                resource: None,
                statement: watched.text.clone(),
                rows,
                count: 1,
                took_us,
                outcome: Outcome::Ok,
            });
        };
        let is_own = |at: usize| {
            at + 1 == statement.writes.len()
                && matches!(
                    statement.kind,
                    StatementKind::Insert
                        | StatementKind::Update
                        | StatementKind::Delete
                        | StatementKind::Merge
                        | StatementKind::CopyIn
                )
        };
        if matches!(statement.kind, StatementKind::Prepare(_) | StatementKind::Explain) {
            return;
        }
        for (at, write) in statement.writes.iter().enumerate() {
            let rows = if is_own(at) { rows } else { None };
            if rows != Some(0) {
                wrote(kind_of(write.verb), Some(qualified(&write.relation, core)), rows);
            }
        }
        match (&statement.kind, word) {
            (StatementKind::CopyOut, _) => {
                wrote(EventType::DataExport, statement.reads.first().map(|name| qualified(name, core)), rows);
            }
            (StatementKind::Call | StatementKind::Do, _) => wrote(EventType::BulkOperation, None, None),
            (StatementKind::Ddl, b"CREATE") => wrote(EventType::ResourceCreated, None, None),
            (StatementKind::Ddl, b"DROP") => wrote(EventType::ResourceDeleted, None, None),
            (StatementKind::Ddl, _) => wrote(EventType::ResourceUpdated, None, None),
            (_, b"INSERT") if statement.hidden && rows != Some(0) => wrote(EventType::ResourceCreated, None, rows),
            (_, b"UPDATE" | b"MERGE") if statement.hidden && rows != Some(0) => {
                wrote(EventType::ResourceUpdated, None, rows)
            }
            (_, b"DELETE") if statement.hidden && rows != Some(0) => wrote(EventType::ResourceDeleted, None, rows),
            _ => {}
        }
        self.transaction.hides |= matches!(statement.kind, StatementKind::Call | StatementKind::Do) || statement.hidden;
    }

    /// A statement of the client's failed.
    pub(super) fn failed(&mut self, seen: &[u8], core: &Core<'_>) {
        self.transaction.failed = true;
        let watched = self.expects.take_watched();
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
        if self.transaction.is_untouched() && self.metered.is_empty() && !self.expects.is_watched() {
            self.portals.clear_at(self.status, self.expects.begin());
            return;
        }
        // Deferred triggers fire when the transaction commits, behind the last answer to a statement.
        self.book(None, core);
        if let Some(mut watched) = self.expects.take_watched() {
            self.end_claims(&mut watched, core);
            self.expects.give_watched(Some(watched));
        }
        self.portals.clear_at(self.status, self.expects.begin());
        if self.status != b'I' {
            return;
        }
        let outcome = if self.transaction.failed { Outcome::RolledBack } else { Outcome::Ok };
        self.end_transaction(outcome, core);
    }

    /// The transaction is over: its part in the books is settled, and its writes are told.
    fn end_transaction(&mut self, outcome: Outcome, core: &Core<'_>) {
        let (ledger, writes) = self.transaction.end(outcome);
        self.happened.extend(writes.into_iter().map(Happened::wrote));
        let (Some(workspace), Some(ledger)) = (self.workspace, ledger) else { return };
        match outcome {
            Outcome::Ok => {
                for (resource, settlement) in ledger.commit() {
                    if let Some(warning) = core.accounts.commit(workspace, resource, settlement) {
                        self.happened.push(Happened::warned(core.accounts.name(resource), warning));
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

    /// The server connection is given up in the middle of something. What runs there may still come to its end; what
    /// doesn't run is rolled back.
    pub fn abandon(&mut self, core: &Core<'_>) {
        self.give_up_claims(core);
        self.metered.clear();
        self.deciding = None;
        if !self.transaction.is_empty() {
            let outcome = if self.expects.is_empty() { Outcome::RolledBack } else { Outcome::Unknown };
            self.end_transaction(outcome, core);
        }
    }

    /// The server connection had no workspace: nothing that was sent there did anything.
    pub fn annul(&mut self, core: &Core<'_>) {
        self.give_up_claims(core);
        self.metered.clear();
        self.deciding = None;
        self.end_transaction(Outcome::RolledBack, core);
    }
}

/// A relation with its schema, where the catalog tells which one is meant.
fn qualified(name: &Relation, core: &Core<'_>) -> Arc<str> {
    if name.schema.is_none()
        && let Some(schema) = (core.catalog)().and_then(|catalog| catalog.schema_of(name).map(str::to_owned))
    {
        return format!("{schema}.{}", name.name).into();
    }
    name.to_string().into()
}
