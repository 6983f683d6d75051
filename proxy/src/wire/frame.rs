//! Framing: where one message ends. A body is never copied here, and a length is checked before anything is computed
//! from it.

use crate::domain::limits::MESSAGE_BYTES_MAX;

/// Bytes of a message's head: its type and its length word.
pub const HEAD: usize = 5;

/// The most that Postgres accepts for messages that are short by nature (PQ_SMALL_MESSAGE_LIMIT).
const SMALL_MESSAGE_BYTES_MAX: usize = 10_000;

/// The head of one message: its type, and how many bytes it takes as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The type byte.
    pub tag: u8,
    /// Bytes of the whole message: type, length word and body.
    pub total: usize,
}

/// A length word that no message of its type can have. The stream has lost its framing: there is no way on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid message length")]
pub struct Malformed;

impl Frame {
    /// The head of a message from a client; `None` while fewer than five bytes are there.
    ///
    /// # Errors
    /// A length that Postgres refuses for this type.
    pub fn from_client(input: &[u8]) -> Result<Option<Self>, Malformed> {
        let Some(frame) = Self::read(input)? else { return Ok(None) };
        let most = match frame.tag {
            b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' => SMALL_MESSAGE_BYTES_MAX,
            _ => MESSAGE_BYTES_MAX,
        };
        if frame.total - 1 > most { Err(Malformed) } else { Ok(Some(frame)) }
    }

    /// The head of a message from a server, which is no more trusted than a client's.
    ///
    /// # Errors
    /// A length that no message has.
    pub fn from_server(input: &[u8]) -> Result<Option<Self>, Malformed> {
        Self::read(input)
    }

    /// Whether the whole message is in `input`, which begins with it.
    pub const fn is_whole(self, input: &[u8]) -> bool {
        input.len() >= self.total
    }

    fn read(input: &[u8]) -> Result<Option<Self>, Malformed> {
        let Some((head, _)) = input.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(Malformed);
        }
        Ok(Some(Self { tag: head[0], total: length + 1 }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_in_two_reads_is_awaited() {
        assert_eq!(Frame::from_client(b"Q\0\0\0"), Ok(None));
        assert_eq!(Frame::from_client(b"Q\0\0\0\x05\0"), Ok(Some(Frame { tag: b'Q', total: 6 })));
    }

    #[test]
    fn lengths_of_zero_negative_and_huge_are_malformed() {
        for length in [0_u32, 3, 0x4000_0000, u32::MAX, 1 << 31] {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            assert_eq!(Frame::from_client(&bytes), Err(Malformed), "{length}");
            assert_eq!(Frame::from_server(&bytes), Err(Malformed), "{length}");
        }
    }

    #[test]
    fn a_short_message_may_not_be_long() {
        assert_eq!(Frame::from_client(b"S\0\x10\0\0"), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_stream_cut_anywhere_gives_the_same_frames(
            bodies in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 1..8),
            cut in 0_usize..64,
        ) {
            let mut stream = Vec::new();
            for (tag, body) in &bodies {
                stream.push(*tag);
                stream.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
                stream.extend(body);
            }
            let mut at = 0;
            for (tag, body) in &bodies {
                let rest = &stream[at..];
                let seen = &rest[..rest.len().min(cut)];
                match Frame::from_server(seen) {
                    Ok(Some(frame)) => {
                        prop_assert_eq!((frame.tag, frame.total), (*tag, body.len() + HEAD));
                        prop_assert_eq!(frame.is_whole(seen), seen.len() >= frame.total);
                    }
                    Ok(None) => prop_assert!(seen.len() < HEAD),
                    Err(_) => prop_assert!(false),
                }
                at += body.len() + HEAD;
            }
            prop_assert_eq!(at, stream.len());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            let _ = Frame::from_client(&bytes);
            let _ = Frame::from_server(&bytes);
        }
    }
}
