//! What goes out to one peer in one write: runs of the read buffer that pass untouched, and messages we author.
//!
//! As long as nothing is authored, the bytes to send are a run of the input, and nothing is copied.

use std::ops::Range;

use bytes::BytesMut;

/// Collects what goes to one peer.
#[derive(Debug, Default)]
pub struct Outbound {
    run: Range<usize>,
    authored: BytesMut,
}

impl Outbound {
    /// Passes `range` of `input` on. All calls between two `clear`s are about the same input.
    pub fn relay(&mut self, input: &[u8], range: Range<usize>) {
        if !self.authored.is_empty() {
            self.authored.extend_from_slice(&input[range]);
        } else if self.run.is_empty() {
            self.run = range;
        } else if self.run.end == range.start {
            self.run.end = range.end;
        } else {
            self.settle(input);
            self.authored.extend_from_slice(&input[range]);
        }
    }

    /// The buffer to author into, behind everything that is there already.
    pub fn author(&mut self, input: &[u8]) -> &mut BytesMut {
        self.settle(input);
        &mut self.authored
    }

    /// What is to be sent, in order.
    pub fn bytes<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        if self.run.is_empty() { &self.authored } else { &input[self.run.clone()] }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.run.is_empty() && self.authored.is_empty()
    }

    /// Forgets everything and keeps the memory, up to a bound.
    pub fn clear(&mut self) {
        self.run = 0..0;
        self.authored.clear();
        if self.authored.capacity() > 4 * crate::domain::limits::READ_BYTES {
            self.authored = BytesMut::new();
        }
    }

    fn settle(&mut self, input: &[u8]) {
        let run = std::mem::take(&mut self.run);
        if !run.is_empty() {
            self.authored.extend_from_slice(&input[run]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_runs_are_one_run_of_the_input() {
        let mut out = Outbound::default();
        out.relay(b"abcdef", 1..3);
        out.relay(b"abcdef", 3..5);
        assert_eq!(out.bytes(b"abcdef"), b"bcde");
        assert!(out.authored.is_empty());
    }

    #[test]
    fn order_is_kept_between_runs_and_authored_messages() {
        let mut out = Outbound::default();
        out.relay(b"abcdef", 0..1);
        out.author(b"abcdef").extend_from_slice(b"--");
        out.relay(b"abcdef", 4..6);
        assert_eq!(out.bytes(b"abcdef"), b"a--ef");
        out.clear();
        out.relay(b"abcdef", 0..1);
        out.relay(b"abcdef", 2..3);
        assert_eq!(out.bytes(b"abcdef"), b"ac");
    }
}
