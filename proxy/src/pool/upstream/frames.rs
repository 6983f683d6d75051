//! The server's messages while a connection is being made: few, small, and from a server not yet known to be one.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
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

/// The answer to a simple Query: the bodies of its DataRows, and SQLSTATE and message of an error.
pub(super) struct Answer {
    pub(super) rows: Vec<Bytes>,
    pub(super) error: Option<(String, String)>,
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

    /// What binds an authentication to this connection, if it is encrypted.
    pub(super) fn channel_binding(&self) -> Option<Arc<[u8]>> {
        self.socket.channel_binding()
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

    /// Runs a simple Query outside a transaction.
    pub(super) async fn ask(&mut self, sql: &str, parameters: &mut Vec<(String, String)>) -> Result<Answer, Fault> {
        self.send(&query(sql)).await?;
        let mut answer = Answer { rows: Vec::new(), error: None };
        loop {
            let frame = self.next().await?;
            match frame.kind {
                b'D' => answer.rows.push(frame.body),
                b'S' => parameter(frame.body, parameters)?,
                b'E' => answer.error = Some(error_fields(&frame.body)),
                b'T' | b'C' | b'N' => {}
                b'Z' if frame.body.as_ref() == b"I" => return Ok(answer),
                _ => return Err(garbled("an unexpected message in answer to a query")),
            }
        }
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

/// SQLSTATE and message of an ErrorResponse; every field is optional.
pub(super) fn error_fields(body: &Bytes) -> (String, String) {
    let field = |wanted: u8| {
        let mut rest = body.clone();
        while let [kind, ..] = rest[..] {
            rest = rest.slice(1..);
            match text(&mut rest) {
                Ok(value) if kind == wanted => return Some(value),
                Ok(_) if kind != 0 => {}
                _ => break,
            }
        }
        None
    };
    (field(b'C').unwrap_or_else(|| "no SQLSTATE".to_owned()), field(b'M').unwrap_or_else(|| "no message".to_owned()))
}

/// A simple Query.
fn query(sql: &str) -> Bytes {
    let mut message = BytesMut::with_capacity(sql.len() + 6);
    message.put_u8(b'Q');
    message.put_u32(u32::try_from(sql.len() + 5).unwrap_or(u32::MAX));
    message.put_slice(sql.as_bytes());
    message.put_u8(0);
    message.freeze()
}
