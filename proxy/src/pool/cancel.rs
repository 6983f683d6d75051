//! Cancel requests: a request hits the statement it was meant for, or none.
//!
//! Postgres delivers a cancel request as a signal to whatever the backend is doing *then*. So a backend runs nothing for
//! anybody else before every request that was on its way has been followed to the end of its own connection. The
//! `CancelGate` of a backend, shared by all cores, is where the two sides meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

use super::upstream::{CancelFailure, Upstream};
use crate::domain::Fault;

/// Who may cancel what one backend is doing, and which requests are on their way to it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct CancelGate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The client session whose statements the backend runs; 0 for none.
    holder: AtomicU64,
    in_flight: AtomicUsize,
    doubtful: AtomicBool,
    drained: Notify,
}

/// One cancel request on its way. Dropped without [`CancelPass::settle`] it leaves the backend in doubt.
#[derive(Debug)]
pub struct CancelPass {
    gate: Arc<Inner>,
    settled: bool,
}

/// What became of a cancel request.
#[derive(Debug)]
pub enum Outcome {
    /// It reached the server, and its connection has ended.
    Followed,
    /// Its client holds no backend any more: there is nothing to cancel.
    TooLate,
    /// It didn't reach the server, or nobody knows.
    Failed(Fault),
}

impl CancelGate {
    /// The backend runs for this session (any number but 0) from now on.
    pub fn hold(&self, session: u64) {
        self.0.holder.store(session, SeqCst);
    }

    /// The backend runs for nobody: no further request is let through. Follow it with [`CancelGate::drained`].
    pub fn unhold(&self) {
        self.0.holder.store(0, SeqCst);
    }

    /// Lets a request for `session` through, if the backend still runs for it.
    ///
    /// The request is counted before the holder is looked at, and the holder is taken away before the requests are
    /// counted: whichever comes first, one of the two sides sees the other.
    pub fn enter(&self, session: u64) -> Option<CancelPass> {
        self.0.in_flight.fetch_add(1, SeqCst);
        let pass = CancelPass { gate: Arc::clone(&self.0), settled: false };
        if session != 0 && self.0.holder.load(SeqCst) == session {
            Some(pass)
        } else {
            pass.settle();
            None
        }
    }

    /// How many requests are on their way.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(SeqCst)
    }

    /// Whether a request was lost sight of: it may still arrive, and the backend must be closed instead of used.
    pub fn is_doubtful(&self) -> bool {
        self.0.doubtful.load(SeqCst)
    }

    /// Waits until no request is on its way. False for a backend that must be closed ([`CancelGate::is_doubtful`]).
    #[must_use = "a doubtful backend must be closed"]
    pub async fn drained(&self) -> bool {
        loop {
            let notified = self.0.drained.notified();
            if self.in_flight() == 0 {
                return !self.is_doubtful();
            }
            notified.await;
        }
    }

    /// Sends a cancel request for `session` to the backend behind this gate, and follows it to its end.
    pub async fn cancel(&self, upstream: &Upstream, session: u64, pid: i32, secret: &[u8]) -> Outcome {
        let Some(pass) = self.enter(session) else {
            return Outcome::TooLate;
        };
        match upstream.send_cancel(pid, secret).await {
            Ok(()) => {
                pass.settle();
                Outcome::Followed
            }
            Err(CancelFailure::Unsent(fault)) => {
                pass.settle();
                Outcome::Failed(fault)
            }
            Err(CancelFailure::Unknown(fault)) => Outcome::Failed(fault),
        }
    }
}

impl CancelPass {
    /// The request has reached its end, or was never sent.
    pub fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for CancelPass {
    fn drop(&mut self) {
        if !self.settled {
            self.gate.doubtful.store(true, SeqCst);
        }
        if self.gate.in_flight.fetch_sub(1, SeqCst) == 1 {
            self.gate.drained.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn a_request_passes_only_while_its_session_holds_the_backend() {
        let gate = CancelGate::default();
        assert!(gate.enter(0).is_none() && gate.enter(7).is_none());
        gate.hold(7);
        let pass = gate.enter(7).expect("the holder's request");
        assert!(gate.enter(8).is_none());
        gate.unhold();
        assert!(gate.enter(7).is_none());
        assert_eq!((gate.in_flight(), gate.is_doubtful()), (1, false));
        pass.settle();
        assert_eq!((gate.in_flight(), gate.is_doubtful()), (0, false));
    }

    #[test]
    fn a_backend_waits_for_every_request_and_is_given_up_when_one_is_lost_sight_of() {
        let gate = CancelGate::default();
        gate.hold(1);
        let (first, second) = (gate.enter(1).expect("a pass"), gate.enter(1).expect("a pass"));
        let waiting = gate.clone();
        let mut drained = pin!(waiting.drained());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(drained.as_mut().poll(&mut cx).is_pending());
        first.settle();
        assert!(drained.as_mut().poll(&mut cx).is_pending());
        drop(second);
        assert_eq!(drained.as_mut().poll(&mut cx), Poll::Ready(false));
        assert!(gate.is_doubtful());
    }
}
