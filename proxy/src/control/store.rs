//! The control data in Postgres: schema `cordon`. Here it is loaded; `workspace` and `api_key` change it. Statements carry nothing that a
//! tenant sent.

mod api_key;
mod workspace;

use tokio_postgres::{Client, IsolationLevel, Row, Transaction};
use uuid::Uuid;

pub use api_key::{ListedKey, NewKey, allow_key, create_key, keys, revoke_key, rotate_key};
pub use workspace::{create_workspace, delete_workspace, find_workspace, set_suspended, workspaces};

use super::quota_store;
use super::settings::RoleNames;
use super::snapshot::{Snapshot, Workspace};
use crate::auth::KeyRecord;
use crate::domain::{KeyId, KeyKind, WorkspaceId};
use crate::sql::Rule;
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
