//! The client's side while the session holds no server connection. One cycle is gathered before one is asked for, so that a
//! client that sends half a message keeps nobody waiting; what needs no server is answered here.

use crate::domain::Fault;
use crate::domain::limits::GATHERED_BYTES_MAX;
use crate::wire::frame::HEAD;
use crate::wire::{Frame, author};

use super::{Lanes, Session};

/// What an idle client's bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// No cycle is complete.
    More,
    /// A server connection is needed.
    NeedsServer,
    /// The client said goodbye.
    Ended,
}

impl Session {
    /// Looks at what an idle client sent. Returns how many bytes are dealt with; the rest is for the server.
    ///
    /// # Errors
    /// A message that no client may send: the session ends.
    pub fn on_idle_client(&mut self, input: &[u8], lanes: &mut Lanes) -> Result<(usize, Idle), Fault> {
        let mut at = 0;
        loop {
            at += self.drop_unread(input.len() - at);
            let rest = &input[at..];
            let Some(frame) = Frame::from_client(rest).map_err(|_| invalid_length())? else {
                return Ok((at, Idle::More));
            };
            match frame.tag {
                b'X' => return Ok((at, Idle::Ended)),
                // What is wrong with one that has a body is Postgres' to say.
                b'S' | b'H' if frame.total > HEAD => {
                    return Ok((at, if frame.is_whole(rest) { Idle::NeedsServer } else { Idle::More }));
                }
                b'S' => {
                    author::ready(lanes.client.author(&[]));
                    self.refusing = false;
                    at += frame.total;
                }
                // Postgres ignores copy data outside a copy, and a Flush has nothing to flush.
                b'd' | b'c' | b'f' | b'H' => self.dropping = frame.total,
                b'Q' | b'F' | b'P' | b'B' | b'D' | b'E' | b'C' if self.refusing => self.dropping = frame.total,
                b'Q' | b'F' | b'P' | b'B' | b'D' | b'E' | b'C' => {
                    let next = if holds_a_cycle(rest)? { Idle::NeedsServer } else { Idle::More };
                    return Ok((at, next));
                }
                tag => return Err(invalid_type(tag)),
            }
        }
    }

    /// Refuses the cycle an idle client has begun, without a server. Returns how many bytes are dealt with.
    ///
    /// # Errors
    /// A message that no client may send: the session ends.
    pub fn refuse(&mut self, input: &[u8], fault: &Fault, lanes: &mut Lanes) -> Result<usize, Fault> {
        let Some(frame) = Frame::from_client(input).map_err(|_| invalid_length())? else { return Ok(0) };
        let out = lanes.client.author(&[]);
        author::error(out, author::Severity::Error, fault);
        if matches!(frame.tag, b'Q' | b'F') {
            author::ready(out);
        } else {
            self.refusing = true;
        }
        self.dropping = frame.total;
        Ok(self.drop_unread(input.len()))
    }

    pub(super) fn drop_unread(&mut self, available: usize) -> usize {
        let dropped = self.dropping.min(available);
        self.dropping -= dropped;
        dropped
    }
}

/// Whether `input`, which begins with a message for the server, is worth a server connection.
fn holds_a_cycle(input: &[u8]) -> Result<bool, Fault> {
    if input.len() >= GATHERED_BYTES_MAX {
        return Ok(true);
    }
    let mut at = 0;
    while let Some(frame) = Frame::from_client(&input[at..]).map_err(|_| invalid_length())? {
        if !frame.is_whole(&input[at..]) {
            return Ok(false);
        }
        if matches!(frame.tag, b'Q' | b'F' | b'S' | b'H' | b'X') {
            return Ok(true);
        }
        at += frame.total;
    }
    Ok(false)
}

/// What Postgres says of a length that can't be.
pub(super) fn invalid_length() -> Fault {
    Fault::protocol("invalid message length")
}

/// What Postgres says of a type that can't be.
pub(super) fn invalid_type(tag: u8) -> Fault {
    Fault::protocol(format!("invalid frontend message type {tag}"))
}
