//! `pgcordon serve`: the proxy.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, logging};
use crate::app;
use crate::audit::segments;
use crate::config::{Changes, Settings};

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

/// Serves until SIGTERM or SIGINT. SIGHUP reads the configuration anew.
///
/// # Errors
/// Mistakes in the configuration, a port in use, Postgres unreachable.
pub fn run(args: Args) -> Result<(), Failure> {
    let file = args.config.as_deref();
    let settings = load(file)?;
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
    let signals = listen().map_err(|error| Failure::outside(format!("signals can't be waited for: {error}")))?;
    let running = app::start(settings.clone()).map_err(|error| Failure::outside(format!("{error:#}")))?;
    let mut current = settings.clone();
    while let Ok(Heard::Reload) = signals.recv() {
        match reload(file, &settings, &current, &running) {
            Ok(new) => current = new,
            Err(failure) => tracing::error!("SIGHUP: the configuration in use stays: {failure}"),
        }
    }
    let grace = Duration::from_millis(current.server.drain_timeout_ms);
    tracing::info!(
        "stopping: open transactions may end within {} ms; a second signal ends them now",
        grace.as_millis()
    );
    running.stop(grace, || matches!(signals.try_recv(), Ok(Heard::Stop)));
    tracing::info!("stopped");
    Ok(())
}

/// Takes over what a new configuration changes and can be changed now. Returns what is current from then on.
fn reload(
    file: Option<&Path>,
    started: &Settings,
    current: &Settings,
    running: &app::Running,
) -> Result<Settings, Failure> {
    let new = load(file)?;
    let taken = Changes::between(current, &new).taken;
    let waiting = Changes::between(started, &new).kept;
    logging::change_filter(&new.log)?;
    // Certificates are read anew although the names of their files are the same.
    running.reload(&new).map_err(|error| Failure::outside(format!("{error:#}")))?;
    tracing::info!("SIGHUP: certificates are read anew; in effect now: {}", list(&taken));
    if !waiting.is_empty() {
        tracing::warn!("SIGHUP: these wait for a restart: {}", list(&waiting));
    }
    Ok(new)
}

fn list(keys: &[String]) -> String {
    if keys.is_empty() { "nothing else".to_owned() } else { keys.join(", ") }
}

/// The settings of a file and the environment, or all their mistakes.
///
/// # Errors
/// All mistakes at once.
pub(super) fn load(file: Option<&Path>) -> Result<Settings, Failure> {
    Settings::load(file, std::env::vars_os()).map_err(|mistakes| {
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        Failure::usage(told.join("\npgcordon: ")).hint("config/pgcordon.toml documents every key")
    })
}

/// What an operator tells a running proxy.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

/// Hears signals from now on, on a thread of its own.
fn listen() -> std::io::Result<mpsc::Receiver<Heard>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, heard) = mpsc::sync_channel(16);
    let (mut terminate, mut interrupt, mut hangup) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?)
    };
    std::thread::Builder::new().name("pgcordon-signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                let next = tokio::select! {
                    _ = terminate.recv() => Heard::Stop,
                    _ = interrupt.recv() => Heard::Stop,
                    _ = hangup.recv() => Heard::Reload,
                };
                // A queue that is full holds enough of the same.
                if let Err(mpsc::TrySendError::Disconnected(_)) = sender.try_send(next) {
                    return;
                }
            }
        });
    })?;
    Ok(heard)
}
