//! What becomes of the statements of a client that has said goodbye or closed its half of the connection. As on Postgres it
//! is told their answers, as long as it takes them; and what may be committed is awaited even if nobody listens, for the
//! books and the trail are to know it.

use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::session::{Progress, Session};

use super::{Driver, TakenIn};

impl Driver {
    /// Awaits what is still owed. Nothing of the client's that wasn't sent yet is sent any more.
    pub(super) async fn see_out(&mut self) {
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
