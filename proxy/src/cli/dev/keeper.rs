//! The keeper stands between pgcordon and a program it starts (initdb, postgres). It holds the reading end of a pipe
//! from pgcordon: when that ends, because pgcordon closed it or was killed, it stops the program and removes what is
//! scratch. So a `kill -9` of pgcordon leaves no orphan behind.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc;

use super::account::Account;
use crate::cli::Failure;

/// The order to stop, which the end of the pipe is too.
const STOP: u8 = b's';
/// The order to stop without waiting for anything.
const AT_ONCE: u8 = b'q';

/// What the keeper process is told.
#[derive(clap::Args, Debug)]
pub(super) struct KeeperArgs {
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    #[arg(long)]
    gid: Option<u32>,
    /// Where the program's output goes.
    #[arg(long)]
    log: PathBuf,
    /// A lock file held while the program runs.
    #[arg(long)]
    hold: Option<PathBuf>,
    /// A directory to remove once the program was stopped.
    #[arg(long)]
    remove: Option<PathBuf>,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// pgcordon's end: a program under a keeper. Dropping it stops the program.
pub(super) struct Kept {
    keeper: Child,
    orders: Option<File>,
}

/// What a keeper is to know beside the program itself.
pub(super) struct Terms<'a> {
    pub(super) account: &'a Account,
    pub(super) log: &'a Path,
    pub(super) hold: &'a Path,
    pub(super) remove: &'a Path,
}

impl Kept {
    /// Starts a program under a keeper of its own.
    pub(super) fn start(command: &[OsString], terms: &Terms<'_>) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::outside(format!("can't start a process: {error}"));
        // The running program itself, even when its file was replaced by a new build in the meantime.
        let ourselves = Path::new("/proc/self/exe");
        let program =
            if ourselves.exists() { ourselves.to_owned() } else { std::env::current_exe().map_err(failed)? };
        let mut keeper = Command::new(program);
        keeper.arg0("pgcordon").args(["dev", "keeper"]);
        if let Some((uid, gid)) = terms.account.switch {
            keeper.arg("--uid").arg(uid.to_string()).arg("--gid").arg(gid.to_string());
        }
        keeper.arg("--log").arg(terms.log).arg("--hold").arg(terms.hold).arg("--remove").arg(terms.remove);
        keeper.arg("--").args(command);
        // A process group of its own: Ctrl-C in the terminal reaches pgcordon alone, which then stops things in order.
        keeper.process_group(0).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null());
        let mut keeper = keeper.spawn().map_err(failed)?;
        let orders = keeper.stdin.take().and_then(|pipe| pipe.into_owned_fd().ok()).map(File::from);
        Ok(Self { keeper, orders })
    }

    /// Waits until the program has ended.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.keeper.wait().await
    }

    /// Whether the program has ended by now.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.keeper.try_wait(), Ok(None))
    }

    /// Asks the program to stop: within seconds it has ended, one way or the other.
    pub(super) fn stop(&mut self) {
        self.order(STOP);
    }

    /// Has the program stopped without waiting for anything.
    pub(super) fn stop_at_once(&mut self) {
        self.order(AT_ONCE);
    }

    fn order(&mut self, order: u8) {
        if let Some(pipe) = &mut self.orders {
            // A keeper that is gone already has nothing left to stop.
            let _ = pipe.write_all(&[order]);
        }
    }
}

/// How far the stopping has come. Each step is harder than the one before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Running,
    /// SIGINT: Postgres' fast shutdown; initdb removes what it made.
    Asked,
    /// SIGQUIT: Postgres' immediate shutdown.
    Urged,
    Killed,
}

impl Step {
    const fn next(self) -> Self {
        match self {
            Self::Running => Self::Asked,
            Self::Asked => Self::Urged,
            Self::Urged | Self::Killed => Self::Killed,
        }
    }

    /// The signal to send, and how long to wait before the next step.
    const fn signal(self) -> Option<(Signal, Duration)> {
        match self {
            Self::Running => None,
            Self::Asked => Some((Signal::INT, Duration::from_millis(2500))),
            Self::Urged => Some((Signal::QUIT, Duration::from_millis(700))),
            Self::Killed => Some((Signal::KILL, Duration::from_millis(500))),
        }
    }
}

/// The keeper process.
pub(super) fn run(args: &KeeperArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::outside(format!("can't start: {error}")))?;
    let status = runtime.block_on(keep(args));
    runtime.shutdown_background();
    match status {
        Ok(status) => std::process::exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))),
        Err(error) => Err(Failure::outside(format!(
            "{}: {error}",
            args.command.first().map(|c| c.to_string_lossy()).unwrap_or_default()
        ))),
    }
}

async fn keep(args: &KeeperArgs) -> std::io::Result<ExitStatus> {
    let mut orders = listen()?;
    let held = args.hold.as_deref().map(hold).transpose()?;
    let mut program = start(args)?;
    let mut step = Step::Running;
    let mut patience = Duration::MAX;
    let status = loop {
        tokio::select! {
            status = program.wait() => break status?,
            Some(wanted) = orders.recv() => if wanted <= step { continue } else { step = wanted },
            () = tokio::time::sleep(patience), if step != Step::Running => step = step.next(),
        }
        if let Some((signal, wait)) = step.signal() {
            patience = wait;
            send(&program, signal);
        }
    };
    if step != Step::Running
        && let Some(directory) = &args.remove
    {
        remove(directory).await;
    }
    drop(held);
    Ok(status)
}

fn start(args: &KeeperArgs) -> std::io::Result<Child> {
    // Postgres quotes failed statements in it.
    let log = File::options().create(true).append(true).mode(0o600).open(&args.log)?;
    let mut command = std::process::Command::new(args.command.first().cloned().unwrap_or_default());
    command.args(args.command.iter().skip(1)).process_group(0).current_dir("/");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    if let (Some(uid), Some(gid)) = (args.uid, args.gid) {
        command.uid(uid).gid(gid);
    }
    Command::from(command).spawn()
}

/// Orders come over standard input, from pgcordon, and as signals, from whoever ends everything at once.
fn listen() -> std::io::Result<mpsc::Receiver<Step>> {
    let (sender, receiver) = mpsc::channel(4);
    let pipe = sender.clone();
    std::thread::spawn(move || {
        let mut byte = [0];
        loop {
            let (order, last) = match std::io::stdin().read(&mut byte) {
                Ok(1) if byte[0] == AT_ONCE => (Step::Urged, false),
                Ok(1) => (Step::Asked, false),
                _ => (Step::Asked, true),
            };
            if pipe.blocking_send(order).is_err() || last {
                return;
            }
        }
    });
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signal = tokio::signal::unix::signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                if sender.send(Step::Asked).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}

fn hold(path: &Path) -> std::io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(file)
}

fn send(program: &Child, signal: Signal) {
    let Some(pid) = program.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) else { return };
    // Postgres passes its own signals on; only the last one must reach everybody in the group.
    let _ = if signal == Signal::KILL {
        rustix::process::kill_process_group(pid, signal)
    } else {
        rustix::process::kill_process(pid, signal)
    };
}

/// A backend that outlives a killed postmaster for a moment may still write a file.
async fn remove(directory: &Path) {
    for _ in 0..20 {
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopping_gets_harder_step_by_step_and_is_over_within_four_seconds() {
        let (mut step, mut total) = (Step::Running, Duration::ZERO);
        while step != Step::Killed {
            let next = step.next();
            assert!(next > step);
            total += next.signal().expect("a signal").1;
            step = next;
        }
        assert!(total < Duration::from_secs(4), "{total:?}");
    }
}
