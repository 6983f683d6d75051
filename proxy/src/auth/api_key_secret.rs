//! A newly made API key: the only moment at which the proxy's own tools hold a secret.

use std::fmt;

use rand::Rng as _;
use rand::distr::Alphanumeric;
use zeroize::Zeroizing;

use super::Verifier;
use super::verifier::{ITERATIONS, SALT_BYTES};
use crate::domain::KeyId;

/// The letters of a key id behind its prefix: 20 of 36 make 103 bits.
const KEY_ID_LETTERS: usize = 20;
/// The letters of a secret: 43 of 62 make 256 bits.
const SECRET_LETTERS: usize = 43;

/// A fresh key id with its secret and verifier. Both halves need no escaping in a connection URL.
pub struct ApiKeySecret {
    /// The user name of the connection URL: `pk_` and lower-case letters and digits.
    pub key_id: KeyId,
    /// The password of the connection URL. Shown once, stored nowhere.
    pub secret: Zeroizing<String>,
    /// What `cordon.api_key.verifier` stores.
    pub verifier: String,
}

impl ApiKeySecret {
    /// Makes a key out of the operating system's randomness.
    pub fn generate() -> Self {
        let letters: String = letters(KEY_ID_LETTERS, |letter| !letter.is_ascii_uppercase());
        Self::for_key(KeyId::new(format!("pk_{letters}")))
    }

    /// Makes a new secret for a key that exists (`key rotate`).
    pub fn for_key(key_id: KeyId) -> Self {
        let secret = Zeroizing::new(letters(SECRET_LETTERS, |_| true));
        let salt: [u8; SALT_BYTES] = rand::rng().random();
        let verifier = Verifier::derive(&secret, &salt, ITERATIONS).to_string();
        Self { key_id, secret, verifier }
    }
}

impl fmt::Debug for ApiKeySecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ApiKeySecret").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

fn letters(count: usize, wanted: impl Fn(&char) -> bool) -> String {
    rand::rng().sample_iter(Alphanumeric).map(char::from).filter(wanted).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_fits_its_verifier_and_a_url() {
        let key = ApiKeySecret::generate();
        assert!(Verifier::parse(&key.verifier).expect("a verifier").matches(key.secret.as_bytes()));
        assert_eq!((key.key_id.as_str().len(), key.secret.len()), (23, 43));
        assert!(key.secret.chars().all(|letter| letter.is_ascii_alphanumeric()));
        let other = ApiKeySecret::generate();
        assert!(other.key_id != key.key_id && *other.secret != *key.secret);
        assert!(!format!("{key:?}").contains(key.secret.as_str()));
    }
}
