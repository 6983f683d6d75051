//! A session that may fall silent: it reads for as long as anything comes and keeps every byte.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use pgcordon_tests::wire::{Message, Wire, frame, query, sync};

/// How long silence is waited for where an answer is due.
const PATIENCE: Duration = Duration::from_secs(4);
/// The same where somebody else may have to move first.
const GLANCE: Duration = Duration::from_millis(250);

/// What reading brought.
pub(crate) enum Heard {
    Message(Message),
    Silence,
    End,
}

/// A session, and how far what it received has been read.
pub(crate) struct Line {
    pub(crate) wire: Wire,
    at: usize,
    over: bool,
}

impl Line {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { at: wire.received.len(), wire, over: false }
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.over
    }

    /// The next message.
    pub(crate) fn next(&mut self, patience: Duration) -> Heard {
        loop {
            let unread = &self.wire.received[self.at..];
            if let Some(head) = unread.first_chunk::<5>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if let Some(body) = unread.get(5..length.saturating_add(1)) {
                    let message = Message { tag: head[0], body: body.to_vec() };
                    self.at += length + 1;
                    return Heard::Message(message);
                }
            }
            let mut buffer = [0; 16_384];
            self.wire.stream().set_read_timeout(Some(patience)).unwrap();
            match self.wire.stream().read(&mut buffer) {
                Ok(read @ 1..) => self.wire.received.extend_from_slice(&buffer[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Heard::Silence;
                }
                _ => {
                    self.over = true;
                    return Heard::End;
                }
            }
        }
    }

    /// Reads up to the `count`th ReadyForQuery, and returns the transcript with what was missing at its end.
    pub(crate) fn cycles(&mut self, count: usize, at_a_glance: bool) -> (String, usize) {
        let (mut words, mut left) = (Vec::new(), count);
        while left > 0 {
            match self.next(if at_a_glance { GLANCE } else { PATIENCE }) {
                Heard::Message(message) => {
                    left -= usize::from(message.tag == b'Z');
                    // Postgres waits for a copy that nobody meant.
                    if message.tag == b'G' {
                        self.wire.send(&[frame(b'f', b"no\0"), sync()].concat());
                        left += 1;
                    }
                    words.push(message.word());
                }
                Heard::Silence => {
                    words.push("silence".to_owned());
                    break;
                }
                Heard::End => {
                    words.push("EOF".to_owned());
                    break;
                }
            }
        }
        (words.join(" "), left)
    }

    /// Reads whatever comes, up to the answer to a last word.
    pub(crate) fn exhaust(&mut self) {
        // A syntax error is one in a failed transaction too.
        self.wire.send(&[sync(), query("enough")].concat());
        loop {
            match self.next(PATIENCE) {
                Heard::Message(message) if message.field(b'M').is_some_and(|text| text.contains("\"enough\"")) => break,
                Heard::Message(message) if message.tag == b'G' => self.wire.send(&frame(b'f', b"no\0")),
                Heard::Message(_) => {}
                Heard::Silence | Heard::End => {
                    self.wire.hang_up();
                    self.over = true;
                    return;
                }
            }
        }
        self.cycles(1, false);
    }

    /// Every message since a place in what was received.
    pub(crate) fn messages(received: &[u8], from: usize) -> Vec<Message> {
        let (mut rest, mut all) = (&received[from.min(received.len())..], Vec::new());
        while let Some(head) = rest.first_chunk::<5>() {
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let Some(body) = rest.get(5..length.saturating_add(1)) else { break };
            all.push(Message { tag: head[0], body: body.to_vec() });
            rest = &rest[length + 1..];
        }
        all
    }
}
