//! Keys that are no longer good: their sessions end, and whatever carried the seals of their workspaces is closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::Phase;
use crate::auth::Directory;
use crate::control::{Control, Snapshot};
use crate::domain::{KeyId, WorkspaceId, clock};
use crate::serve::core::Shared;
use crate::serve::registry::Order;

/// How often it is looked which keys have expired.
const SWEEP: Duration = Duration::from_secs(1);

/// Watches until the proxy no longer serves.
pub(super) async fn watch(
    data: Control,
    shared: Arc<Shared>,
    cores: Vec<mpsc::Sender<WorkspaceId>>,
    watched: watch::Receiver<Phase>,
) {
    let mut changed = data.changed.clone();
    let mut sweep = tokio::time::interval(SWEEP);
    let (mut seen, mut then) = (shared.snapshot.load_full(), clock::unix_seconds());
    let mut replaced = Vec::new();
    while *watched.borrow() == Phase::Serving {
        tokio::select! {
            change = changed.changed() => if change.is_err() { return },
            _ = sweep.tick() => let_go(&mut replaced),
        }
        let (next, now) = (shared.snapshot.load_full(), clock::unix_seconds());
        let usable = |key_id: &KeyId| next.key(key_id.as_str()).is_some_and(|key| key.is_usable(now));
        shared.registry.order(Order::Revoked, |slot| !usable(&slot.key_id));
        for workspace in seen.lost_by(then, &next, now) {
            for core in &cores {
                let _ = core.send(workspace).await;
            }
        }
        if !Arc::ptr_eq(&seen, &next) {
            replaced.push(std::mem::replace(&mut seen, next));
        }
        then = now;
    }
}

/// Drops the snapshots that nobody uses any more. With a hundred thousand workspaces that takes a tenth of a second, in which a core's
/// clients would wait: so they are kept here until all cores have let go of them.
fn let_go(replaced: &mut Vec<Arc<Snapshot>>) {
    let unused: Vec<_> = replaced.extract_if(.., |each| Arc::strong_count(each) == 1).collect();
    if !unused.is_empty() {
        tokio::task::spawn_blocking(move || drop(unused));
    }
}
