//! Takes away what one shared role sees of its siblings: sessions, statements, locks, statistics; and what lets a tenant
//! leave something behind on a connection.

use tokio_postgres::Client;

use super::{SchemaError, ident};
use crate::control::RoleNames;

/// What an application may keep although it opens something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Temporary tables: cleared between workspaces, but a tenant can fill the disk with them.
    Temp,
    /// `DO` blocks and functions in plpgsql: whatever SQL can do, in loops.
    Do,
    /// Large objects: one name space for all tenants.
    LargeObjects,
}

/// What was done, and what an administrator of this rank may not do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardened {
    /// The statements, in order.
    pub done: Vec<String>,
    /// The statements that Postgres refused, with its reason. What they would close stays open.
    pub refused: Vec<(String, String)>,
}

/// Functions of `pg_catalog` whose EXECUTE nobody but administrators needs, by pattern of their names.
const FUNCTIONS: &str = "\
    p.proname IN ('pg_cancel_backend', 'pg_terminate_backend', 'pg_prepared_statement', 'pg_cursor', 'pg_lock_status', \
        'pg_blocking_pids', 'pg_safe_snapshot_blocking_pids', 'pg_isolation_test_session_is_blocked', 'pg_prepared_xact', \
        'pg_show_all_file_settings', 'pg_hba_file_rules', 'pg_export_snapshot', 'pg_notification_queue_usage', \
        'pg_log_backend_memory_contexts', 'pg_get_backend_memory_contexts', 'pg_get_shmem_allocations', 'pg_get_publication_tables', \
        'pg_get_replication_slots', 'pg_stat_statements', 'pg_stat_statements_info', 'pg_stat_statements_reset', \
        'pg_database_size', 'pg_tablespace_size', 'pg_current_logfile', 'pg_logical_emit_message', 'pg_mcv_list_items') \
    OR p.proname LIKE 'pg\\_stat\\_get\\_%' OR p.proname LIKE 'pg\\_stat\\_reset%' OR p.proname LIKE 'pg\\_ls\\_%' \
    OR p.proname LIKE 'pg\\_read\\_%' OR p.proname LIKE 'pg\\_replication\\_%' OR p.proname LIKE 'pg\\_logical\\_slot\\_%'";

const LARGE_OBJECTS: &str = "p.proname LIKE 'lo\\_%' OR p.proname IN ('loread', 'lowrite')";

/// Views whose rows are about other sessions. Revoking a view isn't enough (its functions still answer), and revoking
/// its functions makes it fail: both are done, so that the error names the view.
const VIEWS: [&str; 7] = [
    "pg_stat_activity",
    "pg_locks",
    "pg_prepared_statements",
    "pg_cursors",
    "pg_prepared_xacts",
    "pg_stats_ext",
    "pg_statistic_ext_data",
];

/// Hardens the database.
///
/// # Errors
/// The catalog can't be read. What can't be revoked is reported, not an error.
pub async fn harden(
    client: &Client,
    roles: &RoleNames,
    allow: &[Allow],
    dry_run: bool,
) -> Result<Hardened, SchemaError> {
    let mut hardened = Hardened::default();
    for statement in statements(client, roles, allow).await? {
        if dry_run {
            hardened.done.push(statement);
            continue;
        }
        match client.batch_execute(&statement).await {
            Ok(()) => hardened.done.push(statement),
            Err(error) => hardened.refused.push((statement, crate::control::store::describe(&error))),
        }
    }
    Ok(hardened)
}

async fn statements(client: &Client, roles: &RoleNames, allow: &[Allow]) -> Result<Vec<String>, SchemaError> {
    let mut all = Vec::new();
    let trusted = [&roles.owner, &roles.system, &roles.cordon].map(|role| ident(role)).join(", ");
    let tenants = [&roles.application, &roles.read_only].map(|role| ident(role)).join(", ");
    for function in functions(client, FUNCTIONS).await? {
        all.push(format!("REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC, {tenants}"));
    }
    if !allow.contains(&Allow::LargeObjects) {
        for function in functions(client, LARGE_OBJECTS).await? {
            all.push(format!("REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC, {tenants}"));
        }
    }
    for view in VIEWS {
        all.push(format!("REVOKE ALL ON pg_catalog.{view} FROM PUBLIC, {tenants}"));
    }
    let database: String = client
        .query_one("SELECT pg_catalog.current_database()", &[])
        .await
        .map_err(SchemaError::at("the database"))?
        .get(0);
    let database = ident(&database);
    all.push(format!("REVOKE CREATE ON DATABASE {database} FROM PUBLIC, {tenants}"));
    all.push(format!("REVOKE CREATE ON SCHEMA public FROM PUBLIC, {tenants}"));
    if !allow.contains(&Allow::Temp) {
        all.push(format!("REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC, {tenants}"));
        all.push(format!("GRANT TEMPORARY ON DATABASE {database} TO {trusted}"));
    }
    if !allow.contains(&Allow::Do) {
        all.push(format!("REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC, {tenants}"));
        all.push(format!("GRANT USAGE ON LANGUAGE plpgsql TO {trusted}"));
    }
    all.push(format!("REVOKE USAGE ON LANGUAGE sql FROM {tenants}"));
    Ok(all)
}

/// Those that PUBLIC may still execute, with their argument types.
async fn functions(client: &Client, which: &str) -> Result<Vec<String>, SchemaError> {
    executable(client, which, &["public"]).await
}

/// What of the siblings' functions these roles may still call.
pub(super) async fn callable(client: &Client, roles: &[&str]) -> Result<Vec<String>, SchemaError> {
    executable(client, FUNCTIONS, roles).await
}

async fn executable(client: &Client, which: &str, roles: &[&str]) -> Result<Vec<String>, SchemaError> {
    let rows = client
        .query(
            &format!(
                "SELECT pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)) \
                 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
                 WHERE ({which}) AND (n.nspname = 'pg_catalog' OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')) \
                   AND p.prokind = 'f' AND EXISTS (SELECT FROM pg_catalog.unnest($1::text[]) AS role (name) \
                       WHERE pg_catalog.has_function_privilege(role.name, p.oid, 'EXECUTE')) ORDER BY 1"
            ),
            &[&roles],
        )
        .await
        .map_err(SchemaError::at("the functions of the catalog"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
