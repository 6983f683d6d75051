//! The harness that the end-to-end and hostile suites share: a raw client that speaks the protocol message by message, a
//! scratch Postgres, and a running `pgcordon dev`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed assumption of a test is a failed test")]

pub mod bouncer;
pub mod certificates;
pub mod cluster;
pub mod dev;
pub mod fault;
pub mod libpq;
pub mod serve;
mod template;
pub mod wire;
