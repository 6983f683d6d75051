//! Clearing a server connection: `DISCARD ALL` as a Query of its own, its answer checked to the letter. Behind it Postgres
//! is made to say a word that nobody could have guessed: an answer that a client had smuggled in can't be taken for this one.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::domain::limits::OPENED_MESSAGE_BYTES_MAX;
use crate::wire::frame::HEAD;
use crate::wire::{Frame, inject, open};

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

/// How far the answer has come.
#[derive(Clone, Copy)]
enum Heard {
    Nothing,
    Discarded,
    Ready,
    Word,
}

/// Clears a server connection that is between transactions and owes nothing. `reports` hears what the server reports.
///
/// # Errors
/// Anything but CommandComplete `DISCARD ALL`, the word, and ReadyForQuery `I` behind both.
pub(super) async fn clear<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    mut reports: impl FnMut(&[u8], &[u8]),
) -> Result<(), NotCleared> {
    let word = format!("{:032x}", rand::random::<u128>());
    let mut buffer = BytesMut::with_capacity(256);
    inject::query(&mut buffer, b"DISCARD ALL");
    inject::set_config_locally(&mut buffer, b"pgcordon.cleared", word.as_bytes());
    socket.write_all(&buffer).await?;
    socket.flush().await?;
    buffer.clear();
    let mut heard = Heard::Nothing;
    loop {
        while let Some(frame) = Frame::from_server(&buffer).map_err(|_| NotCleared::Unconfirmed)? {
            if !frame.is_whole(&buffer) {
                break;
            }
            let message = &buffer[..frame.total];
            heard = match (frame.tag, heard) {
                (b'C', Heard::Nothing) if message[HEAD..] == *b"DISCARD ALL\0" => Heard::Discarded,
                (b'Z', Heard::Discarded) if message[HEAD..] == *b"I" => Heard::Ready,
                (b'V', Heard::Ready) if open::function_result(message) == Ok(Some(word.as_bytes())) => Heard::Word,
                (b'Z', Heard::Word) if message[HEAD..] == *b"I" && buffer.len() == frame.total => return Ok(()),
                // What Postgres may say at any time.
                (b'S', heard) => {
                    let (name, value) = open::parameter_status(message).map_err(|_| NotCleared::Unconfirmed)?;
                    reports(name, value);
                    heard
                }
                (b'N' | b'A', heard) => heard,
                _ => return Err(NotCleared::Unconfirmed),
            };
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

    /// Whether an answer is taken for a confirmation; `{word}` in it stands for the FunctionCallResponse with the word.
    async fn told(answer: &'static str) -> bool {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        let server = tokio::spawn(async move {
            let mut question = vec![0; 17];
            theirs.read_exact(&mut question).await.expect("a question");
            assert_eq!(&question[..], b"Q\0\0\0\x10DISCARD ALL\0");
            let mut head = [0; 5];
            theirs.read_exact(&mut head).await.expect("a call");
            let mut call = vec![0; usize::from(head[4]) - 4];
            theirs.read_exact(&mut call).await.expect("a call");
            let at = call.windows(4).position(|each| each == [0, 0, 0, 32]).expect("a word") + 4;
            let word = String::from_utf8_lossy(&call[at..at + 32]).into_owned();
            let answer = answer.replace("{word}", &format!("V\0\0\0\x28\0\0\0\x20{word}"));
            for byte in answer.as_bytes() {
                if theirs.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
        });
        let cleared = clear(&mut ours, |name, value| assert_eq!((name, value), (&b"a"[..], &b"b"[..]))).await.is_ok();
        drop(ours);
        server.await.expect("a server");
        cleared
    }

    #[tokio::test]
    async fn only_the_exact_confirmation_counts() {
        assert!(told("N\0\0\0\x05\0S\0\0\0\x08a\0b\0C\0\0\0\x10DISCARD ALL\0Z\0\0\0\x05I{word}Z\0\0\0\x05I").await);
        assert!(!told("C\0\0\0\x10DISCARD ALL\0Z\0\0\0\x05T{word}Z\0\0\0\x05I").await);
        assert!(!told("C\0\0\0\x10DISCARD ALL\0Z\0\0\0\x05I{word}Z\0\0\0\x05T").await);
        assert!(!told("C\0\0\0\x0aRESET\0Z\0\0\0\x05I{word}Z\0\0\0\x05I").await);
        assert!(!told("Z\0\0\0\x05I").await);
        assert!(!told("E\0\0\0\x05\0Z\0\0\0\x05I").await);
        assert!(!told("C\0\0\0\x10DISCARD ALL\0").await);
    }

    #[tokio::test]
    async fn a_confirmation_that_somebody_could_foresee_doesnt_count() {
        assert!(
            !told(
                "C\0\0\0\x10DISCARD ALL\0Z\0\0\0\x05IV\0\0\0\x28\0\0\0\x2000000000000000000000000000000000Z\0\0\0\x05I"
            )
            .await
        );
        assert!(!told("C\0\0\0\x10DISCARD ALL\0Z\0\0\0\x05IZ\0\0\0\x05I").await);
    }
}
