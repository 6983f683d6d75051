//! Workspaces, as an operator makes and changes them. Each change is on the trail, or it isn't made.

use std::sync::Arc;

use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{StoreError, missing, workspace};
use crate::audit::{self, Event, EventType};
use crate::control::audit_sink;
use crate::control::snapshot::Workspace;

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
