//! The keys that `pgcordon dev` prints. They are remembered beside a kept database, so that the URLs stay the same.

use tokio_postgres::Client;
use uuid::Uuid;

use super::memory::{Memory, RememberedKey};
use crate::auth::ApiKeySecret;
use crate::domain::KeyKind;

/// A key to make.
pub(super) struct Wish<'a> {
    /// What it is remembered by.
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
    let known = "SELECT FROM cordon.api_key WHERE key_id = $1";
    if let Some(key) = memory.key(wish.name)
        && client.query_opt(known, &[&key.key_id]).await?.is_some()
    {
        return Ok(key);
    }
    let made = ApiKeySecret::generate();
    client
        .execute(
            "INSERT INTO cordon.api_key (key_id, workspace_id, kind, role, name, verifier)
             VALUES ($1, $2, $3, $4, 'pgcordon dev', $5)",
            &[&made.key_id.as_str(), &wish.workspace, &wish.kind.as_str(), &wish.role, &made.verifier],
        )
        .await?;
    let key = RememberedKey {
        name: wish.name.to_owned(),
        key_id: made.key_id.as_str().to_owned(),
        secret: made.secret.to_string(),
    };
    memory.remember(key.clone());
    Ok(key)
}
