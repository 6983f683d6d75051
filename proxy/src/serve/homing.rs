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
                && let Some(lease) = Box::pin(pool.lease_home(binding, home, wish.is_patient)).await
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

    /// Whether the client's turn is over: it makes way before it is heard again.
    pub(super) fn is_turn_over(&mut self, session: &Session, pool: &Pool) -> bool {
        if !session.may_make_way() {
            return false;
        }
        let now = clock::now();
        let kept = self.kept.get_or_insert_with(|| Box::new(Kept { had: now, quiet: None, timer: None }));
        pool.is_wanted() && session.grace(now.duration_since(kept.had)).is_zero()
    }

    /// The client has said something.
    pub(super) fn heard(&mut self) {
        if let Some(kept) = &mut self.kept {
            (kept.quiet, kept.timer) = (None, None);
        }
    }

    /// Ready when the client, of which nothing is to be heard, is to make way.
    pub(super) fn poll_way(
        &mut self,
        session: &Session,
        pool: &Pool,
        lease: Option<&Lease>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let (Some(lease), Some(kept)) = (lease.filter(|_| session.may_make_way()), &mut self.kept) else {
            return Poll::Pending;
        };
        let now = clock::now();
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
