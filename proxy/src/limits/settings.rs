//! The limits' settings.

use serde::{Deserialize, Serialize};

/// `[limits]` of the configuration. A bound of 0 is none.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Settings {
    /// Client connections of one workspace at most; 0 is a quarter of `server.connections_max`.
    pub client_connections_max: usize,
    /// How long a statement of a tenant may run, its answer's way to the client included, in milliseconds.
    pub statement_timeout_ms: u64,
    /// How long it may wait for a lock, in milliseconds.
    pub lock_timeout_ms: u64,
    /// How long a transaction may be open, in milliseconds.
    pub transaction_timeout_ms: u64,
    /// How long a client may do nothing in an open transaction, in milliseconds.
    pub idle_in_transaction_timeout_ms: u64,
    /// How long a workspace waits for its share of the server connections before one that has more, and does nothing with one of
    /// them for as long, loses that, in milliseconds.
    pub share_timeout_ms: u64,
    /// How long a lock on a whole table may keep another workspace's statement waiting, in milliseconds.
    pub table_lock_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            client_connections_max: 0,
            statement_timeout_ms: 300_000,
            lock_timeout_ms: 60_000,
            transaction_timeout_ms: 900_000,
            idle_in_transaction_timeout_ms: 60_000,
            share_timeout_ms: 1000,
            table_lock_timeout_ms: 1000,
        }
    }
}

impl Settings {
    /// Client connections of one workspace at most, of a proxy that has room for so many.
    pub fn clients_of_workspace(&self, connections_max: usize) -> usize {
        if self.client_connections_max == 0 { connections_max.div_ceil(4) } else { self.client_connections_max }
    }

    /// How often somebody must look for the bounds to be kept, in milliseconds: about a quarter of the shortest of them.
    pub fn beat_ms(&self) -> u64 {
        const OFTEN: u64 = 50;
        const SELDOM: u64 = 500;
        let bounds = [
            self.statement_timeout_ms,
            self.lock_timeout_ms,
            self.transaction_timeout_ms,
            self.idle_in_transaction_timeout_ms,
            self.share_timeout_ms,
            self.table_lock_timeout_ms,
        ];
        bounds.into_iter().filter(|bound| *bound > 0).min().map_or(SELDOM, |least| (least / 4).clamp(OFTEN, SELDOM))
    }
}
