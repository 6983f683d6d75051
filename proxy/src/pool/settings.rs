//! The pool's settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::roster::Bounds;

/// `[pool]` of the configuration.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Settings {
    /// Server connections per database and role, at most.
    pub size: usize,
    /// How many of them one workspace may hold; 0 leaves about one in eight to the others, and at least one of three or
    /// more. Never fewer than two.
    pub workspace_max: usize,
    /// How long a client waits for a server connection before it gets 53300, in milliseconds.
    pub wait_timeout_ms: u64,
    /// How long a workspace keeps a server connection while other workspaces wait, in milliseconds, at least: where changes
    /// are slow it is up to eight times as long.
    pub quantum_ms: u64,
    /// After how long an unused server connection is closed, in milliseconds.
    pub idle_timeout_ms: u64,
    /// How long no server connection is opened after one couldn't be, in milliseconds.
    pub back_off_ms: u64,
    /// A SELECT that is sent again and again without a name is prepared under one.
    pub prepare_repeated: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            size: 20,
            workspace_max: 0,
            wait_timeout_ms: 10_000,
            quantum_ms: 2,
            idle_timeout_ms: 600_000,
            back_off_ms: 250,
            prepare_repeated: true,
        }
    }
}

impl Settings {
    /// How long a client waits.
    pub const fn wait_timeout(&self) -> Duration {
        Duration::from_millis(self.wait_timeout_ms)
    }

    /// The bounds of each roster.
    pub fn bounds(&self) -> Bounds {
        let size = self.size.max(1);
        // Of a few connections one is left as well.
        let others = if size > 2 { (size / 8).max(1) } else { 0 };
        let wanted = if self.workspace_max == 0 { size - others } else { self.workspace_max };
        Bounds {
            size,
            workspace_max: wanted.clamp(2.min(size), size),
            quantum: Duration::from_millis(self.quantum_ms),
            idle_timeout: Duration::from_millis(self.idle_timeout_ms),
            back_off: Duration::from_millis(self.back_off_ms),
        }
    }
}
