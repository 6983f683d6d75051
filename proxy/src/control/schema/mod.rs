//! The database side: the schema `cordon`, the roles, and what makes tables and catalogs safe. Everything here runs as an
//! administrator, at an operator's command; the proxy itself never does.

pub mod check;
pub mod harden;
pub mod meter;
pub mod migrate;
mod notifying;
pub mod protect;
pub mod roles;
pub mod signing;

use tokio_postgres::Client;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Postgres refused, or can't be reached.
    #[error("{step}: {}", super::store::describe(.source))]
    Postgres {
        /// What was being done.
        step: String,
        /// What Postgres said.
        source: tokio_postgres::Error,
    },
    /// The migrations themselves.
    #[error("migrating the schema cordon: {0}")]
    Migration(String),
    /// A newer pgcordon was here.
    #[error("the schema cordon was migrated by a newer pgcordon (version {found}; this one knows {known})")]
    Newer {
        /// The newest migration that was applied.
        found: i64,
        /// The newest one this program has.
        known: i64,
    },
    /// The names of the context's settings are others than those that the schema was made with.
    #[error(
        "context.workspace_setting and context.seal_setting can't be changed after migrate: the schema cordon was made with {workspace} and {seal}"
    )]
    ContextIsFixed {
        /// The setting with the workspace.
        workspace: String,
        /// The setting with the seal.
        seal: String,
    },
    /// What was asked for makes no sense for this table.
    #[error("{0}")]
    Refused(String),
}

impl SchemaError {
    /// Names the step in front of Postgres' own words.
    pub(super) fn at(step: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let step = step.into();
        move |source| Self::Postgres { step, source }
    }
}

/// Sees to it that the schema `cordon` is there, which everything else goes by.
async fn require_migrated(client: &Client) -> Result<(), SchemaError> {
    let there = client
        .query_one("SELECT pg_catalog.to_regprocedure('cordon.workspace_id()') IS NOT NULL", &[])
        .await
        .map_err(SchemaError::at("the schema cordon"))?;
    if there.get(0) {
        Ok(())
    } else {
        Err(SchemaError::Refused("this database has no schema cordon: run pgcordon migrate first".to_owned()))
    }
}

/// An identifier as SQL writes it (Postgres docs, "Identifiers and Key Words").
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant as SQL writes it.
pub fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}
