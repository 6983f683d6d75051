//! End-to-end tests, a file per concern.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod applications;
mod audit;
mod bad_input;
mod books;
mod cancelling;
mod catalog_queries;
mod client_certificates;
mod connecting;
mod conversations;
mod crowded;
mod databases;
mod differential;
mod disconnecting;
mod drivers;
mod fuzz;
mod guarding;
mod handover;
mod isolation;
mod keys;
mod large;
mod malformed;
mod operating;
mod pooling;
mod prepared;
mod quotas;
mod racing;
mod reports;
mod session_state;
mod starting;
mod tls;
mod tools;
mod upstream_lost;
mod upstream_tls;
mod versions;
mod writes;
