//! The settings of authentication.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::exchange::ConfiguredMethod;

/// `[auth]` of the configuration.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Settings {
    /// How clients prove their secrets: `scram-sha-256`, or `password` for drivers that can only send a plain one; that is
    /// accepted over TLS or from loopback only.
    pub method: ConfiguredMethod,
    /// How long a client may take from connecting to being authenticated, in milliseconds.
    pub timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        // Postgres' authentication_timeout.
        Self { method: ConfiguredMethod::default(), timeout_ms: 60_000 }
    }
}

impl Settings {
    /// How long a client may take from connecting to being authenticated.
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}
