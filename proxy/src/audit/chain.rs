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

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::row::Row;
use crate::domain::digits;

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
        serializer.serialize_str(std::str::from_utf8(&digits::hex(self.0)).unwrap_or_default())
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
    // Gathered first: the digest takes one run of bytes in less time than fifty small ones.
    let mut fields = Fields(Vec::with_capacity(1024));
    fields.0.extend_from_slice(b"pgcordon audit 1\n");
    fields.text(Some(&row.stream));
    fields.written(|out| digits::decimal(out, row.seq));
    fields.written(|out| digits::decimal(out, row.at_us));
    fields.bytes(row.workspace_id.as_ref().map(|id| &id.as_bytes()[..]));
    fields.text(row.key_id.as_deref());
    fields.text(Some(&row.event_type));
    fields.text(Some(&row.severity));
    fields.text(row.relation.as_deref());
    fields.text(row.resource.as_deref());
    fields.text(row.statement.as_deref());
    fields.number(row.rows);
    fields.text(Some(&row.outcome));
    fields.text(row.sqlstate.as_deref());
    fields.number(row.duration_us);
    match row.client_addr {
        Some(IpAddr::V4(addr)) => fields.bytes(Some(&addr.octets())),
        Some(IpAddr::V6(addr)) => fields.bytes(Some(&addr.octets())),
        None => fields.bytes(None),
    }
    fields.text(row.client_user.as_deref());
    fields.text(row.application_name.as_deref());
    fields.text(row.detail.as_ref().map(ToString::to_string).as_deref());
    fields.bytes(Some(&row.prev_hash.0));
    Hash(Sha256::digest(&fields.0).into())
}

/// What is hashed.
struct Fields(Vec<u8>);

impl Fields {
    fn bytes(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.written(|out| out.extend_from_slice(value)),
            None => self.0.push(0),
        }
    }

    fn text(&mut self, value: Option<&str>) {
        self.bytes(value.map(str::as_bytes));
    }

    fn number(&mut self, value: Option<u64>) {
        match value {
            Some(value) => self.written(|out| digits::decimal(out, value)),
            None => self.0.push(0),
        }
    }

    /// A field whose length is known when it is written.
    fn written(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.0.extend_from_slice(&[1, 0, 0, 0, 0]);
        let start = self.0.len();
        write(&mut self.0);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX).to_be_bytes();
        self.0[start - length.len()..start].copy_from_slice(&length);
    }
}
