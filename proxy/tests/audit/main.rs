//! The audit trail against a real Postgres, a real disk and real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "children tell their parents, and tests what they didn't try"
)]

mod appending;
mod changes;
mod crash;
mod full_disk;
mod scratch;
mod shipping;
mod tampering;
mod walls;
