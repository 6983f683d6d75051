//! API keys, as an operator makes and changes them. Each change is on the trail, or it isn't made.

use std::sync::Arc;

use serde_json::json;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::{StoreError, missing};
use crate::audit::{self, Event, EventType};
use crate::auth::ApiKeySecret;
use crate::control::audit_sink;
use crate::domain::{KeyId, KeyKind, WorkspaceId};
use crate::sql::Rules;

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    /// Its workspace; none for a system key.
    pub workspace: Option<WorkspaceId>,
    /// Its kind.
    pub kind: KeyKind,
    /// The upstream role, if not the kind's own.
    pub role: Option<&'a str>,
    /// What people call it.
    pub name: Option<&'a str>,
    /// Seconds from now until it expires.
    pub expires_in: Option<i64>,
    /// The rules of the guard that its texts may break.
    pub allow: Rules,
}

/// Stores a key's verifier. The secret stays with the caller.
///
/// # Errors
/// Postgres refuses.
pub async fn create_key(
    client: &mut Client,
    new: &NewKey<'_>,
    secret: &ApiKeySecret,
    by: &Arc<audit::Client>,
) -> Result<Option<String>, StoreError> {
    let expires_in = new.expires_in.map(|seconds| seconds as f64);
    let creation = client.transaction().await?;
    let row = creation
        .query_one(
            "INSERT INTO cordon.api_key (key_id, workspace_id, kind, role, name, verifier, expires_at, allow) \
             VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7), $8) \
             RETURNING to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
            &[
                &secret.key_id.as_str(),
                &new.workspace.map(WorkspaceId::uuid),
                &new.kind.as_str(),
                &new.role,
                &new.name,
                &secret.verifier,
                &expires_in,
                &new.allow.names(),
            ],
        )
        .await
        .map_err(missing)?;
    let expires_at: Option<String> = row.get(0);
    let detail = json!({ "kind": new.kind.as_str(), "role": new.role, "name": new.name, "expires_at": expires_at, "allow": new.allow.names() });
    let event = of_key(EventType::ApiKeyCreated, secret.key_id.clone(), new.workspace, by);
    audit_sink::record(&creation, Event { detail: Some(detail), ..event }).await?;
    creation.commit().await?;
    Ok(expires_at)
}

fn of_key(kind: EventType, key_id: KeyId, workspace: Option<WorkspaceId>, by: &Arc<audit::Client>) -> Event {
    Event { key_id: Some(key_id), workspace, ..Event::new(kind, by.clone()) }
}

/// One key as an operator sees it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ListedKey {
    /// The public half.
    pub key_id: String,
    /// Its workspace's name.
    pub workspace: Option<String>,
    /// Its kind.
    pub kind: String,
    /// What people call it.
    pub name: Option<String>,
    /// The rules of the guard that its texts may break.
    pub allow: Vec<String>,
    /// When it was made.
    pub created_at: String,
    /// When it expires.
    pub expires_at: Option<String>,
    /// When it was revoked.
    pub revoked_at: Option<String>,
}

/// The keys of one workspace, or all.
///
/// # Errors
/// Postgres refuses.
pub async fn keys(client: &Client, workspace: Option<WorkspaceId>) -> Result<Vec<ListedKey>, StoreError> {
    let rows = client
        .query(
            "SELECT k.key_id, w.name AS workspace, k.kind, k.name, k.allow, k.created_at::text, k.expires_at::text, k.revoked_at::text \
             FROM cordon.api_key k LEFT JOIN cordon.workspace w ON w.id = k.workspace_id \
             WHERE $1::uuid IS NULL OR k.workspace_id = $1 ORDER BY k.created_at, k.key_id",
            &[&workspace.map(WorkspaceId::uuid)],
        )
        .await
        .map_err(missing)?;
    Ok(rows
        .iter()
        .map(|row| ListedKey {
            key_id: row.get("key_id"),
            workspace: row.get("workspace"),
            kind: row.get("kind"),
            name: row.get("name"),
            allow: row.get("allow"),
            created_at: row.get("created_at"),
            expires_at: row.get("expires_at"),
            revoked_at: row.get("revoked_at"),
        })
        .collect())
}

/// Gives a key another secret.
///
/// # Errors
/// There is none, it was revoked, or Postgres refuses.
pub async fn rotate_key(client: &mut Client, secret: &ApiKeySecret, by: &Arc<audit::Client>) -> Result<(), StoreError> {
    let key_id = secret.key_id.as_str();
    let change = client.transaction().await?;
    let changed = change
        .query_opt(
            "UPDATE cordon.api_key SET verifier = $2 WHERE key_id = $1 AND revoked_at IS NULL RETURNING workspace_id",
            &[&key_id, &secret.verifier],
        )
        .await
        .map_err(missing)?;
    let Some(changed) = changed else { return Err(not_there(&change, key_id).await?) };
    let workspace = changed.get::<_, Option<Uuid>>(0).map(WorkspaceId::new);
    audit_sink::record(&change, of_key(EventType::ApiKeyRotated, secret.key_id.clone(), workspace, by)).await?;
    Ok(change.commit().await?)
}

/// Says which rules of the guard a key's texts may break; its open sessions hold to that with their next statement.
///
/// # Errors
/// There is none, it was revoked, or Postgres refuses.
pub async fn allow_key(
    client: &mut Client,
    key_id: &str,
    allow: Rules,
    by: &Arc<audit::Client>,
) -> Result<(), StoreError> {
    let change = client.transaction().await?;
    let changed = change
        .query_opt(
            "UPDATE cordon.api_key SET allow = $2 WHERE key_id = $1 AND revoked_at IS NULL RETURNING workspace_id",
            &[&key_id, &allow.names()],
        )
        .await
        .map_err(missing)?;
    let Some(changed) = changed else { return Err(not_there(&change, key_id).await?) };
    let workspace = changed.get::<_, Option<Uuid>>(0).map(WorkspaceId::new);
    let event = of_key(EventType::ApiKeyChanged, KeyId::new(key_id), workspace, by);
    audit_sink::record(&change, Event { detail: Some(json!({ "allow": allow.names() })), ..event }).await?;
    Ok(change.commit().await?)
}

/// Why a key that is in use can't be found.
async fn not_there(change: &Transaction<'_>, key_id: &str) -> Result<StoreError, StoreError> {
    let revoked = change.query_opt("SELECT FROM cordon.api_key WHERE key_id = $1", &[&key_id]).await?.is_some();
    let error = if revoked { StoreError::RevokedKey } else { StoreError::UnknownKey };
    Ok(error(key_id.to_owned()))
}

/// Revokes a key, once and for all. Whether it was good until now.
///
/// # Errors
/// There is none, or Postgres refuses.
pub async fn revoke_key(client: &mut Client, key_id: &str, by: &Arc<audit::Client>) -> Result<bool, StoreError> {
    let change = client.transaction().await?;
    let known = change
        .query_opt(
            "SELECT revoked_at IS NULL, workspace_id FROM cordon.api_key WHERE key_id = $1 FOR UPDATE",
            &[&key_id],
        )
        .await
        .map_err(missing)?;
    let Some(known) = known else { return Err(StoreError::UnknownKey(key_id.to_owned())) };
    let was_good = known.get(0);
    if was_good {
        change.execute("UPDATE cordon.api_key SET revoked_at = now() WHERE key_id = $1", &[&key_id]).await?;
        let workspace = known.get::<_, Option<Uuid>>(1).map(WorkspaceId::new);
        audit_sink::record(&change, of_key(EventType::ApiKeyRevoked, KeyId::new(key_id), workspace, by)).await?;
    }
    change.commit().await?;
    Ok(was_good)
}
