//! An API key as the proxy keeps it: everything but the secret.

use std::fmt;
use std::sync::Arc;

use crate::domain::{KeyId, KeyKind, WorkspaceId};
use crate::sql::Rules;

/// One row of `cordon.api_key` with what of its workspace matters at the door.
#[derive(Clone)]
pub struct KeyRecord {
    /// The user name of the connection URL.
    pub key_id: KeyId,
    /// What the key is for.
    pub kind: KeyKind,
    /// The workspace of a workspace key; none for a system key.
    pub workspace: Option<WorkspaceId>,
    /// The upstream role its statements run as.
    pub role: Arc<str>,
    /// `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`, as Postgres writes it in `pg_authid.rolpassword`.
    pub verifier: Arc<str>,
    /// Seconds since the epoch after which the key is refused, at every login; none for a key that doesn't expire.
    pub expires_at: Option<i64>,
    /// The rules of the guard that its texts may break.
    pub allow: Rules,
    /// The key was revoked.
    pub revoked: bool,
    /// The key's workspace is suspended: the secret is checked, then the login is refused with 28000.
    pub suspended: bool,
}

impl KeyRecord {
    /// Whether the key opens a session at `now` (seconds since the epoch).
    pub fn is_usable(&self, now: i64) -> bool {
        !self.revoked && !self.suspended && self.expires_at.is_none_or(|expiry| now < expiry)
    }
}

impl fmt::Debug for KeyRecord {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KeyRecord").field("key_id", &self.key_id).field("kind", &self.kind).finish_non_exhaustive()
    }
}
