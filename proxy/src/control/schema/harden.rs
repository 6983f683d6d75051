//! Takes away what one shared role sees of its siblings: sessions, statements, locks, statistics; and what lets a tenant
//! leave something behind on a connection.

use tokio_postgres::Client;

use super::{SchemaError, ident, require_migrated};
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
    /// `pg_notify`: one name space of channels for all tenants, but for what the proxy sees of it.
    Notify,
    /// `xpath` and its like: libxml2 evaluates for as long as it takes, and Postgres can't interrupt it.
    Xpath,
}

/// What was done, and what an administrator of this rank may not do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardened {
    /// The statements, in order.
    pub done: Vec<String>,
    /// The statements that Postgres refused, with its reason. What they would close stays open.
    pub refused: Vec<(String, String)>,
}

/// Functions of `pg_catalog` whose EXECUTE nobody but administrators needs, by pattern of their names. `currtid2` knows no policies: it tells
/// which rows of a table have been updated, whoever's they are.
const FUNCTIONS: &str = "\
    p.proname IN ('pg_cancel_backend', 'pg_terminate_backend', 'pg_prepared_statement', 'pg_cursor', 'pg_lock_status', \
        'pg_blocking_pids', 'pg_safe_snapshot_blocking_pids', 'pg_isolation_test_session_is_blocked', 'pg_prepared_xact', \
        'pg_show_all_file_settings', 'pg_hba_file_rules', 'pg_export_snapshot', 'pg_notification_queue_usage', \
        'pg_log_backend_memory_contexts', 'pg_get_backend_memory_contexts', 'pg_get_shmem_allocations', 'pg_get_publication_tables', \
        'pg_get_replication_slots', 'pg_stat_statements', 'pg_stat_statements_info', 'pg_stat_statements_reset', \
        'pg_database_size', 'pg_tablespace_size', 'pg_current_logfile', 'pg_logical_emit_message', 'pg_mcv_list_items', 'currtid2', \
        'pg_available_wal_summaries', 'pg_wal_summary_contents', 'pg_get_wal_summarizer_state') \
    OR p.proname LIKE 'pg\\_stat\\_get\\_%' OR p.proname LIKE 'pg\\_stat\\_reset%' OR p.proname LIKE 'pg\\_ls\\_%' \
    OR p.proname LIKE 'pg\\_read\\_%' OR p.proname LIKE 'pg\\_replication\\_%' OR p.proname LIKE 'pg\\_logical\\_slot\\_%'";

/// The rules of `check` and what is done here name it so too.
const NOTIFY: &str = "p.oid = 'pg_catalog.pg_notify(text, text)'::pg_catalog.regprocedure";

const LARGE_OBJECTS: &str = "p.proname LIKE 'lo\\_%' OR p.proname IN ('loread', 'lowrite')";

const XPATH: &str = "p.proname IN ('xpath', 'xpath_exists', 'xmlexists')";

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

/// The one of them that Postgres gives to nobody.
const NOBODYS: &str = "pg_statistic_ext_data";

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
    require_migrated(client).await?;
    let mut hardened = Hardened::default();
    for step in steps(client, roles, allow).await? {
        if dry_run {
            hardened.done.push(step.statement);
            continue;
        }
        match client.batch_execute(&step.statement).await {
            Ok(()) if step.stays_open(client, roles).await? => {
                hardened.refused.push((step.statement, NOTHING_TAKEN.to_owned()));
            }
            Ok(()) => hardened.done.push(step.statement),
            Err(error) => hardened.refused.push((step.statement, crate::control::store::describe(&error))),
        }
    }
    Ok(hardened)
}

/// Postgres answers a REVOKE of what somebody else granted with a warning (01006) and does nothing.
const NOTHING_TAKEN: &str = "Postgres took nothing away: that is for the object's owner or a superuser";

/// One statement, and how to see whether it did what it is for.
struct Step {
    statement: String,
    /// Whether a role, `role.name`, still has the privilege; none where no privilege is to be gone.
    has: Option<String>,
}

impl Step {
    fn revoke(statement: String, has: String) -> Self {
        Self { statement, has: Some(has) }
    }

    const fn other(statement: String) -> Self {
        Self { statement, has: None }
    }

    async fn stays_open(&self, client: &Client, roles: &RoleNames) -> Result<bool, SchemaError> {
        let Some(has) = &self.has else { return Ok(false) };
        let whose: &[&str] = &["public", &roles.application, &roles.read_only];
        let question =
            format!("SELECT coalesce(bool_or({has}), false) FROM pg_catalog.unnest($1::text[]) AS role (name)");
        let asked = client.query_one(&question, &[&whose]).await;
        Ok(asked.map_err(SchemaError::at(format!("what is left after {}", self.statement)))?.get(0))
    }
}

async fn steps(client: &Client, roles: &RoleNames, allow: &[Allow]) -> Result<Vec<Step>, SchemaError> {
    let mut all = Vec::new();
    let trusted = [&roles.owner, &roles.system, &roles.cordon].map(|role| ident(role)).join(", ");
    let tenants = [&roles.application, &roles.read_only].map(|role| ident(role)).join(", ");
    let system = ident(&roles.system);
    let mut functions = open(client, FUNCTIONS, &roles.system).await?;
    if !allow.contains(&Allow::LargeObjects) {
        functions.extend(open(client, LARGE_OBJECTS, &roles.system).await?);
    }
    // The system role keeps what Postgres gives to everybody: pg_dump takes a snapshot, migrations look at locks.
    for Function { oid, name } in functions {
        all.push(Step::revoke(
            format!(
                "REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC, {tenants}; GRANT EXECUTE ON FUNCTION {name} TO {system}"
            ),
            format!("pg_catalog.has_function_privilege(role.name, {oid}::oid, 'EXECUTE')"),
        ));
    }
    if !allow.contains(&Allow::Xpath) {
        for Function { oid, name } in open(client, XPATH, &roles.system).await? {
            all.push(Step::revoke(
                format!(
                    "REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC, {tenants}; GRANT EXECUTE ON FUNCTION {name} TO {trusted}"
                ),
                format!("pg_catalog.has_function_privilege(role.name, {oid}::oid, 'EXECUTE')"),
            ));
        }
    }
    if !allow.contains(&Allow::Notify) {
        all.extend(notifying(client, roles, &tenants).await?);
    }
    for view in VIEWS {
        let kept =
            if view == NOBODYS { String::new() } else { format!("; GRANT SELECT ON pg_catalog.{view} TO {system}") };
        all.push(Step::revoke(
            format!("REVOKE ALL ON pg_catalog.{view} FROM PUBLIC, {tenants}{kept}"),
            format!("pg_catalog.has_any_column_privilege(role.name, 'pg_catalog.{view}', 'SELECT')"),
        ));
    }
    let database: String = client
        .query_one("SELECT pg_catalog.current_database()", &[])
        .await
        .map_err(SchemaError::at("the database"))?
        .get(0);
    let database = ident(&database);
    let of_database = |privilege: &str| {
        Step::revoke(
            format!("REVOKE {privilege} ON DATABASE {database} FROM PUBLIC, {tenants}"),
            format!("pg_catalog.has_database_privilege(role.name, pg_catalog.current_database(), '{privilege}')"),
        )
    };
    all.push(of_database("CREATE"));
    all.push(Step::revoke(
        format!("REVOKE CREATE ON SCHEMA public FROM PUBLIC, {tenants}"),
        "pg_catalog.has_schema_privilege(role.name, 'public', 'CREATE')".to_owned(),
    ));
    if !allow.contains(&Allow::Temp) {
        all.push(of_database("TEMPORARY"));
        all.push(Step::other(format!("GRANT TEMPORARY ON DATABASE {database} TO {trusted}")));
    }
    if !allow.contains(&Allow::Do) {
        all.push(Step::revoke(
            format!("REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC, {tenants}"),
            "pg_catalog.has_language_privilege(role.name, 'plpgsql', 'USAGE')".to_owned(),
        ));
        all.push(Step::other(format!("GRANT USAGE ON LANGUAGE plpgsql TO {trusted}")));
    }
    // Everybody has it from PUBLIC, for the functions of the application: only what the tenants have of their own goes.
    all.push(Step::other(format!("REVOKE USAGE ON LANGUAGE sql FROM {tenants}")));
    Ok(all)
}

/// Takes `pg_notify` from tenants, and makes the application's functions do without it. Triggers of ours call it as whoever
/// changes the control data.
async fn notifying(client: &Client, roles: &RoleNames, tenants: &str) -> Result<Vec<Step>, SchemaError> {
    let RoleNames { owner, system, cordon, control, .. } = roles;
    let kept = [system, owner, cordon, control].map(|role| ident(role)).join(", ");
    let revoked = open(client, NOTIFY, system).await?.into_iter().map(|Function { oid, name }| {
        Step::revoke(
            format!(
                "REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC, {tenants}; GRANT EXECUTE ON FUNCTION {name} TO {kept}"
            ),
            format!("pg_catalog.has_function_privilege(role.name, {oid}::oid, 'EXECUTE')"),
        )
    });
    let rewritten = super::notifying::rewritten(client).await?.into_iter().map(Step::other);
    Ok(revoked.chain(rewritten).collect())
}

/// A function of the catalog.
pub(super) struct Function {
    oid: u32,
    /// With its schema and the types of its arguments.
    pub(super) name: String,
}

/// What of the siblings' functions these roles may still call.
pub(super) async fn callable(client: &Client, roles: &[&str]) -> Result<Vec<Function>, SchemaError> {
    let callable = "EXISTS (SELECT FROM pg_catalog.unnest($1::text[]) AS role (name) \
        WHERE pg_catalog.has_function_privilege(role.name, p.oid, 'EXECUTE'))";
    functions(client, FUNCTIONS, callable, roles).await
}

/// What everybody may call, or could before an older version of this took it from the system role as well.
async fn open(client: &Client, which: &str, system: &str) -> Result<Vec<Function>, SchemaError> {
    let open = "(pg_catalog.has_function_privilege('public', p.oid, 'EXECUTE') \
        OR NOT EXISTS (SELECT FROM pg_catalog.unnest($1::text[]) AS role (name) WHERE pg_catalog.has_function_privilege(role.name, p.oid, 'EXECUTE')) \
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_init_privs i WHERE i.classoid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND i.objoid = p.oid))";
    functions(client, which, open, &[system]).await
}

async fn functions(
    client: &Client,
    which: &str,
    condition: &str,
    roles: &[&str],
) -> Result<Vec<Function>, SchemaError> {
    let rows = client
        .query(
            &format!(
                "SELECT p.oid, pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)) AS name \
                 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
                 WHERE ({which}) AND (n.nspname = 'pg_catalog' OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')) \
                   AND p.prokind = 'f' AND {condition} ORDER BY name"
            ),
            &[&roles],
        )
        .await
        .map_err(SchemaError::at("the functions of the catalog"))?;
    Ok(rows.iter().map(|row| Function { oid: row.get(0), name: row.get(1) }).collect())
}

/// Whether this administrator may harden those functions: their owner may, and a superuser.
pub(super) async fn may_revoke(client: &Client, functions: &[Function]) -> Result<bool, SchemaError> {
    let oids: Vec<u32> = functions.iter().map(|function| function.oid).collect();
    let owned = "SELECT coalesce(bool_and(pg_catalog.pg_has_role(p.proowner, 'USAGE')), true) FROM pg_catalog.pg_proc p WHERE p.oid = ANY ($1)";
    let row = client.query_one(owned, &[&oids]).await.map_err(SchemaError::at("whose the functions are"))?;
    Ok(row.get(0))
}
