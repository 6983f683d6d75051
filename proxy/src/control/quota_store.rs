//! Resources and limits in Postgres.

use tokio_postgres::{Client, GenericClient, Row};
use uuid::Uuid;

use super::StoreError;
use super::store::missing;
use crate::domain::WorkspaceId;
use crate::quota::window::Per;
use crate::quota::{Definitions, Limit, Meter, Resource, ResourceId};

/// A limit as somebody wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// So many rows.
    AtMost(u64),
    /// None, whatever the resource's default is.
    Unlimited,
    /// The resource's default.
    Default,
}

/// Loads all resources and limits.
///
/// # Errors
/// Postgres refuses, or the schema is older than this program.
pub(super) async fn load(client: &impl GenericClient) -> Result<Definitions, StoreError> {
    let resources =
        client.query("SELECT id, name, per, default_limit FROM cordon.resource", &[]).await.map_err(missing)?;
    let meters = client
        .query("SELECT resource_id, relation, filter, count_sql FROM cordon.meter ORDER BY id", &[])
        .await
        .map_err(missing)?;
    let limits = client.query("SELECT workspace_id, resource_id, \"limit\" FROM cordon.quota", &[]).await;
    let mut resources = resources.iter().map(resource).collect::<Result<Vec<_>, _>>()?;
    for row in &meters {
        let id = ResourceId(row.get("resource_id"));
        let meter = Meter { relation: row.get("relation"), filter: row.get("filter"), count_sql: row.get("count_sql") };
        resources
            .iter_mut()
            .filter(|resource| resource.id == id)
            .for_each(|resource| resource.meters.push(meter.clone()));
    }
    let limits = limits.map_err(missing)?;
    let limits = limits.iter().map(|row| {
        (WorkspaceId::new(row.get("workspace_id")), ResourceId(row.get("resource_id")), limit(row.get("limit")))
    });
    Ok(Definitions::new(resources, limits))
}

fn resource(row: &Row) -> Result<Resource, StoreError> {
    let name: String = row.get("name");
    let per = match row.get::<_, Option<&str>>("per") {
        None => None,
        Some("day") => Some(Per::Day),
        Some("month") => Some(Per::Month),
        Some(other) => return Err(StoreError::Unreadable(format!("cordon.resource {name:?} is per {other:?}"))),
    };
    Ok(Resource {
        id: ResourceId(row.get("id")),
        name: name.into(),
        per,
        default_limit: limit(row.get("default_limit")),
        meters: Vec::new(),
    })
}

/// The column can't be negative.
fn limit(column: Option<i64>) -> Limit {
    column.map(|limit| u64::try_from(limit).unwrap_or(0))
}

/// Sets limits of a workspace, all or none.
///
/// # Errors
/// The workspace or a resource isn't there, or Postgres refuses.
pub async fn set_limits(
    client: &mut Client,
    workspace: WorkspaceId,
    wanted: &[(ResourceId, Wanted)],
) -> Result<(), StoreError> {
    let change = client.transaction().await?;
    for (ResourceId(resource), wanted) in wanted {
        let limit = match wanted {
            Wanted::Default => {
                let delete = "DELETE FROM cordon.quota WHERE workspace_id = $1 AND resource_id = $2";
                change.execute(delete, &[&workspace.uuid(), resource]).await?;
                continue;
            }
            Wanted::Unlimited => None,
            Wanted::AtMost(limit) => Some(i64::try_from(*limit).unwrap_or(i64::MAX)),
        };
        let set = "INSERT INTO cordon.quota (workspace_id, resource_id, \"limit\") VALUES ($1, $2, $3) \
                   ON CONFLICT (workspace_id, resource_id) DO UPDATE SET \"limit\" = EXCLUDED.\"limit\"";
        change.execute(set, &[&workspace.uuid(), resource, &limit]).await?;
    }
    change.commit().await?;
    Ok(())
}

/// Loads the definitions for one command.
///
/// # Errors
/// As [`load`].
pub async fn definitions(client: &Client) -> Result<Definitions, StoreError> {
    load(client).await
}

/// Asks every proxy to count a workspace anew: one resource, or all.
///
/// # Errors
/// Postgres refuses.
pub async fn ask_for_recount(
    client: &Client,
    workspace: WorkspaceId,
    resource: Option<ResourceId>,
) -> Result<(), StoreError> {
    let request = Recount { workspace, resource }.to_string();
    client.execute("SELECT pg_catalog.pg_notify($1, $2)", &[&super::CHANNEL, &request]).await?;
    Ok(())
}

/// A request to count anew, as it goes over the control channel. Every tenant may send one: it costs no more than a count
/// after its rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recount {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Of what; none is of everything.
    pub resource: Option<ResourceId>,
}

impl std::fmt::Display for Recount {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "recount {}", self.workspace)?;
        match self.resource {
            Some(ResourceId(resource)) => write!(out, " {resource}"),
            None => Ok(()),
        }
    }
}

impl Recount {
    pub(super) fn parse(payload: &str) -> Option<Self> {
        let mut words = payload.strip_prefix("recount ")?.splitn(2, ' ');
        let workspace = Uuid::parse_str(words.next()?).ok().map(WorkspaceId::new)?;
        let resource = words.next().map(str::parse).transpose().ok()?.map(ResourceId);
        Some(Self { workspace, resource })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_count_anew_reads_as_it_is_written_and_nothing_else_does() {
        let workspace = WorkspaceId::new(Uuid::from_u128(7));
        for resource in [None, Some(ResourceId(3))] {
            let request = Recount { workspace, resource };
            assert_eq!(Recount::parse(&request.to_string()), Some(request));
        }
        for odd in ["", "recount", "recount x", "recount 00000000-0000-0000-0000-000000000007 x", "recount "] {
            assert_eq!(Recount::parse(odd), None, "{odd:?}");
        }
    }
}
