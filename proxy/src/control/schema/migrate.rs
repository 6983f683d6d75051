//! Creates and upgrades the schema `cordon`. Migrations only go forward, and each leaves the previous program running.

use std::collections::BTreeMap;

use refinery::{Migration, Runner, Target};
use tokio_postgres::Client;

use super::{SchemaError, ident, roles, signing};
use crate::control::RoleNames;
use crate::domain::Secret;
use crate::tenant::ContextNames;

/// The migrations, in order.
const MIGRATIONS: [(&str, &str); 11] = [
    ("V1__cordon_schema", include_str!("../../../../migrations/0001_cordon_schema.sql")),
    ("V3__audit", include_str!("../../../../migrations/0003_audit.sql")),
    ("V4__quota", include_str!("../../../../migrations/0004_quota.sql")),
    ("V5__deny", include_str!("../../../../migrations/0005_deny.sql")),
    ("V6__mark", include_str!("../../../../migrations/0006_mark.sql")),
    ("V7__key_allow", include_str!("../../../../migrations/0007_key_allow.sql")),
    ("V8__channels", include_str!("../../../../migrations/0008_channels.sql")),
    ("V9__protection", include_str!("../../../../migrations/0009_protection.sql")),
    ("V10__mark_at_once", include_str!("../../../../migrations/0010_mark_at_once.sql")),
    ("V11__attestation", include_str!("../../../../migrations/0011_attestation.sql")),
    ("V12__bind", include_str!("../../../../migrations/0012_bind.sql")),
];
/// The version of the newest.
const NEWEST: i64 = 12;
/// Where refinery keeps what it has done.
const HISTORY: &str = "cordon.schema_history";
/// The key of the advisory lock under which one migration at a time runs: "cordon" in ASCII.
const LOCK: i64 = 0x0000_636f_7264_6f6e;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The migrations that were applied just now, by name.
    pub applied: Vec<String>,
    /// The version the schema has now.
    pub version: i64,
    /// The roles that were given a password.
    pub passwords: Vec<String>,
    /// Whether what a seal says is verified once for each bind; else it is with each statement.
    pub is_marked: bool,
    /// Whether the proxy may end server processes that go on without a client.
    pub signals: bool,
}

/// Makes roles, schema and signing key, as far as they are missing.
///
/// # Errors
/// A schema that a newer program made, or whatever Postgres refuses.
pub async fn migrate(client: &mut Client, roles: &RoleNames, names: &ContextNames) -> Result<Migrated, SchemaError> {
    with_passwords(client, roles, names, &BTreeMap::new()).await
}

/// The same, and gives the roles their passwords, under the same lock: of two who change one role, Postgres refuses one.
///
/// # Errors
/// As [`migrate`].
pub async fn with_passwords(
    client: &mut Client,
    roles: &RoleNames,
    names: &ContextNames,
    passwords: &BTreeMap<String, Secret>,
) -> Result<Migrated, SchemaError> {
    let at = SchemaError::at;
    // Anybody may take an advisory lock, a tenant too: a migration says so instead of waiting for good.
    client.batch_execute("SET lock_timeout = '5s'").await.map_err(at("the lock of the migration"))?;
    client.execute("SELECT pg_catalog.pg_advisory_lock($1)", &[&LOCK]).await.map_err(at(
        "another migration runs, or a session holds its advisory lock (pg_locks: locktype 'advisory', objid 1919184750)",
    ))?;
    client.batch_execute("RESET lock_timeout").await.map_err(at("the lock of the migration"))?;
    let done = locked(client, roles, names, passwords).await;
    let _ = client.batch_execute("RESET ROLE").await;
    client
        .execute("SELECT pg_catalog.pg_advisory_unlock($1)", &[&LOCK])
        .await
        .map_err(at("the lock of the migration"))?;
    done
}

async fn locked(
    client: &mut Client,
    roles: &RoleNames,
    names: &ContextNames,
    passwords: &BTreeMap<String, Secret>,
) -> Result<Migrated, SchemaError> {
    let at = SchemaError::at;
    let found = version(client).await?;
    if found > NEWEST {
        return Err(SchemaError::Newer { found, known: NEWEST });
    }
    same_context(client, names).await?;
    roles::ensure(client, roles).await?;
    let cordon = ident(&roles.cordon);
    client
        .batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS cordon AUTHORIZATION {cordon}; SET ROLE {cordon}"))
        .await
        .map_err(at("the schema cordon"))?;
    let applied = run(client, names).await?;
    signing::first(client).await?;
    signing::keep(client).await?;
    client.batch_execute("RESET ROLE").await.map_err(at("the administrator's role"))?;
    roles::grant(client, roles).await?;
    let is_marked = roles::grant_mark(client, roles).await?;
    let signals = roles::grant_signals(client, roles).await?;
    let passwords = roles::set_passwords(client, roles, passwords).await?;
    let passwords = passwords.into_iter().map(str::to_owned).collect();
    Ok(Migrated { applied, version: NEWEST, passwords, is_marked, signals })
}

/// A schema that is there goes by the names it was made with.
async fn same_context(client: &Client, names: &ContextNames) -> Result<(), SchemaError> {
    let made_with = client
        .query_opt(
            "SELECT ARRAY(SELECT m[1] FROM pg_catalog.regexp_matches(p.prosrc, $$current_setting\\('([^']+)', true\\)$$, 'g') AS m) \
             FROM pg_catalog.pg_proc AS p WHERE p.oid = coalesce(pg_catalog.to_regprocedure('cordon.sealed_workspace_id()'), \
                 pg_catalog.to_regprocedure('cordon.workspace_id()'))",
            &[],
        )
        .await
        .map_err(SchemaError::at("the names of the context's settings"))?;
    let made_with: Vec<String> = made_with.map(|row| row.get(0)).unwrap_or_default();
    match made_with.as_slice() {
        [workspace, seal] if **workspace != *names.workspace || **seal != *names.seal => {
            Err(SchemaError::ContextIsFixed { workspace: workspace.clone(), seal: seal.clone() })
        }
        _ => Ok(()),
    }
}

/// The newest migration that was applied; 0 for none.
async fn version(client: &Client) -> Result<i64, SchemaError> {
    let at = || SchemaError::at("the version of the schema cordon");
    let there = client.query_one("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[&HISTORY]).await.map_err(at())?;
    if !there.get::<_, bool>(0) {
        return Ok(0);
    }
    let newest = client
        .query_one(&format!("SELECT coalesce(max(version), 0)::bigint FROM {HISTORY}"), &[])
        .await
        .map_err(at())?;
    Ok(newest.get(0))
}

async fn run(client: &mut Client, names: &ContextNames) -> Result<Vec<String>, SchemaError> {
    let wrong = |error: refinery::Error| SchemaError::Migration(error.to_string());
    let migrations = MIGRATIONS
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, &with_names(sql, names)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong)?;
    let mut runner = Runner::new(&migrations).set_target(Target::Latest).set_grouped(true);
    runner.set_migration_table_name(HISTORY);
    let report = runner.run_async(client).await.map_err(wrong)?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}

/// A function of the schema `cordon`, as a migration makes it.
pub(super) struct Made {
    /// The text of its body.
    pub(super) body: String,
    /// Whether it runs with the rights of the schema's owner.
    pub(super) is_definer: bool,
    /// Whether it has a search path of its own.
    pub(super) has_path: bool,
}

/// The functions in the schema `cordon` whose bodies are texts, as the newest migrations make them, by name.
pub(super) fn functions(names: &ContextNames) -> BTreeMap<String, Made> {
    let mut functions = BTreeMap::new();
    for (_, sql) in MIGRATIONS {
        let sql = with_names(sql, names);
        for made in sql.split("FUNCTION cordon.").skip(1) {
            let Some((head, rest)) = made.split_once("AS $function$") else { continue };
            let (Some((name, _)), Some((body, _))) = (head.split_once('('), rest.split_once("$function$")) else {
                continue;
            };
            // A grant, a trigger or another kind of function may stand between a name and somebody else's body.
            if !head.contains(';') {
                let (is_definer, has_path) = (head.contains("SECURITY DEFINER"), head.contains("SET search_path"));
                let made = Made { body: body.to_owned(), is_definer, has_path };
                functions.insert(name.to_owned(), made);
            }
        }
    }
    functions
}

/// The settings' names are configurable; they are checked to be plain identifiers with a dot.
fn with_names(sql: &str, names: &ContextNames) -> String {
    sql.replace("'app.workspace_id'", &format!("'{}'", names.workspace))
        .replace("'app.workspace_seal'", &format!("'{}'", names.seal))
}
