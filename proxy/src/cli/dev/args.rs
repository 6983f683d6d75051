//! What `pgcordon dev` is told.

use std::path::PathBuf;

use super::keeper;
use super::quota::Wish;

/// The proxy's port when neither `--port` nor `--config` says otherwise.
pub(super) const PORT: u16 = 6432;
/// The HTTP port when neither `--http-port` nor `--config` says otherwise.
pub(super) const HTTP_PORT: u16 = 6433;

/// Runs the whole thing on this machine: a scratch Postgres, a demo schema, two workspaces with keys, and the proxy.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Print one line of JSON on standard output once connections are accepted, and nothing else.
    #[arg(long)]
    pub(super) json: bool,
    /// The proxy's port on 127.0.0.1; 0 takes any free one [default: 6432].
    #[arg(long, value_name = "N")]
    pub(super) port: Option<u16>,
    /// The port for HTTP on 127.0.0.1; 0 takes any free one [default: 6433].
    #[arg(long, value_name = "N")]
    pub(super) http_port: Option<u16>,
    /// Load this schema in place of the demo one, as the owner role. Every table with a uuid column named workspace_id
    /// or workspaceId is protected, the others may be read only.
    #[arg(long, value_name = "FILE.sql")]
    pub(super) schema: Option<PathBuf>,
    /// Let each workspace have so many rows of a table at most, under a resource's name; may be given again.
    #[arg(long, value_name = "RESOURCE=TABLE:LIMIT")]
    pub(super) quota: Vec<Wish>,
    /// Server connections per role.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) pool_size: Option<u32>,
    /// Where initdb and postgres are [default: PATH, then the newest in the usual places].
    #[arg(long, value_name = "DIR")]
    pub(super) pg_bin: Option<PathBuf>,
    /// Keep the database here, and use it again the next time.
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Proxy configuration that overrides the one of `dev`.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Also make a key that runs as a superuser, for test suites.
    #[arg(long)]
    pub(super) superuser_key: bool,
    /// Leave the statement guard off, for tests of the other walls.
    #[arg(long)]
    pub(super) no_guard: bool,
    #[command(subcommand)]
    pub(super) inner: Option<Inner>,
}

/// What `pgcordon dev` runs of itself.
#[derive(clap::Subcommand, Debug)]
pub(super) enum Inner {
    /// Runs one program and stops it when pgcordon is gone.
    #[command(hide = true)]
    Keeper(keeper::KeeperArgs),
}
