//! What tenants may do with the tables that have no workspace column of their own, with schemas and with views.
//!
//! Not all of these tables are reference data. One that lists the workspaces would tell every tenant the names of the
//! others: it gets a policy of its own here. Rows that hang on a tenant's rows by a foreign key are the tenant's too: these
//! tables are protected by way of it.

use super::schema::{Part, Table};
use crate::control::RoleNames;
use crate::control::schema::ident;
use crate::control::schema::protect::walls;

/// The statements that let tenants at one table, or none if it is `protect` that does it.
pub(super) fn statements(table: &Table, roles: &RoleNames) -> Option<String> {
    let (name, readers) = (&table.name, readers(roles));
    match &table.part {
        Part::Tenants { .. } | Part::Child { .. } => None,
        Part::Reference => Some(format!("GRANT SELECT ON {name} TO {readers}")),
        Part::Workspaces { column } => {
            let condition = format!("{} = (SELECT cordon.workspace_id())", ident(column));
            Some(format!("{}; GRANT SELECT ON {name} TO {readers}", walls(name, &condition).join("; ")))
        }
    }
}

/// How a person is told, unless there is nothing to tell.
pub(super) fn told(table: &Table) -> Option<String> {
    let name = table.name.strip_prefix("public.").unwrap_or(&table.name);
    match &table.part {
        Part::Tenants { .. } => None,
        Part::Reference => Some(format!("{name} has no workspace column: every tenant may read it, none may write it")),
        Part::Workspaces { .. } => Some(format!("{name} lists the workspaces: each tenant may read its own row")),
        Part::Child { parent, foreign_key } => {
            let parent = parent.strip_prefix("public.").unwrap_or(parent);
            Some(format!("{name} has no workspace column: its rows follow {parent} ({foreign_key})"))
        }
    }
}

/// Lets tenants into the schemas of the application, and at the views that run with the caller's rights.
pub(super) fn general(schemas: &[String], views: &[String], roles: &RoleNames) -> String {
    let readers = readers(roles);
    let schemas = schemas.iter().map(|schema| format!("GRANT USAGE ON SCHEMA {schema} TO {readers};\n"));
    let views = views.iter().map(|view| format!("GRANT SELECT ON {view} TO {readers};\n"));
    schemas.chain(views).collect()
}

fn readers(roles: &RoleNames) -> String {
    format!("{}, {}", ident(&roles.application), ident(&roles.read_only))
}
