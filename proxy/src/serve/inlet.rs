//! Reading: one buffer serves all connections of a core. What of it can't be dealt with at once is kept by its connection,
//! so an idle one holds no buffer.

use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use crate::domain::limits::READ_BYTES;

/// The buffer a core reads into.
pub(super) struct Scratch(Box<[u8]>);

impl Default for Scratch {
    fn default() -> Self {
        Self(vec![0; READ_BYTES].into_boxed_slice())
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Scratch {
    /// Reads once. Zero bytes are the end of the stream.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(&mut self.0);
        ready!(Pin::new(socket).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

/// What one side sent and wasn't dealt with.
#[derive(Default)]
pub(super) struct Inlet {
    kept: BytesMut,
}

impl Inlet {
    /// Everything there is to deal with: what was kept, and behind it what was just read.
    pub(super) fn input<'a>(&'a mut self, fresh: &'a [u8]) -> &'a [u8] {
        if self.kept.is_empty() {
            return fresh;
        }
        self.kept.extend_from_slice(fresh);
        &self.kept
    }

    /// Takes `taken` bytes off what [`Inlet::input`] gave for the same `fresh`, and keeps the rest.
    pub(super) fn taken(&mut self, taken: usize, fresh: &[u8]) {
        if self.kept.is_empty() {
            self.kept.extend_from_slice(&fresh[taken..]);
        } else {
            self.kept.advance(taken);
        }
        if self.kept.is_empty() && self.kept.capacity() > 0 {
            self.kept = BytesMut::new();
        }
    }

    /// How many bytes are kept.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_while_all_is_taken() {
        let mut inlet = Inlet::default();
        assert_eq!(inlet.input(b"abc"), b"abc");
        inlet.taken(3, b"abc");
        assert_eq!((inlet.len(), inlet.kept.capacity()), (0, 0));
    }

    #[test]
    fn the_rest_of_one_read_stands_in_front_of_the_next() {
        let mut inlet = Inlet::default();
        inlet.input(b"abc");
        inlet.taken(1, b"abc");
        assert_eq!(inlet.input(b"de"), b"bcde");
        inlet.taken(4, b"de");
        assert!(inlet.is_empty());
    }
}
