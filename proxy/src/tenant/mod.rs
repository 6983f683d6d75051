//! What ties a session to its workspace: the binding, which nobody can make without a finished authentication, the
//! seal that proves it to the database, the tag by which the database's reports are known, and the names of its channels.

pub mod binding;
pub mod channel;
pub mod context;
pub mod guard;
pub mod meter_tag;
pub mod seal;

pub use binding::{Binding, Tenant};
pub use channel::ChannelKey;
pub use context::{BindBy, ContextNames};
pub use guard::Guard;
pub use meter_tag::MeterTag;
pub use seal::{Seal, SigningKey, SigningKeys};
