//! Makes a table tenant-safe, and undoes it. What is there already stays: protecting a table twice changes nothing.

use tokio_postgres::{Client, GenericClient};

use super::{SchemaError, ident, literal, require_migrated};
use crate::control::RoleNames;
use crate::tenant::ContextNames;

/// The policy that opens the table; the wall is the other one.
const OPEN: &str = "pgcordon_open";
/// A restrictive policy: whatever other policies permit, this one must hold as well.
pub(super) const WALL: &str = "pgcordon_workspace";

/// How a table is to be protected.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The workspace column; `workspace_id` or `workspaceId`, whichever there is, if none is named.
    pub column: Option<String>,
    /// Adds the column where there is none.
    pub add_column: bool,
    /// The foreign key column by which rows belong to a protected parent, for tables without a workspace column.
    pub via: Option<String>,
    /// Changes nothing, only says what would be done.
    pub dry_run: bool,
}

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    /// The table, quoted and with its schema.
    pub table: String,
    /// The statements.
    pub statements: Vec<String>,
}

/// Makes a table tenant-safe.
///
/// # Errors
/// No such table, no workspace column, or whatever Postgres refuses; nothing is changed then.
pub async fn protect(
    client: &mut Client,
    roles: &RoleNames,
    names: &ContextNames,
    table: &str,
    options: &Options,
) -> Result<Protected, SchemaError> {
    if !options.dry_run {
        require_migrated(client).await?;
    }
    let found = Table::find(client, table).await?;
    let mut statements = Vec::new();
    match &options.via {
        Some(column) => {
            let belongs = found.belongs_via(client, column).await?;
            statements.extend(walls(&found.name, &belongs));
        }
        None => {
            let column = found.workspace_column(options)?;
            if !found.columns.iter().any(|(name, _)| *name == column) {
                statements.push(format!("ALTER TABLE {} ADD COLUMN {} uuid NOT NULL", found.name, ident(&column)));
            }
            let setting = literal(&names.workspace);
            statements.push(format!(
                "ALTER TABLE {} ALTER COLUMN {} SET DEFAULT NULLIF(pg_catalog.current_setting({setting}, true), '')::uuid",
                found.name,
                ident(&column)
            ));
            if !found.has_index_on(client, &column).await? {
                statements.push(format!("CREATE INDEX ON {} ({})", found.name, ident(&column)));
            }
            statements.extend(walls(&found.name, &format!("{} = (SELECT cordon.workspace_id())", ident(&column))));
        }
    }
    grants(&found, roles, &mut statements);
    if !options.dry_run {
        apply(client, &found.name, &statements).await?;
    }
    Ok(Protected { table: found.name, statements })
}

/// Takes the policies off a table. Its column, its default and its grants to tenants go their own way: the grants are taken
/// away, for the table is open now; column and data stay.
///
/// # Errors
/// No such table, or whatever Postgres refuses.
pub async fn unprotect(
    client: &mut Client,
    roles: &RoleNames,
    table: &str,
    dry_run: bool,
) -> Result<Protected, SchemaError> {
    require_migrated(client).await?;
    let found = Table::find(client, table).await?;
    let name = &found.name;
    let statements = vec![
        format!("REVOKE ALL ON {name} FROM {}, {}", ident(&roles.application), ident(&roles.read_only)),
        format!("DROP POLICY IF EXISTS {WALL} ON {name}"),
        format!("DROP POLICY IF EXISTS {OPEN} ON {name}"),
        format!("ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY"),
        format!("ALTER TABLE {name} DISABLE ROW LEVEL SECURITY"),
    ];
    if !dry_run {
        apply(client, name, &statements).await?;
    }
    Ok(Protected { table: found.name, statements })
}

async fn apply(client: &mut Client, table: &str, statements: &[String]) -> Result<(), SchemaError> {
    let at = || SchemaError::at(format!("table {table}"));
    let transaction = client.transaction().await.map_err(at())?;
    for statement in statements {
        transaction.batch_execute(statement).await.map_err(SchemaError::at(format!("table {table}: {statement}")))?;
    }
    transaction.commit().await.map_err(at())
}

/// The statements that let through only rows for which `belongs` holds; `table` is quoted and has its schema.
pub fn walls(table: &str, belongs: &str) -> Vec<String> {
    let enable = |what: &str| format!("ALTER TABLE {table} {what} ROW LEVEL SECURITY");
    let drop = |policy: &str| format!("DROP POLICY IF EXISTS {policy} ON {table}");
    vec![
        enable("ENABLE"),
        enable("FORCE"),
        drop(WALL),
        drop(OPEN),
        format!(
            "CREATE POLICY {WALL} ON {table} AS RESTRICTIVE FOR ALL TO PUBLIC USING ({belongs}) WITH CHECK ({belongs})"
        ),
        // The restrictive policy is computed once; a second copy of it here would be computed again.
        format!("CREATE POLICY {OPEN} ON {table} AS PERMISSIVE FOR ALL TO PUBLIC USING (true) WITH CHECK (true)"),
    ]
}

fn grants(table: &Table, roles: &RoleNames, statements: &mut Vec<String>) {
    let name = &table.name;
    let (application, read_only, system) = (ident(&roles.application), ident(&roles.read_only), ident(&roles.system));
    statements.push(format!("REVOKE ALL ON {name} FROM PUBLIC, {application}, {read_only}"));
    statements.push(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {application}, {system}"));
    statements.push(format!("GRANT SELECT ON {name} TO {read_only}"));
    statements.push(format!("GRANT USAGE ON SCHEMA {} TO {application}, {read_only}, {system}", ident(&table.schema)));
    for sequence in &table.sequences {
        statements.push(format!("GRANT USAGE ON SEQUENCE {sequence} TO {application}, {system}"));
    }
}

/// Whose a schema is that no application has its tables in. What `protect` grants and `unprotect` takes away would open or
/// break it.
fn whose_schema(schema: &str) -> Option<&'static str> {
    match schema {
        "cordon" => Some("pgcordon's"),
        "information_schema" => Some("Postgres'"),
        // Names that begin so are reserved (Postgres docs, "The System Catalog Schema"); temporary tables are in one of them.
        _ if schema.starts_with("pg_") => Some("Postgres'"),
        _ => None,
    }
}

pub(super) struct Table {
    pub(super) oid: u32,
    schema: String,
    /// Quoted and with its schema.
    pub(super) name: String,
    /// Names and types.
    columns: Vec<(String, String)>,
    sequences: Vec<String>,
}

impl Table {
    pub(super) async fn find(client: &impl GenericClient, table: &str) -> Result<Self, SchemaError> {
        let at = || SchemaError::at(format!("table {table}"));
        // As SQL reads the name, and as it stands: a camelCase name needs no quotes on the command line.
        let row = client
            .query_opt(
                "SELECT c.oid, n.nspname, pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind::text \
                 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                 WHERE c.oid = coalesce(pg_catalog.to_regclass(pg_catalog.quote_ident($1)), \
                     CASE WHEN $1 ~ '[.\"]' THEN pg_catalog.to_regclass($1) END, pg_catalog.to_regclass(pg_catalog.lower(pg_catalog.quote_ident($1))))",
                &[&table],
            )
            .await
            .map_err(at())?;
        let Some(row) = row else {
            return Err(SchemaError::Refused(format!(
                "there is no table {table:?} in the search path: name it with its schema"
            )));
        };
        let (oid, schema, name, kind): (u32, String, String, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
        if let Some(whose) = whose_schema(&schema) {
            return Err(SchemaError::Refused(format!(
                "{name} isn't a table of an application: the schema {schema} is {whose} own"
            )));
        }
        if !matches!(kind.as_str(), "r" | "p") {
            return Err(SchemaError::Refused(format!(
                "{name} is no table: views are safe with security_invoker = true, over protected tables"
            )));
        }
        let columns = client
            .query(
                "SELECT attname, pg_catalog.format_type(atttypid, NULL) FROM pg_catalog.pg_attribute \
                 WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                &[&oid],
            )
            .await
            .map_err(at())?;
        let sequences = client
            .query(
                "SELECT pg_catalog.format('%I.%I', n.nspname, s.relname) FROM pg_catalog.pg_depend d \
                 JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace \
                 WHERE d.refobjid = $1 AND d.deptype IN ('a', 'i')",
                &[&oid],
            )
            .await
            .map_err(at())?;
        Ok(Self {
            oid,
            schema,
            name,
            columns: columns.iter().map(|row| (row.get(0), row.get(1))).collect(),
            sequences: sequences.iter().map(|row| row.get(0)).collect(),
        })
    }

    fn workspace_column(&self, options: &Options) -> Result<String, SchemaError> {
        let candidates: Vec<&str> =
            options.column.as_deref().map_or(vec!["workspace_id", "workspaceId"], |column| vec![column]);
        let found = self.columns.iter().find(|(name, _)| candidates.contains(&name.as_str()));
        match found {
            Some((name, kind)) if kind == "uuid" => Ok(name.clone()),
            Some((name, kind)) => Err(SchemaError::Refused(format!(
                "{}: the column {name} is of type {kind}, and a workspace is a uuid",
                self.name
            ))),
            None if options.add_column => Ok(candidates[0].to_owned()),
            None => Err(SchemaError::Refused(format!(
                "{} has no workspace column: give --column, --add-column, or --via with a foreign key to a protected table",
                self.name
            ))),
        }
    }

    async fn has_index_on(&self, client: &Client, column: &str) -> Result<bool, SchemaError> {
        let row = client
            .query_one(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
                 WHERE i.indrelid = $1 AND a.attname = $2 AND i.indisvalid AND i.indpred IS NULL)",
                &[&self.oid, &column],
            )
            .await
            .map_err(SchemaError::at(format!("the indexes of {}", self.name)))?;
        Ok(row.get(0))
    }

    /// The condition that a row's parent is visible, and with it the row: the parent's own policies say whose it is.
    async fn belongs_via(&self, client: &Client, via: &str) -> Result<String, SchemaError> {
        let row = client
            .query_opt(
                "SELECT pg_catalog.format('%I.%I', n.nspname, p.relname), a.attname, p.relrowsecurity AND p.relforcerowsecurity, c.attname \
                 FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class p ON p.oid = k.confrelid \
                 JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace \
                 JOIN pg_catalog.pg_attribute c ON c.attrelid = k.conrelid AND c.attnum = k.conkey[1] \
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = k.confkey[1] \
                 WHERE k.contype = 'f' AND k.conrelid = $1 AND $2 IN (c.attname, k.conname) AND pg_catalog.array_length(k.conkey, 1) = 1 \
                 ORDER BY k.conname = $2 DESC, k.conname LIMIT 1",
                &[&self.oid, &via],
            )
            .await
            .map_err(SchemaError::at(format!("the foreign keys of {}", self.name)))?;
        let Some(row) = row else {
            return Err(SchemaError::Refused(format!(
                "{} has no foreign key {via}, and none on a column {via} alone",
                self.name
            )));
        };
        let (parent, key, is_protected, column): (String, String, bool, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        if !is_protected {
            return Err(SchemaError::Refused(format!(
                "{parent}, to which {column} refers, isn't protected itself: protect it first"
            )));
        }
        let (child, column, key) = (&self.name, ident(&column), ident(&key));
        Ok(format!("EXISTS (SELECT FROM {parent} AS parent WHERE parent.{key} = {child}.{column})"))
    }
}
