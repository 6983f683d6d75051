//! A client's home as its task sees it: how it gets there, and when it makes way for others.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::Sleep;

use crate::domain::Fault;
use crate::domain::clock::{self, Instant};
use crate::pool::{Home, Lease, Pool};
use crate::session::{Session, Wish};
use crate::tenant::Binding;

/// Where a client is at home, and since when it keeps a server connection that others may want.
#[derive(Default)]
pub(super) struct Homing {
    /// Its home, if there was a server connection for one.
    pub(super) home: Option<Home>,
    /// Its next message is for the home.
    pub(super) wish: Option<Wish>,
    kept: Option<Box<Kept>>,
}

/// A server connection that is kept without need.
struct Kept {
    /// Since when the client has it.
    had: Instant,
    /// Since when it does nothing, if so.
    quiet: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Homing {
    pub(super) fn new(home: Option<Home>) -> Self {
        Self { home, ..Self::default() }
    }

    /// A server connection: the home, if the client's message is for it and it can be had, else any.
    ///
    /// # Errors
    /// As those of [`Pool::lease`].
    pub(super) async fn lease(&mut self, pool: &Rc<Pool>, binding: &Binding) -> Result<Lease, Fault> {
        let home = self.home.as_ref();
        if let Some(wish) = self.wish.take() {
            if let Some(home) = home
                && let Some(lease) = pool.lease_home(binding, home, wish.is_patient).await
            {
                return Ok(lease);
            }
            if let Some(lease) = pool.try_lease(binding, home) {
                return Ok(lease);
            }
        }
        pool.lease(binding, home).await
    }

    /// A client that was told another process id than its home's is at home there from now on.
    pub(super) fn follow(&mut self, session: &Session, pool: &Rc<Pool>, lease: Option<&Lease>) {
        if let Some(lease) = lease
            && lease.connection.pid == session.home()
            && self.home.as_ref().is_none_or(|home| home.pid() != session.home())
        {
            self.home = Some(pool.settle_at(lease));
        }
    }

    /// Ready when the client is to make way.
    pub(super) fn poll_way(
        &mut self,
        session: &Session,
        pool: &Pool,
        lease: Option<&Lease>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(lease) = lease.filter(|_| session.pinned().is_some()) else {
            return Poll::Pending;
        };
        if !session.may_make_way() {
            if let Some(kept) = &mut self.kept
                && kept.quiet.take().is_some()
            {
                kept.timer = None;
                pool.keeps(lease);
            }
            return Poll::Pending;
        }
        let now = clock::now();
        let kept = self.kept.get_or_insert_with(|| Box::new(Kept { had: now, quiet: None, timer: None }));
        let quiet = *kept.quiet.get_or_insert(now);
        if !pool.is_wanted() && pool.poll_wanted(lease, context).is_pending() {
            kept.timer = None;
            return Poll::Pending;
        }
        let due = quiet + session.grace(quiet.duration_since(kept.had));
        if now >= due {
            return Poll::Ready(());
        }
        let timer = kept.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(due.duration_since(now))));
        timer.as_mut().poll(context)
    }

    /// The server connection is given back.
    pub(super) fn left(&mut self, pool: &Pool, lease: &Lease) {
        if self.kept.take().is_some() {
            pool.keeps(lease);
        }
    }
}
