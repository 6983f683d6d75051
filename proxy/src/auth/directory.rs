//! Where keys are looked up. The control room implements it over its snapshot; tests implement it over a map.

use std::sync::Arc;

use super::KeyRecord;

/// The keys this proxy knows, revoked and expired ones included.
pub trait Directory: Send + Sync {
    /// The key with this id, if there is one. No waiting: the answer comes from memory.
    fn key(&self, key_id: &str) -> Option<Arc<KeyRecord>>;
}
