//! After a `kill -9` a data directory may have a stale `postmaster.pid`, or a Postgres that still runs on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::home;
use crate::cli::Failure;
use crate::domain::clock;

/// The signals an orphan gets in turn, and for how long each is given.
const STOPPING: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(5)),
    (Signal::QUIT, Duration::from_secs(3)),
    (Signal::KILL, Duration::from_secs(2)),
];

/// Stops the Postgres that an earlier run left on this data directory, and removes what it left. The caller holds the
/// lock of the directory, so no other pgcordon wants that Postgres.
pub(super) async fn stop(data: &Path) -> Result<bool, Failure> {
    let file = data.join("postmaster.pid");
    let Ok(text) = std::fs::read_to_string(&file) else { return Ok(false) };
    let Some(left) = Left::parse(&text) else {
        return remove(&file).map(|()| false);
    };
    let running = left.pid.is_some_and(|pid| is_postgres_on(pid, data));
    if let Some(pid) = left.pid.filter(|_| running) {
        end(pid, data).await?;
    }
    // A process that only took over the number is none of our business; Postgres would refuse to start because of it.
    if file.exists() {
        remove(&file)?;
    }
    if let Some(scratch) = left.socket_directory.as_deref().and_then(Path::parent)
        && home::is_scratch(scratch)
    {
        let _ = std::fs::remove_dir_all(scratch);
    }
    Ok(running)
}

/// What `postmaster.pid` says (Postgres: src/include/utils/pidfile.h).
struct Left {
    pid: Option<Pid>,
    socket_directory: Option<PathBuf>,
}

impl Left {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        // A single-user backend writes its number negated.
        let pid = lines.next()?.trim().parse::<i32>().ok().map(i32::saturating_abs);
        let socket_directory = lines.nth(3).map(str::trim).filter(|line| !line.is_empty()).map(PathBuf::from);
        Some(Self { pid: pid.and_then(Pid::from_raw), socket_directory })
    }
}

async fn end(pid: Pid, data: &Path) -> Result<(), Failure> {
    for (signal, patience) in STOPPING {
        let _ = kill_process(pid, signal);
        let deadline = clock::now() + patience;
        while clock::now() < deadline {
            if !is_postgres_on(pid, data) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Err(Failure::outside(format!(
        "the Postgres that an earlier run left on {} (process {}) doesn't end",
        data.display(),
        pid.as_raw_nonzero()
    )))
}

/// Whether this process is a Postgres that runs on this data directory, which is its working directory.
fn is_postgres_on(pid: Pid, data: &Path) -> bool {
    if test_kill_process(pid).is_err() {
        return false;
    }
    let entry = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    if Path::new("/proc/self/exe").exists() {
        let program = std::fs::read_link(entry.join("exe")).unwrap_or_default();
        let named_postgres = program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("postgres"));
        return named_postgres && std::fs::read_link(entry.join("cwd")).is_ok_and(|directory| directory == data);
    }
    let output = Command::new("ps").args(["-o", "command=", "-p", &pid.as_raw_nonzero().to_string()]).output();
    output.is_ok_and(|output| {
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        line.contains("postgres") && line.contains(&*data.to_string_lossy())
    })
}

fn remove(file: &Path) -> Result<(), Failure> {
    std::fs::remove_file(file)
        .map_err(|error| Failure::outside(format!("can't remove the stale {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_and_the_socket_directory_are_read_from_postmaster_pid() {
        let left = Left::parse("4711\n/d/postgres\n1700000000\n5433\n/tmp/pgcordon-0/s\n127.0.0.1\n 1 2\nready\n")
            .expect("it parses");
        assert_eq!(left.pid, Pid::from_raw(4711));
        assert_eq!(left.socket_directory.as_deref(), Some(Path::new("/tmp/pgcordon-0/s")));
        assert!(Left::parse("").is_none());
    }

    #[test]
    fn a_process_that_is_no_postgres_is_never_taken_for_one() {
        let ourselves = rustix::process::getpid();
        assert!(!is_postgres_on(ourselves, &std::env::current_dir().expect("a directory")));
    }
}
