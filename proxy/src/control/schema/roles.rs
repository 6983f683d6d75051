//! The upstream roles. None may be another, and each is made with the least it needs.

use std::collections::BTreeMap;

use postgres_protocol::password::scram_sha_256;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::{SchemaError, ident, literal};
use crate::control::RoleNames;
use crate::domain::Secret;

/// Creates the roles that are missing and puts their attributes right.
///
/// # Errors
/// Postgres refuses, as it does to administrators without CREATEROLE.
pub async fn ensure(client: &Client, roles: &RoleNames) -> Result<(), SchemaError> {
    let wanted = [
        (&roles.owner, "NOLOGIN NOBYPASSRLS"),
        (&roles.application, "LOGIN NOBYPASSRLS"),
        (&roles.read_only, "LOGIN NOBYPASSRLS"),
        (&roles.system, "LOGIN BYPASSRLS"),
        (&roles.cordon, "NOLOGIN NOBYPASSRLS"),
        (&roles.control, "LOGIN NOBYPASSRLS"),
    ];
    for (name, attributes) in wanted {
        let step = || SchemaError::at(format!("role {name}"));
        let there =
            client.query_opt("SELECT FROM pg_catalog.pg_roles WHERE rolname = $1", &[name]).await.map_err(step())?;
        let verb = if there.is_some() { "ALTER" } else { "CREATE" };
        let statement = format!(
            "{verb} ROLE {} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION INHERIT {attributes}",
            ident(name)
        );
        client.batch_execute(&statement).await.map_err(step())?;
    }
    // Migrations act on what the owner has. The owner is no member of anything.
    let membership = format!("GRANT {} TO {}", ident(&roles.owner), ident(&roles.system));
    client.batch_execute(&membership).await.map_err(SchemaError::at("membership of the system role"))
}

/// Gives the roles the passwords that the configuration has for them. Postgres gets verifiers, so no password is in its log.
/// Returns whose were set; other roles than the proxy's own are left alone.
///
/// # Errors
/// Postgres refuses.
pub async fn set_passwords<'a>(
    client: &Client,
    roles: &'a RoleNames,
    passwords: &BTreeMap<String, Secret>,
) -> Result<Vec<&'a str>, SchemaError> {
    let mut set = Vec::new();
    for role in [&roles.application, &roles.read_only, &roles.system, &roles.control] {
        let Some(password) = passwords.get(role).filter(|password| !password.is_empty()) else { continue };
        let verifier = scram_sha_256(password.expose().as_bytes());
        let statement = format!("ALTER ROLE {} PASSWORD {}", ident(role), literal(&verifier));
        client.batch_execute(&statement).await.map_err(SchemaError::at(format!("the password of role {role}")))?;
        set.push(role.as_str());
    }
    Ok(set)
}

/// Lets the owner of the schema `cordon` set the mark (`migrations/0006_mark.sql`). Returns whether it may: only a superuser can
/// grant that, and only since Postgres 15.
///
/// # Errors
/// Postgres can't be asked.
pub async fn grant_mark(client: &Client, roles: &RoleNames) -> Result<bool, SchemaError> {
    let at = || SchemaError::at("the right to set the mark of the workspace");
    let knows = "SELECT pg_catalog.current_setting('server_version_num')::int >= 150000";
    if !client.query_one(knows, &[]).await.map_err(at())?.get::<_, bool>(0) {
        return Ok(false);
    }
    let granted = "SELECT pg_catalog.has_parameter_privilege($1, 'backtrace_functions', 'SET')";
    if client.query_one(granted, &[&roles.cordon]).await.map_err(at())?.get(0) {
        return Ok(true);
    }
    let grant = format!("GRANT SET ON PARAMETER backtrace_functions TO {}", ident(&roles.cordon));
    match client.batch_execute(&grant).await {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(false),
        Err(error) => Err(at()(error)),
    }
}

/// Lets the proxy's own role end server processes that go on without a client, and see who waits for whose locks. Returns whether it
/// may: an administrator who is no superuser may be refused.
///
/// # Errors
/// Postgres can't be asked.
pub async fn grant_signals(client: &Client, roles: &RoleNames) -> Result<bool, SchemaError> {
    let control = ident(&roles.control);
    let functions = "pg_catalog.pg_terminate_backend(int, bigint), pg_catalog.pg_stat_get_activity(int), \
        pg_catalog.pg_lock_status(), pg_catalog.pg_blocking_pids(int)";
    let mut may = true;
    for grant in
        [format!("GRANT pg_signal_backend TO {control}"), format!("GRANT EXECUTE ON FUNCTION {functions} TO {control}")]
    {
        match client.batch_execute(&grant).await {
            Ok(()) => {}
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => may = false,
            Err(error) => return Err(SchemaError::at("the right to end server processes")(error)),
        }
    }
    Ok(may)
}

/// Gives each role what it needs of the schema `cordon` and of the database, and nothing more.
///
/// # Errors
/// Postgres refuses.
pub async fn grant(client: &Client, roles: &RoleNames) -> Result<(), SchemaError> {
    let (control, owner, system) = (ident(&roles.control), ident(&roles.owner), ident(&roles.system));
    let statements = format!(
        "REVOKE ALL ON SCHEMA cordon FROM PUBLIC;
         REVOKE ALL ON ALL TABLES IN SCHEMA cordon FROM PUBLIC;
         REVOKE ALL ON ALL SEQUENCES IN SCHEMA cordon FROM PUBLIC;
         REVOKE ALL ON ALL FUNCTIONS IN SCHEMA cordon FROM PUBLIC;
         GRANT USAGE ON SCHEMA cordon TO PUBLIC;
         GRANT EXECUTE ON FUNCTION cordon.workspace_id(), cordon.sealed_workspace_id(), cordon.mark(), cordon.bind(text), cordon.deny(text) TO PUBLIC;
         GRANT EXECUTE ON FUNCTION cordon.pg_notify(text, text) TO PUBLIC;
         GRANT EXECUTE ON FUNCTION cordon.notify_workspace(uuid, text, text) TO {system};
         GRANT SELECT, INSERT, UPDATE, DELETE ON cordon.workspace, cordon.api_key TO {control};
         GRANT SELECT ON cordon.signing_key, cordon.audit_stream, cordon.audit_event TO {control};
         GRANT EXECUTE ON FUNCTION cordon.audit_lock(text), cordon.audit_append(text, jsonb, boolean) TO {control};
         GRANT SELECT ON cordon.resource, cordon.meter, cordon.metered TO {control};
         GRANT SELECT, INSERT, UPDATE, DELETE ON cordon.quota, cordon.flow TO {control};
         GRANT CREATE, USAGE ON SCHEMA public TO {owner}, {system};
         DO $do$ BEGIN
             EXECUTE pg_catalog.format('GRANT CREATE, TEMPORARY ON DATABASE %I TO {owner}, {system}', pg_catalog.current_database());
         END $do$;"
    );
    client.batch_execute(&statements).await.map_err(SchemaError::at("grants on the schema cordon"))?;
    let hand_over = include_str!("hand_over.sql")
        .replace("{system_literal}", &literal(&roles.system))
        .replace("{system}", &system)
        .replace("{owner}", &owner);
    client
        .batch_execute(&hand_over)
        .await
        .map_err(SchemaError::at("the event trigger that hands new objects to the owner"))?;
    client
        .batch_execute(include_str!("catalog_changed.sql"))
        .await
        .map_err(SchemaError::at("the event triggers that tell of changes to the catalog"))?;
    client
        .batch_execute(
            "DROP EVENT TRIGGER IF EXISTS pgcordon_forget_dropped;
             CREATE EVENT TRIGGER pgcordon_forget_dropped ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED')
                 EXECUTE FUNCTION cordon.forget_dropped()",
        )
        .await
        .map_err(SchemaError::at("the event trigger that forgets dropped tables"))
}
