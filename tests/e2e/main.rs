//! End-to-end tests, a file per concern.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod audit;
mod bad_input;
mod cancelling;
mod catalog_queries;
mod connecting;
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
mod operating;
mod pooling;
mod prepared;
mod quotas;
mod reports;
mod tls;
mod tools;
mod upstream_lost;
mod versions;
mod writes;
