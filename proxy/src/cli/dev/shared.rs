//! What tenants may do with the tables that have no workspace column of their own, with schemas and with views.
//!
//! Not all of these tables are reference data. One that lists the workspaces would tell every tenant the names of the
//! others, and rows that hang on a tenant's rows by a foreign key are the tenant's too: both get a policy here.

use super::schema::{Part, Table, quote};
use crate::control::RoleNames;
use crate::control::schema::protect::walls;

/// The statements that let tenants at one table, or none if it is `protect` that does it.
pub(super) fn statements(table: &Table, roles: &RoleNames) -> Option<String> {
    let (name, readers) = (&table.name, readers(roles));
    let application = quote(&roles.application);
    Some(match &table.part {
        Part::Tenants { .. } => return None,
        Part::Reference => format!("GRANT SELECT ON {name} TO {readers}"),
        Part::Workspaces { column } => {
            let condition = format!("{} = (SELECT cordon.workspace_id())", quote(column));
            format!("{}; GRANT SELECT ON {name} TO {readers}", policy(name, &condition))
        }
        Part::Child { parent, columns, .. } => {
            let equal = columns.iter().map(|(ours, theirs)| format!("p.{} = {name}.{}", quote(theirs), quote(ours)));
            // The parent's own policy holds inside: what isn't seen there isn't seen here.
            let condition =
                format!("EXISTS (SELECT FROM {parent} AS p WHERE {})", equal.collect::<Vec<_>>().join(" AND "));
            format!(
                "{}; GRANT SELECT ON {name} TO {readers}; GRANT INSERT, UPDATE, DELETE ON {name} TO {application}",
                policy(name, &condition)
            )
        }
    })
}

/// How a person is told, unless there is nothing to tell.
pub(super) fn told(table: &Table) -> Option<String> {
    let name = table.name.strip_prefix("public.").unwrap_or(&table.name);
    match &table.part {
        Part::Tenants { .. } => None,
        Part::Reference => Some(format!("{name} has no workspace column: every tenant may read it, none may write it")),
        Part::Workspaces { .. } => Some(format!("{name} lists the workspaces: each tenant may read its own row")),
        Part::Child { parent, foreign_key, .. } => {
            let parent = parent.strip_prefix("public.").unwrap_or(parent);
            Some(format!("{name} has no workspace column: its rows follow {parent} ({foreign_key})"))
        }
    }
}

/// Lets tenants into the schemas of the application, at the views that run with the caller's rights and at the
/// sequences that columns own.
pub(super) fn general(schemas: &[String], views: &[String], sequences: &[String], roles: &RoleNames) -> String {
    let readers = readers(roles);
    let schemas = schemas.iter().map(|schema| format!("GRANT USAGE ON SCHEMA {schema} TO {readers};\n"));
    let views = views.iter().map(|view| format!("GRANT SELECT ON {view} TO {readers};\n"));
    let application = quote(&roles.application);
    let sequences = sequences.iter().map(|sequence| format!("GRANT USAGE ON SEQUENCE {sequence} TO {application};\n"));
    schemas.chain(views).chain(sequences).collect()
}

fn policy(table: &str, condition: &str) -> String {
    walls(table, condition).join("; ")
}

fn readers(roles: &RoleNames) -> String {
    format!("{}, {}", quote(&roles.application), quote(&roles.read_only))
}
