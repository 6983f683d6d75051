//! How a client gets a server connection that isn't free at once, and how it gives one back.

use std::future::poll_fn;
use std::task::Poll;

use crate::domain::limits::READ_BYTES;
use crate::domain::{Fault, Origin, SqlState};
use crate::pool::Outcome;
use crate::session::Leaving;

use super::super::inlet::Inlet;
use super::super::outlet::Outlet;
use super::{Driver, End, farewell, flush_client};

/// Why the wait for a server connection ended without one.
enum Waited {
    Refused(Fault),
    End(End),
}

impl Driver {
    /// Waits in the pool's queue. When nothing becomes free, the cycle that asked is refused and the session goes on.
    pub(super) async fn wait_for_lease(&mut self) -> Result<(), End> {
        let slot = self.registered.slot().clone();
        slot.set_queued(true);
        let waited = {
            let mut lease = std::pin::pin!(self.homing.lease(&self.pool, &self.binding));
            let (core, socket, from_client) = (&self.core, &mut self.socket, &mut self.from_client);
            poll_fn(|context| {
                // First, for who is told that its key was revoked takes no connection any more that would carry its workspace.
                if let Some(order) = slot.ordered() {
                    return Poll::Ready(Err(Waited::End(End::Fault(farewell(order)))));
                }
                if let Poll::Ready(leased) = lease.as_mut().poll(context) {
                    return Poll::Ready(leased.map_err(Waited::Refused));
                }
                if slot.was_cancelled() {
                    return Poll::Ready(Err(Waited::Refused(cancelled())));
                }
                // A client that leaves while it waits gives up its place.
                while from_client.len() < READ_BYTES {
                    let mut scratch = core.scratch.borrow_mut();
                    match scratch.poll_read(socket, context) {
                        Poll::Ready(Ok(read)) if read > 0 => {
                            from_client.input(&scratch[..read]);
                            from_client.taken(0, &scratch[..read]);
                        }
                        Poll::Ready(_) => return Poll::Ready(Err(Waited::End(End::ClientGone))),
                        Poll::Pending => break,
                    }
                }
                Poll::Pending
            })
            .await
        };
        slot.set_queued(false);
        match waited {
            Ok(lease) => {
                self.lease = Some(lease);
                self.unopened = true;
                Ok(())
            }
            Err(Waited::Refused(fault)) => self.refuse(&fault),
            Err(Waited::End(end)) => Err(end),
        }
    }

    fn refuse(&mut self, fault: &Fault) -> Result<(), End> {
        tracing::debug!(session = self.registered.slot().id, %fault, "a cycle was refused");
        let lanes = &mut *self.core.lanes();
        let input = self.from_client.input(&[]);
        let taken = self.session.refuse(input, fault, lanes).map_err(End::Fault)?;
        self.from_client.taken(taken, &[]);
        flush_client(&mut self.to_client, &mut self.socket, lanes, &[])
    }

    /// Gives the server connection back as the session leaves it.
    pub(super) async fn leave(&mut self) {
        let Some(lease) = &self.lease else { return };
        let outcome = match self.session.leaving(&lease.state) {
            Leaving::Clean => Outcome::Clean,
            Leaving::Soiled => Outcome::Dirty,
            Leaving::Busy => Outcome::Broken,
        };
        self.release(outcome).await;
        self.session.detached();
    }

    /// Others have the server connection that the client kept.
    pub(super) async fn make_way(&mut self) {
        self.session.make_way();
        self.note_pin();
        if self.lease.is_some() && self.session.may_leave() {
            self.leave().await;
        }
    }

    /// Gives the server connection back once no cancel is on its way to it.
    pub(super) async fn release(&mut self, outcome: Outcome) {
        self.registered.slot().let_go();
        if self.registered.slot().is_cancelling() {
            self.quiet().await;
        }
        let outcome = if self.registered.slot().take_doubt() { Outcome::Broken } else { outcome };
        self.from_server = Inlet::default();
        self.to_server = Outlet::default();
        self.held = false;
        if let Some(lease) = self.lease.take() {
            self.homing.left(&self.pool, &lease);
            lease.release(outcome);
        }
        self.note_stint();
    }
}

fn cancelled() -> Fault {
    Fault::new(Origin::Client, SqlState::QUERY_CANCELED, "canceled by the user while waiting for a server connection")
}
