//! What a roster says: what is to be done, and what who asks gets.

use super::{BackendId, CoreId, WaiterId};
use crate::domain::Fault;

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// The waiter gets the connection; `bound` says whether it is bound to the waiter's workspace already.
    Grant {
        /// Who gets it.
        waiter: WaiterId,
        /// The waiter's core.
        core: CoreId,
        /// What it gets.
        backend: BackendId,
        /// Whether nothing needs to be bound.
        bound: bool,
    },
    /// The waiter gets a fault.
    Refuse {
        /// Who is refused.
        waiter: WaiterId,
        /// The waiter's core.
        core: CoreId,
        /// Why.
        fault: Fault,
    },
    /// A connection is to be opened. `Roster::opened` or `Roster::open_failed` follows.
    Open,
    /// The connection is to be cleared. `Roster::cleared` or `Roster::not_cleared` follows.
    Clear(BackendId),
    /// The connection is to be closed, on which nothing runs. Nothing follows.
    Close(BackendId),
    /// The connection is to be closed, on which something may run: it counts until its process is gone. `Roster::ended` follows.
    End(BackendId),
    /// Cores are to give back what they have parked.
    Recall,
    /// This core is to give back a connection, if it keeps it still for who may come back.
    Bring(BackendId, CoreId),
}

/// What becomes of a request that doesn't wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Granted {
    /// The connection.
    pub backend: BackendId,
    /// Whether it is bound to the workspace already.
    pub bound: bool,
}
