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
    /// When keys of workspaces expire, in order.
    expiries: Vec<(i64, WorkspaceId)>,
}

impl Snapshot {
    /// A snapshot of what was loaded together.
    pub fn new(
        keys: Vec<KeyRecord>,
        workspaces: Vec<Workspace>,
        signing_keys: SigningKeys,
        quotas: Definitions,
    ) -> Self {
        let mut expiries: Vec<_> = keys.iter().filter_map(|key| key.expires_at.zip(key.workspace)).collect();
        expiries.sort_unstable();
        let keys = keys.into_iter().map(|key| (key.key_id.as_str().into(), Arc::new(key))).collect();
        let places = workspaces.iter().enumerate().map(|(place, workspace)| (workspace.id, place)).collect();
        let (channel_keys, quotas) = (HashMap::default(), Arc::new(quotas));
        Self { keys, workspaces, places, channel_keys, signing_keys, quotas, expiries }
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

    /// The workspaces of keys that were good under `self` at `then` and aren't under `next` at `now` (seconds since the epoch): a
    /// key was revoked or removed or has expired, or its workspace was suspended or removed. What carried their seals must be closed.
    pub fn lost_by(&self, then: i64, next: &Self, now: i64) -> Vec<WorkspaceId> {
        let mut lost: Vec<WorkspaceId> = if std::ptr::eq(self, next) {
            // Nothing but time has passed, and there may be very many keys.
            let first = self.expiries.partition_point(|(expiry, _)| *expiry <= then);
            let expired = self.expiries[first..].iter().take_while(|(expiry, _)| *expiry <= now);
            expired.map(|(_, workspace)| *workspace).collect()
        } else {
            let is_good = |key: &KeyRecord| next.keys.get(key.key_id.as_str()).is_some_and(|key| key.is_usable(now));
            let lost = self.keys.values().filter(|key| key.is_usable(then) && !is_good(key));
            lost.filter_map(|key| key.workspace).collect()
        };
        lost.sort_unstable();
        lost.dedup();
        lost
    }
}

impl Directory for Snapshot {
    fn key(&self, key_id: &str) -> Option<Arc<KeyRecord>> {
        self.keys.get(key_id).cloned()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::KeyKind;
    use crate::tenant::SigningKey;

    pub(crate) fn workspace(number: u128) -> WorkspaceId {
        WorkspaceId::new(Uuid::from_u128(number))
    }

    pub(crate) fn key(number: u128, expires_at: Option<i64>) -> KeyRecord {
        KeyRecord {
            key_id: KeyId::new(format!("pk_{number}_{}", expires_at.unwrap_or(0))),
            kind: KeyKind::Workspace,
            workspace: Some(workspace(number)),
            role: "app".into(),
            verifier: "".into(),
            expires_at,
            allow: Rules::default(),
            revoked: false,
            suspended: false,
        }
    }

    pub(crate) fn snapshot(keys: Vec<KeyRecord>) -> Snapshot {
        let signing = SigningKeys::new([SigningKey::new(1, vec![1; 32])]).expect("a key");
        Snapshot::new(keys, Vec::new(), signing, Definitions::default())
    }

    #[test]
    fn a_key_is_lost_once_when_its_time_has_come() {
        let one = snapshot(vec![key(1, Some(10)), key(2, Some(20)), key(2, Some(12)), key(3, None)]);
        let passed = |then, now| one.lost_by(then, &one, now);
        assert_eq!(passed(0, 9), []);
        assert_eq!(passed(9, 10), [workspace(1)]);
        assert_eq!(passed(10, 11), [], "and not again");
        assert_eq!(passed(5, 20), [workspace(1), workspace(2)], "each once");
        assert_eq!(passed(30, 5), [], "a clock that is set back brings nothing");
    }

    #[test]
    fn what_is_gone_revoked_suspended_or_expired_meanwhile_is_lost() {
        let all = || vec![key(1, None), key(2, None), key(3, None), key(4, Some(10)), key(5, None), key(6, Some(5))];
        let mut next = all();
        next[0].revoked = true;
        next[1].suspended = true;
        next.remove(2);
        let (before, next) = (snapshot(all()), snapshot(next));
        let numbers = |lost: Vec<WorkspaceId>| lost.iter().map(|id| id.uuid().as_u128()).collect::<Vec<_>>();
        assert_eq!(numbers(before.lost_by(7, &next, 12)), [1, 2, 3, 4], "the sixth was lost before");
        assert_eq!(numbers(next.lost_by(12, &before, 12)), [0; 0], "who comes back isn't lost");
    }
}
