//! Clearing a server connection: `DISCARD ALL` as a Query of its own, its answer checked to the letter.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::domain::limits::OPENED_MESSAGE_BYTES_MAX;
use crate::wire::frame::HEAD;
use crate::wire::{Frame, inject};

/// Why a server connection isn't clear. It must be closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotCleared {
    /// The socket is broken.
    #[error("the server connection broke off: {0}")]
    Io(#[from] std::io::Error),
    /// Postgres said something else than that all is discarded.
    #[error("DISCARD ALL wasn't confirmed")]
    Unconfirmed,
}

/// Clears a server connection that is between transactions and owes nothing.
///
/// # Errors
/// Anything but CommandComplete `DISCARD ALL` and ReadyForQuery `I`.
pub(super) async fn clear<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S) -> Result<(), NotCleared> {
    let mut buffer = BytesMut::with_capacity(256);
    inject::query(&mut buffer, b"DISCARD ALL");
    socket.write_all(&buffer).await?;
    socket.flush().await?;
    buffer.clear();
    let mut discarded = false;
    loop {
        while let Some(frame) = Frame::from_server(&buffer).map_err(|_| NotCleared::Unconfirmed)? {
            if !frame.is_whole(&buffer) {
                break;
            }
            let body = &buffer[HEAD..frame.total];
            match frame.tag {
                b'C' if body == b"DISCARD ALL\0" && !discarded => discarded = true,
                b'Z' if body == b"I" && discarded && buffer.len() == frame.total => return Ok(()),
                // What Postgres may say at any time.
                b'S' | b'N' | b'A' => {}
                _ => return Err(NotCleared::Unconfirmed),
            }
            buffer.advance(frame.total);
        }
        if buffer.len() > OPENED_MESSAGE_BYTES_MAX || socket.read_buf(&mut buffer).await? == 0 {
            return Err(NotCleared::Unconfirmed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(answer: &'static [u8]) -> bool {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        let server = tokio::spawn(async move {
            let mut question = [0; 17];
            theirs.read_exact(&mut question).await.expect("a question");
            assert_eq!(&question, b"Q\0\0\0\x10DISCARD ALL\0");
            for byte in answer {
                theirs.write_all(&[*byte]).await.expect("an answer");
            }
        });
        let cleared = clear(&mut ours).await.is_ok();
        server.await.expect("a server");
        cleared
    }

    #[tokio::test]
    async fn only_the_exact_confirmation_counts() {
        assert!(told(b"N\0\0\0\x05\0S\0\0\0\x08a\0b\0C\0\0\0\x10DISCARD ALL\0Z\0\0\0\x05I").await);
        assert!(!told(b"C\0\0\0\x10DISCARD ALL\0Z\0\0\0\x05T").await);
        assert!(!told(b"C\0\0\0\x0aRESET\0Z\0\0\0\x05I").await);
        assert!(!told(b"Z\0\0\0\x05I").await);
        assert!(!told(b"E\0\0\0\x05\0Z\0\0\0\x05I").await);
        assert!(!told(b"C\0\0\0\x10DISCARD ALL\0").await);
    }
}
