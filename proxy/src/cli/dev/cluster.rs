//! The scratch Postgres: made, configured, started and stopped.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::NoTls;

use super::account::Account;
use super::binaries::Binaries;
use super::home::{self, Home};
use super::keeper::{Kept, Terms};
use crate::cli::Failure;
use crate::domain::clock;

/// The superuser, whose password only `upstream.admin_dsn` holds.
pub(super) const SUPERUSER: &str = "postgres";
/// How long recovery after a crash may take.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a start is tried again: another process may have taken the port, or a killed Postgres' backends may still
/// hold its shared memory.
const STARTS_MAX: usize = 5;
/// How much of the log a failed start shows.
const LOG_LINES: usize = 12;

/// What a cluster is configured with.
pub(super) struct Setup<'a> {
    pub(super) binaries: &'a Binaries,
    pub(super) home: &'a Home,
    /// Whom Postgres runs as.
    pub(super) account: &'a Account,
    /// Whom pgcordon runs as: its connections over the Unix socket need no password.
    pub(super) ourselves: &'a Account,
    /// The roles that pgcordon may log in as over the Unix socket.
    pub(super) roles: &'a [String],
    pub(super) max_connections: u32,
}

/// A Postgres under a keeper.
pub(super) struct Cluster {
    kept: Option<Kept>,
    /// The TCP port on 127.0.0.1, which names the Unix socket too.
    pub(super) port: u16,
}

impl Cluster {
    /// A cluster that isn't running yet and would like this port; 0 is any.
    pub(super) const fn new(port: u16) -> Self {
        Self { kept: None, port }
    }

    /// Makes the data directory.
    pub(super) async fn init(&mut self, setup: &Setup<'_>) -> Result<(), Failure> {
        let Setup { binaries, home, account, .. } = setup;
        let unfinished = home.unfinished();
        for leftover in [&unfinished, &home.data()] {
            if leftover.exists() {
                std::fs::remove_dir_all(leftover)
                    .map_err(|error| Failure::outside(format!("can't remove {}: {error}", leftover.display())))?;
            }
        }
        home::make(&unfinished, 0o700)?;
        account.own(&unfinished)?;
        let mut command: Vec<OsString> =
            vec![binaries.program("initdb").into(), "-D".into(), unfinished.clone().into()];
        command.extend(
            ["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--auth-local=peer", "--auth-host=scram-sha-256"]
                .map(Into::into),
        );
        if !home.kept {
            command.push("--no-sync".into());
        }
        fresh_log(&home.log());
        let status = self.keep(&command, setup)?.ended().await;
        self.kept = None;
        match status {
            Ok(status) if status.success() => {}
            _ => return Err(with_log("initdb failed", &home.log())),
        }
        std::fs::rename(&unfinished, home.data())
            .map_err(|error| Failure::outside(format!("can't name the data directory: {error}")))
    }

    /// Configures and starts Postgres, and waits until it answers.
    pub(super) async fn start(&mut self, setup: &Setup<'_>) -> Result<(), Failure> {
        let home = setup.home;
        for attempt in 1.. {
            self.port = free_port(self.port)?;
            configure(setup, self.port)?;
            fresh_log(&home.log());
            let command = [setup.binaries.program("postgres").into(), "-D".into(), home.data().into_os_string()];
            self.keep(&command, setup)?;
            match self.wait_until_ready(home).await? {
                true => return Ok(()),
                false if attempt < STARTS_MAX && may_pass(&home.log()) => {
                    self.port = 0;
                    tokio::time::sleep(Duration::from_millis(400)).await;
                }
                false => break,
            }
        }
        self.kept = None;
        Err(with_log("Postgres doesn't start", &home.log()))
    }

    /// Connects as the superuser over the Unix socket.
    pub(super) async fn connect(
        &self,
        home: &Home,
        database: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(home.socket())
            .port(self.port)
            .user(SUPERUSER)
            .dbname(database)
            .application_name("pgcordon dev");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(async move {
            // A connection that breaks is noticed by the client that uses it.
            let _ = connection.await;
        });
        Ok(client)
    }

    /// Waits until whatever runs has ended; forever when nothing runs.
    pub(super) async fn ended(&mut self) {
        match &mut self.kept {
            Some(kept) => {
                let _ = kept.ended().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Asks whatever runs to stop.
    pub(super) fn stop(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.stop();
        }
    }

    /// Has whatever runs stopped without waiting.
    pub(super) fn stop_at_once(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.stop_at_once();
        }
    }

    /// Whether there is something to stop.
    pub(super) fn is_running(&mut self) -> bool {
        self.kept.as_mut().is_some_and(|kept| !kept.has_ended())
    }

    fn keep(&mut self, command: &[OsString], setup: &Setup<'_>) -> Result<&mut Kept, Failure> {
        let Setup { home, account, .. } = setup;
        let terms = Terms { account, log: &home.log(), hold: &home.keeper_lock(), remove: &home.scratch };
        Ok(self.kept.insert(Kept::start(command, &terms)?))
    }

    async fn wait_until_ready(&mut self, home: &Home) -> Result<bool, Failure> {
        let deadline = clock::now() + READY_TIMEOUT;
        loop {
            if !self.is_running() {
                return Ok(false);
            }
            match self.connect(home, "postgres").await {
                Ok(_) => return Ok(true),
                // An answer other than "the database system is starting up" won't change by waiting.
                Err(error) if error.code().is_some_and(|code| code.code() != "57P03") => {
                    return Err(Failure::outside(format!("Postgres refuses its superuser: {}", explain(&error))));
                }
                Err(_) if clock::now() > deadline => {
                    return Err(with_log("Postgres isn't ready after two minutes", &home.log()));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(15)).await,
            }
        }
    }
}

/// A port nobody listens on: the wished one, or any.
fn free_port(wished: u16) -> Result<u16, Failure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, wished))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::outside(format!("no free port on 127.0.0.1: {error}")))
}

fn configure(setup: &Setup<'_>, port: u16) -> Result<(), Failure> {
    let data = setup.home.data();
    let durable = if setup.home.kept { "on" } else { "off" };
    let settings = format!(
        "# Written by pgcordon dev at each start: changes belong into postgresql.conf, after the include.\n\
         listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nmax_connections = {}\n\
         fsync = {durable}\nsynchronous_commit = {durable}\nfull_page_writes = {durable}\n\
         password_encryption = 'scram-sha-256'\nlogging_collector = off\nlog_destination = 'stderr'\nlog_line_prefix = '%m [%p] %q%u@%d '\n",
        setup.home.socket().display().to_string().replace('\'', "''"),
        setup.max_connections
    );
    let access = format!("local all all peer map=pgcordon\nhost all {SUPERUSER} 127.0.0.1/32 scram-sha-256\n");
    // Whoever can enter the socket's directory and has our name may be any of the roles: no password is kept anywhere.
    let users: String = setup
        .roles
        .iter()
        .map(|role| format!("pgcordon {} {}\n", quoted(&setup.ourselves.name), quoted(role)))
        .collect();
    for (name, text) in [("pgcordon.conf", settings), ("pg_hba.conf", access), ("pg_ident.conf", users)] {
        write_as(setup.account, &data.join(name), &text)?;
    }
    include_settings(setup.account, &data.join("postgresql.conf"))
}

fn include_settings(account: &Account, file: &Path) -> Result<(), Failure> {
    const INCLUDE: &str = "include_if_exists = 'pgcordon.conf'\n";
    let text =
        std::fs::read_to_string(file).map_err(|error| Failure::outside(format!("{}: {error}", file.display())))?;
    if text.contains(INCLUDE) { Ok(()) } else { write_as(account, file, &format!("{text}\n{INCLUDE}")) }
}

fn write_as(account: &Account, file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|error| Failure::outside(format!("can't write {}: {error}", file.display())))?;
    account.own(file)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The log of this start alone; the one before it stays beside it.
fn fresh_log(log: &Path) {
    let _ = std::fs::rename(log, PathBuf::from(format!("{}.old", log.display())));
}

/// Whether the log tells of a failure that goes away.
fn may_pass(log: &Path) -> bool {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    ["Address already in use", "could not create any TCP/IP sockets", "pre-existing shared memory block"]
        .iter()
        .any(|cause| text.contains(cause))
}

fn with_log(what: &str, log: &Path) -> Failure {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n  ");
    Failure::outside(if tail.is_empty() { what.to_owned() } else { format!("{what}; the end of its log:\n  {tail}") })
}

/// Postgres' own words, where there are any.
pub(super) fn explain(error: &tokio_postgres::Error) -> String {
    let Some(database) = error.as_db_error() else {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        return format!("{error}{cause}");
    };
    let detail = database.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}{detail} [{}]", database.message(), database.code().code())
}
