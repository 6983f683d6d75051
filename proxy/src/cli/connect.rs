//! Connections of commands: to the control data as the proxy has it, or as an administrator.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_postgres::config::Host;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Failure, serve};
use crate::audit;
use crate::config::Settings;
use crate::control::schema::SchemaError;
use crate::control::{self, StoreError};
use crate::pool::upstream::Address;

/// Which configuration a command goes by.
#[derive(Debug, clap::Args)]
pub(super) struct Configured {
    /// The configuration file; every key has a default and may come from the environment (PGCORDON_SECTION__KEY)
    #[arg(long, global = true, env = "PGCORDON_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Configured {
    pub(super) fn settings(&self) -> Result<Settings, Failure> {
        serve::load(self.config.as_deref())
    }
}

/// Who runs this command, for the audit trail: the user of this machine, who may call himself anything.
pub(super) fn operator() -> Arc<audit::Client> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("SUDO_USER")
        .or_else(|| variable("USER"))
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Arc::new(audit::Client { addr: None, user: format!("{user}@{host}").into(), application_name: "pgcordon".into() })
}

/// Runs a command's own work.
pub(super) fn run<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::outside(format!("no runtime: {error}")))?.block_on(work)
}

/// The control data, as the proxy reaches it.
pub(super) async fn control(settings: &Settings) -> Result<Client, Failure> {
    let target = settings.control_target().map_err(|mistake| Failure::usage(mistake.to_string()))?;
    let role = &settings.upstream.roles.control;
    control::connect(&target).await.map_err(|error| unreached(settings, role, &error))
}

/// Postgres as the role that sees every workspace's rows, to count them.
pub(super) async fn counting(settings: &Settings) -> Result<Client, Failure> {
    let target = settings.count_target().map_err(|mistake| Failure::usage(mistake.to_string()))?;
    let role = &settings.upstream.roles.system;
    control::connect(&target).await.map_err(|error| unreached(settings, role, &error))
}

/// Why there is no connection as one of the roles.
fn unreached(settings: &Settings, role: &str, error: &StoreError) -> Failure {
    let address = settings.address();
    match error {
        StoreError::NotLetIn(_) => {
            Failure::outside(format!("Postgres at {address} doesn't let the role {role} in: {error}")).hint(format!(
                "run pgcordon migrate first: it makes the role and gives it the password upstream.passwords.{role}"
            ))
        }
        _ => Failure::outside(format!("Postgres at {address} can't be used: {error}"))
            .hint("is it running, and are upstream.host, upstream.port and upstream.databases right?"),
    }
}

/// Postgres as its administrator.
pub(super) async fn administrator(settings: &Settings) -> Result<Client, Failure> {
    let url = settings.upstream.admin_url.expose();
    if url.is_empty() {
        return Err(Failure::usage("this needs an administrator's connection, and upstream.admin_url isn't set")
            .hint("set it in the configuration, or PGCORDON_UPSTREAM__ADMIN_URL=postgres://…"));
    }
    // The parser's error may quote the URL, which holds a password.
    let config: tokio_postgres::Config =
        url.parse().map_err(|_| Failure::usage("upstream.admin_url doesn't read as a connection URL"))?;
    let connector = settings.connector().map_err(|mistake| Failure::usage(mistake.to_string()))?;
    let unreachable = |error: tokio_postgres::Error| {
        let (place, error) = (place(&config), control::store::describe(&error));
        Failure::outside(format!("the administrator's connection to {place}: {error}"))
            .hint("is Postgres running, and is upstream.admin_url right?")
    };
    Ok(match connector {
        Some(connector) => {
            let tls = MakeRustlsConnect::new((*connector.config()).clone());
            let (client, connection) = config.connect(tls).await.map_err(unreachable)?;
            tokio::spawn(connection);
            client
        }
        None => {
            let (client, connection) = config.connect(NoTls).await.map_err(unreachable)?;
            tokio::spawn(connection);
            client
        }
    })
}

/// Where an administrator's URL leads: it is never shown itself, for it holds a password.
fn place(config: &tokio_postgres::Config) -> String {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match config.get_hosts().first() {
        Some(Host::Tcp(host)) => Address::Tcp { host: host.clone(), port }.to_string(),
        Some(Host::Unix(directory)) => Address::Unix { directory: directory.clone(), port }.to_string(),
        None => "nowhere".to_owned(),
    }
}

/// What went wrong with control data.
pub(super) fn store(error: StoreError) -> Failure {
    match &error {
        StoreError::UnknownWorkspace(_)
        | StoreError::UnknownKey(_)
        | StoreError::RevokedKey(_)
        | StoreError::DuplicateWorkspace(_)
        | StoreError::DuplicateId(_)
        | StoreError::NotMigrated => Failure::not_so(error.to_string()),
        StoreError::WorkspaceName(_) => Failure::usage(error.to_string()),
        _ => Failure::outside(error.to_string()),
    }
}

/// What went wrong with the schema.
pub(super) fn schema(error: SchemaError) -> Failure {
    match &error {
        SchemaError::Refused(_) => Failure::not_so(error.to_string()),
        SchemaError::ContextIsFixed { .. } => Failure::usage(error.to_string())
            .hint("the functions and policies that are there go by those names: set them back"),
        SchemaError::Newer { .. } => Failure::outside(error.to_string())
            .hint("install the newer pgcordon, or restore the older schema from a backup"),
        _ => Failure::outside(error.to_string()),
    }
}
