//! `[audit]` of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How much is kept, where, and what an answer to a client waits for.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Settings {
    /// Whether there is a trail at all.
    pub enabled: bool,
    /// The directory on this machine's disk; empty for the usual place of this system.
    pub spool_dir: String,
    /// Bytes on disk at most. When they are reached it is as when the disk is full.
    pub spool_bytes_max: u64,
    /// Bytes that stay on disk although the database has them.
    pub spool_keep_bytes: u64,
    /// Whether records go to the database.
    pub ship: bool,
    /// When writes of tenants count as recorded.
    pub writes: Durability,
    /// When sessions that are opened count as recorded. A refused login keeps nobody waiting.
    pub logins: Durability,
    /// What becomes of writes that can't be recorded.
    pub on_failure: OnFailure,
    /// How statements are kept.
    pub statements: Statements,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            spool_dir: String::new(),
            spool_bytes_max: 1 << 30,
            spool_keep_bytes: 64 << 20,
            ship: true,
            writes: Durability::Strict,
            logins: Durability::Relaxed,
            on_failure: OnFailure::Refuse,
            statements: Statements::Normalized,
        }
    }
}

/// When an event counts as recorded.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It is on disk within 50 ms. Nobody waits.
    Relaxed,
    /// It is on disk before the client hears of its success.
    Strict,
    /// An intent is on disk before the statement goes out. Comes with a later version.
    Intent,
}

/// What becomes of writes that can't be recorded.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// They are refused.
    Refuse,
    /// They go on, and what is lost is counted and told.
    Continue,
}

/// How statements are kept.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Statements {
    /// With every literal taken out.
    Normalized,
    /// Not at all.
    None,
    /// As they were sent, secrets and all.
    Full,
}

impl Settings {
    /// The least size of a spool: a handful of segments.
    pub const SPOOL_BYTES_LEAST: u64 = 1 << 20;

    /// The spool's directory. `variable` gives the environment's.
    pub fn directory(&self, variable: impl Fn(&str) -> Option<String>) -> PathBuf {
        if !self.spool_dir.is_empty() {
            return PathBuf::from(&self.spool_dir);
        }
        let set = |name: &str| variable(name).filter(|value| value.starts_with('/')).map(PathBuf::from);
        // systemd gives a service its own (it may be a list, of which the first is ours).
        let of_service = set("STATE_DIRECTORY").map(|list| {
            let list = list.to_string_lossy().into_owned();
            PathBuf::from(list.split(':').next().unwrap_or_default())
        });
        let of_user = || set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
        of_service
            .map(|state| state.join("audit"))
            .or_else(|| of_user().map(|state| state.join("pgcordon/audit")))
            .unwrap_or_else(|| PathBuf::from("/var/lib/pgcordon/audit"))
    }

    /// What is wrong with them, as key and words.
    pub fn mistakes(&self) -> Vec<(&'static str, &'static str)> {
        let intent =
            "\"intent\" comes with a later version; \"strict\" is on disk before the client hears of its success";
        let wrong = [
            (self.writes == Durability::Intent, "audit.writes", intent),
            (self.logins == Durability::Intent, "audit.logins", intent),
            (
                self.spool_bytes_max < Self::SPOOL_BYTES_LEAST,
                "audit.spool_bytes_max",
                "must be 1048576 (1 MiB) or more",
            ),
            (
                self.spool_keep_bytes > self.spool_bytes_max / 2,
                "audit.spool_keep_bytes",
                "must be at most half of audit.spool_bytes_max: the rest is for what the database doesn't have yet",
            ),
        ];
        wrong.into_iter().filter(|(wrong, ..)| *wrong).map(|(_, key, what)| (key, what)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_place_is_the_services_else_the_users_else_the_systems() {
        let settings = Settings::default();
        let place = |given: &[(&str, &str)]| {
            let given: Vec<(String, String)> = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let look = move |name: &str| given.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            settings.directory(look).display().to_string()
        };
        assert_eq!(place(&[("STATE_DIRECTORY", "/var/lib/x:/var/lib/y"), ("HOME", "/root")]), "/var/lib/x/audit");
        assert_eq!(place(&[("XDG_STATE_HOME", "/s"), ("HOME", "/root")]), "/s/pgcordon/audit");
        assert_eq!(place(&[("HOME", "/home/ann")]), "/home/ann/.local/state/pgcordon/audit");
        assert_eq!(place(&[("HOME", "relative")]), "/var/lib/pgcordon/audit");
    }

    #[test]
    fn what_is_for_later_is_refused_in_plain_words() {
        let settings = Settings { writes: Durability::Intent, spool_bytes_max: 1, ..Settings::default() };
        let keys: Vec<&str> = settings.mistakes().iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["audit.writes", "audit.spool_bytes_max", "audit.spool_keep_bytes"]);
    }
}
