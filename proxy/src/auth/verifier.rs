//! The SCRAM verifier: what is stored of a secret, in Postgres' own notation (`pg_authid.rolpassword`), and the few
//! functions of RFC 5802 that it takes to make one and to check a plain secret against one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::digest::generic_array::GenericArray;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The iteration count of new verifiers, as Postgres' own (`scram_iterations`).
pub const ITERATIONS: u32 = 4096;

/// A stored verifier that asks for more iterations than this is refused: it would occupy a core for seconds.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// The length of a salt we make, in bytes (Postgres: SCRAM_DEFAULT_SALT_LEN).
pub const SALT_BYTES: usize = 16;

pub(super) type Digest32 = [u8; 32];

/// `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`, taken apart.
#[derive(Clone)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Digest32,
    server_key: Digest32,
}

/// A stored verifier that isn't one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SCRAM-SHA-256 verifier")]
pub struct MalformedVerifier;

impl Verifier {
    /// Derives the verifier of a secret. Takes about a millisecond for [`ITERATIONS`].
    pub fn derive(secret: &str, salt: &[u8], iterations: u32) -> Self {
        let salted = salted_password(secret.as_bytes(), salt, iterations);
        let client_key = hmac(&*salted, &[b"Client Key"]);
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: sha256(&client_key),
            server_key: hmac(&*salted, &[b"Server Key"]),
        }
    }

    /// A verifier that no secret fits, for users that don't exist.
    pub(super) fn mock(salt: &[u8], stored_key: Digest32, server_key: Digest32) -> Self {
        Self { iterations: ITERATIONS, salt: salt.to_vec(), stored_key, server_key }
    }

    /// Reads the text that Postgres and `cordon.api_key` store.
    pub fn parse(text: &str) -> Result<Self, MalformedVerifier> {
        let parts = text.strip_prefix("SCRAM-SHA-256$").and_then(|rest| {
            let (head, keys) = rest.split_once('$')?;
            let (iterations, salt) = head.split_once(':')?;
            let (stored, server) = keys.split_once(':')?;
            Some((iterations.parse::<u32>().ok()?, STANDARD.decode(salt).ok()?, key(stored)?, key(server)?))
        });
        match parts {
            Some((iterations @ 1..=ITERATIONS_MAX, salt, stored_key, server_key)) if !salt.is_empty() => {
                Ok(Self { iterations, salt, stored_key, server_key })
            }
            _ => Err(MalformedVerifier),
        }
    }

    /// How many rounds the client must do.
    pub const fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The salt the client must use.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub(super) const fn stored_key(&self) -> &Digest32 {
        &self.stored_key
    }

    pub(super) const fn server_key(&self) -> &Digest32 {
        &self.server_key
    }

    /// Whether both are verifiers of one secret, made at once.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.salt == other.salt && self.stored_key.ct_eq(&other.stored_key).into()
    }

    /// Whether this is the verifier of `secret`. Takes about a millisecond for [`ITERATIONS`], whatever the answer.
    pub fn matches(&self, secret: &[u8]) -> bool {
        let salted = salted_password(secret, &self.salt, self.iterations);
        let stored = sha256(&hmac(&*salted, &[b"Client Key"]));
        stored.ct_eq(&self.stored_key).into()
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key),
        )
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Verifier({} iterations)", self.iterations)
    }
}

fn key(text: &str) -> Option<Digest32> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

pub(super) fn sha256(bytes: &[u8]) -> Digest32 {
    Sha256::digest(bytes).into()
}

pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> Digest32 {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// RFC 2104 pads a short key with zeros and hashes a long one; doing so here makes the constructor infallible.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0_u8; 64]);
    if key.len() > block.len() {
        block[..32].copy_from_slice(&sha256(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    <Hmac<Sha256> as Mac>::new(GenericArray::from_slice(&*block))
}

/// `Hi(password, salt, iterations)` of RFC 5802: PBKDF2 with one block.
fn salted_password(secret: &[u8], salt: &[u8], iterations: u32) -> Zeroizing<Digest32> {
    let mac = keyed(secret);
    let round = |parts: &[&[u8]]| -> Digest32 {
        let mut mac = mac.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    };
    let mut last = round(&[salt, &1_u32.to_be_bytes()]);
    let mut sum = Zeroizing::new(last);
    for _ in 1..iterations {
        last = round(&[&last]);
        sum.iter_mut().zip(last).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_reads_what_it_writes() {
        let verifier = Verifier::derive("pencil", &[9; SALT_BYTES], ITERATIONS);
        let again = Verifier::parse(&verifier.to_string()).expect("our own text");
        assert_eq!(again.to_string(), verifier.to_string());
        assert!(again.matches(b"pencil"));
        assert!(!again.matches(b"pencil ") && !again.matches(b"") && !again.matches(&[b'x'; 5000]));
    }

    #[test]
    fn postgres_own_verifier_is_understood() {
        let text = postgres_protocol::password::scram_sha_256(b"secret");
        let verifier = Verifier::parse(&text).expect("Postgres' notation");
        assert!(verifier.matches(b"secret") && !verifier.matches(b"Secret"));
    }

    #[test]
    fn what_is_no_verifier_is_refused() {
        let good = Verifier::derive("x", b"salt", 1).to_string();
        assert!(Verifier::parse(&good).is_ok());
        for bad in [
            "",
            "md5abc",
            "SCRAM-SHA-256$",
            "SCRAM-SHA-256$4096:c2FsdA==",
            "SCRAM-SHA-256$4096:c2FsdA==$YQ==:YQ==",
            &good.replace("$1:", "$0:"),
            &good.replace("$1:", "$-1:"),
            &good.replace("$1:", "$99999999:"),
            &good.replace("c2FsdA==", ""),
            &good.replace("c2FsdA==", "*"),
            &good.to_lowercase(),
        ] {
            assert!(Verifier::parse(bad).is_err(), "{bad}");
        }
    }
}
