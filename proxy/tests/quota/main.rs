//! Quotas against a real Postgres: the truth, the arbiter that goes by it, and what operators and scripts are told.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod arbiter;
mod command;
mod flows;
mod http;
#[allow(dead_code, reason = "other test binaries use the rest")]
#[path = "../schema/scratch.rs"]
mod scratch;
mod stage;
mod truth;
