//! The command line: one thin file per command. What a command does is done elsewhere; here it is asked for and reported.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod dev;
pub mod failure;
pub mod logging;
pub mod serve;

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
}

/// Runs the program.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Dev(args) => dev::run(args),
        Command::Serve(args) => serve::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
