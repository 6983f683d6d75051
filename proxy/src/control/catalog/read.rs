//! What is read of a database's catalog, as it is read.

use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

use super::StoreError;

/// The rows, as of about one moment.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Raw {
    /// Values of `search_path` that sessions may begin with.
    pub(super) paths: Vec<String>,
    /// Schemas that are named like a role.
    pub(super) user_schemas: Vec<String>,
    pub(super) functions: Vec<Function>,
    /// Operators with a function that isn't harmless.
    pub(super) operators: Vec<String>,
    /// A cast or an index's support function isn't harmless.
    pub(super) has_odd_types: bool,
    pub(super) relations: Vec<RelationRow>,
    pub(super) triggers: Vec<Trigger>,
    /// Relations with a rule other than a view's own.
    pub(super) rules: Vec<u32>,
    pub(super) expressions: Vec<Expression>,
    /// Tables with a default that calls `nextval`, or an identity column.
    pub(super) numbered: Vec<u32>,
    /// Parent and child.
    pub(super) inherits: Vec<(u32, u32)>,
    /// What is referred to, and what changes with it.
    pub(super) cascades: Vec<(u32, u32)>,
    pub(super) meters: Vec<Meter>,
    /// The event triggers are there that tell of what is altered.
    pub(super) is_told: bool,
}

/// All functions of one name.
#[derive(Debug, PartialEq)]
pub(super) struct Function {
    pub(super) name: String,
    /// Whether any of Postgres' own is volatile; `None` without one.
    pub(super) builtin_volatile: Option<bool>,
    /// Somebody made one in pg_catalog.
    pub(super) planted: bool,
    /// Whether all others are harmless; `None` without one.
    pub(super) others_harmless: Option<bool>,
    pub(super) by_row: bool,
}

/// A relation.
#[derive(Debug, PartialEq)]
pub(super) struct RelationRow {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// As in `pg_class.relkind`.
    pub(super) kind: String,
    pub(super) definition: Option<String>,
}

/// A relation's triggers.
#[derive(Debug, PartialEq)]
pub(super) struct Trigger {
    pub(super) relation: u32,
    pub(super) on_insert: bool,
    pub(super) on_change: bool,
}

/// When an expression of the catalog runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// With every use of its relation.
    Used,
    /// When its relation is written.
    Written,
    /// Wherever its type is.
    Anywhere,
}

/// An expression that runs behind a statement.
#[derive(Debug, PartialEq)]
pub(super) struct Expression {
    pub(super) relation: u32,
    pub(super) when: When,
    pub(super) text: String,
}

/// One table of a metered resource.
#[derive(Debug, PartialEq)]
pub(super) struct Meter {
    pub(super) relation: u32,
    pub(super) resource: i32,
    pub(super) is_filtered: bool,
}

/// Objects below were there when the database was made (Postgres: FirstNormalObjectId).
const PATHS: &str = "\
SELECT pg_catalog.current_setting('search_path') AS path
UNION
SELECT pg_catalog.substr(c, pg_catalog.length('search_path=') + 1) FROM pg_catalog.pg_db_role_setting d, pg_catalog.unnest(d.setconfig) c
WHERE d.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())) AND c LIKE 'search_path=%'
ORDER BY 1";

/// The owner of the schema `cordon` never logs in, so that schema is in nobody's path.
const USER_SCHEMAS: &str = "SELECT n.nspname::text FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.rolname = n.nspname WHERE r.rolcanlogin ORDER BY 1";

/// A function somebody made is harmless if it is one in C that is said to be immutable: a superuser made it, and a stable
/// one may run a query that it is given (crosstab).
const FUNCTIONS: &str = "\
SELECT name, pg_catalog.bool_or(volatile) FILTER (WHERE builtin AND in_pg_catalog) AS builtin_volatile,
       coalesce(pg_catalog.bool_or(NOT builtin) FILTER (WHERE in_pg_catalog), false) AS planted,
       pg_catalog.bool_and(harmless) FILTER (WHERE NOT in_pg_catalog) AS others_harmless,
       pg_catalog.bool_or(by_row AND NOT harmless) AS by_row
FROM (SELECT p.proname::text AS name, n.nspname = 'pg_catalog' AS in_pg_catalog, p.oid < 16384 AS builtin, p.provolatile = 'v' AS volatile,
             CASE WHEN p.oid < 16384 THEN p.provolatile <> 'v'
                  ELSE l.lanname = 'c' AND p.provolatile = 'i' AND p.prokind = 'f' END AS harmless,
             p.pronargs > 0 AND p.pronargs - p.pronargdefaults <= 1 AND coalesce(t.typtype IN ('c', 'd', 'p'), true) AS by_row
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
      JOIN pg_catalog.pg_language l ON l.oid = p.prolang LEFT JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]) AS each
GROUP BY name ORDER BY name";

/// What an operator or cast runs may be stable too: it can't be handed a query.
const OPERATORS: &str = "\
SELECT DISTINCT o.oprname::text FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE p.oid >= 16384 AND NOT (l.lanname = 'c' AND p.provolatile <> 'v') OR p.oid < 16384 AND p.provolatile = 'v' ORDER BY 1";

const ODD_TYPES: &str = "\
SELECT EXISTS (SELECT FROM (SELECT castfunc AS oid FROM pg_catalog.pg_cast UNION SELECT amproc FROM pg_catalog.pg_amproc) f
               JOIN pg_catalog.pg_proc p ON p.oid = f.oid JOIN pg_catalog.pg_language l ON l.oid = p.prolang
               WHERE p.oid >= 16384 AND NOT (l.lanname = 'c' AND p.provolatile <> 'v'))";

const RELATIONS: &str = "\
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, CASE WHEN c.relkind = 'v' THEN pg_catalog.pg_get_viewdef(c.oid) END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND n.nspname <> 'pg_toast' ORDER BY c.oid";

/// The bits of pg_trigger.tgtype: 4 INSERT, 8 DELETE, 16 UPDATE, 32 TRUNCATE. pgcordon's own triggers only count.
const TRIGGERS: &str = "\
SELECT t.tgrelid, pg_catalog.bool_or(t.tgtype::int & 4 <> 0), pg_catalog.bool_or(t.tgtype::int & 56 <> 0)
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND n.nspname <> 'cordon' GROUP BY 1 ORDER BY 1";

const RULES: &str =
    "SELECT DISTINCT ev_class FROM pg_catalog.pg_rewrite WHERE rulename <> '_RETURN' AND ev_enabled <> 'D' ORDER BY 1";

const EXPRESSIONS: &str = "\
SELECT relation, place, text FROM (
    SELECT adrelid AS relation, 'written' AS place, pg_catalog.pg_get_expr(adbin, adrelid) AS text FROM pg_catalog.pg_attrdef
    UNION SELECT conrelid, 'written', pg_catalog.pg_get_expr(conbin, conrelid) FROM pg_catalog.pg_constraint WHERE contype = 'c' AND conrelid <> 0
    UNION SELECT partrelid, 'written', pg_catalog.pg_get_expr(partexprs, partrelid) FROM pg_catalog.pg_partitioned_table
    UNION SELECT polrelid, 'written', pg_catalog.pg_get_expr(polwithcheck, polrelid) FROM pg_catalog.pg_policy
    UNION SELECT polrelid, 'used', pg_catalog.pg_get_expr(polqual, polrelid) FROM pg_catalog.pg_policy
    UNION SELECT indrelid, 'used', pg_catalog.pg_get_expr(indexprs, indrelid) FROM pg_catalog.pg_index
    UNION SELECT indrelid, 'used', pg_catalog.pg_get_expr(indpred, indrelid) FROM pg_catalog.pg_index
    UNION SELECT 0, 'anywhere', pg_catalog.pg_get_expr(conbin, 0) FROM pg_catalog.pg_constraint
        WHERE contypid <> 0 AND connamespace NOT IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'cordon')
    UNION SELECT 0, 'anywhere', pg_catalog.pg_get_expr(typdefaultbin, 0) FROM pg_catalog.pg_type
) AS each WHERE text IS NOT NULL ORDER BY 1, 2, 3";

const NUMBERED: &str = "\
SELECT adrelid FROM pg_catalog.pg_attrdef WHERE pg_catalog.pg_get_expr(adbin, adrelid) LIKE '%nextval(%'
UNION SELECT attrelid FROM pg_catalog.pg_attribute WHERE attidentity <> '' AND NOT attisdropped ORDER BY 1";

const INHERITS: &str = "SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits ORDER BY 1, 2";

const CASCADES: &str = "\
SELECT DISTINCT confrelid, conrelid FROM pg_catalog.pg_constraint
WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd')) ORDER BY 1, 2";

const METERS: &str = "\
SELECT c.oid, m.resource_id, m.filter IS NOT NULL FROM cordon.meter m
JOIN (SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')) c ON c.name = m.relation ORDER BY 1, 2";

/// Both of them, as `control/schema/catalog_changed.sql` makes them.
const TOLD: &str = "\
SELECT pg_catalog.count(*) = 2 FROM pg_catalog.pg_event_trigger
WHERE evtname IN ('pgcordon_catalog_changed', 'pgcordon_catalog_dropped') AND evtenabled IN ('O', 'A')";

/// Reads all of it.
pub(super) async fn read(client: &mut Client) -> Result<Raw, StoreError> {
    let snapshot =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let paths = rows(&snapshot, PATHS, |row| row.get(0)).await?;
    // Every name that isn't Postgres' own is written with its schema.
    snapshot.batch_execute("SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = '30s'").await?;
    let is_metered = snapshot
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = 'cordon' AND tablename = 'meter')",
            &[],
        )
        .await?;
    let meters = if is_metered.get(0) { rows(&snapshot, METERS, meter).await? } else { Vec::new() };
    let raw = Raw {
        paths,
        user_schemas: rows(&snapshot, USER_SCHEMAS, |row| row.get(0)).await?,
        functions: rows(&snapshot, FUNCTIONS, function).await?,
        operators: rows(&snapshot, OPERATORS, |row| row.get(0)).await?,
        has_odd_types: snapshot.query_one(ODD_TYPES, &[]).await?.get(0),
        relations: rows(&snapshot, RELATIONS, relation).await?,
        triggers: rows(&snapshot, TRIGGERS, trigger).await?,
        rules: rows(&snapshot, RULES, |row| row.get(0)).await?,
        expressions: rows(&snapshot, EXPRESSIONS, expression).await?,
        numbered: rows(&snapshot, NUMBERED, |row| row.get(0)).await?,
        inherits: rows(&snapshot, INHERITS, |row| (row.get(0), row.get(1))).await?,
        cascades: rows(&snapshot, CASCADES, |row| (row.get(0), row.get(1))).await?,
        meters,
        is_told: snapshot.query_one(TOLD, &[]).await?.get(0),
    };
    snapshot.commit().await?;
    Ok(raw)
}

async fn rows<T>(client: &Transaction<'_>, sql: &str, make: impl Fn(&Row) -> T) -> Result<Vec<T>, StoreError> {
    Ok(client.query(sql, &[]).await?.iter().map(make).collect())
}

fn function(row: &Row) -> Function {
    Function {
        name: row.get(0),
        builtin_volatile: row.get(1),
        planted: row.get(2),
        others_harmless: row.get(3),
        by_row: row.get(4),
    }
}

fn relation(row: &Row) -> RelationRow {
    RelationRow { oid: row.get(0), schema: row.get(1), name: row.get(2), kind: row.get(3), definition: row.get(4) }
}

fn trigger(row: &Row) -> Trigger {
    Trigger { relation: row.get(0), on_insert: row.get(1), on_change: row.get(2) }
}

fn expression(row: &Row) -> Expression {
    let when = match row.get(1) {
        "used" => When::Used,
        "written" => When::Written,
        _ => When::Anywhere,
    };
    Expression { relation: row.get(0), when, text: row.get(2) }
}

fn meter(row: &Row) -> Meter {
    Meter { relation: row.get(0), resource: row.get(1), is_filtered: row.get(2) }
}
