//! What is counted, and how it is told. Counters are per core and summed when somebody asks.

pub mod counters;
pub mod exporter;
mod quota;

pub use counters::{CoreCounters, DoorCounters, OpenClient, PinnedClient};
