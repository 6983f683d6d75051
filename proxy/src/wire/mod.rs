//! The protocol: frames, startup packets, the few messages we open and those we author. It knows bytes and nothing of
//! who sends them or why.
//!
//! Source: Postgres docs, chapter "Frontend/Backend Protocol".

pub mod author;
pub mod frame;
pub mod inject;
pub mod open;
pub mod outbound;
pub mod startup;

pub use frame::{Frame, Malformed};
pub use outbound::Outbound;
