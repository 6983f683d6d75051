//! Server connections: `roster` decides who gets which, `shell` does it, `upstream` makes them.

mod lease;
mod pools;
mod reset;
pub mod roster;
mod settings;
mod shell;
pub mod signals;
pub mod upstream;

pub use lease::{Backend, Lease};
pub use pools::{PoolReport, Pools, PoolsShared};
pub use roster::Outcome;
pub use settings::Settings;
pub use shell::Pool;
pub use shell::homes::Home;
