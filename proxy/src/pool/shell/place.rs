//! Waiting for a connection: a session's place in the roster's queue, and how the answer reaches it on its core.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::Pool;
use crate::domain::Fault;
use crate::pool::lease::Backend;
use crate::pool::roster::{Command, Outcome, Roster, WaiterId};

/// A connection and whether it is bound, or why there is none.
pub(super) type Answer = Result<(Box<Backend>, bool), Fault>;

/// One session of this core that waits.
#[derive(Default)]
pub(super) struct Waiting {
    answer: RefCell<Option<Answer>>,
    waker: RefCell<Option<Waker>>,
}

/// A place in the roster's queue.
pub(super) struct Place<'a> {
    pool: &'a Rc<Pool>,
    id: WaiterId,
    waiting: Rc<Waiting>,
}

impl<'a> Place<'a> {
    pub(super) fn take(pool: &'a Rc<Pool>, wait: impl FnOnce(&mut Roster, WaiterId) -> Vec<Command>) -> Self {
        let (id, waiting) = (pool.shared.new_id(), Rc::<Waiting>::default());
        pool.waiting.borrow_mut().insert(id, waiting.clone());
        let place = Self { pool, id, waiting };
        let errands = pool.shared.tell(|inner| wait(&mut inner.roster, id));
        pool.run(errands);
        place
    }

    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Answer> {
        if let Some(answer) = self.waiting.answer.borrow_mut().take() {
            return Poll::Ready(answer);
        }
        *self.waiting.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pool.waiting.borrow_mut().remove(&self.id);
        if let Some(Ok((backend, bound))) = self.waiting.answer.borrow_mut().take() {
            self.pool.return_unused(backend, bound);
        }
        let id = self.id;
        let errands = self.pool.shared.tell(|inner| {
            inner.roster.gave_up(id);
            Vec::new()
        });
        self.pool.run(errands);
    }
}

impl Pool {
    /// Hands a waiter what it gets. One that has left in the meantime lets go of it.
    pub(super) fn answer(self: &Rc<Self>, waiter: WaiterId, answer: Answer) {
        let waiting = self.waiting.borrow().get(&waiter).cloned();
        match (waiting, answer) {
            (Some(waiting), answer) => {
                *waiting.answer.borrow_mut() = Some(answer);
                if let Some(waker) = waiting.waker.borrow_mut().take() {
                    waker.wake();
                }
            }
            (None, Ok((backend, bound))) => self.return_unused(backend, bound),
            (None, Err(_)) => {}
        }
    }

    /// A connection that was granted and never used. If it was to be bound, it is as clear as before; but the roster
    /// takes it for bound, so it is cleared like any other.
    fn return_unused(self: &Rc<Self>, backend: Box<Backend>, bound: bool) {
        let outcome = if bound { Outcome::Clean } else { Outcome::Dirty };
        self.return_to_roster(backend, outcome);
    }
}
