//! PgBouncer in transaction mode, as what a pooler without tenants does.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::cluster::is_root;

/// A running one.
pub struct Bouncer {
    child: Child,
    port: u16,
    settings: PathBuf,
    database: String,
    user: (String, String),
    _directory: TempDir,
}

impl Bouncer {
    /// Starts it in front of a database, for one user.
    pub fn start(upstream: (&str, u16), database: &str, user: (&str, &str), pool_size: usize) -> Self {
        let directory = tempfile::Builder::new().prefix("pgcordon-bouncer-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (users, settings) = (directory.path().join("users"), directory.path().join("pgbouncer.ini"));
        fs::write(&users, format!("\"{}\" \"{}\"\n", user.0, user.1)).unwrap();
        let text = format!(
            "[databases]\n{database} = host={} port={} dbname={database}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = {pool_size}\n\
             max_client_conn = 1000\nignore_startup_parameters = extra_float_digits\n",
            upstream.0,
            upstream.1,
            users.display()
        );
        fs::write(&settings, text).unwrap();
        let child = spawn(&settings, port);
        let (name, secret) = user;
        Self {
            child,
            port,
            settings,
            database: database.to_owned(),
            user: (name.to_owned(), secret.to_owned()),
            _directory: directory,
        }
    }

    /// Starts it again if it has ended, and tells whether it had.
    pub fn revive(&mut self) -> bool {
        // One that is just dying listens no more.
        let has_ended = TcpStream::connect(("127.0.0.1", self.port)).is_err();
        if has_ended {
            self.child.wait().unwrap();
            self.child = spawn(&self.settings, self.port);
        }
        has_ended
    }

    /// Where its one user connects.
    pub fn url(&self) -> String {
        let (name, secret) = &self.user;
        format!("postgres://{name}:{secret}@127.0.0.1:{}/{}", self.port, self.database)
    }
}

fn spawn(settings: &Path, port: u16) -> Child {
    let child = command(settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("pgbouncer is installed");
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "pgbouncer has ended");
        std::thread::yield_now();
    }
    child
}

/// It refuses root, as Postgres does.
fn command(settings: &Path) -> Command {
    let installed = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(installed.unwrap_or("pgbouncer"));
    if is_root() {
        command.args(["-u", "postgres"]);
    }
    command.arg("-q").arg(settings);
    command
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}
