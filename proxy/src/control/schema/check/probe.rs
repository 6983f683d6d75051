//! Tries the walls instead of reading about them: as the application role, without a context and with a forged one, a
//! protected table must show no row.

use tokio_postgres::Client;

use super::{Finding, Severity};
use crate::control::RoleNames;
use crate::control::schema::{SchemaError, ident};

/// How long one question may take; a table that takes longer is left to the other rules.
const PATIENCE: &str = "SET LOCAL statement_timeout = '5s'";

const TABLES: &str = "\
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), \
        (SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped \
            AND a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype AND a.attname IN ('workspace_id', 'workspaceId') ORDER BY 1 LIMIT 1) \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND n.nspname !~ '^pg_' AND n.nspname <> 'cordon' \
        AND pg_catalog.has_table_privilege($1, c.oid, 'SELECT') AND pg_catalog.has_schema_privilege($1, n.oid, 'USAGE')";

/// Asks every protected table. Runs inside the caller's transaction and leaves its role and settings as they were.
pub(super) async fn probe(client: &Client, roles: &RoleNames, setting: &str) -> Result<Vec<Finding>, SchemaError> {
    let role = &roles.application;
    let tables = client.query(TABLES, &[role]).await.map_err(SchemaError::at("the protected tables"))?;
    let mut findings = Vec::new();
    for row in &tables {
        let (table, column): (String, Option<String>) = (row.get(0), row.get(1));
        let fix = format!("pgcordon protect {table}");
        if shows_a_row(client, role, &table, (setting, "")).await? {
            let what = "shows rows to the application role without a workspace (tried)".to_owned();
            findings.push(Finding {
                id: "open-without-context",
                severity: Severity::Critical,
                object: table,
                what,
                fix,
            });
        } else if let Some(column) = column
            && let Some(workspace) = some_workspace(client, &table, &column).await?
            && shows_a_row(client, role, &table, (setting, &workspace)).await?
        {
            let what = format!("shows a workspace's rows to whoever sets {setting}, without a seal (tried)");
            findings.push(Finding { id: "context-forgeable", severity: Severity::Critical, object: table, what, fix });
        }
    }
    Ok(findings)
}

async fn some_workspace(client: &Client, table: &str, column: &str) -> Result<Option<String>, SchemaError> {
    let sql = format!("SELECT {column}::pg_catalog.text FROM {table} WHERE {column} IS NOT NULL LIMIT 1");
    let rows = client.query(&sql, &[]).await;
    Ok(rows.map_err(SchemaError::at(format!("a workspace of {table}")))?.first().map(|row| row.get(0)))
}

/// Whether the role sees a row. An error is a closed door too.
async fn shows_a_row(
    client: &Client,
    role: &str,
    table: &str,
    (setting, workspace): (&str, &str),
) -> Result<bool, SchemaError> {
    let at = || SchemaError::at(format!("a look at {table} as {role}"));
    let prepare = format!("SAVEPOINT probe; {PATIENCE}; SET LOCAL ROLE {}", ident(role));
    client.batch_execute(&prepare).await.map_err(at())?;
    let set = "SELECT pg_catalog.set_config($1, $2, true)";
    client.query(set, &[&setting, &workspace]).await.map_err(at())?;
    let seen = client.query_one(&format!("SELECT EXISTS (SELECT FROM {table})"), &[]).await;
    client.batch_execute("ROLLBACK TO probe; RELEASE probe").await.map_err(at())?;
    Ok(seen.is_ok_and(|row| row.get(0)))
}
