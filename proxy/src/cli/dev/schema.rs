//! Loading an application's schema, and finding out which of its tables belong to a tenant.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tokio_postgres::Client;

use super::cluster::{Cluster, SUPERUSER, explain};
use super::home::Home;
use crate::cli::Failure;
use crate::control::schema::ident;

/// The demo schema, and its rows.
pub(super) const DEMO_SCHEMA: &str = include_str!("../../../../config/dev/schema.sql");
/// Rows of the demo schema for the workspaces.
pub(super) const DEMO_ROWS: &str = include_str!("../../../../config/dev/seed.sql");

/// Loads the demo schema as the owner role.
pub(super) async fn load_demo(client: &Client, owner: &str) -> Result<(), Failure> {
    let failed = |error: tokio_postgres::Error| Failure::outside(format!("the demo schema: {}", explain(&error)));
    client.batch_execute(&format!("SET SESSION AUTHORIZATION {}", ident(owner))).await.map_err(failed)?;
    let loaded = client.batch_execute(DEMO_SCHEMA).await.map_err(failed);
    client.batch_execute("RESET SESSION AUTHORIZATION; RESET ALL").await.map_err(failed)?;
    loaded
}

/// Loads a file as the owner role, through psql: it may be what pg_dump wrote, with COPY data and psql's commands.
pub(super) async fn load_file(
    psql: &Path,
    cluster: &Cluster,
    home: &Home,
    owner: &str,
    database: &str,
    file: &Path,
) -> Result<(), Failure> {
    let mut command = Command::new(psql);
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=default", "-U", SUPERUSER, "-d", database]);
    command.arg("-h").arg(home.socket()).args(["-p", &cluster.port.to_string()]);
    command.args(["-c", &format!("SET SESSION AUTHORIZATION {}", ident(owner))]).arg("-f").arg(file);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    command.env("PGAPPNAME", "pgcordon dev").env("PGCLIENTENCODING", "UTF8");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| {
        Failure::outside(format!("can't run {} for --schema: {error}", psql.display()))
            .hint("on Debian: apt-get install postgresql-client")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said
        .lines()
        .skip_while(|line| !line.contains("ERROR:") && !line.contains("error:"))
        .collect::<Vec<_>>()
        .join("\n  ");
    Err(Failure::usage(format!("--schema {} can't be loaded as {owner}:\n  {said}", file.display())))
}

/// What a table is to its tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It has a workspace column: rows belong to workspaces.
    Tenants { column: String },
    /// Protected tables refer to it by their workspace column: it lists the workspaces themselves.
    Workspaces { column: String },
    /// It refers to a table whose rows belong to workspaces: by a foreign key of this name.
    Child { foreign_key: String, parent: String },
    /// The same for everybody.
    Reference,
}

/// One table of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Qualified and quoted where needed.
    pub(super) name: String,
    pub(super) part: Part,
}

/// A foreign key of one column or more.
struct Reference {
    name: String,
    from: String,
    to: String,
    columns: Vec<(String, String)>,
}

/// Looks at every table of the application.
pub(super) async fn tables(client: &Client) -> Result<Vec<Table>, tokio_postgres::Error> {
    let tables = client.query(TABLES, &[]).await?;
    let tables: Vec<(String, Option<String>)> = tables.iter().map(|row| (row.get(0), row.get(1))).collect();
    let references = client.query(REFERENCES, &[]).await?;
    let references: Vec<Reference> = references
        .iter()
        .map(|row| {
            let (ours, theirs): (Vec<String>, Vec<String>) = (row.get(3), row.get(4));
            Reference {
                name: row.get(0),
                from: row.get(1),
                to: row.get(2),
                columns: ours.into_iter().zip(theirs).collect(),
            }
        })
        .collect();
    Ok(sort(&tables, &references))
}

/// Decides what each table is: first those with a column, then the one they refer to by it, then whatever refers to
/// any of these, near or far; the rest is the same for everybody.
fn sort(tables: &[(String, Option<String>)], references: &[Reference]) -> Vec<Table> {
    let mut sorted: Vec<Table> = Vec::new();
    for (name, column) in tables {
        if let Some(column) = column {
            sorted.push(Table { name: name.clone(), part: Part::Tenants { column: column.clone() } });
        }
    }
    let is_in = |sorted: &[Table], name: &str| sorted.iter().any(|table| table.name == name);
    for reference in references {
        let column = tables.iter().find(|(name, _)| *name == reference.from).and_then(|(_, column)| column.clone());
        if let [(ours, theirs)] = reference.columns.as_slice()
            && Some(ours) == column.as_ref()
            && !is_in(&sorted, &reference.to)
        {
            sorted.push(Table { name: reference.to.clone(), part: Part::Workspaces { column: theirs.clone() } });
        }
    }
    while let Some(child) =
        references.iter().find(|reference| is_in(&sorted, &reference.to) && !is_in(&sorted, &reference.from))
    {
        let part = Part::Child { foreign_key: child.name.clone(), parent: child.to.clone() };
        sorted.push(Table { name: child.from.clone(), part });
    }
    for (name, _) in tables {
        if !is_in(&sorted, name) {
            sorted.push(Table { name: name.clone(), part: Part::Reference });
        }
    }
    sorted
}

/// Tables of the application with their workspace column; those of extensions and of pgcordon are none.
const TABLES: &str = r#"
SELECT format('%I.%I', n.nspname, c.relname), min(a.attname::text)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname IN ('workspace_id', 'workspaceId')
    AND a.atttypid = 'uuid'::regtype AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'cordon') AND n.nspname NOT LIKE 'pg\_%'
    AND c.relname <> 'refinery_schema_history'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
GROUP BY n.nspname, c.relname
ORDER BY n.nspname, c.relname"#;

const REFERENCES: &str = r#"
SELECT k.conname::text, format('%I.%I', n.nspname, c.relname), format('%I.%I', pn.nspname, p.relname),
    ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (num, ord)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.ord),
    ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (num, ord)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.ord)
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class p ON p.oid = k.confrelid
JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'cordon')
ORDER BY EXISTS (SELECT FROM pg_attribute a
    WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) AND NOT a.attnotnull), 2, 1"#;

/// Schemas of the application, its views that run with the caller's rights, and those and the like that don't.
pub(super) const SURROUNDINGS: &str = r#"
WITH application AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.reloptions
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'cordon') AND n.nspname NOT LIKE 'pg\_%'
        AND NOT EXISTS (SELECT FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
)
SELECT
    ARRAY(SELECT DISTINCT quote_ident(nspname) FROM application WHERE relkind IN ('r', 'p')),
    ARRAY(SELECT format('%I.%I', nspname, relname) FROM application
        WHERE relkind = 'v' AND reloptions && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=1']),
    ARRAY(SELECT format('%I.%I', nspname, relname) FROM application
        WHERE relkind = 'v' AND NOT coalesce(
            reloptions && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false)
            OR relkind IN ('m', 'f'))"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str, from: &str, to: &str, columns: &[(&str, &str)]) -> Reference {
        let columns = columns.iter().map(|(ours, theirs)| ((*ours).to_owned(), (*theirs).to_owned())).collect();
        Reference { name: name.into(), from: from.into(), to: to.into(), columns }
    }

    #[test]
    fn a_table_without_the_column_is_shared_only_if_nothing_of_a_tenant_hangs_on_it() {
        let column = || Some("workspaceId".to_owned());
        let tables = [("country", None), ("journey", column()), ("note", None), ("step", None), ("workspace", None)]
            .map(|(name, column)| (name.to_owned(), column));
        let references = [
            reference("note_step", "note", "step", &[("stepId", "id")]),
            reference("journey_workspace", "journey", "workspace", &[("workspaceId", "id")]),
            reference("step_journey", "step", "journey", &[("journeyId", "id")]),
        ];
        let sorted = sort(&tables, &references);
        let part = |name: &str| sorted.iter().find(|table| table.name == name).map(|table| table.part.clone());
        let child =
            |foreign_key: &str, parent: &str| Part::Child { foreign_key: foreign_key.into(), parent: parent.into() };
        assert_eq!(part("journey"), Some(Part::Tenants { column: "workspaceId".into() }));
        assert_eq!(part("workspace"), Some(Part::Workspaces { column: "id".into() }));
        assert_eq!(part("step"), Some(child("step_journey", "journey")));
        assert_eq!(part("note"), Some(child("note_step", "step")));
        assert_eq!(part("country"), Some(Part::Reference));
    }
}
