//! Where log lines go: stderr, for people or for machines.

use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use super::Failure;
use crate::config::{Log, LogFormat};

/// The filter of this process' log, once it is on.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Turns logging on. Once per process; later calls change nothing.
///
/// # Errors
/// A filter that doesn't read as tracing's directives.
pub fn start(log: &Log) -> Result<(), Failure> {
    let (filter, handle) = reload::Layer::new(filter(log)?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // A subscriber that is there already stays.
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
    Ok(())
}

/// Changes what is logged from now on.
///
/// # Errors
/// A filter that doesn't read as tracing's directives: the one in use stays.
pub fn change_filter(log: &Log) -> Result<(), Failure> {
    let filter = filter(log)?;
    match FILTER.get() {
        Some(handle) => handle.reload(filter).map_err(|error| Failure::outside(format!("log.filter: {error}"))),
        None => Ok(()),
    }
}

fn filter(log: &Log) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(&log.filter).map_err(|error| Failure::usage(format!("log.filter: {error}")))
}
