//! How a session ends, and what becomes of the statements of a client that has said goodbye or closed its half of the
//! connection. As on Postgres it is told their answers, as long as it takes them; and what may be committed is awaited even
//! if nobody listens, for the books and the trail are to know it.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::session::{Progress, Session};

use super::{Driver, End, TakenIn};

/// How long the answers to what a client left behind are awaited before it is stopped.
const OUTCOME_TIMEOUT: Duration = Duration::from_millis(500);

impl Driver {
    /// Tells the client why, stops what still runs for it, and gives the server connection back or closes it.
    pub(super) async fn finish(&mut self, end: End) {
        if let End::Fault(fault) = &end {
            tracing::info!(session = self.registered.slot().id, %fault, "a session ended");
            super::super::farewell::send(&mut self.socket, &mut self.to_client, fault).await;
        } else if tokio::time::timeout(OUTCOME_TIMEOUT, self.see_out()).await.is_err() {
            tracing::debug!(session = self.registered.slot().id, "a client left a statement that goes on");
        }
        self.core.with(&self.database, |core| self.session.abandon(core));
        if self.session.owes_records() {
            // Nobody is told, and none of them is left out for that.
            let owed = self.session.take_owed();
            let _ = super::super::audit::happened_durably(&self.core, &self.client, &self.binding, owed).await;
        }
        self.record();
        // What still runs there is stopped: nobody waits for the answer any more.
        self.leave().await;
    }

    /// Awaits what is still owed. Nothing of the client's that wasn't sent yet is sent any more.
    async fn see_out(&mut self) {
        let mut listens = true;
        let mut fresh = 0;
        while self.to_server.is_clear() && is_awaited(&self.session, listens) {
            let Some(progress) = self.take_answer(std::mem::take(&mut fresh), &mut listens) else { break };
            if progress != Progress::Withheld {
                self.record();
            }
            match progress {
                Progress::Going => {}
                Progress::Withheld if listens => {
                    listens = self.record_and_tell().await.is_ok();
                    continue;
                }
                Progress::Withheld => {
                    self.record();
                    continue;
                }
                Progress::Ask(_) | Progress::Unbound(_) => break,
            }
            if !is_awaited(&self.session, listens) {
                break;
            }
            let read = poll_fn(|context| self.poll_answer(&mut listens, context)).await;
            match read {
                Ok(read) if read > 0 => fresh = read,
                _ => break,
            }
        }
        if listens {
            let _ = poll_fn(|context| self.to_client.poll_clear(&mut self.socket, context)).await;
        }
    }

    /// Hands to the session what the server sent. None when nothing more can come of it.
    fn take_answer(&mut self, fresh: usize, listens: &mut bool) -> Option<Progress> {
        let TakenIn { progress, told, sent } = self.take_in(fresh, *listens)?;
        *listens &= told.is_ok();
        sent.ok().and(progress.ok())
    }

    /// Reads from the server, once the client has taken what it was sent so far.
    fn poll_answer(&mut self, listens: &mut bool, context: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        if *listens && !self.to_client.is_clear() {
            match self.to_client.poll_clear(&mut self.socket, context) {
                Poll::Ready(taken) => *listens = taken.is_ok(),
                Poll::Pending => return Poll::Pending,
            }
        }
        match &mut self.lease {
            Some(lease) => self.core.scratch.borrow_mut().poll_read(&mut lease.connection.socket, context),
            None => Poll::Ready(Ok(0)),
        }
    }
}

fn is_awaited(session: &Session, listens: bool) -> bool {
    session.may_yet_commit() || (listens && session.owes_answers())
}
