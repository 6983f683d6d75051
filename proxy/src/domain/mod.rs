//! The words everybody uses: ids, the clock, digits, faults and named limits. It knows nothing of Postgres' protocol, of
//! sockets or of tasks.

pub mod clock;
pub(crate) mod digits;
pub mod fault;
pub mod ids;
pub mod limits;
pub mod secret;

pub use fault::{Fault, Origin, SqlState};
pub use ids::{KeyId, KeyKind, WorkspaceId};
pub use secret::Secret;
