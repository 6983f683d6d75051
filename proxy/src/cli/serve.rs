//! `pgcordon serve`: the proxy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, logging};
use crate::app;
use crate::audit::segments;
use crate::config::Settings;

/// Options of `serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file; every key has a default and may come from the environment (PGCORDON_SECTION__KEY)
    #[arg(long, env = "PGCORDON_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only looks for mistakes in the configuration
    #[arg(long)]
    check: bool,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Mistakes in the configuration, a port in use, Postgres unreachable.
pub fn run(args: Args) -> Result<(), Failure> {
    let settings = load(args.config.as_deref())?;
    if settings.audit.enabled {
        let directory = settings.audit_directory();
        segments::probe(&directory).map_err(|error| {
            Failure::usage(format!("audit.spool_dir: {} can't be written: {error}", directory.display())).hint(
                "name a directory on a local disk that this user may write; with audit.enabled = false there is no trail",
            )
        })?;
    }
    if args.check {
        say!("the configuration is right");
        return Ok(());
    }
    logging::start(&settings.log)?;
    let grace = Duration::from_millis(settings.server.drain_timeout_ms);
    let running = app::start(settings).map_err(|error| Failure::outside(format!("{error:#}")))?;
    wait_for_the_end()?;
    tracing::info!("stopping: open transactions may end");
    running.stop(grace);
    Ok(())
}

/// The settings of a file and the environment, or all their mistakes.
///
/// # Errors
/// All mistakes at once.
pub(super) fn load(file: Option<&Path>) -> Result<Settings, Failure> {
    Settings::load(file, std::env::vars()).map_err(|mistakes| {
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        Failure::usage(told.join("\npgcordon: ")).hint("config/pgcordon.toml documents every key")
    })
}

fn wait_for_the_end() -> Result<(), Failure> {
    let waited = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        runtime.block_on(async {
            let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let mut hangup = signal(SignalKind::hangup())?;
            loop {
                tokio::select! {
                    _ = terminate.recv() => return Ok(()),
                    _ = interrupt.recv() => return Ok(()),
                    _ = hangup.recv() => tracing::warn!("SIGHUP: this version reloads nothing; restart to change the configuration"),
                }
            }
        })
    });
    waited.map_err(|error| Failure::outside(format!("signals can't be waited for: {error}")))
}
