//! What the audit trail is told of a session. Who it was is added where the connection is known.

use std::sync::Arc;

use serde_json::{Value, json};

use super::transaction::Wrote;
use crate::audit::{EventType, Outcome, Severity};
use crate::quota::Warning;
use crate::sql::GuardHit;

/// How the trail keeps writes, as far as a session must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditPolicy {
    /// A client hears of its write's success only when the record is on disk.
    pub strict: bool,
    /// Whether texts are kept as they were sent, without literals, or not at all.
    pub texts: Texts,
    /// Writes can't be recorded at the moment, and are refused for it.
    pub refuses: bool,
}

/// Which text of a statement is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texts {
    /// None.
    None,
    /// The one without literals.
    Normalized,
    /// The one that was sent.
    Full,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are those of the columns of cordon.audit_event")]
pub struct Happened {
    pub kind: EventType,
    pub severity: Severity,
    pub relation: Option<Arc<str>>,
    pub resource: Option<Arc<str>>,
    pub statement: Option<Arc<str>>,
    pub rows: Option<u64>,
    pub outcome: Outcome,
    pub sqlstate: Option<[u8; 5]>,
    pub duration_us: Option<u64>,
    pub detail: Option<Value>,
}

impl Happened {
    pub(super) const fn new(kind: EventType, severity: Severity, outcome: Outcome) -> Self {
        Self {
            kind,
            severity,
            relation: None,
            resource: None,
            statement: None,
            rows: None,
            outcome,
            sqlstate: None,
            duration_us: None,
            detail: None,
        }
    }

    /// A write whose outcome is known.
    pub(super) fn wrote(wrote: Wrote) -> Self {
        Self {
            relation: wrote.relation,
            resource: wrote.resource,
            statement: wrote.statement,
            rows: wrote.rows,
            duration_us: Some(wrote.took_us),
            detail: (wrote.count > 1).then(|| json!({ "statements": wrote.count })),
            ..Self::new(wrote.kind, wrote.kind.severity(), wrote.outcome)
        }
    }

    /// Whether it is a write that was done: the one thing a client may have to wait for.
    pub(super) fn is_done_write(&self) -> bool {
        self.outcome == Outcome::Ok
            && matches!(
                self.kind,
                EventType::ResourceCreated
                    | EventType::ResourceUpdated
                    | EventType::ResourceDeleted
                    | EventType::DataImport
                    | EventType::BulkOperation
            )
    }

    /// A visible attempt on the walls.
    pub(super) fn attempted(hit: &GuardHit, denied: bool, statement: Option<Arc<str>>) -> Self {
        let outcome = if denied { Outcome::Denied } else { Outcome::Ok };
        Self {
            statement,
            sqlstate: denied.then(|| sqlstate(crate::tenant::guard::fault(hit).sqlstate.0)).flatten(),
            detail: Some(json!({ "rule": hit.rule().as_str() })),
            ..Self::new(EventType::UnauthorizedAccessAttempt, Severity::Critical, outcome)
        }
    }

    /// A threshold of a quota was crossed.
    pub(super) fn warned(resource: Arc<str>, warning: Warning) -> Self {
        let Warning { percent, used, limit } = warning;
        Self {
            resource: Some(resource),
            detail: Some(json!({ "percent": percent, "currentUsage": used, "limit": limit })),
            ..Self::new(EventType::QuotaWarning, Severity::Low, Outcome::Ok)
        }
    }

    /// Rows that nobody could stop went beyond a quota.
    pub(super) fn debt(resource: Arc<str>, rows: u64) -> Self {
        Self {
            resource: Some(resource),
            rows: Some(rows),
            detail: Some(json!({ "debt": rows })),
            ..Self::new(EventType::QuotaExceeded, Severity::High, Outcome::Ok)
        }
    }
}

pub(super) fn sqlstate(code: &str) -> Option<[u8; 5]> {
    code.as_bytes().try_into().ok()
}
