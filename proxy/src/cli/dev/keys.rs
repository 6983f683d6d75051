//! The keys that `pgcordon dev` prints. They are remembered beside a kept database, so that the URLs stay the same.

use postgres_protocol::password::scram_sha_256;
use tokio_postgres::Client;
use uuid::Uuid;

use super::memory::{self, Memory, RememberedKey};
use crate::domain::KeyKind;

/// A key to make.
pub(super) struct Wish<'a> {
    /// What it is remembered by, and the beginning of its id.
    pub(super) name: &'a str,
    pub(super) kind: KeyKind,
    pub(super) workspace: Option<Uuid>,
    /// The upstream role, where it isn't the one of the kind.
    pub(super) role: Option<&'a str>,
}

/// Makes a key, or finds the one of this name again. One that was revoked stays revoked.
pub(super) async fn ensure(
    client: &Client,
    memory: &mut Memory,
    wish: &Wish<'_>,
) -> Result<RememberedKey, tokio_postgres::Error> {
    let key = memory.key(wish.name, || (format!("{}_{}", wish.name, short_random()), memory::secret()));
    let verifier = scram_sha_256(key.secret.as_bytes());
    client
        .execute(
            "INSERT INTO cordon.api_key (key_id, workspace_id, kind, role, name, verifier) VALUES ($1, $2, $3, $4, 'pgcordon dev', $5)
             ON CONFLICT (key_id) DO NOTHING",
            &[&key.key_id, &wish.workspace, &wish.kind.as_str(), &wish.role, &verifier],
        )
        .await?;
    Ok(key)
}

/// Ten letters and digits: enough that key ids of different databases differ.
fn short_random() -> String {
    use rand::Rng;
    let mut random = rand::rng();
    (0..10).map(|_| char::from(b"abcdefghjkmnpqrstuvwxyz23456789"[random.random_range(0..31)])).collect()
}
