//! Where the upstream server is and how it is spoken to. The configuration fills it in.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::tls::Connector;

/// Everything it takes to make server connections.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where the server listens.
    pub address: Address,
    /// TLS, for a TCP address; none for plain text.
    pub tls: Option<Connector>,
    /// The newest protocol that is asked for. A server that doesn't speak it answers with what it does speak.
    pub protocol: Protocol,
    /// The bound on making one connection, name lookup and authentication included.
    pub connect_timeout: Duration,
    /// The passwords of the roles that have one.
    pub passwords: Passwords,
    /// What the startup packet fixes.
    pub startup: StartupSettings,
    /// The settings that roles may have of their own. A role that isn't named may have none.
    pub approved: Approved,
    /// Put a role's settings back to the approved ones when they are found to be others. Without it one `ALTER ROLE` of
    /// a tenant keeps all from connecting until the operator undoes it.
    pub repair_role_settings: bool,
}

impl Target {
    /// A target with the defaults for all but its address.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            tls: None,
            protocol: Protocol::default(),
            connect_timeout: Duration::from_secs(10),
            passwords: Passwords::default(),
            startup: StartupSettings::default(),
            approved: Approved::default(),
            repair_role_settings: false,
        }
    }
}

/// `upstream.max_protocol_version`, as libpq has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum Protocol {
    /// What every server speaks.
    #[serde(rename = "3.0")]
    V3_0,
    /// With long keys for cancel requests, from Postgres 18 on.
    #[default]
    #[serde(rename = "3.2")]
    V3_2,
}

impl Protocol {
    /// As the startup packet has it.
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::V3_0 => 3 << 16,
            Self::V3_2 => 3 << 16 | 2,
        }
    }
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host name or address, and a port.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket, in Postgres' notation.
    Unix {
        /// `unix_socket_directories`.
        directory: PathBuf,
        /// The port, which is part of the socket's file name.
        port: u16,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(out, "{host}:{port}"),
            Self::Unix { directory, port } => write!(out, "{}/.s.PGSQL.{port}", directory.display()),
        }
    }
}

/// The passwords of upstream roles; a role without one authenticates by peer, trust or not at all.
#[derive(Clone, Default)]
pub struct Passwords(HashMap<String, Zeroizing<String>>);

impl Passwords {
    /// Adds the password of a role.
    pub fn insert(&mut self, role: impl Into<String>, password: impl Into<String>) {
        self.0.insert(role.into(), Zeroizing::new(password.into()));
    }

    pub(super) fn of(&self, role: &str) -> Option<&Zeroizing<String>> {
        self.0.get(role)
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

/// What the startup packet fixes. Its values win over what a role gave itself, and are what `DISCARD ALL` goes back to.
///
/// Timeouts, TimeZone, DateStyle and all other settings are not sent: they stay what the server, the database or the
/// operator says, and the inspection after start-up refuses a backend on which the role's own settings took effect.
#[derive(Clone, Debug)]
pub struct StartupSettings {
    /// The setting that carries the workspace, empty until bound.
    pub workspace_setting: String,
    /// The setting that carries the seal, empty until bound.
    pub seal_setting: String,
    /// `search_path`; none for the database's own.
    pub search_path: Option<String>,
    /// Further settings, by name.
    pub further: Vec<(String, String)>,
}

impl Default for StartupSettings {
    fn default() -> Self {
        Self {
            workspace_setting: "app.workspace_id".to_owned(),
            seal_setting: "app.workspace_seal".to_owned(),
            search_path: None,
            further: Vec::new(),
        }
    }
}

/// `upstream.approved_role_settings`: role → setting → value, as they stand in `pg_db_role_setting`.
pub type Approved = BTreeMap<String, BTreeMap<String, String>>;
