//! The command line: one thin file per command. What a command does is done elsewhere; here it is asked for and reported.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Prints a line.
macro_rules! say {
    ($($what:tt)*) => {
        $crate::cli::output::line(format_args!($($what)*))
    };
}

pub mod audit;
pub mod check;
mod connect;
pub mod dev;
pub mod failure;
pub mod harden;
pub mod key;
pub mod logging;
pub mod meter;
pub mod migrate;
mod output;
pub mod protect;
pub mod quota;
pub mod seal;
pub mod serve;
pub mod workspace;

pub use failure::Failure;

/// Makes one shared Postgres multi-tenant: point DATABASE_URL at it and change no code.
#[derive(Debug, Parser)]
#[command(name = "pgcordon", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one for the life of the program")]
enum Command {
    /// The whole thing on this machine: a scratch Postgres, a demo schema, two workspaces and the proxy
    Dev(dev::Args),
    /// The proxy
    Serve(serve::Args),
    /// Creates or upgrades the `cordon` schema upstream
    Migrate(migrate::Args),
    /// Makes tables tenant-safe
    Protect(protect::ProtectArgs),
    /// Undoes `protect`; a column that it added stays, with its data
    Unprotect(protect::UnprotectArgs),
    /// Counts a resource and holds its limit
    Meter(meter::Args),
    /// Closes what one role sees of its siblings
    Harden(harden::Args),
    /// Reports every hole in the isolation, worst first
    Check(check::Args),
    /// Shows, replaces and retires the keys of the seals
    Seal(seal::Args),
    /// Creates, lists, suspends and deletes workspaces
    Workspace(workspace::Args),
    /// Creates, lists, rotates and revokes API keys
    Key(key::Args),
    /// Shows, exports and verifies the audit trail
    Audit(audit::Args),
    /// Shows, sets and counts what workspaces may use
    Quota(quota::Args),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Dev(args) => dev::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Migrate(args) => migrate::run(args),
        Command::Protect(args) => protect::run(args),
        Command::Unprotect(args) => protect::run_undo(args),
        Command::Meter(args) => meter::run(args),
        Command::Harden(args) => harden::run(args),
        Command::Check(args) => check::run(args),
        Command::Seal(args) => seal::run(args),
        Command::Workspace(args) => workspace::run(args),
        Command::Key(args) => key::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Quota(args) => quota::run(args),
    };
    let code = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    };
    match output::complete() {
        Ok(()) => code,
        Err(failure) => failure.report(),
    }
}
