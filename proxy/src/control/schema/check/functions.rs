//! Whether pgcordon's own functions are, to the letter, what the migrations made.

use tokio_postgres::Client;

use super::{Finding, Severity};
use crate::control::RoleNames;
use crate::control::schema::{SchemaError, migrate};
use crate::tenant::ContextNames;

/// Those that run with the rights of the schema's owner, or decide for one that does.
const FUNCTIONS: &str = "\
    SELECT p.proname::text, p.prosrc, coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false), \
        p.prosecdef, p.provolatile::text, p.proparallel::text, l.lanname::text, regexp_replace(coalesce(pg_get_function_sqlbody(p.oid), ''), '\\s+', ' ', 'g'), \
        p.proowner = (SELECT oid FROM pg_roles WHERE rolname = $1) \
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace = 'cordon'::regnamespace";

/// What `cordon.workspace_id()` is, as Postgres writes it.
fn entrance(setting: &str) -> String {
    let setting = setting.replace('\'', "''");
    format!(
        "RETURN CASE WHEN (COALESCE(current_setting('{setting}'::text, true), ''::text) = ''::text) THEN NULL::uuid \
         WHEN (replace(current_setting('{setting}'::text, true), '-'::text, ''::text) = current_setting('backtrace_functions'::text, true)) \
         THEN (current_setting('backtrace_functions'::text, true))::uuid ELSE cordon.sealed_workspace_id() END"
    )
}

/// The functions that aren't as they were made, or are missing.
pub(super) async fn changed(
    client: &Client,
    roles: &RoleNames,
    names: &ContextNames,
) -> Result<Vec<Finding>, SchemaError> {
    let rows = client
        .query(FUNCTIONS, &[&roles.cordon])
        .await
        .map_err(SchemaError::at("the functions of the schema cordon"))?;
    let find = |name: &str| rows.iter().find(|row| row.get::<_, &str>(0) == name);
    let mut changed: Vec<String> = Vec::new();
    let mut made = migrate::functions(names);
    // Its body isn't a text any more.
    made.remove("workspace_id");
    for (name, made) in made {
        let is_whole = find(&name).is_some_and(|row| {
            let flags = (row.get(2), row.get(3), row.get(8));
            row.get::<_, &str>(1) == made.body && flags == (made.has_path, made.is_definer, true)
        });
        if !is_whole {
            changed.push(name);
        }
    }
    let is_whole = find("workspace_id").is_some_and(|row| {
        (row.get::<_, &str>(7), row.get::<_, bool>(3), row.get::<_, bool>(8))
            == (&entrance(&names.workspace), false, true)
            && (row.get::<_, &str>(4), row.get::<_, &str>(5), row.get::<_, &str>(6)) == ("s", "r", "sql")
    });
    if !is_whole {
        changed.push("workspace_id".to_owned());
    }
    Ok(changed.into_iter().map(finding).collect())
}

fn finding(name: String) -> Finding {
    Finding {
        id: "sealed-function",
        severity: Severity::Critical,
        object: format!("cordon.{name}()"),
        what: "isn't as pgcordon made it: its text, its owner, its rights or its search path were changed".to_owned(),
        fix: format!("restore it: its definition is the last one of cordon.{name} in the migrations of this version"),
    }
}
