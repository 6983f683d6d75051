//! The configuration: nests each room's settings. `config/pgcordon.toml` documents every key; a test keeps it complete.

mod environment;
pub mod load;
pub mod reload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit;
use crate::auth;
use crate::control::{ControlTarget, RoleNames};
use crate::limits;
use crate::pool;
use crate::pool::upstream::{Address, Approved, Protocol, Target};
use crate::quota;
use crate::tenant::{ContextNames, Guard};
use crate::tls::client_certificate::{Names, Need};
use crate::tls::{Acceptor, ClientRules, Connector, Mode};

pub use crate::domain::Secret;
pub use load::Mistake;
pub use reload::Changes;

/// Keys whose values may come from a file, as `KEY_file`.
const SECRETS: [&str; 2] = ["token", "admin_url"];
/// The section in which every key names a secret.
const PASSWORDS: &str = "upstream.passwords";

/// How long what the proxy itself sends to Postgres may stay unacknowledged before the connection counts as lost.
const UNANSWERED: Duration = Duration::from_secs(30);

/// Everything that can be configured.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Settings {
    /// Where clients connect.
    pub server: Server,
    /// TLS towards clients.
    pub tls: Tls,
    /// How clients prove their secrets.
    pub auth: auth::Settings,
    /// The Postgres behind the proxy.
    pub upstream: Upstream,
    /// Server connections.
    pub pool: pool::Settings,
    /// The settings that carry the workspace.
    pub context: Context,
    /// The statement guard.
    pub guard: Guard,
    /// What one workspace may take.
    pub limits: limits::Settings,
    /// The audit trail.
    pub audit: audit::Settings,
    /// Quotas.
    pub quota: quota::Settings,
    /// HTTP for operators.
    pub http: Http,
    /// Logs.
    pub log: Log,
    /// The one connector that is made of these settings, so that all who connect take over new certificates.
    #[serde(skip)]
    connector: OnceLock<Connector>,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Server {
    /// Address and port for clients.
    pub listen: String,
    /// Client connections at most, authenticated or not.
    pub connections_max: usize,
    /// Threads that serve clients; 0 is one for every two processors.
    pub cores: usize,
    /// How long a stopping proxy waits for open transactions, in milliseconds.
    pub drain_timeout_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self { listen: "127.0.0.1:6432".to_owned(), connections_max: 10_000, cores: 0, drain_timeout_ms: 30_000 }
    }
}

/// `[tls]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Tls {
    /// PEM file with the certificate chain. With none, clients are told that TLS isn't offered.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key.
    pub key: Option<PathBuf>,
    /// PEM file with the authorities whose certificates clients are asked for. With none, clients aren't asked.
    pub client_ca_file: Option<PathBuf>,
    /// Whether a client may do without a certificate.
    pub client_cert: Need,
    /// What a client's certificate has to do with its key.
    pub client_cert_names: Names,
}

/// `[upstream]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Upstream {
    /// A host name, an address, or the directory of a Unix socket.
    pub host: String,
    /// The port.
    pub port: u16,
    /// TLS towards Postgres: disable, prefer, require, verify-ca or verify-full.
    pub tls: Mode,
    /// PEM file with the authorities that are trusted for it.
    pub tls_root: Option<PathBuf>,
    /// PEM file with the certificate chain that is shown to Postgres when it asks for one.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with its private key.
    pub tls_key: Option<PathBuf>,
    /// The newest protocol that is asked for.
    pub max_protocol_version: Protocol,
    /// The bound on opening one server connection, in milliseconds.
    pub connect_timeout_ms: u64,
    /// The databases that workspace keys may use. The first is what a client gets that names none.
    pub databases: Vec<String>,
    /// The database with the schema `cordon`; the first of `databases` if empty.
    pub control_database: String,
    /// An administrator's URL, for `migrate`, `protect`, `harden` and `check` only. The proxy never uses it.
    pub admin_url: Secret,
    /// The upstream roles.
    pub roles: RoleNames,
    /// Passwords by role. A role without one authenticates by peer, certificate or trust.
    pub passwords: BTreeMap<String, Secret>,
    /// Settings that a role may have of its own (`ALTER ROLE … SET`): role, setting, value. Any other closes the connection.
    pub approved_role_settings: Approved,
    /// Whether settings that a role gave itself are taken back (`ALTER ROLE … RESET ALL`) when they are found, so that a
    /// tenant can't keep everybody from connecting. What the operator approved stays.
    pub repair_role_settings: bool,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 5432,
            tls: Mode::Disable,
            tls_root: None,
            tls_certificate: None,
            tls_key: None,
            max_protocol_version: Protocol::default(),
            connect_timeout_ms: 10_000,
            databases: vec!["app".to_owned()],
            control_database: String::new(),
            admin_url: Secret::default(),
            roles: RoleNames::default(),
            passwords: BTreeMap::new(),
            approved_role_settings: Approved::default(),
            repair_role_settings: true,
        }
    }
}

/// `[context]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Context {
    /// The setting with the plain uuid.
    pub workspace_setting: String,
    /// The setting with the seal.
    pub seal_setting: String,
}

impl Default for Context {
    fn default() -> Self {
        let names = ContextNames::default();
        Self { workspace_setting: names.workspace.into(), seal_setting: names.seal.into() }
    }
}

/// `[http]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Http {
    /// Address and port; empty for none.
    pub listen: String,
    /// The bearer token of the API.
    pub token: Secret,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: "127.0.0.1:6433".to_owned(), token: Secret::default() }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// What is logged, as tracing's directives.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

impl Settings {
    /// The names of the context's settings.
    pub fn context_names(&self) -> ContextNames {
        ContextNames {
            workspace: self.context.workspace_setting.as_str().into(),
            seal: self.context.seal_setting.as_str().into(),
        }
    }

    /// Where Postgres is.
    pub fn address(&self) -> Address {
        let Upstream { host, port, .. } = &self.upstream;
        if host.starts_with('/') {
            Address::Unix { directory: PathBuf::from(host), port: *port }
        } else {
            Address::Tcp { host: host.clone(), port: *port }
        }
    }

    /// TLS for clients.
    ///
    /// # Errors
    /// A file that is missing, unreadable, or not what it should be.
    pub fn acceptor(&self) -> Result<Option<Acceptor>, Mistake> {
        let Tls { certificate, key, client_ca_file, .. } = &self.tls;
        match pair(certificate, key, "tls.certificate", "tls.key")? {
            None if client_ca_file.is_some() => {
                Err(Mistake::new("tls.client_ca_file", "needs tls.certificate: certificates are shown over TLS only"))
            }
            None => Ok(None),
            Some((certificate, key)) => Acceptor::from_files(certificate, key, client_ca_file.as_deref())
                .map(Some)
                .map_err(|error| Mistake::new("tls", error.to_string())),
        }
    }

    /// What clients must show of themselves, if they are asked for certificates.
    pub fn client_rules(&self) -> Option<ClientRules> {
        let Tls { client_ca_file, client_cert, client_cert_names, .. } = &self.tls;
        client_ca_file.is_some().then_some(ClientRules { need: *client_cert, names: *client_cert_names })
    }

    /// TLS towards Postgres.
    ///
    /// # Errors
    /// A file that is missing, unreadable, or not what it should be.
    pub fn connector(&self) -> Result<Option<Connector>, Mistake> {
        if let Some(made) = self.connector.get() {
            return Ok(Some(made.clone()));
        }
        let Upstream { tls, tls_root, tls_certificate, tls_key, .. } = &self.upstream;
        let identity = pair(tls_certificate, tls_key, "upstream.tls_certificate", "upstream.tls_key")?;
        let made = Connector::with_identity(*tls, tls_root.as_deref(), identity)
            .map_err(|error| Mistake::new("upstream.tls", error.to_string()))?;
        Ok(made.map(|made| self.connector.get_or_init(|| made).clone()))
    }

    /// How tenants' server connections are made.
    ///
    /// # Errors
    /// As [`Settings::connector`].
    pub fn target(&self) -> Result<Target, Mistake> {
        let mut target = Target::new(self.address());
        target.tls = self.connector()?;
        target.protocol = self.upstream.max_protocol_version;
        target.connect_timeout = Duration::from_millis(self.upstream.connect_timeout_ms);
        for (role, password) in &self.upstream.passwords {
            target.passwords.insert(role, password.expose());
        }
        target.startup.workspace_setting.clone_from(&self.context.workspace_setting);
        target.startup.seal_setting.clone_from(&self.context.seal_setting);
        target.repair_role_settings = self.upstream.repair_role_settings;
        target.approved.clone_from(&self.upstream.approved_role_settings);
        Ok(target)
    }

    /// How the proxy reaches its control data.
    ///
    /// # Errors
    /// As [`Settings::connector`].
    pub fn control_target(&self) -> Result<ControlTarget, Mistake> {
        self.target_as(&self.upstream.roles.control)
    }

    /// How the proxy counts what workspaces have: as the system role, which only reads here, sees every row or gets an
    /// error, and waits for no lock for long.
    ///
    /// # Errors
    /// As [`Settings::connector`].
    pub fn count_target(&self) -> Result<ControlTarget, Mistake> {
        let mut target = self.target_as(&self.upstream.roles.system)?;
        target.config.options(format!(
            "-c default_transaction_read_only=on -c row_security=off -c lock_timeout=2s -c statement_timeout={}",
            self.quota.count_timeout_ms
        ));
        Ok(target)
    }

    /// How the proxy itself reaches the control database as one of its roles.
    fn target_as(&self, role: &str) -> Result<ControlTarget, Mistake> {
        let mut config = tokio_postgres::Config::new();
        match self.address() {
            Address::Tcp { host, port } => config.host(host).port(port),
            Address::Unix { directory, port } => config.host_path(directory).port(port),
        };
        config.user(role).dbname(self.control_database()).application_name("pgcordon");
        config.connect_timeout(Duration::from_millis(self.upstream.connect_timeout_ms));
        config.tcp_user_timeout(UNANSWERED);
        if let Some(password) = self.upstream.passwords.get(role) {
            config.password(password.expose());
        }
        let connector = self.connector()?;
        if let Some(connector) = &connector {
            use tokio_postgres::config::SslMode;
            config.ssl_mode(if connector.may_be_refused() { SslMode::Prefer } else { SslMode::Require });
        }
        Ok(ControlTarget {
            config,
            tls: connector,
            roles: self.upstream.roles.clone(),
            databases: self.upstream.databases.clone(),
        })
    }

    /// The directory of the audit spool.
    pub fn audit_directory(&self) -> PathBuf {
        self.audit.directory(|name| std::env::var(name).ok())
    }

    /// The database with the schema `cordon`.
    pub fn control_database(&self) -> &str {
        let first = self.upstream.databases.first().map_or("", String::as_str);
        if self.upstream.control_database.is_empty() { first } else { &self.upstream.control_database }
    }

    /// Looks for what is wrong although it reads well.
    fn check(&self, mistakes: &mut Vec<Mistake>) {
        let mut want = |right: bool, key: &str, what: &str| {
            if !right {
                mistakes.push(Mistake::new(key, what));
            }
        };
        want((1..=10_000).contains(&self.pool.size), "pool.size", "must be from 1 to 10000");
        want(
            self.pool.workspace_max != 1,
            "pool.workspace_max",
            "must be 0, or 2 and more: one request may need two connections",
        );
        want(self.pool.wait_timeout_ms > 0, "pool.wait_timeout_ms", "must be more than 0");
        want(
            (1..=600_000).contains(&self.quota.count_timeout_ms),
            "quota.count_timeout_ms",
            "must be from 1 to 600000",
        );
        want(self.quota.wait_timeout_ms <= 60_000, "quota.wait_timeout_ms", "must be 60000 at most");
        want(self.quota.recount_interval_ms >= 1000, "quota.recount_interval_ms", "must be 1000 or more");
        want((1..=600_000).contains(&self.auth.timeout_ms), "auth.timeout_ms", "must be from 1 to 600000");
        want(self.server.connections_max > 0, "server.connections_max", "must be more than 0");
        for (key, bound) in [
            ("limits.statement_timeout_ms", self.limits.statement_timeout_ms),
            ("limits.lock_timeout_ms", self.limits.lock_timeout_ms),
            ("limits.transaction_timeout_ms", self.limits.transaction_timeout_ms),
            ("limits.idle_in_transaction_timeout_ms", self.limits.idle_in_transaction_timeout_ms),
            ("limits.share_timeout_ms", self.limits.share_timeout_ms),
            ("limits.table_lock_timeout_ms", self.limits.table_lock_timeout_ms),
        ] {
            want(
                bound == 0 || bound >= 100,
                key,
                "must be 0, or 100 and more: it is looked at a few times in a second",
            );
        }
        want(!self.upstream.databases.is_empty(), "upstream.databases", "must name at least one database");
        want(self.upstream.port > 0, "upstream.port", "must be from 1 to 65535");
        for (key, name) in [
            ("context.workspace_setting", &self.context.workspace_setting),
            ("context.seal_setting", &self.context.seal_setting),
        ] {
            want(is_custom_setting(name), key, "must be a name with a dot, of letters, digits and underscores");
        }
        want(
            self.context.workspace_setting != self.context.seal_setting,
            "context.seal_setting",
            "must differ from context.workspace_setting",
        );
        let roles = &self.upstream.roles;
        let mut names =
            vec![&roles.owner, &roles.application, &roles.read_only, &roles.system, &roles.cordon, &roles.control];
        names.sort_unstable();
        names.dedup();
        want(names.len() == 6, "upstream.roles", "no role may be another: give six different names");
        want(
            self.server.listen.contains(':'),
            "server.listen",
            "must be an address and a port, such as 127.0.0.1:6432",
        );
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log.filter) {
            mistakes.push(Mistake::new("log.filter", error.to_string()));
        }
        mistakes.extend(self.audit.mistakes().into_iter().map(|(key, what)| Mistake::new(key, what)));
        mistakes.extend(self.acceptor().err());
        mistakes.extend(self.connector().err());
    }
}

/// The files of a certificate and its key: both, or neither.
fn pair<'a>(
    certificate: &'a Option<PathBuf>,
    key: &'a Option<PathBuf>,
    certificate_name: &str,
    key_name: &str,
) -> Result<Option<(&'a Path, &'a Path)>, Mistake> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (Some(_), None) => Err(Mistake::new(key_name, format!("must be given with {certificate_name}"))),
        (None, Some(_)) => Err(Mistake::new(certificate_name, format!("must be given with {key_name}"))),
    }
}

fn is_custom_setting(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(|first: char| first.is_ascii_digit())
            && part.chars().all(|each| each.is_ascii_lowercase() || each.is_ascii_digit() || each == '_')
    };
    name.contains('.') && name.split('.').all(part)
}
