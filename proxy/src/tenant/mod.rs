//! What ties a session to its workspace: the binding, which nobody can make without a finished authentication, and the
//! seal that proves it to the database.

pub mod binding;
pub mod context;
pub mod seal;

pub use binding::{Binding, Tenant};
pub use context::ContextNames;
pub use seal::{Seal, SigningKey};
