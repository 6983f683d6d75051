//! A scratch Postgres without any proxy: for what must be known about Postgres itself.

use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::wire::Wire;

/// A running Postgres that trusts whoever comes over loopback.
pub struct Cluster {
    directory: tempfile::TempDir,
    port: u16,
}

static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

impl Cluster {
    /// The one that is running at this moment, or a new one.
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(Self::start());
            *shared = Arc::downgrade(&fresh);
            fresh
        })
    }

    /// A new one.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("pgcordon-cluster-").tempdir().unwrap();
        if is_root() {
            let id = |flag: &str| {
                let output = Command::new("id").args([flag, "postgres"]).output().unwrap();
                String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().unwrap()
            };
            chown(directory.path(), Some(id("-u")), Some(id("-g"))).unwrap();
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let data = directory.path().join("data").display().to_string();
        run("initdb", &["-D", &data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let sockets = directory.path().display();
        let options =
            format!("-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={sockets} -c fsync=off");
        let log = directory.path().join("log").display().to_string();
        run("pg_ctl", &["-D", &data, "-l", &log, "-w", "-o", &options, "start"]);
        Self { directory, port }
    }

    /// Where it listens.
    pub fn address(&self) -> (&str, u16) {
        ("127.0.0.1", self.port)
    }

    /// A session as a role, which needs no password.
    pub fn open(&self, role: &str) -> Wire {
        Wire::login(("127.0.0.1", self.port), "", &[("user", role), ("database", "postgres")]).expect("it trusts")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let data = self.directory.path().join("data");
        let _ = command("pg_ctl").arg("-D").arg(data).args(["-m", "immediate", "-w", "stop"]).output();
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(program: &str, arguments: &[&str]) {
    let output = command(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The server that is tested, by its own words.
pub(crate) fn server_version() -> String {
    String::from_utf8(command("postgres").arg("--version").output().unwrap().stdout).unwrap()
}

/// A program of the server that is tested: beside the initdb on PATH, as `pgcordon dev` looks for it, else Debian's newest.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    directories.sort();
    directories.extend(std::env::split_paths(&path).find(|directory| directory.join("initdb").exists()));
    let installed = directories.into_iter().rev().map(|directory| directory.join(name)).find(|path| path.exists());
    installed.unwrap_or_else(|| PathBuf::from(name))
}

/// Postgres refuses to be root.
fn command(name: &str) -> Command {
    let program = program(name);
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}
