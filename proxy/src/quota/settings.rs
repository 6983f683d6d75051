//! The settings of quotas.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[quota]` of the configuration.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Settings {
    /// How long a statement that doesn't fit waits for other transactions of its workspace, which may give back what they
    /// have reserved, in milliseconds.
    pub wait_timeout_ms: u64,
    /// The bound on counting a workspace's rows, in milliseconds.
    pub count_timeout_ms: u64,
    /// How old a count may get before it is made anew, in milliseconds. It mends what writers beside the proxy did.
    pub recount_interval_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { wait_timeout_ms: 1000, count_timeout_ms: 30_000, recount_interval_ms: 300_000 }
    }
}

impl Settings {
    /// `wait_timeout_ms`.
    pub const fn wait_timeout(&self) -> Duration {
        Duration::from_millis(self.wait_timeout_ms)
    }

    /// `count_timeout_ms`.
    pub const fn count_timeout(&self) -> Duration {
        Duration::from_millis(self.count_timeout_ms)
    }

    /// `recount_interval_ms`.
    pub const fn recount_interval(&self) -> Duration {
        Duration::from_millis(self.recount_interval_ms)
    }
}
