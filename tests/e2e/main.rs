//! End-to-end tests, a file per concern.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod audit;
mod bad_input;
mod cancelling;
mod connecting;
mod conversations;
mod crowded;
mod differential;
mod disconnecting;
mod drivers;
mod fuzz;
mod guarding;
mod handover;
mod isolation;
mod keys;
mod operating;
mod pooling;
mod prepared;
mod quotas;
mod reports;
mod session_state;
mod tls;
mod tools;
mod upstream_lost;
mod writes;
