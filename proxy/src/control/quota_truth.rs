//! The truth about usage: stocks are counted as the system role, which sees every workspace's rows; what was inserted into
//! flows is in `cordon.flow`, which only the control role may write.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{ControlTarget, Snapshot, StoreError, open};
use crate::domain::WorkspaceId;
use crate::quota::bookkeeper::COUNTS_AT_ONCE;
use crate::quota::truth::{FlowRows, Later};
use crate::quota::{Definitions, ResourceId, Truth, Uncounted};

/// The truth, over connections that are made when they are needed.
pub struct PostgresTruth {
    snapshot: Arc<ArcSwap<Snapshot>>,
    system: ControlTarget,
    control: ControlTarget,
    /// Connections of the system role that nobody uses at the moment.
    idle: Mutex<Vec<Client>>,
    flows: tokio::sync::Mutex<Flows>,
}

/// The one connection that records flows.
#[derive(Default)]
struct Flows {
    client: Option<Client>,
    /// The transaction that recorded the last batch, if nobody knows whether it did.
    pending: Option<i64>,
}

impl PostgresTruth {
    /// Not connected yet. `system` is how the system role reaches the same database.
    pub fn new(snapshot: Arc<ArcSwap<Snapshot>>, system: ControlTarget, control: ControlTarget) -> Self {
        Self { snapshot, system, control, idle: Mutex::default(), flows: tokio::sync::Mutex::default() }
    }

    async fn count(&self, workspace: WorkspaceId, resource: ResourceId) -> Result<u64, StoreError> {
        let snapshot = self.snapshot.load_full();
        let Some(sql) = count_sql(snapshot.quotas(), resource) else { return Ok(0) };
        let idle = self.idle.lock().pop();
        if let Some(client) = idle.filter(|client| !client.is_closed())
            && let Ok(rows) = count_with(&client, &sql, workspace.uuid()).await
        {
            self.put_back(client);
            return Ok(rows);
        }
        // A connection that was idle may have died unnoticed: only a new one's error counts.
        let client = open(&self.system).await?;
        let rows = count_with(&client, &sql, workspace.uuid()).await?;
        self.put_back(client);
        Ok(rows)
    }

    fn put_back(&self, client: Client) {
        let mut idle = self.idle.lock();
        if idle.len() < COUNTS_AT_ONCE {
            idle.push(client);
        }
    }

    async fn add(&self, batch: &[FlowRows]) -> Result<Vec<u64>, StoreError> {
        let mut flows = self.flows.lock().await;
        // Taken out while it is in use: a future that is dropped in mid-transaction takes it along.
        let client = flows.client.take().filter(|client| !client.is_closed());
        let mut client = match client {
            Some(client) => client,
            None => open(&self.control).await?,
        };
        let is_recorded = match flows.pending {
            Some(transaction) => was_committed(&client, transaction).await?,
            None => false,
        };
        let columns = Columns::of(batch);
        if !is_recorded && columns.rows.iter().any(|rows| *rows > 0) {
            columns.record(&mut client, &mut flows.pending).await?;
        }
        let totals = columns.totals(&client).await?;
        flows.pending = None;
        flows.client = Some(client);
        Ok(totals)
    }
}

impl Truth for PostgresTruth {
    fn count(&self, workspace: WorkspaceId, resource: ResourceId) -> Later<'_, u64> {
        Box::pin(async move { self.count(workspace, resource).await.map_err(uncounted) })
    }

    fn add<'a>(&'a self, batch: &'a [FlowRows]) -> Later<'a, Vec<u64>> {
        Box::pin(async move { self.add(batch).await.map_err(uncounted) })
    }
}

fn uncounted(error: StoreError) -> Uncounted {
    Uncounted(error.to_string())
}

/// One statement, and with it one moment, for all tables of a resource.
fn count_sql(definitions: &Definitions, resource: ResourceId) -> Option<String> {
    let meters = &definitions.resource(resource)?.meters;
    let counts: Vec<String> = meters.iter().map(|meter| format!("({})", meter.count_sql)).collect();
    (!counts.is_empty()).then(|| format!("SELECT ({})::bigint", counts.join(" + ")))
}

/// Counts the rows of one resource, for a command.
///
/// # Errors
/// Postgres can't be reached or refuses: the table is gone, the system role no longer sees every row.
pub async fn count(
    client: &Client,
    definitions: &Definitions,
    workspace: WorkspaceId,
    resource: ResourceId,
) -> Result<u64, StoreError> {
    match count_sql(definitions, resource) {
        Some(sql) => count_with(client, &sql, workspace.uuid()).await,
        None => Ok(0),
    }
}

async fn count_with(client: &Client, sql: &str, workspace: Uuid) -> Result<u64, StoreError> {
    let row = client.query_one(sql, &[&workspace]).await?;
    let rows: i64 = row.try_get(0)?;
    u64::try_from(rows).map_err(|_| StoreError::Postgres(format!("a count of {rows} rows")))
}

/// What is recorded of flows, for a command. It is asked for as the control role.
///
/// # Errors
/// Postgres can't be reached or refuses.
pub async fn recorded(client: &Client, batch: &[FlowRows]) -> Result<Vec<u64>, StoreError> {
    Columns::of(batch).totals(client).await
}

/// Whether a transaction was committed whose client didn't hear of it.
async fn was_committed(client: &Client, transaction: i64) -> Result<bool, StoreError> {
    let status: Option<String> =
        client.query_one("SELECT pg_catalog.txid_status($1)", &[&transaction]).await?.try_get(0)?;
    match status.as_deref() {
        Some("committed") => Ok(true),
        Some("in progress") => Err(StoreError::Postgres("the last transaction hasn't ended".to_owned())),
        _ => Ok(false),
    }
}

/// A batch as `unnest` takes it.
struct Columns {
    workspaces: Vec<Uuid>,
    resources: Vec<i32>,
    windows: Vec<i64>,
    rows: Vec<i64>,
}

impl Columns {
    fn of(batch: &[FlowRows]) -> Self {
        Self {
            workspaces: batch.iter().map(|flow| flow.workspace.uuid()).collect(),
            resources: batch.iter().map(|flow| flow.resource.0).collect(),
            windows: batch.iter().map(|flow| flow.window.start).collect(),
            rows: batch.iter().map(|flow| i64::try_from(flow.rows).unwrap_or(i64::MAX)).collect(),
        }
    }

    /// Adds the batch in a transaction that can be asked for afterwards. What was deleted meanwhile is left out. The order
    /// keeps two proxies from waiting for each other.
    async fn record(&self, client: &mut Client, pending: &mut Option<i64>) -> Result<(), StoreError> {
        const ADD: &str = "INSERT INTO cordon.flow AS f (workspace_id, resource_id, window_start, rows) \
             SELECT w.id, r.id, pg_catalog.to_timestamp(b.at), LEAST(pg_catalog.sum(b.rows), 9223372036854775807)::bigint \
             FROM ROWS FROM (pg_catalog.unnest($1::uuid[]), pg_catalog.unnest($2::integer[]), \
                             pg_catalog.unnest($3::bigint[]), pg_catalog.unnest($4::bigint[])) AS b (workspace, resource, at, rows) \
             JOIN cordon.workspace w ON w.id = b.workspace JOIN cordon.resource r ON r.id = b.resource \
             WHERE b.rows > 0 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 \
             ON CONFLICT (workspace_id, resource_id, window_start) \
             DO UPDATE SET rows = LEAST(f.rows::numeric + EXCLUDED.rows, 9223372036854775807)::bigint";
        let recording = client.transaction().await?;
        let transaction: i64 = recording.query_one("SELECT pg_catalog.txid_current()", &[]).await?.try_get(0)?;
        recording.execute(ADD, &[&self.workspaces, &self.resources, &self.windows, &self.rows]).await?;
        *pending = Some(transaction);
        recording.commit().await?;
        Ok(())
    }

    async fn totals(&self, client: &Client) -> Result<Vec<u64>, StoreError> {
        const READ: &str = "SELECT coalesce(f.rows, 0) \
             FROM ROWS FROM (pg_catalog.unnest($1::uuid[]), pg_catalog.unnest($2::integer[]), pg_catalog.unnest($3::bigint[])) \
                  WITH ORDINALITY AS b (workspace, resource, at, place) \
             LEFT JOIN cordon.flow f ON f.workspace_id = b.workspace AND f.resource_id = b.resource \
                  AND f.window_start = pg_catalog.to_timestamp(b.at) \
             ORDER BY b.place";
        let rows = client.query(READ, &[&self.workspaces, &self.resources, &self.windows]).await?;
        rows.iter().map(|row| Ok(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0))).collect()
    }
}
