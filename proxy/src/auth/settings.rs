//! The settings of authentication.

use serde::{Deserialize, Serialize};

use super::exchange::ConfiguredMethod;

/// `[auth]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Settings {
    /// How clients prove their secrets: `scram-sha-256`, or `password` for drivers that can only send a plain one; that is
    /// accepted over TLS or from loopback only.
    pub method: ConfiguredMethod,
}
