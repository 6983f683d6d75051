//! Who is connecting: the API key, its verifier, the exchange that proves the secret, and the proof.

pub mod api_key;
pub mod api_key_secret;
pub mod directory;
pub mod exchange;
pub mod settings;
pub mod verifier;

mod scram;

pub use api_key::KeyRecord;
pub use api_key_secret::ApiKeySecret;
pub use directory::Directory;
pub use exchange::{ConfiguredMethod, Exchange, Method, MockSecret, Step};
pub use settings::Settings;
pub use verifier::Verifier;

/// The proof that a peer knows the secret of a key that is neither revoked nor expired. Only a finished exchange of
/// this room makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    key: std::sync::Arc<KeyRecord>,
}

impl Verified {
    pub(in crate::auth) const fn new(key: std::sync::Arc<KeyRecord>) -> Self {
        Self { key }
    }

    /// The key that was proven.
    pub fn key(&self) -> &KeyRecord {
        &self.key
    }
}

/// A proof without an exchange, for the unit tests of the rooms below.
#[cfg(test)]
#[allow(dead_code, reason = "the rooms below use it")]
pub(crate) fn verified_for_tests(key: KeyRecord) -> Verified {
    Verified::new(std::sync::Arc::new(key))
}
