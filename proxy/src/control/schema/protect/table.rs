//! A table of the application, and what of it matters to its protection.

use tokio_postgres::GenericClient;

use crate::control::schema::SchemaError;

/// A table of the application.
pub(in crate::control::schema) struct Table {
    pub(in crate::control::schema) oid: u32,
    pub(super) schema: String,
    /// Quoted and with its schema.
    pub(in crate::control::schema) name: String,
    /// As it stands in the catalog.
    pub(super) bare: String,
    pub(super) owner: String,
    pub(super) columns: Vec<Column>,
    pub(super) sequences: Vec<String>,
}

/// A column.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) is_nullable: bool,
    /// Its default, as Postgres writes it.
    pub(super) default: Option<String>,
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

impl Table {
    pub(in crate::control::schema) async fn find(
        client: &impl GenericClient,
        table: &str,
    ) -> Result<Self, SchemaError> {
        let at = || SchemaError::at(format!("table {table}"));
        // As SQL reads the name, and as it stands: a camelCase name needs no quotes on the command line.
        let row = client
            .query_opt(
                "SELECT c.oid, n.nspname, pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relname, \
                    pg_catalog.pg_get_userbyid(c.relowner) \
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
                "SELECT a.attname, pg_catalog.format_type(a.atttypid, NULL), NOT a.attnotnull, pg_catalog.pg_get_expr(d.adbin, d.adrelid) \
                 FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
                 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
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
        let column = |row: &tokio_postgres::Row| Column {
            name: row.get(0),
            kind: row.get(1),
            is_nullable: row.get(2),
            default: row.get(3),
        };
        Ok(Self {
            oid,
            schema,
            name,
            bare: row.get(4),
            owner: row.get(5),
            columns: columns.iter().map(column).collect(),
            sequences: sequences.iter().map(|row| row.get(0)).collect(),
        })
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether there is a row for which this holds.
    pub(super) async fn has_row(&self, client: &impl GenericClient, condition: &str) -> Result<bool, SchemaError> {
        let sql = format!("SELECT EXISTS (SELECT FROM {} WHERE {condition})", self.name);
        let row = client.query_one(&sql, &[]).await;
        Ok(row.map_err(SchemaError::at(format!("the rows of {}", self.name)))?.get(0))
    }

    pub(super) async fn has_index_on(&self, client: &impl GenericClient, column: &str) -> Result<bool, SchemaError> {
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

    /// The columns of its primary key, quoted.
    pub(super) async fn primary_key(&self, client: &impl GenericClient) -> Result<Vec<String>, SchemaError> {
        let row = client
            .query_one(
                "SELECT coalesce(pg_catalog.array_agg(pg_catalog.quote_ident(a.attname) ORDER BY k.place), '{}') FROM pg_catalog.pg_constraint c \
                 CROSS JOIN LATERAL pg_catalog.unnest(c.conkey) WITH ORDINALITY AS k (attnum, place) \
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum WHERE c.conrelid = $1 AND c.contype = 'p'",
                &[&self.oid],
            )
            .await
            .map_err(SchemaError::at(format!("the primary key of {}", self.name)))?;
        Ok(row.get(0))
    }

    /// Its partitions and other children, near and far: name, and whether it can have policies.
    pub(super) async fn descendants(&self, client: &impl GenericClient) -> Result<Vec<(String, bool)>, SchemaError> {
        let rows = client
            .query(
                "WITH RECURSIVE family (oid) AS (SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = $1 \
                     UNION SELECT i.inhrelid FROM family f JOIN pg_catalog.pg_inherits i ON i.inhparent = f.oid) \
                 SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind IN ('r', 'p') \
                 FROM family f JOIN pg_catalog.pg_class c ON c.oid = f.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY c.oid",
                &[&self.oid],
            )
            .await
            .map_err(SchemaError::at(format!("the partitions of {}", self.name)))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}
