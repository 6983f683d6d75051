//! Writing to a socket without waiting for it: what it doesn't take at once is kept, and nothing more is read from the
//! other side until it is gone. So memory is bounded by one read, and neither direction can block the other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

/// What one socket hasn't taken yet.
#[derive(Default)]
pub(super) struct Outlet {
    kept: BytesMut,
    unflushed: bool,
}

impl Outlet {
    /// Whether everything was taken.
    pub(super) fn is_clear(&self) -> bool {
        self.kept.is_empty() && !self.unflushed
    }

    /// Keeps `bytes` behind what is kept already: they go out with what comes next.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// Sends `bytes` behind what is kept already, as far as the socket takes it now.
    ///
    /// # Errors
    /// The socket is closed or broken.
    pub(super) fn send<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        mut bytes: &[u8],
        context: &mut Context<'_>,
    ) -> io::Result<()> {
        if !self.kept.is_empty() {
            self.kept.extend_from_slice(bytes);
            return match self.poll_clear(socket, context) {
                Poll::Ready(sent) => sent,
                Poll::Pending => Ok(()),
            };
        }
        while !bytes.is_empty() {
            match Pin::new(&mut *socket).poll_write(context, bytes) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => bytes = &bytes[written..],
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.kept.extend_from_slice(bytes);
                    break;
                }
            }
        }
        self.flush(socket, context)
    }

    /// Sends what is kept. Ready when all is taken.
    ///
    /// # Errors
    /// The socket is closed or broken.
    pub(super) fn poll_clear<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            match Pin::new(&mut *socket).poll_write(context, &self.kept) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.kept.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.kept = BytesMut::new();
        match self.flush(socket, context) {
            Ok(()) if self.unflushed => Poll::Pending,
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Encrypted sockets hold back what they have encrypted; on plain ones this costs nothing.
    fn flush<S: AsyncWrite + Unpin>(&mut self, socket: &mut S, context: &mut Context<'_>) -> io::Result<()> {
        match Pin::new(socket).poll_flush(context) {
            Poll::Ready(result) => {
                self.unflushed = false;
                result
            }
            Poll::Pending => {
                self.unflushed = true;
                Ok(())
            }
        }
    }
}
