//! What the next run on the same `--data-dir` wants to find again: ports, passwords and keys, so that a connection URL
//! stays what it was. The file holds secrets and is readable by its owner only.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use serde::{Deserialize, Serialize};

use crate::cli::Failure;

/// The remembered values.
#[derive(Serialize, Deserialize)]
pub(super) struct Memory {
    /// Everything was set up to the end; otherwise the database is made anew.
    pub(super) complete: bool,
    /// The major version that made the data directory.
    pub(super) major: u32,
    /// Postgres' TCP port.
    pub(super) port: u16,
    /// The superuser's password, for TCP.
    pub(super) admin_password: String,
    /// The token for HTTP.
    pub(super) http_token: String,
    /// The keys that were printed.
    pub(super) keys: Vec<RememberedKey>,
}

/// A key with its secret.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct RememberedKey {
    /// The name it is remembered by: a workspace's, `system` or `superuser`.
    pub(super) name: String,
    pub(super) key_id: String,
    pub(super) secret: String,
}

impl Memory {
    /// The name of the file. A directory that has it is one of ours.
    pub(super) const FILE: &'static str = "pgcordon-dev.json";
    /// What it is called while it is written.
    pub(super) const FILE_NEW: &'static str = "pgcordon-dev.new";

    /// Fresh secrets for a new database.
    pub(super) fn new(major: u32) -> Self {
        Self { complete: false, major, port: 0, admin_password: secret(), http_token: secret(), keys: Vec::new() }
    }

    /// Marks a directory as ours before anything else is in it.
    pub(super) fn claim(path: &Path) -> Result<(), Failure> {
        if path.exists() {
            return Ok(());
        }
        write_private(path, b"{}")
    }

    /// What was remembered, unless it is nothing or was cut off.
    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Remembers.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        let json = serde_json::to_vec_pretty(self).map_err(|error| Failure::outside(error.to_string()))?;
        write_private(path, &json)
    }

    /// The remembered key of this name.
    pub(super) fn key(&self, name: &str) -> Option<RememberedKey> {
        self.keys.iter().find(|key| key.name == name).cloned()
    }

    /// Remembers a key in place of an older one of its name.
    pub(super) fn remember(&mut self, key: RememberedKey) {
        self.keys.retain(|known| known.name != key.name);
        self.keys.push(key);
    }
}

/// 24 random bytes in letters that a URL takes unescaped.
pub(super) fn secret() -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>())
}

/// Writes a file that only its owner may read, in one step: a reader sees the old or the new one.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let beside = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| Failure::outside(format!("can't write {}: {error}", path.display())))
}
