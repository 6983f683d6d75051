//! What a record's hash covers.
//!
//! `hash = SHA-256("pgcordon audit 1\n" ‖ field ‖ field ‖ …)`, over the columns of `cordon.audit_event` in their order, `hash` itself
//! left out. A field is the byte 0 when it is NULL; else the byte 1, the length of its value in bytes as four bytes (big endian), and the
//! value: texts as UTF-8, numbers in decimal, `at` in microseconds since 1970, `workspace_id` as its 16 bytes, `client_addr` as its 4 or 16,
//! `detail` as JSON without spaces and with sorted keys, `prev_hash` as its 32 bytes. The first record's `prev_hash` is 32 zero bytes.
//!
//! A chain without a secret shows what was changed, but not to somebody who may have written all of it anew: that is what heads
//! are for, kept where the same person can't write (see [`Head`]).

use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::row::Row;

/// A SHA-256, in hex where it is text.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A text that isn't 64 lower-case hex digits.
#[derive(Debug, thiserror::Error)]
#[error("expected 64 hex digits")]
pub struct NoHash;

impl FromStr for Hash {
    type Err = NoHash;

    fn from_str(text: &str) -> Result<Self, NoHash> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(NoHash);
        }
        let mut hash = [0; 32];
        for (into, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            let [high, low] = pair else { return Err(NoHash) };
            *into = digit(*high).ok_or(NoHash)? << 4 | digit(*low).ok_or(NoHash)?;
        }
        Ok(Self(hash))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        serializer.serialize_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The end of a stream: how many records it has, and the hash of the last. Whoever keeps a copy where the trail's own
/// administrators can't write finds later whether the end was cut off, or all of it written anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The number of the last record; 0 before the first.
    pub seq: u64,
    /// Its hash; zero before the first.
    pub hash: Hash,
}

impl Head {
    /// Numbers and links a record, and moves on.
    pub fn link(&mut self, row: &mut Row) {
        row.seq = self.seq + 1;
        row.prev_hash = self.hash;
        row.hash = hash(row);
        *self = Self { seq: row.seq, hash: row.hash };
    }
}

/// The hash that a record must have.
pub fn hash(row: &Row) -> Hash {
    let mut digest = Sha256::new();
    digest.update(b"pgcordon audit 1\n");
    let mut field = |value: Option<&[u8]>| match value {
        Some(value) => {
            digest.update([1]);
            digest.update(u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
            digest.update(value);
        }
        None => digest.update([0]),
    };
    field(Some(row.stream.as_bytes()));
    field(Some(row.seq.to_string().as_bytes()));
    field(Some(row.at_us.to_string().as_bytes()));
    field(row.workspace_id.as_ref().map(|id| &id.as_bytes()[..]));
    field(bytes(row.key_id.as_ref()));
    field(Some(row.event_type.as_bytes()));
    field(Some(row.severity.as_bytes()));
    field(bytes(row.relation.as_ref()));
    field(bytes(row.resource.as_ref()));
    field(bytes(row.statement.as_ref()));
    field(row.rows.map(|rows| rows.to_string()).as_deref().map(str::as_bytes));
    field(Some(row.outcome.as_bytes()));
    field(bytes(row.sqlstate.as_ref()));
    field(row.duration_us.map(|micros| micros.to_string()).as_deref().map(str::as_bytes));
    match row.client_addr {
        Some(IpAddr::V4(addr)) => field(Some(&addr.octets())),
        Some(IpAddr::V6(addr)) => field(Some(&addr.octets())),
        None => field(None),
    }
    field(bytes(row.client_user.as_ref()));
    field(bytes(row.application_name.as_ref()));
    field(row.detail.as_ref().map(ToString::to_string).as_deref().map(str::as_bytes));
    field(Some(&row.prev_hash.0));
    Hash(digest.finalize().into())
}

fn bytes(text: Option<&Arc<str>>) -> Option<&[u8]> {
    text.map(|text| text.as_bytes())
}
