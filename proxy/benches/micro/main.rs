//! Micro-benchmarks of what decides and does no IO: `cargo bench -p pgcordon`, or one of them with `-- framer`. What the whole
//! proxy costs is measured by `tests/bench/run.sh`; these show where a change of it comes from.
//!
//! They are one binary, for linking the proxy takes longer than running them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "as in tests: what goes wrong here ends the run"
)]

mod framer;
mod lookup;
mod messages;
mod prefilter;
mod roster;
mod session;

use criterion::{criterion_group, criterion_main};

criterion_group!(benches, framer::all, lookup::all, prefilter::all, roster::all, session::all);
criterion_main!(benches);
