//! What a client's statements wait for beside Postgres: room in the books, and the disk of the audit trail.

use std::future::poll_fn;
use std::task::Poll;

use crate::domain::Fault;
use crate::session::Request;

use super::super::registry::Order;
use super::{Driver, End, farewell, flush_client, idle_context};

impl Driver {
    /// A held statement was executed: its rows are reserved, and the client is told of its success, or of the refusal.
    pub(super) async fn reserve(&mut self, mut request: Request) -> Result<(), End> {
        loop {
            self.ask(request).await?;
            let lanes = &mut *self.core.lanes();
            let Some(lease) = &mut self.lease else { return Ok(()) };
            let next = self.core.with(&self.database, |core| self.session.proceed(&[], &mut lease.state, core, lanes));
            let sent = self.to_server.send(&mut lease.connection.socket, lanes.server.bytes(&[]), &mut idle_context());
            lanes.server.clear();
            flush_client(&mut self.to_client, &mut self.socket, lanes, &[])?;
            if sent.is_err() {
                return Err(self.server_lost());
            }
            match next {
                Some(next) => request = next,
                None => return Ok(()),
            }
        }
    }

    /// Reserves rows, or learns that they don't fit. An order to end isn't kept waiting.
    pub(super) async fn ask(&mut self, request: Request) -> Result<(), End> {
        let Some(workspace) = self.binding.workspace() else { return Ok(()) };
        let answer = {
            let slot = self.registered.slot().clone();
            let accounts = self.core.shared.accounts.clone();
            // On the heap while it lasts: what is asked here wasn't sure, and most clients never ask.
            let mut reserving = Box::pin(accounts.reserve(workspace, request.resource, request.rows, request.own));
            poll_fn(|context| {
                match slot.ordered() {
                    None | Some(Order::Drain) => {}
                    Some(order) => return Poll::Ready(Err(End::Fault(farewell(order)))),
                }
                reserving.as_mut().poll(context).map(Ok)
            })
            .await?
        };
        let answer = answer.map_err(|refusal| Fault::from(&refusal));
        self.core.with(&self.database, |core| self.session.answered(request, answer, core));
        Ok(())
    }

    /// A write is done: the client hears of it when its record is on disk. The server connection doesn't wait for that.
    pub(super) async fn record_and_tell(&mut self) -> Result<(), End> {
        // Handed in before anything is waited for: who is stopped meanwhile leaves no write unrecorded.
        let happened = self.session.take_owed();
        let recorded = super::super::audit::happened_durably(&self.core, &self.client, &self.binding, happened);
        if self.lease.is_some() && self.session.may_leave() {
            self.core.counters.transaction();
            self.leave().await;
        }
        recorded.await.map_err(End::Fault)?;
        let lanes = &mut *self.core.lanes();
        self.session.release_withheld(lanes);
        flush_client(&mut self.to_client, &mut self.socket, lanes, &[])
    }
}
