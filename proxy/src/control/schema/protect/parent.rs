//! A foreign key by which a table's rows belong to a protected parent.

use tokio_postgres::GenericClient;

use super::table::Table;
use crate::control::schema::{SchemaError, ident};

/// A foreign key, and the table that it refers to.
pub(super) struct Parent {
    /// Quoted and with its schema.
    pub(super) name: String,
    /// Its workspace column, if it has one.
    pub(super) column: Option<String>,
    /// The columns, each with the one that it refers to.
    pub(super) pairs: Vec<(String, String)>,
}

const FOREIGN_KEYS: &str = "\
    SELECT pg_catalog.format('%I.%I', n.nspname, p.relname), p.relrowsecurity AND p.relforcerowsecurity, \
        (SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = p.oid AND NOT a.attisdropped \
            AND a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype AND a.attname IN ('workspace_id', 'workspaceId') ORDER BY 1 LIMIT 1), \
        ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u (num, place) \
            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.place), \
        ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u (num, place) \
            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.place) \
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class p ON p.oid = k.confrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace \
    WHERE k.contype = 'f' AND k.conrelid = $1 AND (k.conname = $2 OR pg_catalog.cardinality(k.conkey) = 1 AND $2 = \
        (SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1])) \
    ORDER BY k.conname = $2 DESC, k.conname LIMIT 1";

impl Parent {
    /// The foreign key of this name, or on this column alone.
    pub(super) async fn of(client: &impl GenericClient, table: &Table, via: &str) -> Result<Self, SchemaError> {
        let row = client
            .query_opt(FOREIGN_KEYS, &[&table.oid, &via])
            .await
            .map_err(SchemaError::at(format!("the foreign keys of {}", table.name)))?;
        let Some(row) = row else {
            return Err(SchemaError::Refused(format!(
                "{} has no foreign key {via}, and none on a column {via} alone",
                table.name
            )));
        };
        let (name, is_protected): (String, bool) = (row.get(0), row.get(1));
        let (ours, theirs): (Vec<String>, Vec<String>) = (row.get(3), row.get(4));
        if !is_protected {
            return Err(SchemaError::Refused(format!(
                "{name}, to which {} refers, isn't protected itself: protect it first",
                ours.join(", ")
            )));
        }
        Ok(Self { name, column: row.get(2), pairs: ours.into_iter().zip(theirs).collect() })
    }

    /// The condition that the parent of a row of `table` (quoted) is visible, and with it the row: the parent's own policies
    /// say whose it is.
    pub(super) fn is_visible(&self, table: &str) -> String {
        format!("EXISTS (SELECT FROM {} AS parent WHERE {})", self.name, self.matches(table))
    }

    /// The condition that `parent` is the parent of a row of `table`.
    pub(super) fn matches(&self, table: &str) -> String {
        let pairs = self.pairs.iter();
        let equal: Vec<String> =
            pairs.map(|(ours, theirs)| format!("parent.{} = {table}.{}", ident(theirs), ident(ours))).collect();
        equal.join(" AND ")
    }
}
