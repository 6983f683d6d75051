//! The control data in Postgres: schema `cordon`. Statements here carry nothing that a tenant sent.

use std::sync::Arc;

use serde_json::json;
use tokio_postgres::{Client, IsolationLevel, Row, Transaction};
use uuid::Uuid;

use super::audit_sink;
use super::quota_store;
use super::settings::RoleNames;
use super::snapshot::{Snapshot, Workspace};
use crate::audit::{self, Event, EventType};
use crate::auth::{ApiKeySecret, KeyRecord};
use crate::domain::{KeyId, KeyKind, WorkspaceId};
use crate::sql::{Rule, Rules};
use crate::tenant::{ChannelKey, SigningKey, SigningKeys};

/// What can be wrong with a request for control data.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres refused, or can't be reached.
    #[error("{0}")]
    Postgres(String),
    /// Postgres doesn't let the role in with which it was asked.
    #[error("{0}")]
    NotLetIn(String),
    /// The schema isn't there.
    #[error("the schema cordon is missing or not readable in this database: run pgcordon migrate first")]
    NotMigrated,
    /// There is no signing key.
    #[error("there is no signing key in cordon.signing_key: run pgcordon migrate")]
    NoSigningKey,
    /// A row can't be what it says.
    #[error("the control data has a row that can't be read: {0}")]
    Unreadable(String),
    /// No such workspace.
    #[error("there is no workspace {0:?}")]
    UnknownWorkspace(String),
    /// No such key.
    #[error("there is no key {0:?}")]
    UnknownKey(String),
    /// The name is taken.
    #[error("a workspace named {0:?} exists already")]
    DuplicateWorkspace(String),
    /// The id is taken.
    #[error("a workspace with the id {0} exists already")]
    DuplicateId(Uuid),
    /// No workspace can be called so.
    #[error("the name of a workspace {0}")]
    WorkspaceName(&'static str),
    /// The key was revoked, which can't be undone.
    #[error("the key {0:?} is revoked: it stays so, make another")]
    RevokedKey(String),
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let told = describe(&error);
        // Class 28 is invalid authorization.
        if error.code().is_some_and(|code| code.code().starts_with("28")) {
            Self::NotLetIn(told)
        } else {
            Self::Postgres(told)
        }
    }
}

/// An error of Postgres in one line.
pub fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => {
            std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
        }
    }
}

/// What tells one state of the control data from another. Each change gives a row another place and another transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

/// Whose rows a snapshot is made of.
const TABLES: [&str; 6] = ["workspace", "api_key", "signing_key", "resource", "meter", "quota"];

async fn version(client: &Transaction<'_>) -> Result<Version, StoreError> {
    let of_table = |table| {
        format!(
            "(SELECT pg_catalog.concat(count(*), ':', sum(pg_catalog.hashtextextended(pg_catalog.concat(t.ctid, ' ', t.xmin), 0))) FROM cordon.{table} AS t)"
        )
    };
    let each = TABLES.map(of_table).join(", ");
    let row = client.query_one(&format!("SELECT pg_catalog.concat_ws(' ', {each})"), &[]).await.map_err(missing)?;
    Ok(Version(row.get(0)))
}

/// A transaction that sees everything as of one moment.
async fn moment(client: &mut Client) -> Result<Transaction<'_>, StoreError> {
    Ok(client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?)
}

/// Loads everything, as of one moment.
///
/// # Errors
/// Postgres can't be reached, the schema is missing, or there is no signing key.
pub async fn load(client: &mut Client, roles: &RoleNames) -> Result<(Snapshot, Version), StoreError> {
    let moment = moment(client).await?;
    let version = version(&moment).await?;
    Ok((read(moment, roles).await?, version))
}

/// The same, if it isn't the version that is known: very much may be there, and seldom changes.
///
/// # Errors
/// As [`load`].
pub async fn load_unless(
    client: &mut Client,
    roles: &RoleNames,
    known: &Version,
) -> Result<Option<(Snapshot, Version)>, StoreError> {
    let moment = moment(client).await?;
    let version = version(&moment).await?;
    if version == *known {
        moment.commit().await?;
        return Ok(None);
    }
    Ok(Some((read(moment, roles).await?, version)))
}

async fn read(snapshot: Transaction<'_>, roles: &RoleNames) -> Result<Snapshot, StoreError> {
    let workspaces = snapshot
        .query("SELECT id, name, status, channel_key FROM cordon.workspace ORDER BY name", &[])
        .await
        .map_err(missing)?;
    let keys = snapshot
        .query(
            "SELECT k.key_id, k.workspace_id, k.kind, k.role, k.verifier, k.allow, extract(epoch FROM k.expires_at)::bigint AS expires_at, \
                    k.revoked_at IS NOT NULL AS revoked, coalesce(w.status <> 'active', false) AS suspended \
             FROM cordon.api_key k LEFT JOIN cordon.workspace w ON w.id = k.workspace_id",
            &[],
        )
        .await
        .map_err(missing)?;
    let signing = snapshot
        .query("SELECT id, secret FROM cordon.signing_key WHERE retired_at IS NULL ORDER BY id DESC LIMIT 2", &[])
        .await
        .map_err(missing)?;
    let quotas = quota_store::load(&snapshot).await?;
    snapshot.commit().await?;
    let roles = roles.clone();
    // Of a hundred thousand keys this takes a good part of a second, in which others of this thread would wait.
    let made = tokio::task::spawn_blocking(move || {
        let keys = keys.iter().map(|row| key_record(row, &roles)).collect::<Result<_, _>>()?;
        let channel_keys: Vec<_> = workspaces
            .iter()
            .map(|row| (WorkspaceId::new(row.get("id")), ChannelKey::new(row.get("channel_key"))))
            .collect();
        let workspaces = workspaces.iter().map(workspace).collect();
        let signing = signing.iter().map(|row| SigningKey::new(row.get("id"), row.get("secret")));
        let signing_keys = SigningKeys::new(signing).ok_or(StoreError::NoSigningKey)?;
        Ok::<_, StoreError>(Snapshot::new(keys, workspaces, signing_keys, quotas).with_channel_keys(channel_keys))
    });
    made.await.map_err(|_| StoreError::Unreadable("what was loaded".to_owned()))?
}

pub(super) fn missing(error: tokio_postgres::Error) -> StoreError {
    match error.code().map(tokio_postgres::error::SqlState::code) {
        Some("42P01" | "3F000" | "42501" | "42703") => StoreError::NotMigrated,
        _ => error.into(),
    }
}

fn workspace(row: &Row) -> Workspace {
    Workspace {
        id: WorkspaceId::new(row.get("id")),
        name: row.get("name"),
        suspended: row.get::<_, &str>("status") != "active",
    }
}

fn key_record(row: &Row, roles: &RoleNames) -> Result<KeyRecord, StoreError> {
    let key_id: String = row.get("key_id");
    let kind: KeyKind = row
        .get::<_, &str>("kind")
        .parse()
        .map_err(|error| StoreError::Unreadable(format!("the key {key_id}: {error}")))?;
    let workspace = row.get::<_, Option<Uuid>>("workspace_id").map(WorkspaceId::new);
    if (kind == KeyKind::Workspace) != workspace.is_some() {
        return Err(StoreError::Unreadable(format!(
            "the key {key_id}: a workspace key has a workspace, and no other kind has"
        )));
    }
    let role = row.get::<_, Option<String>>("role").unwrap_or_else(|| roles.default_for(kind).to_owned());
    Ok(KeyRecord {
        key_id: KeyId::new(key_id),
        kind,
        workspace,
        role: role.into(),
        verifier: row.get::<_, String>("verifier").into(),
        expires_at: row.get("expires_at"),
        // A newer program may know rules that this one doesn't.
        allow: row.get::<_, Vec<String>>("allow").iter().filter_map(|rule| rule.parse::<Rule>().ok()).collect(),
        revoked: row.get("revoked"),
        suspended: row.get("suspended"),
    })
}

/// The longest name of a workspace, in characters.
const WORKSPACE_NAME_CHARACTERS_MAX: usize = 200;

/// Names are shown in lists, a line each.
fn check_name(name: &str) -> Result<(), StoreError> {
    let wrong = if name.trim().is_empty() {
        "can't be empty"
    } else if name.chars().any(char::is_control) {
        "can't have line breaks or other control characters"
    } else if name.chars().count() > WORKSPACE_NAME_CHARACTERS_MAX {
        "can't be longer than 200 characters"
    } else {
        return Ok(());
    };
    Err(StoreError::WorkspaceName(wrong))
}

/// Creates a workspace.
///
/// # Errors
/// The name or the id is taken, nobody can be called so, or Postgres refuses.
pub async fn create_workspace(
    client: &mut Client,
    name: &str,
    id: Option<Uuid>,
    by: &Arc<audit::Client>,
) -> Result<Workspace, StoreError> {
    check_name(name)?;
    let id = id.unwrap_or_else(Uuid::new_v4);
    let creation = client.transaction().await?;
    let inserted = creation
        .query_opt(
            "INSERT INTO cordon.workspace (id, name, status) VALUES ($1, $2, 'active') ON CONFLICT (name) DO NOTHING RETURNING id, name, status",
            &[&id, &name],
        )
        .await
        .map_err(|error| match error.code() {
            // A name that is taken is no conflict here.
            Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION) => StoreError::DuplicateId(id),
            _ => missing(error),
        })?;
    let created = inserted.as_ref().map(workspace).ok_or_else(|| StoreError::DuplicateWorkspace(name.to_owned()))?;
    audit_sink::record(&creation, of_workspace(EventType::WorkspaceCreated, &created, by)).await?;
    creation.commit().await?;
    Ok(created)
}

fn of_workspace(kind: EventType, workspace: &Workspace, by: &Arc<audit::Client>) -> Event {
    let detail = Some(json!({ "name": workspace.name }));
    Event { workspace: Some(workspace.id), detail, ..Event::new(kind, by.clone()) }
}

/// The workspace with this name or id.
///
/// # Errors
/// There is none, or Postgres refuses.
pub async fn find_workspace(client: &Client, name_or_id: &str) -> Result<Workspace, StoreError> {
    let id = Uuid::parse_str(name_or_id).ok();
    let found = client
        .query_opt("SELECT id, name, status FROM cordon.workspace WHERE name = $1 OR id = $2", &[&name_or_id, &id])
        .await
        .map_err(missing)?;
    found.as_ref().map(workspace).ok_or_else(|| StoreError::UnknownWorkspace(name_or_id.to_owned()))
}

/// All workspaces, by name.
///
/// # Errors
/// Postgres refuses.
pub async fn workspaces(client: &Client) -> Result<Vec<Workspace>, StoreError> {
    let rows =
        client.query("SELECT id, name, status FROM cordon.workspace ORDER BY name", &[]).await.map_err(missing)?;
    Ok(rows.iter().map(workspace).collect())
}

/// Suspends or resumes a workspace.
///
/// # Errors
/// There is none, or Postgres refuses.
pub async fn set_suspended(
    client: &mut Client,
    name_or_id: &str,
    suspended: bool,
    by: &Arc<audit::Client>,
) -> Result<Workspace, StoreError> {
    let found = find_workspace(client, name_or_id).await?;
    let (status, kind) = match suspended {
        true => ("suspended", EventType::WorkspaceSuspended),
        false => ("active", EventType::WorkspaceResumed),
    };
    let change = client.transaction().await?;
    change.execute("UPDATE cordon.workspace SET status = $2 WHERE id = $1", &[&found.id.uuid(), &status]).await?;
    audit_sink::record(&change, of_workspace(kind, &found, by)).await?;
    change.commit().await?;
    Ok(Workspace { suspended, ..found })
}

/// Deletes a workspace and its keys. Its rows in the application's tables are the application's own affair.
///
/// # Errors
/// There is none, or Postgres refuses.
pub async fn delete_workspace(
    client: &mut Client,
    name_or_id: &str,
    by: &Arc<audit::Client>,
) -> Result<Workspace, StoreError> {
    let found = find_workspace(client, name_or_id).await?;
    let deletion = client.transaction().await?;
    deletion.execute("DELETE FROM cordon.api_key WHERE workspace_id = $1", &[&found.id.uuid()]).await?;
    deletion.execute("DELETE FROM cordon.workspace WHERE id = $1", &[&found.id.uuid()]).await?;
    audit_sink::record(&deletion, of_workspace(EventType::WorkspaceDeleted, &found, by)).await?;
    deletion.commit().await?;
    Ok(found)
}

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
