//! Sockets and tasks: what the session decides is done here. Each client is one task on one core.

pub mod accept;
mod audit;
mod client;
pub mod core;
mod drive;
mod farewell;
pub mod greeting;
mod homing;
mod inlet;
pub mod live;
mod lobby;
mod login;
mod outlet;
pub mod registry;
mod server_switches;
mod socket;
mod startup_settings;
mod turn_away;
pub mod watch;
