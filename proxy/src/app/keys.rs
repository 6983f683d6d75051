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
    let (mut replaced, mut ended) = (Vec::new(), Vec::new());
    while *watched.borrow() == Phase::Serving {
        tokio::select! {
            change = changed.changed() => if change.is_err() { return },
            _ = sweep.tick() => let_go(&mut replaced),
        }
        let (next, now) = (shared.snapshot.load_full(), clock::unix_seconds());
        let ending = end_sessions(&shared, &next, now);
        let mut lost = seen.lost_by(then, &next, now);
        // Until such a session is gone it may have got another connection to carry its workspace, or was still logging in.
        lost.extend(ended.iter().chain(&ending));
        lost.sort_unstable();
        lost.dedup();
        ended = ending;
        for workspace in lost {
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

/// Tells the sessions of keys that are no longer good to end. The workspaces of those that are still there.
fn end_sessions(shared: &Shared, snapshot: &Snapshot, now: i64) -> Vec<WorkspaceId> {
    let usable = |key_id: &KeyId| snapshot.key(key_id.as_str()).is_some_and(|key| key.is_usable(now));
    let mut ending = Vec::new();
    shared.registry.each(|slot| {
        if !usable(&slot.key_id) {
            slot.order(Order::Revoked);
            ending.extend(slot.workspace);
        }
    });
    ending
}

/// Drops the snapshots that nobody uses any more. With a hundred thousand workspaces that takes a tenth of a second, in which a core's
/// clients would wait: so they are kept here until all cores have let go of them.
fn let_go(replaced: &mut Vec<Arc<Snapshot>>) {
    let unused: Vec<_> = replaced.extract_if(.., |each| Arc::strong_count(each) == 1).collect();
    if !unused.is_empty() {
        tokio::task::spawn_blocking(move || drop(unused));
    }
}
