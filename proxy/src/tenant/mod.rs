//! What ties a session to its workspace: the binding, which nobody can make without a finished authentication, and the
//! seal that proves it to the database.

pub mod binding;
pub mod seal;

pub use binding::{Binding, Tenant};
pub use seal::{Seal, SigningKey};
