//! What one workspace may take of what all share: connections, and for how long what others may wait for. The proxy keeps these
//! bounds by its own clock: a tenant may set Postgres' timeouts as it likes, lower or higher, and raises none of these. It decides
//! only; `serve/watch.rs` looks, and does what follows.

mod clients;
mod settings;
mod tally;
pub mod tenure;

pub use clients::{Clients, Entered};
pub use settings::Settings;
pub use tally::Tally;
pub use tenure::{Beat, Overstay, Phase, Tenure};
