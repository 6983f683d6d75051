//! Rows to try the walls with: one of each probe workspace in each protected table, made up from the columns' types. They are
//! planted by the administrator with triggers and foreign keys off, and go with the transaction.

use std::collections::HashMap;

use serde_json::{Map, Value};
use tokio_postgres::{Client, Row};

use crate::control::schema::{SchemaError, ident, literal};

/// Columns that must be given a value: those that may not be null and have no default, and those whose default takes a number,
/// for a sequence doesn't go back with the transaction. With it a value of the type, as SQL, in which `{n}` is the row's number;
/// and which column of which table it refers to, if it is alone in that.
const COLUMNS: &str = "\
    WITH RECURSIVE base (attnum, typid, typmod) AS ( \
        SELECT attnum, atttypid, atttypmod FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped \
        UNION ALL SELECT b.attnum, t.typbasetype, t.typtypmod FROM base b JOIN pg_type t ON t.oid = b.typid WHERE t.typtype = 'd') \
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), \
        CASE WHEN t.typtype = 'e' THEN (SELECT quote_literal(e.enumlabel) FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder LIMIT 1) \
            WHEN t.typname IN ('int2', 'int4', 'int8', 'numeric', 'float4', 'float8') THEN '-{n}' \
            WHEN t.typname = 'uuid' THEN 'gen_random_uuid()' WHEN t.typname = 'bool' THEN 'false' \
            WHEN t.typname IN ('json', 'jsonb') THEN '''{}''' WHEN t.typname = 'inet' THEN '''127.0.0.1''' \
            WHEN t.typname IN ('date', 'timestamp', 'timestamptz', 'time', 'timetz') THEN 'now()' WHEN t.typname = 'interval' THEN '''0''' \
            WHEN t.typcategory = 'A' THEN '''{}''' WHEN t.typcategory = 'R' THEN '''empty''' \
            WHEN t.typcategory = 'S' THEN '''p{n}''' WHEN t.typname = 'bytea' THEN '''\\x0{n}''' ELSE '''{n}''' END, \
        k.confrelid, r.attname::text, \
        a.attnotnull AND d.oid IS NULL AND a.attidentity = '' OR a.attidentity <> '' OR coalesce(pg_get_expr(d.adbin, d.adrelid) ~ 'nextval', false) \
    FROM pg_attribute a JOIN base b USING (attnum) JOIN pg_type t ON t.oid = b.typid AND t.typtype <> 'd' \
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
    LEFT JOIN LATERAL (SELECT c.confrelid, c.confkey[1] AS key FROM pg_constraint c WHERE c.conrelid = a.attrelid AND c.contype = 'f' \
        AND c.conkey = ARRAY[a.attnum] ORDER BY c.conname LIMIT 1) k ON true \
    LEFT JOIN pg_attribute r ON r.attrelid = k.confrelid AND r.attnum = k.key \
    WHERE a.attrelid = $1 AND a.attgenerated = '' ORDER BY a.attnum";

/// The rows of one probe workspace that were planted so far, by table.
#[derive(Debug, Default)]
pub(super) struct Planted {
    rows: HashMap<u32, Map<String, Value>>,
}

/// A table to plant in: its number, its quoted name and its workspace column.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) oid: u32,
    pub(super) table: &'a str,
    pub(super) column: Option<&'a str>,
}

/// What can be said of a column of a row to be made.
struct Column {
    name: String,
    kind: String,
    value: String,
    refers_to: Option<(u32, String)>,
    is_needed: bool,
}

impl Column {
    fn of(row: &Row) -> Self {
        let parent: Option<u32> = row.get(3);
        let refers_to = parent.zip(row.get::<_, Option<String>>(4));
        Self { name: row.get(0), kind: row.get(1), value: row.get(2), refers_to, is_needed: row.get(5) }
    }
}

impl Planted {
    /// Plants a row of `workspace`, the `number`th of the probe's workspaces, or says why none can be.
    pub(super) async fn plant(
        &mut self,
        client: &Client,
        place: Place<'_>,
        workspace: &str,
        number: u8,
    ) -> Result<Option<String>, SchemaError> {
        let at = || SchemaError::at(format!("a row to try {} with", place.table));
        let sql = self.insert(client, place, workspace, number).await?;
        client.batch_execute("SAVEPOINT plant").await.map_err(at())?;
        let planted = client.query_one(&format!("{sql} RETURNING to_jsonb(planted)::text"), &[]).await;
        let end = if planted.is_ok() { "RELEASE plant" } else { "ROLLBACK TO plant; RELEASE plant" };
        client.batch_execute(end).await.map_err(at())?;
        match planted {
            Ok(row) => {
                let text: String = row.get(0);
                self.rows.insert(place.oid, serde_json::from_str(&text).unwrap_or_default());
                Ok(None)
            }
            Err(error) => Ok(Some(crate::control::store::describe(&error))),
        }
    }

    /// The statement that makes such a row.
    pub(super) async fn insert(
        &self,
        client: &Client,
        place: Place<'_>,
        workspace: &str,
        number: u8,
    ) -> Result<String, SchemaError> {
        let at = SchemaError::at(format!("the columns of {}", place.table));
        let columns = client.query(COLUMNS, &[&place.oid]).await.map_err(at)?;
        let mut names = Vec::new();
        let mut values = Vec::new();
        for each in columns.iter().map(Column::of) {
            let value = if Some(each.name.as_str()) == place.column {
                literal(workspace)
            } else if let Some(parent) = self.parent(&each) {
                parent
            } else if each.is_needed {
                each.value.replace("{n}", &number.to_string())
            } else {
                continue;
            };
            names.push(ident(&each.name));
            values.push(format!("({value})::{}", each.kind));
        }
        let (names, values) = (names.join(", "), values.join(", "));
        Ok(format!("INSERT INTO {} AS planted ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})", place.table))
    }

    /// The value of a column that refers to a row that was planted.
    fn parent(&self, column: &Column) -> Option<String> {
        let (parent, key) = column.refers_to.as_ref()?;
        self.value(*parent, key)
    }

    /// A value of the row that was planted in a table, as SQL.
    pub(super) fn value(&self, table: u32, column: &str) -> Option<String> {
        match self.rows.get(&table)?.get(column)? {
            Value::Null => None,
            Value::String(text) => Some(literal(text)),
            other => Some(literal(&other.to_string())),
        }
    }

    /// Whether a row was planted in a table.
    pub(super) fn has(&self, table: u32) -> bool {
        self.rows.contains_key(&table)
    }
}
