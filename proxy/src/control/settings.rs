//! The settings of control data.

use serde::{Deserialize, Serialize};

use crate::domain::KeyKind;

/// `[roles]` of the configuration: the upstream roles. None may be another.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct RoleNames {
    /// Owns the application's tables, and is under row-level security like everybody.
    pub owner: String,
    /// What workspace keys run as.
    pub application: String,
    /// What support keys run as.
    pub read_only: String,
    /// What system keys run as: it bypasses row-level security.
    pub system: String,
    /// Owns the schema `cordon`. Nobody logs in as it.
    pub cordon: String,
    /// What the proxy itself connects as, to read control data.
    pub control: String,
}

impl Default for RoleNames {
    fn default() -> Self {
        Self {
            owner: "pgcordon_owner".to_owned(),
            application: "pgcordon_app".to_owned(),
            read_only: "pgcordon_readonly".to_owned(),
            system: "pgcordon_system".to_owned(),
            cordon: "cordon".to_owned(),
            control: "pgcordon_control".to_owned(),
        }
    }
}

impl RoleNames {
    /// The role of a key that names none.
    pub fn default_for(&self, kind: KeyKind) -> &str {
        match kind {
            KeyKind::Workspace | KeyKind::Application => &self.application,
            KeyKind::Support => &self.read_only,
            KeyKind::System => &self.system,
        }
    }
}
