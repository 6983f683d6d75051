//! What can happen that is worth a record. The list is closed: a name here is a promise to whoever filters by it.

use core::net::IpAddr;
use std::sync::Arc;

use crate::domain::{KeyId, WorkspaceId, clock};

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Everyday.
    Low,
    /// Worth a look when there are many.
    Medium,
    /// Worth a look.
    High,
    /// Somebody should be woken.
    Critical,
}

impl Severity {
    /// The name in the trail.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was tried, and Postgres or the proxy couldn't.
    Failed,
    /// It was done and undone with its transaction.
    RolledBack,
    /// It was refused.
    Denied,
    /// Nobody knows: the connection was lost before the answer.
    Unknown,
}

impl Outcome {
    /// The name in the trail.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Denied => "denied",
            Self::Unknown => "unknown",
        }
    }
}

macro_rules! event_types {
    ($($variant:ident $name:literal $severity:ident $what:literal;)+) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventType {
            $(#[doc = $what] $variant,)+
        }

        impl EventType {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in the trail.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// How much it matters, unless the circumstances say otherwise.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }
        }
    };
}

event_types! {
    UserLogin "USER_LOGIN" Low "A person logged in.";
    UserLogout "USER_LOGOUT" Low "A person logged out.";
    UserLoginFailed "USER_LOGIN_FAILED" Medium "A person's login was refused.";
    ApiKeyAccess "API_KEY_ACCESS" Low "A session was opened with a key.";
    ApiKeyAccessFailed "API_KEY_ACCESS_FAILED" Medium "A login with a key, or what was said to be one, was refused.";
    WorkspaceAccess "WORKSPACE_ACCESS" Low "A workspace was chosen by a session that may choose.";
    WorkspaceAccessDenied "WORKSPACE_ACCESS_DENIED" High "A workspace was asked for that the key doesn't open.";
    ContextSet "CONTEXT_SET" Low "A server connection was bound to a workspace.";
    ContextFailed "CONTEXT_FAILED" High "A server connection couldn't be bound; it was closed.";
    ResourceCreated "RESOURCE_CREATED" Low "Rows were inserted.";
    ResourceUpdated "RESOURCE_UPDATED" Low "Rows were updated.";
    ResourceDeleted "RESOURCE_DELETED" Low "Rows were deleted.";
    ResourceAccessDenied "RESOURCE_ACCESS_DENIED" Medium "Postgres refused a table or row.";
    QuotaExceeded "QUOTA_EXCEEDED" Medium "An insert was refused by a quota.";
    QuotaWarning "QUOTA_WARNING" Low "A quota is nearly used up.";
    QuotaUpdated "QUOTA_UPDATED" Low "A quota was changed.";
    SuspiciousActivity "SUSPICIOUS_ACTIVITY" High "Something no honest program does.";
    RateLimitExceeded "RATE_LIMIT_EXCEEDED" Medium "A rate limit refused or delayed something.";
    UnauthorizedAccessAttempt "UNAUTHORIZED_ACCESS_ATTEMPT" High "A statement tried to leave its workspace.";
    DataExport "DATA_EXPORT" Medium "Many rows were read out (COPY TO).";
    DataImport "DATA_IMPORT" Low "Many rows were read in (COPY FROM).";
    BulkOperation "BULK_OPERATION" Medium "One statement changed many rows.";
    ApiKeyCreated "API_KEY_CREATED" Low "A key was made.";
    ApiKeyRotated "API_KEY_ROTATED" Low "A key was given another secret.";
    ApiKeyChanged "API_KEY_CHANGED" Low "A key may break other rules of the statement guard.";
    ApiKeyRevoked "API_KEY_REVOKED" Medium "A key was revoked.";
    WorkspaceCreated "WORKSPACE_CREATED" Low "A workspace was made.";
    WorkspaceSuspended "WORKSPACE_SUSPENDED" Medium "A workspace was suspended.";
    WorkspaceResumed "WORKSPACE_RESUMED" Low "A workspace was let in again.";
    WorkspaceDeleted "WORKSPACE_DELETED" Medium "A workspace and its keys were deleted.";
    AuditStarted "AUDIT_STARTED" Low "A stream of the trail begins.";
    AuditStopped "AUDIT_STOPPED" Low "A stream of the trail ends with its proxy: nothing follows.";
    AuditEventsLost "AUDIT_EVENTS_LOST" Critical "Records couldn't be kept, or are no longer where they were.";
}

/// Who did it, as far as the connection tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Where from.
    pub addr: Option<IpAddr>,
    /// The user name of the connection: a key id, or what was said to be one.
    pub user: Arc<str>,
    /// `application_name`, as the client gave it.
    pub application_name: Arc<str>,
}

/// One thing that happened. Texts are the client's own and may hold anything: the trail bounds them and takes out what
/// Postgres can't store; never put a secret or, but for `audit.statements = "full"`, a literal in.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are those of the columns of cordon.audit_event")]
pub struct Event {
    pub at_us: i64,
    pub workspace: Option<WorkspaceId>,
    pub key_id: Option<KeyId>,
    pub kind: EventType,
    pub severity: Severity,
    pub relation: Option<Arc<str>>,
    pub resource: Option<Arc<str>>,
    pub statement: Option<Arc<str>>,
    pub rows: Option<u64>,
    pub outcome: Outcome,
    pub sqlstate: Option<[u8; 5]>,
    pub duration_us: Option<u64>,
    pub client: Arc<Client>,
    pub detail: Option<serde_json::Value>,
}

impl Event {
    /// Something that went well, now, with the severity of its kind. The fields are public: set what is known.
    pub fn new(kind: EventType, client: Arc<Client>) -> Self {
        Self {
            at_us: clock::unix_micros(),
            workspace: None,
            key_id: None,
            kind,
            severity: kind.severity(),
            relation: None,
            resource: None,
            statement: None,
            rows: None,
            outcome: Outcome::Ok,
            sqlstate: None,
            duration_us: None,
            client,
            detail: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upper_snake_and_no_two_are_the_same() {
        let names: std::collections::HashSet<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), EventType::ALL.len());
        for kind in EventType::ALL {
            let as_variant: String = format!("{kind:?}").to_uppercase();
            assert_eq!(kind.as_str().replace('_', ""), as_variant);
        }
    }
}
