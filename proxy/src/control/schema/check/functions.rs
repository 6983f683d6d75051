//! Whether pgcordon's own functions, and the domain in which a seal is verified, are to the letter what the migrations made.

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

/// Of the domain that verifies a seal: its CHECKs, whether its owner is who it should be, and whether there are marks at all.
const ATTESTATION: &str = "\
    SELECT ARRAY(SELECT regexp_replace(pg_get_constraintdef(c.oid), '\\s+', ' ', 'g') FROM pg_constraint c WHERE c.contypid = t.oid), \
        t.typowner = (SELECT oid FROM pg_roles WHERE rolname = $1) AND t.typbasetype = 'bytea'::regtype, \
        current_setting('server_version_num')::int >= 150000 \
    FROM pg_type t WHERE t.oid = 'cordon.attestation'::regtype";

/// What the CHECK of `cordon.attestation` is, as Postgres writes it.
fn attests(names: &ContextNames, owner: &str, has_marks: bool) -> String {
    if !has_marks {
        return "CHECK (true)".to_owned();
    }
    let owner = owner.replace('\'', "''");
    let [workspace, seal] = [&names.workspace, &names.seal]
        .map(|name| format!("current_setting('{}'::text, true)", name.replace('\'', "''")));
    let (expiry, given) = (format!("split_part({seal}, '.'::text, 1)"), format!("split_part({seal}, '.'::text, 2)"));
    let sealed = format!("convert_to(concat_ws('|'::text, {workspace}, pg_backend_pid(), {expiry}), 'UTF8'::name)");
    let hmac = format!("sha256((\"substring\"(VALUE, 65, 64) || sha256((\"substring\"(VALUE, 1, 64) || {sealed}))))");
    format!(
        "CHECK ( CASE WHEN (CURRENT_USER <> '{owner}'::name) THEN true \
         WHEN (NOT has_parameter_privilege('backtrace_functions'::text, 'SET'::text)) THEN true \
         WHEN (({workspace} <> ''::text) AND (sha256(convert_to(encode({hmac}, 'hex'::text), 'UTF8'::name)) \
         = sha256(convert_to({given}, 'UTF8'::name)))) \
         THEN CASE WHEN (date_part('epoch'::text, clock_timestamp()) < ({expiry})::double precision) \
         THEN (set_config('backtrace_functions'::text, replace({workspace}, '-'::text, ''::text), false) IS NOT NULL) \
         ELSE (set_config('backtrace_functions'::text, ''::text, false) IS NOT NULL) END \
         ELSE (set_config('backtrace_functions'::text, ''::text, false) IS NOT NULL) END)"
    )
}

/// The functions, and the domain, that aren't as they were made, or are missing.
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
    let mut findings: Vec<_> = changed.into_iter().map(|name| finding(format!("{name}()"))).collect();
    let domain = client
        .query_one(ATTESTATION, &[&roles.cordon])
        .await
        .map_err(SchemaError::at("the domain in which a seal is verified"))?;
    if domain.get::<_, Vec<String>>(0) != [attests(names, &roles.cordon, domain.get(2))] || !domain.get::<_, bool>(1) {
        findings.push(finding("attestation".to_owned()));
    }
    Ok(findings)
}

fn finding(name: String) -> Finding {
    Finding {
        id: "sealed-function",
        severity: Severity::Critical,
        object: format!("cordon.{name}"),
        what: "isn't as pgcordon made it: its text, its owner, its rights or its search path were changed".to_owned(),
        fix: format!("restore it: its definition is the last one of cordon.{name} in the migrations of this version"),
    }
}
