//! The last words to a client, under a bound: one that doesn't listen isn't waited for.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::domain::Fault;
use crate::wire::author;

use super::outlet::Outlet;

/// How long the last words may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends what is still kept and then the fault as a FATAL ErrorResponse, and closes. What the client still sends is read
/// for a moment: closing on unread data would make the system drop the message we just sent.
pub(super) async fn send<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S, outlet: &mut Outlet, fault: &Fault) {
    let mut message = BytesMut::new();
    author::error(&mut message, author::Severity::Fatal, fault);
    send_message(socket, outlet, &message).await;
}

/// The same with an error that is written already.
pub(super) async fn send_message<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    outlet: &mut Outlet,
    message: &[u8],
) {
    let _ = timeout(FAREWELL_TIMEOUT, async {
        std::future::poll_fn(|context| outlet.poll_clear(socket, context)).await?;
        socket.write_all(message).await?;
        socket.flush().await?;
        socket.shutdown().await?;
        let mut ignored = [0; 512];
        while socket.read(&mut ignored).await? > 0 {}
        Ok::<(), std::io::Error>(())
    })
    .await;
}
