//! A running `pgcordon serve` and what it has logged.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::dev::binary;

/// How long a test waits for a word of the log before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    said: Condvar,
}

/// A proxy of its own, for a configuration that another process may share.
pub struct Serve {
    child: Child,
    log: Arc<Log>,
    address: SocketAddr,
    /// How many lines [`Serve::says_next`] has looked at.
    heard: Mutex<usize>,
}

impl Serve {
    /// Starts it with a configuration, on ports of its own, and waits until it accepts connections.
    pub fn start(configuration: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(binary())
            .args(["serve", "--config"])
            .arg(configuration)
            .env("PGCORDON_SERVER__LISTEN", "127.0.0.1:0")
            .env("PGCORDON_HTTP__LISTEN", "")
            .env("PGCORDON_LOG__FILTER", "info")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pgcordon is built");
        let log = Arc::<Log>::default();
        let (read, stderr) = (log.clone(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                read.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                read.said.notify_all();
            }
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut serve = Self { child, log, address, heard: Mutex::default() };
        let line = serve.says("accepting connections");
        serve.address = line.rsplit_once("address=").expect("an address").1.trim().parse().expect("an address");
        serve
    }

    /// A connection URL of another proxy of the same upstream, for this one.
    pub fn url(&self, of_another: &str) -> String {
        let (login, place) = of_another.rsplit_once('@').expect("a login");
        let database = place.split_once('/').expect("a database").1;
        format!("{login}@{}/{database}", self.address)
    }

    /// Waits for a line of the log with this word, and returns it.
    pub fn says(&self, word: &str) -> String {
        self.line(word, 0).1
    }

    /// The same for a line behind the one that this has returned last.
    pub fn says_next(&self, word: &str) -> String {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, line) = self.line(word, *heard);
        *heard = at + 1;
        line
    }

    /// The first line with this word from a place on, and its place.
    fn line(&self, word: &str, from: usize) -> (usize, String) {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some((at, line)) = lines.iter().enumerate().skip(from).find(|(_, line)| line.contains(word)) {
                return (at, line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{word:?} was never said: {lines:#?}");
            lines = self.log.said.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        self.child.wait().expect("a child")
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
