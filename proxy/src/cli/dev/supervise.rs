//! The life of one `pgcordon dev`: start everything, wait for the end, stop everything. Whatever ends it, a signal, an
//! error half-way or a Postgres that dies, goes through the same stopping.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Args;
use super::orphan;
use super::progress::Progress;
use super::stage::Stage;
use super::start;
use crate::cli::Failure;

/// How long sessions of the proxy get to end.
const PROXY_GRACE: Duration = Duration::from_millis(500);
/// How long the proxy may take to stop before Postgres is stopped under it.
const PROXY_STOP_MAX: Duration = Duration::from_millis(900);
/// The keepers are done before this; it bounds the wait for a keeper that was itself killed.
const CLUSTER_STOP_MAX: Duration = Duration::from_millis(4000);

/// Runs until a signal or a failure.
pub(super) async fn run(args: &Args) -> Result<(), Failure> {
    let mut signals =
        Signals::listen().map_err(|error| Failure::outside(format!("can't listen for signals: {error}")))?;
    let progress = Progress::start();
    let mut stage = Stage::default();
    let started = tokio::select! {
        started = start::everything(args, &mut stage, &progress) => started,
        name = signals.next() => Err(Failure::outside(format!("stopped by {name} before it was ready"))),
    };
    let outcome = match started {
        Ok(()) => tokio::select! {
            name = signals.next() => {
                progress.say(&format!("stopping ({name})"));
                Ok(())
            }
            () = stage.cluster.ended() => Err(Failure::outside("Postgres has ended by itself").hint(stage.log_hint())),
        },
        Err(failure) => Err(failure),
    };
    stop(&mut stage, &mut signals).await;
    outcome
}

/// Stops the proxy, then Postgres. A second signal makes short work of both.
async fn stop(stage: &mut Stage, signals: &mut Signals) {
    if let Some(running) = stage.running.take() {
        let stopping = tokio::task::spawn_blocking(move || running.stop(PROXY_GRACE, || false));
        tokio::select! {
            _ = tokio::time::timeout(PROXY_STOP_MAX, stopping) => {}
            _ = signals.next() => stage.cluster.stop_at_once(),
        }
    }
    if stage.cluster.is_running() {
        stage.cluster.stop();
        let deadline = tokio::time::sleep(CLUSTER_STOP_MAX);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                () = stage.cluster.ended() => break,
                _ = signals.next() => stage.cluster.stop_at_once(),
                () = &mut deadline => break,
            }
        }
    }
    // A keeper that was killed leaves its Postgres behind.
    if let Some(home) = &stage.home {
        let _ = tokio::time::timeout(CLUSTER_STOP_MAX, orphan::stop(&home.data())).await;
    }
    stage.clean();
}

/// The signals that end it.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
