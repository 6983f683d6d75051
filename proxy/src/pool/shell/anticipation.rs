//! What the roster lets a core keep for a workspace that comes back at once: see `roster/anticipation.rs`. It is parked like any
//! other connection, but with an end, and for its workspace it is there although others wait.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Parked, Pool};
use crate::domain::clock;
use crate::pool::lease::Backend;
use crate::pool::roster::{BackendId, Outcome, WaiterId};
use crate::tenant::Tenant;

/// How often it is looked whether nobody came back: as often as the runtime's timers can.
const LOOK: Duration = Duration::from_millis(1);

/// Where a connection goes that comes back clean while others wait.
pub(super) enum Next {
    /// From hand to hand, to one that waits here.
    Waiter(WaiterId),
    /// It stays here until then.
    Kept(clock::Instant),
    /// To the roster.
    Roster,
}

impl Pool {
    pub(super) fn next(&self, backend: &mut Backend) -> Next {
        let (id, gap, now) = (backend.id, backend.gap.take(), clock::now());
        let mut inner = self.shared.inner.lock();
        if let Some(waiter) = inner.roster.hand_over(id, self.core, now) {
            self.shared.show(&inner.roster);
            return Next::Waiter(waiter);
        }
        inner.roster.keep(id, self.core, gap, now).map_or(Next::Roster, Next::Kept)
    }

    pub(super) fn keep_until(&self, backend: Box<Backend>, tenant: Tenant, until: clock::Instant) {
        self.parked.borrow_mut().push(Parked { tenant, backend, since: clock::now(), kept: Some(until) });
        self.something_kept.notify_one();
    }

    /// Somebody of the workspace waits elsewhere. It may have been taken meanwhile; then it goes there afterwards.
    pub(super) fn bring(self: &Rc<Self>, id: BackendId) {
        let at = self.parked.borrow().iter().position(|each| each.backend.id == id && each.kept.is_some());
        if let Some(at) = at {
            let backend = self.parked.borrow_mut().swap_remove(at).backend;
            self.return_to_roster(backend, Outcome::Clean);
        }
    }

    /// Gives up what was kept in vain, until the task is dropped.
    pub(in crate::pool) async fn lapse(self: Rc<Self>) {
        loop {
            let nothing_kept = !self.parked.borrow().iter().any(|each| each.kept.is_some());
            if nothing_kept {
                self.something_kept.notified().await;
            }
            tokio::time::sleep(LOOK).await;
            self.lapsed();
        }
    }

    fn lapsed(self: &Rc<Self>) {
        let now = clock::now();
        let lapsed: Vec<Parked> = {
            let mut parked = self.parked.borrow_mut();
            parked.extract_if(.., |each| each.kept.is_some_and(|until| until <= now)).collect()
        };
        for each in lapsed {
            // It is parked as any other if nobody waits any more.
            if self.shared.attention.load(Ordering::SeqCst) > 0 {
                self.return_to_roster(each.backend, Outcome::Clean);
            } else {
                self.park(each.backend, each.tenant, each.since);
            }
        }
    }
}
