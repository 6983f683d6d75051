//! The seal: what the database function `cordon.workspace_id()` recomputes. Its text is `EXPIRY.HEX`, where HEX is the
//! HMAC-SHA-256 (RFC 2104) of `WORKSPACE|BACKEND PID|EXPIRY` and EXPIRY is in seconds since the epoch by the *database's* clock.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::domain::limits::SEAL_LIFE;
use crate::domain::{WorkspaceId, digits};

/// Room for what is sealed: a uuid, two numbers and what is between them.
const SEALED_BYTES: usize = 80;

/// A key under which seals are made.
#[derive(Clone)]
pub struct SigningKey {
    id: i32,
    /// What the key makes of HMAC: to make it is half the work of a seal.
    mac: Option<Hmac<Sha256>>,
}

impl SigningKey {
    /// Wraps a row of `cordon.signing_key`.
    pub fn new(id: i32, bytes: Vec<u8>) -> Self {
        // HMAC takes a key of any length.
        Self { id, mac: Hmac::new_from_slice(&Zeroizing::new(bytes)).ok() }
    }

    /// Its number in the database.
    pub const fn id(&self) -> i32 {
        self.id
    }

    /// The lower-case hex HMAC-SHA-256 of `text` under this key.
    pub(super) fn sign(&self, text: &str) -> Option<String> {
        let mut mac = self.mac.clone()?;
        mac.update(text.as_bytes());
        Some(digits::hex_text(mac.finalize().into_bytes().into()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SigningKey(…)")
    }
}

/// The keys that are valid: one, or two while one is replaced by the other.
#[derive(Clone, Debug)]
pub struct SigningKeys {
    newest: SigningKey,
    older: Vec<SigningKey>,
}

impl SigningKeys {
    /// The keys, newest first; none if there are none.
    pub fn new(keys: impl IntoIterator<Item = SigningKey>) -> Option<Self> {
        let mut keys = keys.into_iter();
        Some(Self { newest: keys.next()?, older: keys.collect() })
    }

    /// The key of new seals.
    pub const fn newest(&self) -> &SigningKey {
        &self.newest
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.newest).chain(&self.older)
    }
}

/// A sealed context for one workspace on one backend.
pub struct Seal {
    text: String,
    expires_at: i64,
}

impl Seal {
    /// Seals `workspace` for the backend with process id `pid`, for [`SEAL_LIFE`] from `database_now` (seconds since the
    /// epoch by the database's clock).
    pub fn new(key: &SigningKey, workspace: WorkspaceId, pid: i32, database_now: i64) -> Self {
        let life = i64::try_from(SEAL_LIFE.as_secs()).unwrap_or(0);
        let expires_at = database_now.saturating_add(life);
        let mut digits = itoa::Buffer::new();
        // Each change of workspace makes one: it is put together without a formatter.
        let mut sealed = String::with_capacity(SEALED_BYTES);
        sealed.push_str(workspace.uuid().hyphenated().encode_lower(&mut [0; uuid::fmt::Hyphenated::LENGTH]));
        sealed.push('|');
        sealed.push_str(digits.format(pid));
        sealed.push('|');
        let expiry = digits.format(expires_at);
        sealed.push_str(expiry);
        // Without a key the seal is empty, which the database refuses.
        let text = key.sign(&sealed).map_or_else(String::new, |signed| [expiry, ".", &signed].concat());
        Self { text, expires_at }
    }

    /// The value of `app.workspace_seal`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Seconds since the epoch, by the database's clock, after which the database refuses the seal.
    pub const fn expires_at(&self) -> i64 {
        self.expires_at
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Seal(expires {})", self.expires_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_the_documented_hmac() {
        let key = SigningKey::new(1, vec![7; 32]);
        let workspace: WorkspaceId = "00000000-0000-0000-0000-00000000000a".parse().expect("a uuid");
        let seal = Seal::new(&key, workspace, 42, 1000);
        assert_eq!(seal.expires_at(), 4600);
        let (expiry, hex) = seal.as_str().split_once('.').expect("two parts");
        assert_eq!((expiry, hex.len()), ("4600", 64));
        assert_ne!(seal.as_str(), Seal::new(&key, workspace, 43, 1000).as_str());
    }
}
