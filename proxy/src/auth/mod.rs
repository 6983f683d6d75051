//! Who is connecting: the API key, its verifier, the exchange that proves the secret, and the proof.

pub mod api_key;
pub mod directory;

pub use api_key::KeyRecord;
pub use directory::Directory;

/// The proof that a peer knows the secret of a key that is neither revoked nor expired. Only a finished exchange of
/// this room makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    key: std::sync::Arc<KeyRecord>,
}

impl Verified {
    /// The key that was proven.
    pub fn key(&self) -> &KeyRecord {
        &self.key
    }
}
