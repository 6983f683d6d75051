//! Ending a server connection on which something may run. Closing the socket isn't enough: Postgres notices it when the statement
//! is over. So the socket stays open until the server closes it, which is when its process is gone.

use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Pool;
use crate::domain::clock;
use crate::domain::limits::{END_BUSY_AFTER, END_TERMINATE_AFTER, END_TERMINATE_EVERY};
use crate::pool::lease::Backend;
use crate::pool::roster::BackendId;
use crate::pool::signals::Terminated;
use crate::pool::upstream::{ServerConnection, ServerSocket};
use crate::wire::inject;

impl Pool {
    /// Ends a connection, and tells the roster when its process is gone.
    pub(super) fn end(self: Rc<Self>, id: BackendId, backend: Option<Box<Backend>>) {
        tokio::task::spawn_local(async move {
            if let Some(mut backend) = backend {
                self.see_off(&mut backend.connection).await;
            }
            let errands = self.shared.tell(|inner| inner.roster.ended(id, clock::now()));
            self.run(errands);
        });
    }

    /// First it is asked to go, then what runs is cancelled, then the process is terminated. A statement in a function that catches
    /// the cancel is ended by the last; one that Postgres never interrupts (within libxml2, say) by nothing.
    async fn see_off(&self, connection: &mut ServerConnection) {
        say_goodbye(&mut connection.socket).await;
        if timeout(END_BUSY_AFTER, hung_up(&mut connection.socket)).await.is_ok() {
            return;
        }
        let pid = connection.pid;
        let cancelled = async {
            if let Err(failure) = self.shared.upstream.cancel(pid, &connection.secret).await {
                tracing::debug!(pid, fault = %failure.fault(), "a cancel request didn't reach Postgres");
            }
            std::future::pending::<()>().await;
        };
        let gone = async {
            tokio::select! {
                () = hung_up(&mut connection.socket) => {}
                () = cancelled => {}
            }
        };
        if timeout(END_TERMINATE_AFTER, gone).await.is_ok() {
            return;
        }
        let mut told = false;
        loop {
            match self.shared.signals.terminate(pid, &self.shared.role).await {
                Terminated::Gone => return,
                Terminated::Signalled => {}
                Terminated::NotAllowed if !told => {
                    tracing::warn!(
                        pid,
                        "a server process goes on, and the control role may not terminate it: pgcordon migrate"
                    );
                }
                Terminated::NotAllowed | Terminated::Unknown => {}
            }
            if timeout(END_TERMINATE_EVERY, hung_up(&mut connection.socket)).await.is_ok() {
                return;
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(pid, "a server process can't be ended; it keeps its place in the pool until it is gone");
            }
        }
    }
}

/// Says goodbye to a connection on which nothing runs.
pub(super) async fn close(mut backend: Box<Backend>) {
    say_goodbye(&mut backend.connection.socket).await;
}

/// Without waiting for long.
async fn say_goodbye(socket: &mut ServerSocket) {
    let mut goodbye = BytesMut::new();
    inject::bare(&mut goodbye, b'X');
    let _ = timeout(Duration::from_millis(100), socket.write_all(&goodbye)).await;
}

/// Reads, and drops what it reads, until the server has closed the connection.
async fn hung_up(socket: &mut ServerSocket) {
    let mut dropped = vec![0; 4096];
    while socket.read(&mut dropped).await.is_ok_and(|read| read > 0) {}
}
