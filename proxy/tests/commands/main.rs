//! The commands as programs, against a real Postgres: what they print, where, and with which exit code they end.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod environment;
mod friendly;
mod keys;
mod program;
#[allow(dead_code, reason = "other test binaries use the rest")]
#[path = "../schema/scratch.rs"]
mod scratch;
