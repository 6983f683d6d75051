//! The homes of this core's clients, and how they get there; and who of them makes way when somebody waits.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::Pool;
use super::place::Place;
use crate::domain::clock;
use crate::domain::limits::{HOME_OPEN_TIMEOUT, HOME_TIMEOUT};
use crate::pool::lease::Lease;
use crate::pool::roster::{BackendId, Settled};
use crate::tenant::{Binding, Tenant};

/// The server connection to which a client comes back when it can. It may be closed meanwhile: then the client has none.
pub struct Home {
    pool: Rc<Pool>,
    id: BackendId,
    pid: i32,
    /// What the core had given back when the roster was last asked for it.
    asked_at: Cell<Option<u64>>,
}

impl Home {
    /// The server process.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Which connection it is.
    pub(super) const fn id(&self) -> BackendId {
        self.id
    }

    /// Whether it may lie at the roster: the client was never there, or what was parked here was given back since it last
    /// asked. Otherwise the roster needn't be asked for it.
    pub(super) fn may_be_elsewhere(&self) -> bool {
        let returns = self.pool.returns.get();
        self.asked_at.replace(Some(returns)) != Some(returns)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.pool.shared.inner.lock().roster.moved_out(self.id);
    }
}

impl Pool {
    /// A home for a client of this binding: of its own, as long as the pool has room for that. None when there is no server
    /// connection and none can be had in time.
    pub async fn settle(self: &Rc<Self>, binding: &Binding) -> Option<Home> {
        let tenant = binding.tenant();
        let own = tokio::time::timeout(HOME_OPEN_TIMEOUT, self.settle_alone(tenant)).await;
        own.ok().flatten().or_else(|| self.settle_with_others(tenant))
    }

    /// A home that is nobody else's, for which one may have to be opened. None when that isn't to be had.
    async fn settle_alone(self: &Rc<Self>, tenant: Tenant) -> Option<Home> {
        loop {
            let mut opened = std::pin::pin!(self.shared.opened.notified());
            opened.as_mut().enable();
            let opens = {
                let roster = &mut self.shared.inner.lock().roster;
                match roster.settle(tenant) {
                    Settled::At(id, pid) => {
                        roster.moved_in(id);
                        return Some(Home { pool: self.clone(), id, pid, asked_at: Cell::new(None) });
                    }
                    Settled::Crowded(..) | Settled::Nowhere if roster.opens_for_home(clock::now()) => true,
                    Settled::Crowded(..) | Settled::Nowhere if roster.is_opening() => false,
                    Settled::Crowded(..) | Settled::Nowhere => return None,
                }
            };
            if opens {
                // A task of its own: what was begun comes to its end if this client leaves.
                tokio::task::spawn_local(self.clone().open());
            }
            opened.await;
        }
    }

    fn settle_with_others(self: &Rc<Self>, tenant: Tenant) -> Option<Home> {
        let roster = &mut self.shared.inner.lock().roster;
        let (Settled::At(id, pid) | Settled::Crowded(id, pid)) = roster.settle(tenant) else { return None };
        roster.moved_in(id);
        Some(Home { pool: self.clone(), id, pid, asked_at: Cell::new(None) })
    }

    /// The client's home is where it is.
    pub fn settle_at(self: &Rc<Self>, lease: &Lease) -> Home {
        let id = lease.id();
        self.shared.inner.lock().roster.moved_in(id);
        Home { pool: self.clone(), id, pid: lease.connection.pid, asked_at: Cell::new(None) }
    }

    /// The home, if it can be had without waiting.
    pub(super) fn try_home(self: &Rc<Self>, tenant: Tenant, home: &Home) -> Option<Lease> {
        let parked = {
            let mut parked = self.parked.borrow_mut();
            let at = parked.iter().position(|each| each.backend.id == home.id && each.tenant == tenant);
            at.map(|at| parked.swap_remove(at).backend)
        };
        if let Some(backend) = parked {
            self.count_parked();
            return self.usable(backend, tenant, true);
        }
        let (backend, bound) = {
            let mut inner = self.shared.inner.lock();
            let granted = inner.roster.try_take_home(home.id, tenant, clock::now())?;
            inner.stock.remove(&granted.backend).map(|backend| (backend, granted.bound))?
        };
        self.usable(backend, tenant, bound)
    }

    /// The home, if it can be had: at once, or, for who is patient, within a moment. Whoever waits here holds nothing.
    pub async fn lease_home(self: &Rc<Self>, binding: &Binding, home: &Home, is_patient: bool) -> Option<Lease> {
        let tenant = binding.tenant();
        if let Some(lease) = self.try_home(tenant, home) {
            return Some(lease);
        }
        if !is_patient || !self.shared.inner.lock().roster.is_there(home.id) {
            return None;
        }
        let now = clock::now();
        let place = Place::take(self, now + 2 * HOME_TIMEOUT, |roster, id| {
            roster.waits_for_home(id, tenant, self.core, home.id, now)
        });
        let answered = tokio::time::timeout(HOME_TIMEOUT, poll_fn(|context| place.poll(context))).await;
        drop(place);
        let (backend, bound) = answered.ok()?.ok()?;
        self.usable(backend, tenant, bound)
    }

    /// Whether somebody waits for a connection, so that who keeps one without need makes way.
    pub fn is_wanted(&self) -> bool {
        self.shared.wanted.load(Ordering::SeqCst) > 0
    }

    /// Somebody waits for a connection, or else a client that would make way with this one is woken as soon as that is so.
    pub fn poll_wanted(&self, lease: &Lease, context: &Context<'_>) -> Poll<()> {
        let id = lease.id();
        {
            let mut yielding = self.yielding.borrow_mut();
            match yielding.iter_mut().find(|(each, _)| *each == id) {
                Some((_, waker)) => waker.clone_from(context.waker()),
                None => yielding.push((id, context.waker().clone())),
            }
        }
        self.count_parked();
        // Whoever began to wait meanwhile may have seen nobody here.
        if self.is_wanted() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The client no longer has the connection.
    pub fn keeps(&self, lease: &Lease) {
        let id = lease.id();
        self.yielding.borrow_mut().retain(|(each, _)| *each != id);
        self.count_parked();
    }

    pub(super) fn wake_yielding(&self) {
        if self.yielding.borrow().is_empty() {
            return;
        }
        let yielding = std::mem::take(&mut *self.yielding.borrow_mut());
        self.count_parked();
        yielding.into_iter().for_each(|(_, waker)| waker.wake());
    }
}
