//! Control data as the proxy decides by it: immutable, and swapped as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use crate::auth::{Directory, KeyRecord};
use crate::domain::{KeyId, WorkspaceId};
use crate::quota::Definitions;
use crate::sql::Rules;
use crate::tenant::{ChannelKey, SigningKeys};

/// A workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// Its keys open no session while it is suspended.
    pub suspended: bool,
}

/// Keys, workspaces, the keys of seals and quotas at one moment.
pub struct Snapshot {
    keys: HashMap<Box<str>, Arc<KeyRecord>, ahash::RandomState>,
    workspaces: Vec<Workspace>,
    /// Where each stands in `workspaces`.
    places: HashMap<WorkspaceId, usize, ahash::RandomState>,
    channel_keys: HashMap<WorkspaceId, ChannelKey, ahash::RandomState>,
    signing_keys: SigningKeys,
    quotas: Arc<Definitions>,
}

impl Snapshot {
    /// A snapshot of what was loaded together.
    pub fn new(
        keys: Vec<KeyRecord>,
        workspaces: Vec<Workspace>,
        signing_keys: SigningKeys,
        quotas: Definitions,
    ) -> Self {
        let keys = keys.into_iter().map(|key| (key.key_id.as_str().into(), Arc::new(key))).collect();
        let places = workspaces.iter().enumerate().map(|(place, workspace)| (workspace.id, place)).collect();
        Self { keys, workspaces, places, channel_keys: HashMap::default(), signing_keys, quotas: Arc::new(quotas) }
    }

    /// The same, with the secrets in the names of the workspaces' channels.
    #[must_use]
    pub fn with_channel_keys(self, keys: impl IntoIterator<Item = (WorkspaceId, ChannelKey)>) -> Self {
        Self { channel_keys: keys.into_iter().collect(), ..self }
    }

    /// The keys of seals.
    pub const fn signing_keys(&self) -> &SigningKeys {
        &self.signing_keys
    }

    /// Resources and limits.
    pub const fn quotas(&self) -> &Arc<Definitions> {
        &self.quotas
    }

    /// The workspace with this id.
    pub fn workspace(&self, id: WorkspaceId) -> Option<&Workspace> {
        self.workspaces.get(*self.places.get(&id)?)
    }

    /// The secret in the names of a workspace's channels.
    pub fn channel_key(&self, id: WorkspaceId) -> Option<ChannelKey> {
        self.channel_keys.get(&id).cloned()
    }

    /// The rules of the guard that a key may break.
    pub fn allowed(&self, key: &KeyId) -> Rules {
        self.keys.get(key.as_str()).map_or_else(Rules::default, |key| key.allow)
    }

    /// All workspaces.
    pub fn workspaces(&self) -> &[Workspace] {
        &self.workspaces
    }

    /// The workspaces for which a session may have been open under `self` and none may be under `next`: a key was revoked
    /// or removed, or the workspace suspended or removed. What carried their seals must be closed.
    pub fn revoked_by(&self, next: &Self) -> Vec<WorkspaceId> {
        let mut revoked: Vec<WorkspaceId> = self
            .keys
            .values()
            .filter(|key| !key.revoked && !key.suspended)
            .filter(|key| next.keys.get(key.key_id.as_str()).is_none_or(|now| now.revoked || now.suspended))
            .filter_map(|key| key.workspace)
            .collect();
        revoked.sort_unstable();
        revoked.dedup();
        revoked
    }
}

impl Directory for Snapshot {
    fn key(&self, key_id: &str) -> Option<Arc<KeyRecord>> {
        self.keys.get(key_id).cloned()
    }
}
