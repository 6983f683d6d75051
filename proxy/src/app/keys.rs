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
    let mut losses = Losses::since(shared.snapshot.load_full(), clock::unix_seconds());
    let mut replaced = Vec::new();
    while *watched.borrow() == Phase::Serving {
        tokio::select! {
            change = changed.changed() => if change.is_err() { return },
            _ = sweep.tick() => let_go(&mut replaced),
        }
        let (next, now) = (shared.snapshot.load_full(), clock::unix_seconds());
        let ending = end_sessions(&shared, &next, now);
        let (lost, before) = losses.look(next, now, ending);
        replaced.extend(before);
        for workspace in lost {
            for core in &cores {
                let _ = core.send(workspace).await;
            }
        }
    }
}

/// Whose keys were lost, from look to look.
struct Losses {
    seen: Arc<Snapshot>,
    at: i64,
    /// The workspaces of the sessions that were told to end and were still there.
    ending: Vec<WorkspaceId>,
}

impl Losses {
    const fn since(seen: Arc<Snapshot>, at: i64) -> Self {
        Self { seen, at, ending: Vec::new() }
    }

    /// The workspaces for which what carried them is to be closed now, and what is replaced, if something is. Until a session is gone that was told to
    /// end it may have got another connection, and one that was logging in is told later: so its workspace's are closed again.
    fn look(
        &mut self,
        next: Arc<Snapshot>,
        now: i64,
        ending: Vec<WorkspaceId>,
    ) -> (Vec<WorkspaceId>, Option<Arc<Snapshot>>) {
        let mut lost = self.seen.lost_by(self.at, &next, now);
        lost.extend(self.ending.iter().chain(&ending));
        lost.sort_unstable();
        lost.dedup();
        (self.at, self.ending) = (now, ending);
        let is_another = !Arc::ptr_eq(&self.seen, &next);
        (lost, is_another.then(|| std::mem::replace(&mut self.seen, next)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::snapshot::tests::{key, snapshot, workspace};

    #[test]
    fn a_key_is_lost_once_and_once_more_for_each_look_at_a_session_that_lingers() {
        let revoked = || {
            let mut revoked = key(1, None);
            revoked.revoked = true;
            Arc::new(snapshot(vec![revoked, key(2, Some(20))]))
        };
        let (first, next) = (Arc::new(snapshot(vec![key(1, None), key(2, Some(20))])), revoked());
        let (one, two) = (workspace(1), workspace(2));
        let mut losses = Losses::since(first.clone(), 10);
        let (lost, replaced) = losses.look(first.clone(), 11, Vec::new());
        assert_eq!((lost.as_slice(), replaced.is_some()), (&[][..], false));
        let (lost, replaced) = losses.look(next.clone(), 12, vec![one, one]);
        assert!(lost == [one] && replaced.is_some_and(|replaced| Arc::ptr_eq(&replaced, &first)));
        let mut look = |now, ending: &[WorkspaceId]| losses.look(next.clone(), now, ending.to_vec()).0;
        assert_eq!(look(13, &[one]), [one], "it is still there");
        assert_eq!(look(14, &[]), [one], "what it took since the last look");
        assert_eq!(look(15, &[]), []);
        assert_eq!(look(16, &[one]), [one], "it was logging in all the time");
        assert_eq!(look(21, &[]), [one, two], "the other one expires");
        assert_eq!(look(22, &[]), []);
        // Another snapshot in which nothing is lost that wasn't before.
        assert_eq!(losses.look(revoked(), 23, Vec::new()).0, []);
    }

    #[test]
    fn what_was_replaced_is_kept_until_nobody_else_has_it() {
        let (used, unused) = (Arc::new(snapshot(Vec::new())), Arc::new(snapshot(Vec::new())));
        let mut replaced = vec![used.clone(), unused];
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(async { let_go(&mut replaced) });
        assert!(replaced.len() == 1 && Arc::ptr_eq(&replaced[0], &used));
    }
}
