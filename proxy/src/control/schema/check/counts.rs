//! Tries whether what meters count can be counted: a column that a filter or a policy went by may be gone.

use tokio_postgres::Client;

use super::{Finding, Severity};
use crate::control::schema::SchemaError;

const METERS: &str = "\
    SELECT m.relation, m.count_sql, pg_catalog.format('pgcordon meter %L --table %s', r.name, m.relation) \
    FROM cordon.meter m JOIN cordon.resource r ON r.id = m.resource_id \
    WHERE m.id IN (SELECT meter_id FROM cordon.metered) ORDER BY m.id";

/// Has Postgres read every statement that counts. Runs inside the caller's transaction.
pub(super) async fn uncountable(client: &Client) -> Result<Vec<Finding>, SchemaError> {
    let at = || SchemaError::at("what meters count");
    let mut findings = Vec::new();
    for row in &client.query(METERS, &[]).await.map_err(at())? {
        let (relation, count, fix): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        client.batch_execute("SAVEPOINT counts").await.map_err(at())?;
        let read = client.prepare(&count).await;
        client.batch_execute("ROLLBACK TO counts; RELEASE counts").await.map_err(at())?;
        if let Err(error) = read {
            let what = format!(
                "its rows can't be counted any more, and inserts that need the count are refused: {}",
                crate::control::store::describe(&error)
            );
            findings.push(Finding { id: "meter-uncountable", severity: Severity::High, object: relation, what, fix });
        }
    }
    Ok(findings)
}
