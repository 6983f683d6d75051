//! What a statement wrote, as the trail is told when its transaction is over: by what the text says and Postgres counted.

use std::sync::Arc;

use crate::audit::{EventType, Outcome};
use crate::sql::{Relation, Statement, StatementKind};

use super::transaction::{Wrote, kind_of};
use super::watched::Watched;
use super::{Core, Session};

impl Session {
    /// Notes what a statement wrote. Without a `word` of a tag it isn't at its end.
    pub(super) fn note_writes(
        &mut self,
        rows: Option<u64>,
        word: &[u8],
        watched: &Watched,
        statement: &Statement,
        core: &Core<'_>,
    ) {
        let took_us = u64::try_from((core.clock)().saturating_sub(watched.sent_us)).unwrap_or(0);
        let unfinished = watched.portal.filter(|_| word.is_empty());
        let mut wrote = |kind: EventType, relation: Option<Arc<str>>, rows: Option<u64>, is_own: bool| {
            self.transaction.wrote(Wrote {
                kind,
                relation,
                resource: None,
                statement: watched.text.clone(),
                rows,
                count: 1,
                took_us,
                outcome: Outcome::Ok,
                portal: unfinished.filter(|_| is_own),
                at: 0,
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
                wrote(kind_of(write.verb), Some(qualified(&write.relation, core)), rows, is_own(at));
            }
        }
        match (&statement.kind, word) {
            (StatementKind::CopyOut, _) => {
                wrote(EventType::DataExport, statement.reads.first().map(|name| qualified(name, core)), rows, true);
            }
            (StatementKind::Call | StatementKind::Do, _) => wrote(EventType::BulkOperation, None, None, true),
            (StatementKind::Ddl, b"CREATE") => wrote(EventType::ResourceCreated, None, None, true),
            (StatementKind::Ddl, b"DROP") => wrote(EventType::ResourceDeleted, None, None, true),
            (StatementKind::Ddl, _) => wrote(EventType::ResourceUpdated, None, None, true),
            (_, b"INSERT") if statement.hidden && rows != Some(0) => {
                wrote(EventType::ResourceCreated, None, rows, true)
            }
            (_, b"UPDATE" | b"MERGE") if statement.hidden && rows != Some(0) => {
                wrote(EventType::ResourceUpdated, None, rows, true)
            }
            (_, b"DELETE") if statement.hidden && rows != Some(0) => {
                wrote(EventType::ResourceDeleted, None, rows, true)
            }
            _ => {}
        }
        self.transaction.hides |= matches!(statement.kind, StatementKind::Call | StatementKind::Do) || statement.hidden;
    }
}

/// A relation with its schema, where the catalog tells which one is meant.
pub(super) fn qualified(name: &Relation, core: &Core<'_>) -> Arc<str> {
    if name.schema.is_none()
        && let Some(qualified) = (core.catalog)().and_then(|catalog| catalog.qualified(name).cloned())
    {
        return qualified;
    }
    name.to_string().into()
}
