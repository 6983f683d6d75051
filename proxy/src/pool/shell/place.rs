//! Waiting for a connection: a session's place in the roster's queue, and how the answer reaches it on its core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Pool;
use crate::domain::Fault;
use crate::domain::clock::{self, Instant};
use crate::pool::lease::Backend;
use crate::pool::roster::{Command, Outcome, Roster, WaiterId};

/// How often it is looked whether somebody has waited for too long: so many times within the time that one waits at most, and
/// not more often than this. A timer for each that waits would cost each of them more than the rest of waiting.
const LOOKS: u32 = 16;
const LOOK_MIN: Duration = Duration::from_millis(5);
const LOOK_MAX: Duration = Duration::from_millis(100);

/// A connection and whether it is bound, or why there is none.
pub(super) type Answer = Result<(Box<Backend>, bool), Fault>;

/// One session of this core that waits.
pub(super) struct Waiting {
    answer: RefCell<Option<Answer>>,
    waker: RefCell<Option<Waker>>,
    /// Until when it waits.
    until: Instant,
}

/// A place in the roster's queue.
pub(super) struct Place<'a> {
    pool: &'a Rc<Pool>,
    id: WaiterId,
    waiting: Rc<Waiting>,
    /// The roster has answered, and knows nothing of it any more.
    is_answered: Cell<bool>,
}

impl<'a> Place<'a> {
    pub(super) fn take(
        pool: &'a Rc<Pool>,
        until: Instant,
        wait: impl FnOnce(&mut Roster, WaiterId) -> Vec<Command>,
    ) -> Self {
        let id = pool.shared.new_id();
        let waiting = Rc::new(Waiting { answer: RefCell::default(), waker: RefCell::default(), until });
        {
            let mut all = pool.waiting.borrow_mut();
            if all.is_empty() {
                pool.somebody_waits.notify_one();
            }
            all.insert(id, waiting.clone());
        }
        let place = Self { pool, id, waiting, is_answered: Cell::new(false) };
        let errands = pool.shared.tell(|inner| wait(&mut inner.roster, id));
        pool.run(errands);
        place
    }

    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Answer> {
        if let Some(answer) = self.waiting.answer.borrow_mut().take() {
            self.is_answered.set(true);
            return Poll::Ready(answer);
        }
        let mut waker = self.waiting.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_answered.get() {
            return;
        }
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
        let waiting = self.waiting.borrow_mut().remove(&waiter);
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

    /// Tells those who have waited for too long, until the task is dropped.
    pub(in crate::pool) async fn expire(self: Rc<Self>) {
        let pause = (self.shared.settings.wait_timeout() / LOOKS).clamp(LOOK_MIN, LOOK_MAX);
        loop {
            let nobody_waits = self.waiting.borrow().is_empty();
            if nobody_waits {
                self.somebody_waits.notified().await;
            }
            tokio::time::sleep(pause).await;
            let now = clock::now();
            let late = |(id, waiting): (&WaiterId, &Rc<Waiting>)| (waiting.until <= now).then_some(*id);
            let late: Vec<WaiterId> = self.waiting.borrow().iter().filter_map(late).collect();
            for waiter in late {
                let mut waited = false;
                let errands = self.shared.tell(|inner| {
                    waited = inner.roster.gave_up(waiter);
                    Vec::new()
                });
                self.run(errands);
                // What was granted meanwhile is on its way.
                if waited {
                    self.answer(waiter, Err(self.timed_out()));
                }
            }
        }
    }

    /// A connection that was granted and never used. If it was to be bound, it is as clear as before; but the roster
    /// takes it for bound, so it is cleared like any other.
    fn return_unused(self: &Rc<Self>, backend: Box<Backend>, bound: bool) {
        let outcome = if bound { Outcome::Clean } else { Outcome::Dirty };
        self.return_to_roster(backend, outcome);
    }
}
