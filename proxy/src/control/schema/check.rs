//! Finds the holes in the isolation: reads the catalogs as an administrator and says what is open, worst first, and which
//! statement closes it. What it tries, it takes back.

use serde::Serialize;
use tokio_postgres::Client;

use super::protect::CROSSING;
use super::{SchemaError, harden};
use crate::control::RoleNames;
use crate::tenant::ContextNames;

mod counts;
mod functions;
mod probe;
mod rules;

/// How bad a finding is. What is above `info` is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Tenants see or change each other's rows.
    Critical,
    /// They do under a condition that a tenant can bring about.
    High,
    /// They learn of each other, or disturb each other.
    Medium,
    /// It costs time, or errors.
    Low,
    /// Worth knowing.
    Info,
}

impl Severity {
    fn named(name: &str) -> Self {
        match name {
            "high" => Self::High,
            "medium" => Self::Medium,
            "low" => Self::Low,
            "info" => Self::Info,
            _ => Self::Critical,
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What rule found it; stable.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The table, role or function, quoted as SQL needs it.
    pub object: String,
    /// What is wrong.
    pub what: String,
    /// The statement, or the command, that closes it.
    pub fix: String,
}

/// All findings, worst first.
///
/// # Errors
/// The catalogs can't be read, or the schema `cordon` isn't there.
pub async fn check(client: &Client, roles: &RoleNames, names: &ContextNames) -> Result<Vec<Finding>, SchemaError> {
    let there = client
        .query_one("SELECT pg_catalog.to_regtype('cordon.attestation') IS NOT NULL", &[])
        .await
        .map_err(SchemaError::at("the schema cordon"))?;
    if !there.get::<_, bool>(0) {
        return Err(SchemaError::Refused(
            "this database has no schema cordon, or an older one: run pgcordon migrate first".to_owned(),
        ));
    }
    // What the administrator's own search path holds mustn't change what a rule means.
    client
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp")
        .await
        .map_err(SchemaError::at("a transaction to look around in"))?;
    let found = look(client, roles, names).await;
    client.batch_execute("ROLLBACK").await.map_err(SchemaError::at("the transaction to look around in"))?;
    let mut findings = found?;
    findings.extend(probe::probe(client, roles, names).await?);
    findings.sort_by(|one, other| (one.severity, one.id, &one.object).cmp(&(other.severity, other.id, &other.object)));
    Ok(findings)
}

async fn look(client: &Client, roles: &RoleNames, names: &ContextNames) -> Result<Vec<Finding>, SchemaError> {
    let RoleNames { owner, application, read_only, system, cordon, control } = roles;
    let mut findings = Vec::new();
    for rule in rules::ALL {
        // Every rule has all roles' names as its parameters.
        let rows = client
            .query(
                &format!("{} {}", rules::WHO, rule.sql.replace("{crossing}", CROSSING)),
                &[owner, application, read_only, system, cordon, control],
            )
            .await
            .map_err(SchemaError::at(format!("the check {}", rule.id)))?;
        findings.extend(rows.iter().map(|row| Finding {
            id: rule.id,
            severity: Severity::named(row.get(0)),
            object: row.get(1),
            what: row.get(2),
            fix: row.get(3),
        }));
    }
    findings.extend(unhardened(client, roles).await?);
    findings.extend(functions::changed(client, roles, names).await?);
    findings.extend(counts::uncountable(client).await?);
    Ok(findings)
}

/// The functions of the catalog that show or disturb siblings and that tenants may call.
async fn unhardened(client: &Client, roles: &RoleNames) -> Result<Option<Finding>, SchemaError> {
    let open = harden::callable(client, &[&roles.application, &roles.read_only]).await?;
    let Some(first) = open.first() else { return Ok(None) };
    let fix = if harden::may_revoke(client, &open).await? { rules::HARDEN } else { rules::HARDEN_AS_SUPERUSER };
    Ok(Some(Finding {
        id: "catalog-unhardened",
        severity: Severity::Medium,
        object: first.name.clone(),
        what: format!("tenants may call it and {} more like it: each shows or disturbs other sessions", open.len() - 1),
        fix: fix.to_owned(),
    }))
}
