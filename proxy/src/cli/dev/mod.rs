//! `pgcordon dev`: the whole thing on this machine in one command.
//!
//! `supervise` is the story from start to end, `start` the order of the steps, `stage` what has been started. Postgres
//! runs under a `keeper`, which stops it even when pgcordon is killed.

mod account;
mod args;
mod binaries;
mod cluster;
mod home;
mod keeper;
mod keys;
mod memory;
mod orphan;
mod prepare;
mod progress;
mod proxy;
mod quota;
mod report;
mod schema;
mod shared;
mod stage;
mod start;
mod supervise;
mod walls;

pub use args::Args;

use super::Failure;

/// Runs until Ctrl-C.
pub fn run(args: Args) -> Result<(), Failure> {
    if let Some(args::Inner::Keeper(terms)) = &args.inner {
        return keeper::run(terms);
    }
    quota::agree(&args.quota)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::outside(format!("can't start: {error}")))?;
    let outcome = runtime.block_on(supervise::run(&args));
    // A proxy that is still starting on its own thread ends with this process.
    runtime.shutdown_background();
    outcome
}
