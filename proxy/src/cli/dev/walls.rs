//! The walls around the application's tables: the `cordon` schema and the roles, policies and grants, and what `harden`
//! takes away.

use tokio_postgres::Client;

use super::prepare::failed;
use super::progress::Progress;
use super::schema::{self, Part, SURROUNDINGS, Table};
use super::shared;
use crate::cli::Failure;
use crate::control::RoleNames;
use crate::control::schema::protect::Options;
use crate::control::schema::{SchemaError, harden, migrate, protect};
use crate::tenant::ContextNames;

/// Makes or upgrades the schema `cordon` and the roles.
pub(super) async fn migrate(client: &mut Client, roles: &RoleNames, names: &ContextNames) -> Result<(), Failure> {
    migrate::migrate(client, roles, names).await.map(|_| ()).map_err(told)
}

/// Protects every table of the application; returns one that a person may try.
pub(super) async fn raise(
    client: &mut Client,
    roles: &RoleNames,
    names: &ContextNames,
    progress: &Progress,
) -> Result<Option<String>, Failure> {
    let tables = schema::tables(client).await.map_err(failed("the application's tables"))?;
    let protected: Vec<&Table> = tables.iter().filter(|table| matches!(table.part, Part::Tenants { .. })).collect();
    for table in &tables {
        let options = match &table.part {
            Part::Tenants { column } => Options { column: Some(column.clone()), ..Options::default() },
            _ => continue,
        };
        protect::protect(client, roles, names, &table.name, &options).await.map_err(told)?;
    }
    progress.say(&format!("protected {}", count(protected.len(), "table")));
    for table in &tables {
        if let Some(statements) = shared::statements(table, roles) {
            client.batch_execute(&statements).await.map_err(failed("the grants on tables without a workspace"))?;
        }
        // A parent is protected before its children: the tables are sorted so.
        if let Part::Child { foreign_key, .. } = &table.part {
            let options = Options { via: Some(foreign_key.clone()), ..Options::default() };
            protect::protect(client, roles, names, &table.name, &options).await.map_err(told)?;
        }
        if let Some(line) = shared::told(table) {
            progress.say(&line);
        }
    }
    surroundings(client, roles, progress).await?;
    let hardened = harden::harden(client, roles, &[], false).await.map_err(told)?;
    for (statement, reason) in &hardened.refused {
        progress.say(&format!("not hardened: {statement}: {reason}"));
    }
    progress.say(&format!("hardened the catalog ({})", count(hardened.done.len(), "statement")));
    let shown = protected.iter().find(|table| table.name.contains("Segment")).or_else(|| protected.first());
    Ok(shown.map(|table| table.name.strip_prefix("public.").unwrap_or(&table.name).to_owned()))
}

async fn surroundings(client: &Client, roles: &RoleNames, progress: &Progress) -> Result<(), Failure> {
    let found = client.query_one(SURROUNDINGS, &[]).await.map_err(failed("the application's views"))?;
    let (schemas, views): (Vec<String>, Vec<String>) = (found.get(0), found.get(1));
    let grants = shared::general(&schemas, &views, roles);
    client.batch_execute(&grants).await.map_err(failed("the grants on schemas and views"))?;
    for view in found.get::<_, Vec<String>>(2) {
        progress
            .say(&format!("{view} is closed to tenants: it doesn't run with the caller's rights (security_invoker)"));
    }
    Ok(())
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn told(error: SchemaError) -> Failure {
    Failure::outside(error.to_string())
}
