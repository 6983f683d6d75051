//! Whom a session acts for. A `Binding` has private fields and one constructor, which demands a `Verified`, which only a
//! finished authentication exchange makes: code that holds a `&Binding` needs no further check.

use std::sync::Arc;

use crate::auth::Verified;
use crate::domain::{KeyId, KeyKind, WorkspaceId};

/// Whom a server connection may serve: the identity that must not change while it is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    /// The workspace, or none for a system key.
    pub workspace: Option<WorkspaceId>,
    /// The kind of the key: a support session never shares a bound server connection with an application's.
    pub kind: KeyKind,
}

/// The proof that a session was authenticated, and for which workspace and role.
#[derive(Clone, Debug)]
pub struct Binding {
    tenant: Tenant,
    key_id: KeyId,
    role: Arc<str>,
}

impl Binding {
    /// Binds an authenticated key to its workspace and to the upstream role its statements run as.
    pub fn of(verified: &Verified) -> Self {
        let key = verified.key();
        Self {
            tenant: Tenant { workspace: key.workspace, kind: key.kind },
            key_id: key.key_id.clone(),
            role: key.role.clone(),
        }
    }

    /// Whom server connections are leased for.
    pub const fn tenant(&self) -> Tenant {
        self.tenant
    }

    /// The workspace, or none for a system key.
    pub const fn workspace(&self) -> Option<WorkspaceId> {
        self.tenant.workspace
    }

    /// The key that authenticated.
    pub const fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// The upstream role.
    pub const fn role(&self) -> &Arc<str> {
        &self.role
    }
}
