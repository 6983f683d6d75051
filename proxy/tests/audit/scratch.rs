//! A Postgres of this test binary's own, a migrated database in it for each test, and the program to run against it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use pgcordon::audit::recorder::Trail;
use pgcordon::audit::{Client as Who, Event, EventType, Settings};
use pgcordon::control::audit_sink::ControlSink;
use pgcordon::control::schema::migrate;
use pgcordon::control::{ControlTarget, RoleNames};
use pgcordon::tenant::ContextNames;
use tokio_postgres::{Client, NoTls};

pub(crate) struct Scratch {
    directory: tempfile::TempDir,
    databases: Mutex<u32>,
}

static SHARED: Mutex<Weak<Scratch>> = Mutex::new(Weak::new());
/// Roles belong to the whole server, so databases are made one after the other.
static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Scratch {
    fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(Self::start());
            *shared = Arc::downgrade(&fresh);
            fresh
        })
    }

    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("pgcordon-audit-").tempdir().unwrap();
        if is_root() {
            assert!(Command::new("chown").arg("postgres").arg(directory.path()).status().unwrap().success());
        }
        let (data, _) = (directory.path().join("data"), ());
        run("initdb", &["-D", data.to_str().unwrap(), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"]);
        let scratch = Self { directory, databases: Mutex::new(0) };
        scratch.pg_ctl(&["start"]);
        scratch
    }

    /// `pg_ctl start`, `pg_ctl -m immediate stop`.
    pub(crate) fn pg_ctl(&self, action: &[&str]) {
        let (data, log) = (self.directory.path().join("data"), self.directory.path().join("log"));
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories={} -c fsync=off",
            self.directory.path().display()
        );
        let mut arguments = vec!["-D", data.to_str().unwrap(), "-l", log.to_str().unwrap(), "-w", "-o", &options];
        arguments.extend(action);
        run("pg_ctl", &arguments);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let data = self.directory.path().join("data");
        let _ = command("pg_ctl").arg("-D").arg(data).args(["-m", "immediate", "-w", "stop"]).output();
    }
}

/// One test's database, its configuration and its spool.
pub(crate) struct Database {
    pub(crate) scratch: Arc<Scratch>,
    pub(crate) name: String,
    pub(crate) place: tempfile::TempDir,
}

impl Database {
    /// A migrated one.
    pub(crate) async fn migrated() -> Self {
        Self::of(Scratch::shared(), "").await
    }

    /// A migrated one in this server, made with these options.
    pub(crate) async fn of(scratch: Arc<Scratch>, options: &str) -> Self {
        let _one = MAKING.lock().await;
        let name = {
            let mut databases = scratch.databases.lock().unwrap_or_else(PoisonError::into_inner);
            *databases += 1;
            format!("test_{databases}")
        };
        let place = tempfile::tempdir().unwrap();
        let database = Self { scratch, name, place };
        let postgres = database.connect("postgres", "postgres").await;
        postgres.batch_execute(&format!("create database {} {options}", database.name)).await.unwrap();
        migrate::migrate(&mut database.admin().await, &RoleNames::default(), &ContextNames::default()).await.unwrap();
        let configuration = format!(
            "[upstream]\nhost = {:?}\ndatabases = [{:?}]\n[audit]\nspool_dir = {:?}\n",
            database.scratch.directory.path(),
            database.name,
            database.spool()
        );
        std::fs::write(database.place.path().join("pgcordon.toml"), configuration).unwrap();
        database
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.place.path().join("spool")
    }

    async fn connect(&self, role: &str, name: &str) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.scratch.directory.path()).user(role).dbname(name);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub(crate) async fn admin(&self) -> Client {
        self.connect("postgres", &self.name).await
    }

    pub(crate) async fn role(&self, role: &str) -> Client {
        self.connect(role, &self.name).await
    }

    pub(crate) fn target(&self) -> ControlTarget {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.scratch.directory.path()).user("pgcordon_control").dbname(&self.name);
        ControlTarget { config, tls: None, roles: RoleNames::default(), databases: Vec::new() }
    }

    /// A trail that is shipped to this database.
    pub(crate) fn trail(&self, settings: &Settings) -> Trail {
        let mut trail = Trail::start(settings, self.spool(), serde_json::json!({})).unwrap();
        trail.ship(ControlSink::new(self.target())).unwrap();
        trail
    }

    /// Runs a command of the program.
    pub(crate) fn pgcordon(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_pgcordon"))
            .args(arguments)
            .env("PGCORDON_CONFIG", self.place.path().join("pgcordon.toml"))
            .output()
            .unwrap();
        let Output { status, stdout, stderr } = output;
        (status.code().unwrap(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
    }

    /// `audit verify`, which must find the trail whole.
    pub(crate) fn is_whole(&self) {
        let (code, said) = self.pgcordon(&["audit", "verify"]);
        assert_eq!(code, 0, "{said}");
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.admin().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Waits until the database has so many records of events that tenants caused.
    pub(crate) async fn has(&self, count: i64) {
        until("they are there", async || {
            self.number("select count(*) from cordon.audit_event where event_type = 'RESOURCE_CREATED'").await == count
        })
        .await;
    }
}

pub(crate) fn event(number: u64) -> Event {
    Event { rows: Some(number), ..Event::new(EventType::ResourceCreated, Arc::new(Who::default())) }
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(program: &str, arguments: &[&str]) {
    let output = command(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
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
