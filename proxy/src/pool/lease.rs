//! A server connection in somebody's hands.

use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

use crate::backend::BackendState;
use crate::tenant::Tenant;

use super::roster::{BackendId, CoreId, Outcome};
use super::shell::Pool;
use super::upstream::ServerConnection;

/// A server connection and what is known about it.
pub struct Backend {
    /// The roster's number for it.
    pub(super) id: BackendId,
    /// The core whose runtime drives its socket.
    pub(super) core: CoreId,
    /// The socket, the process and its secret.
    pub connection: ServerConnection,
    /// What it has of those it served.
    pub state: BackendState,
    /// How long its workspace had left it alone when it took it, if it was kept for it.
    pub(super) gap: Option<Duration>,
}

/// The right to use one server connection for one workspace. Dropped without [`Lease::release`], the connection is closed.
pub struct Lease {
    pool: Rc<Pool>,
    backend: Option<Box<Backend>>,
    tenant: Tenant,
    bound: bool,
}

impl Lease {
    pub(super) const fn new(pool: Rc<Pool>, backend: Box<Backend>, tenant: Tenant, bound: bool) -> Self {
        Self { pool, backend: Some(backend), tenant, bound }
    }

    /// Which connection it is.
    pub fn id(&self) -> BackendId {
        self.id
    }

    /// Whether the connection is clear and must be bound to the workspace before anything of the client's is sent.
    pub const fn needs_bind(&self) -> bool {
        !self.bound
    }

    /// Gives the connection back to all cores, for it isn't needed here again.
    pub fn hand_back(mut self, outcome: Outcome) {
        if let Some(backend) = self.backend.take() {
            self.pool.return_to_roster(backend, outcome);
        }
    }

    /// Gives the connection back.
    pub fn release(mut self, outcome: Outcome) {
        if let Some(backend) = self.backend.take() {
            self.pool.give_back(backend, self.tenant, outcome);
        }
    }
}

impl Deref for Lease {
    type Target = Backend;

    #[allow(clippy::expect_used, reason = "the connection leaves the lease only when the lease is consumed")]
    fn deref(&self) -> &Backend {
        self.backend.as_deref().expect("a lease holds its connection until it is released")
    }
}

impl DerefMut for Lease {
    #[allow(clippy::expect_used, reason = "the connection leaves the lease only when the lease is consumed")]
    fn deref_mut(&mut self) -> &mut Backend {
        self.backend.as_deref_mut().expect("a lease holds its connection until it is released")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(backend) = self.backend.take() {
            self.pool.give_back(backend, self.tenant, Outcome::Broken);
        }
    }
}
