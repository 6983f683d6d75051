//! Whether pgcordon's own functions, the domains that do the work of a bind, and the triggers by which a signing key counts no more are to
//! the letter what the migrations made.

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

/// Of the domains: name, what they are made of, whether its owner is who it should be, and their CHECKs.
const DOMAINS: &str = "\
    SELECT t.typname::text, t.typbasetype::regtype::text, t.typowner = (SELECT oid FROM pg_roles WHERE rolname = $1), \
        ARRAY(SELECT regexp_replace(pg_get_constraintdef(c.oid), '\\s+', ' ', 'g') FROM pg_constraint c WHERE c.contypid = t.oid) \
    FROM pg_type t WHERE t.typnamespace = 'cordon'::regnamespace AND t.typtype = 'd'";

/// Whether there are marks at all.
const HAS_MARKS: &str = "SELECT current_setting('server_version_num')::int >= 150000";

/// What of the triggers of the signing keys there is, and whether the type of what `cordon.bind()` returns does its work.
const TRIGGERS: &str = "\
    SELECT ARRAY(SELECT concat_ws(' ', t.tgname, t.tgenabled, t.tgtype, t.tgattr, t.tgqual) FROM pg_trigger t \
            WHERE t.tgrelid = 'cordon.signing_key'::regclass AND t.tgfoid = to_regprocedure('cordon.another_epoch()') ORDER BY t.tgname), \
        EXISTS (SELECT FROM pg_proc p WHERE p.oid = to_regprocedure('cordon.bind(text)') AND p.prorettype = to_regtype('cordon.binding'))";

/// What they are: always on; behind each row that is inserted, deleted or changed in columns 1 to 4 or 6, and behind TRUNCATE.
const EPOCHS: [&str; 2] = ["another_epoch A 29 1 2 3 4 6", "another_epoch_when_emptied A 32 "];

/// What the CHECK of `cordon.keeping` is, as Postgres writes it.
fn keeps(owner: &str) -> String {
    format!(
        "CHECK ( CASE WHEN (CURRENT_USER <> '{}'::name) THEN true \
         WHEN (( CASE \
         WHEN (\"substring\"(VALUE, 1, 8) = int8send(pg_sequence_last_value('cordon.epoch_in_force'::regclass))) \
         THEN \"substring\"(VALUE, 9) ELSE NULL::bytea END)::cordon.attestation IS NULL) THEN true ELSE true END)",
        owner.replace('\'', "''")
    )
}

/// What the CHECK of `cordon.binding` is, as Postgres writes it.
fn binds(names: &ContextNames, owner: &str) -> String {
    let [workspace, seal] = [&names.workspace, &names.seal].map(|name| name.replace('\'', "''"));
    format!(
        "CHECK ( CASE WHEN (CURRENT_USER <> '{}'::name) THEN true \
         WHEN (set_config('{workspace}'::text, split_part(VALUE, '|'::text, 1), false) IS NULL) THEN false \
         WHEN (set_config('{seal}'::text, split_part(VALUE, '|'::text, 2), false) IS NULL) THEN false \
         WHEN (setseed((split_part(VALUE, '|'::text, 3))::double precision) IS NULL) THEN false \
         WHEN CASE WHEN ((cordon.kept_key())::cordon.keeping IS NULL) THEN false \
         ELSE (NULLIF(replace(current_setting('{workspace}'::text, true), '-'::text, ''::text), ''::text) \
         = current_setting('backtrace_functions'::text, true)) END THEN true \
         ELSE (cordon.mark() IS NOT NULL) END)",
        owner.replace('\'', "''")
    )
}

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
    findings.extend(changed_domains(client, roles, names).await?);
    let (triggers, has_type) = client
        .query_one(TRIGGERS, &[])
        .await
        .map(|row| (row.get::<_, Vec<String>>(0), row.get::<_, bool>(1)))
        .map_err(SchemaError::at("the triggers of the keys of the seals"))?;
    if triggers != EPOCHS {
        findings.push(finding("signing_key".to_owned()));
    }
    if !has_type {
        findings.push(finding("bind(text)".to_owned()));
    }
    Ok(findings)
}

async fn changed_domains(
    client: &Client,
    roles: &RoleNames,
    names: &ContextNames,
) -> Result<Vec<Finding>, SchemaError> {
    let at = || SchemaError::at("the domains in which a seal is verified");
    let has_marks = client.query_one(HAS_MARKS, &[]).await.map_err(at())?.get(0);
    let rows = client.query(DOMAINS, &[&roles.cordon]).await.map_err(at())?;
    let made = [
        ("attestation", "bytea", attests(names, &roles.cordon, has_marks)),
        ("keeping", "bytea", keeps(&roles.cordon)),
        ("binding", "text", binds(names, &roles.cordon)),
    ];
    let is_whole = |(name, base, check): &(&str, &str, String)| {
        rows.iter().any(|row| {
            (row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, bool>(2)) == (name, base, true)
                && row.get::<_, Vec<String>>(3) == [check.as_str()]
        })
    };
    Ok(made.iter().filter(|each| !is_whole(each)).map(|(name, ..)| finding((*name).to_owned())).collect())
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
