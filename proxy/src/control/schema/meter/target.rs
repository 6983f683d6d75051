//! What a table is to a meter: whose its rows are, and what belongs to it.

use std::fmt::Write as _;

use tokio_postgres::Transaction;

use super::super::protect::{Table, WALL};
use super::super::{SchemaError, ident};
use super::statements;
use crate::control::RoleNames;

/// How many foreign keys may lie between a table and the workspace column.
const FAR_MAX: usize = 8;

/// One table, with its partitions and whatever inherits from it.
pub(super) struct Target {
    oid: u32,
    /// Quoted and with its schema.
    pub(super) name: String,
    /// Quoted, without it.
    pub(super) bare_name: String,
    /// The function of its triggers. Its name follows from the table's: `cordon.forget_dropped()` makes the same.
    pub(super) function: String,
    pub(super) is_partitioned: bool,
    /// Its workspace column, if it has one itself.
    pub(super) column: Option<String>,
    /// The condition that a row of `metered` belongs to workspace `$1`.
    pub(super) belongs: String,
    /// Tables that counting reads.
    reads: Vec<String>,
}

/// A table that statements can name: the target itself, or a child.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) is_partitioned: bool,
    /// Names of meters' triggers that it has.
    pub(super) triggers: Vec<String>,
}

/// What a policy compares: columns of its own table, and those of a parent.
struct Wall {
    own: Vec<String>,
    parent: Option<(u32, String)>,
    theirs: Vec<String>,
}

impl Target {
    pub(super) async fn find(work: &Transaction<'_>, table: &str) -> Result<Self, SchemaError> {
        let found = Table::find(work, table).await?;
        let at = || SchemaError::at(format!("table {}", found.name));
        let row = work
            .query_one(
                "SELECT pg_catalog.quote_ident(c.relname), c.relkind = 'p', 'cordon.meter_' || pg_catalog.md5($2), \
                    (SELECT pg_catalog.format('%I.%I', n.nspname, r.relname) FROM pg_catalog.pg_class r \
                     JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace WHERE c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid)) \
                 FROM pg_catalog.pg_class c WHERE c.oid = $1",
                &[&found.oid, &found.name],
            )
            .await
            .map_err(at())?;
        if let Some(root) = row.get::<_, Option<String>>(3) {
            return Err(SchemaError::Refused(format!(
                "{} is a partition: meter {root}, and its partitions are metered with it",
                found.name
            )));
        }
        let mut reads = Vec::new();
        let (column, belongs) = belongs(work, &found, &mut reads).await?;
        let (oid, name) = (found.oid, found.name);
        Ok(Self {
            oid,
            name,
            bare_name: row.get(0),
            function: row.get(2),
            is_partitioned: row.get(1),
            column,
            belongs,
            reads,
        })
    }

    /// A row mustn't count twice because a table and its parent are metered as the same resource.
    pub(super) async fn refuse_twice(&self, work: &Transaction<'_>, resource: i32) -> Result<(), SchemaError> {
        let relative = work
            .query_opt(
                "WITH RECURSIVE parent (oid) AS (SELECT $1::oid UNION SELECT i.inhparent FROM parent p JOIN pg_catalog.pg_inherits i ON i.inhrelid = p.oid), \
                    child (oid) AS (SELECT $1::oid UNION SELECT i.inhrelid FROM child c JOIN pg_catalog.pg_inherits i ON i.inhparent = c.oid) \
                 SELECT m.relation FROM (SELECT oid FROM parent UNION SELECT oid FROM child) f \
                    JOIN pg_catalog.pg_class c ON c.oid = f.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                    JOIN cordon.meter m ON m.relation = pg_catalog.format('%I.%I', n.nspname, c.relname) \
                 WHERE f.oid <> $1 AND m.resource_id = $2 LIMIT 1",
                &[&self.oid, &resource],
            )
            .await
            .map_err(SchemaError::at(format!("the relatives of {}", self.name)))?;
        relative.map_or(Ok(()), |row| {
            Err(SchemaError::Refused(format!(
                "{} and {} are parent and child, and a row would count twice: meter the parent alone",
                self.name,
                row.get::<_, String>(0)
            )))
        })
    }

    /// The name under which it was metered and its function then, if it has another one now.
    pub(super) async fn former_name(&self, work: &Transaction<'_>) -> Result<Option<(String, String)>, SchemaError> {
        let row = work
            .query_opt(
                "SELECT m.relation, 'cordon.' || p.proname FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid \
                 JOIN cordon.meter m ON p.proname = 'meter_' || pg_catalog.md5(m.relation) \
                 WHERE t.tgrelid = $1 AND p.pronamespace = 'cordon'::pg_catalog.regnamespace AND m.relation <> $2 \
                    AND pg_catalog.to_regclass(m.relation) IS NULL LIMIT 1",
                &[&self.oid, &self.name],
            )
            .await
            .map_err(SchemaError::at(format!("the triggers of {}", self.name)))?;
        Ok(row.map(|row| (row.get(0), row.get(1))))
    }

    /// Itself and all that statements on it may reach by another name.
    pub(super) async fn family(&self, work: &Transaction<'_>) -> Result<Vec<Member>, SchemaError> {
        let rows = work
            .query(
                "WITH RECURSIVE child (oid, depth) AS (SELECT $1::oid, 0 \
                    UNION SELECT i.inhrelid, c.depth + 1 FROM child c JOIN pg_catalog.pg_inherits i ON i.inhparent = c.oid) \
                 SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind = 'p', \
                    ARRAY(SELECT t.tgname::text FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = ANY ($2)) \
                 FROM (SELECT oid, min(depth) AS depth FROM child GROUP BY oid) f JOIN pg_catalog.pg_class c ON c.oid = f.oid \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') ORDER BY f.depth, 1",
                &[&self.oid, &statements::TRIGGERS.as_slice()],
            )
            .await
            .map_err(SchemaError::at(format!("the partitions of {}", self.name)))?;
        let member =
            |row: &tokio_postgres::Row| Member { name: row.get(0), is_partitioned: row.get(1), triggers: row.get(2) };
        Ok(rows.iter().map(member).collect())
    }

    /// What the system role, which counts, has no right to read yet.
    pub(super) async fn missing_grants(
        &self,
        work: &Transaction<'_>,
        roles: &RoleNames,
    ) -> Result<Vec<String>, SchemaError> {
        let rows = work
            .query(
                "SELECT name FROM pg_catalog.unnest($1::text[]) AS read (name) \
                 WHERE NOT pg_catalog.has_table_privilege($2, read.name, 'SELECT')",
                &[&self.reads, &roles.system],
            )
            .await
            .map_err(SchemaError::at(format!("what {} may read", roles.system)))?;
        let grant = |name: String| format!("GRANT SELECT ON {name} TO {}", ident(&roles.system));
        Ok(rows.iter().map(|row| grant(row.get(0))).collect())
    }
}

/// The condition that a row of `metered` belongs to workspace `$1`: its own column says it, or a parent's, near or far. The
/// table's policy knows which. With it comes the column, if it is the table's own.
async fn belongs(
    work: &Transaction<'_>,
    table: &Table,
    reads: &mut Vec<String>,
) -> Result<(Option<String>, String), SchemaError> {
    let (mut oid, mut name, mut alias) = (table.oid, table.name.clone(), "metered".to_owned());
    let (mut condition, mut closing) = (String::new(), String::new());
    for step in 1..=FAR_MAX {
        reads.push(name.clone());
        let wall = wall(work, oid, &name).await?;
        let Some((parent, parent_name)) = wall.parent else {
            let [column] = wall.own.as_slice() else {
                return Err(unclear(&name));
            };
            let _ = write!(condition, "{alias}.{} = $1{closing}", ident(column));
            let own = (step == 1).then(|| column.clone());
            return Ok((own, condition));
        };
        let pairs = pairs(work, oid, parent, &wall.own, &wall.theirs).await?.ok_or_else(|| unclear(&name))?;
        let next = format!("parent_{step}");
        let _ = write!(condition, "EXISTS (SELECT FROM {parent_name} AS {next} WHERE ");
        for (ours, theirs) in pairs {
            let _ = write!(condition, "{next}.{} = {alias}.{} AND ", ident(&theirs), ident(&ours));
        }
        closing.push(')');
        (oid, name, alias) = (parent, parent_name, next);
    }
    Err(SchemaError::Refused(format!(
        "{}: more than {FAR_MAX} foreign keys lie between it and a workspace",
        table.name
    )))
}

fn unclear(name: &str) -> SchemaError {
    SchemaError::Refused(format!(
        "{name}: its policy {WALL} isn't as pgcordon protect made it, so it can't be told whose its rows are"
    ))
}

async fn wall(work: &Transaction<'_>, oid: u32, name: &str) -> Result<Wall, SchemaError> {
    let at = || SchemaError::at(format!("the policy of {name}"));
    let rows = work
        .query(
            "SELECT d.refobjid, a.attname::text, pg_catalog.format('%I.%I', n.nspname, r.relname) FROM pg_catalog.pg_policy p \
             JOIN pg_catalog.pg_class c ON c.oid = p.polrelid AND c.relrowsecurity AND c.relforcerowsecurity \
             JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.objid = p.oid \
                AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid > 0 \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
             JOIN pg_catalog.pg_class r ON r.oid = d.refobjid JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace \
             WHERE p.polrelid = $1 AND p.polname = $2 AND NOT p.polpermissive GROUP BY 1, 2, 3 ORDER BY 1, 2",
            &[&oid, &WALL],
        )
        .await
        .map_err(at())?;
    if rows.is_empty() {
        return Err(SchemaError::Refused(format!(
            "{name} isn't protected, so its rows belong to no workspace: run pgcordon protect {name} first"
        )));
    }
    let mut wall = Wall { own: Vec::new(), parent: None, theirs: Vec::new() };
    for row in &rows {
        let (of, column, table): (u32, String, String) = (row.get(0), row.get(1), row.get(2));
        if of == oid {
            wall.own.push(column);
        } else if wall.parent.as_ref().is_none_or(|(parent, _)| *parent == of) {
            wall.parent = Some((of, table));
            wall.theirs.push(column);
        } else {
            return Err(unclear(name));
        }
    }
    Ok(wall)
}

/// The columns of the foreign key that leads to the parent, ours and theirs.
async fn pairs(
    work: &Transaction<'_>,
    child: u32,
    parent: u32,
    ours: &[String],
    theirs: &[String],
) -> Result<Option<Vec<(String, String)>>, SchemaError> {
    let rows = work
        .query(
            "SELECT ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u (num, ord) \
                    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.ord), \
                ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u (num, ord) \
                    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.ord) \
             FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conrelid = $1 AND k.confrelid = $2 ORDER BY k.conname",
            &[&child, &parent],
        )
        .await
        .map_err(SchemaError::at("the foreign keys"))?;
    let sorted = |columns: &[String]| {
        let mut columns = columns.to_vec();
        columns.sort_unstable();
        columns
    };
    let keys = rows.iter().map(|row| (row.get::<_, Vec<String>>(0), row.get::<_, Vec<String>>(1)));
    let mut fitting = keys.filter(|(own, their)| sorted(own) == sorted(ours) && sorted(their) == sorted(theirs));
    Ok(fitting.next().map(|(own, their)| own.into_iter().zip(their).collect()))
}
