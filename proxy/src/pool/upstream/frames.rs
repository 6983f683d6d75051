//! The server's messages while a connection is being made: few, small, and from a server not yet known to be one.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::{ServerSocket, garbled, unreachable, write};
use crate::domain::Fault;

/// The longest message accepted, in bytes. An ErrorResponse is the longest that an honest server sends here.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// What a server may send in all before its connection is ready, in bytes.
const LOGIN_BYTES_MAX: usize = 1024 * 1024;

/// One message: its type and its body.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) body: Bytes,
}

/// Reads messages off a socket, within bounds.
pub(super) struct Frames<'a> {
    socket: &'a mut ServerSocket,
    buffer: BytesMut,
    allowance: usize,
}

impl<'a> Frames<'a> {
    pub(super) fn new(socket: &'a mut ServerSocket) -> Self {
        Self { socket, buffer: BytesMut::new(), allowance: LOGIN_BYTES_MAX }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        write(self.socket, bytes).await
    }

    /// Whether somebody else than the server's own machine could read what is sent.
    pub(super) fn is_private(&self) -> bool {
        self.socket.is_private()
    }

    pub(super) async fn next(&mut self) -> Result<Frame, Fault> {
        loop {
            if let Some(frame) = self.split()? {
                return Ok(frame);
            }
            let read = self.socket.read_buf(&mut self.buffer).await;
            let read = read.map_err(|error| unreachable(format!("the server broke off: {error}")))?;
            if read == 0 {
                return Err(unreachable("the server closed the connection before it was ready"));
            }
            self.allowance = self.allowance.checked_sub(read).ok_or_else(|| garbled("it never gets ready"))?;
        }
    }

    fn split(&mut self) -> Result<Option<Frame>, Fault> {
        let Some(([kind], rest)) = self.buffer.split_first_chunk::<1>() else { return Ok(None) };
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(i32::from_be_bytes(*length)).ok().and_then(|length| length.checked_sub(4));
        let Some(length) = length.filter(|length| *length <= MESSAGE_BYTES_MAX) else {
            return Err(garbled("a message has an impossible length"));
        };
        if rest.len() < length {
            return Ok(None);
        }
        let kind = *kind;
        self.buffer.advance(5);
        Ok(Some(Frame { kind, body: self.buffer.split_to(length).freeze() }))
    }

    /// Nothing may follow ReadyForQuery: nobody would read it.
    pub(super) fn finish(self) -> Result<(), Fault> {
        if self.buffer.is_empty() { Ok(()) } else { Err(garbled("it sends more than it was asked for")) }
    }
}

/// The text up to the next zero byte, which is taken off `body` with it.
pub(super) fn text(body: &mut Bytes) -> Result<String, Fault> {
    let end = body.iter().position(|byte| *byte == 0).ok_or_else(|| garbled("a text has no end"))?;
    let text = String::from_utf8_lossy(&body[..end]).into_owned();
    body.advance(end + 1);
    Ok(text)
}

/// An integer off the front of `body`.
pub(super) fn int32(body: &mut Bytes) -> Result<i32, Fault> {
    body.try_get_i32().map_err(|_| garbled("a message is too short"))
}

/// ParameterStatus: the name and the value, into the list; a later value takes the place of the earlier.
pub(super) fn parameter(mut body: Bytes, parameters: &mut Vec<(String, String)>) -> Result<(), Fault> {
    let (name, value) = (text(&mut body)?, text(&mut body)?);
    match parameters.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => parameters.push((name, value)),
    }
    Ok(())
}
