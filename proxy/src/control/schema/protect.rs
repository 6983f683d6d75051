//! Makes a table tenant-safe, and undoes it. What is there already stays: protecting a table twice changes nothing.

use tokio_postgres::{Client, GenericClient};

use super::{SchemaError, ident, literal, require_migrated};
use crate::control::RoleNames;
use crate::tenant::ContextNames;

mod parent;
mod plan;
mod surroundings;
mod table;

use parent::Parent;
use plan::Plan;
pub(super) use surroundings::CROSSING;
pub(super) use table::Table;

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
    /// The foreign key by which rows belong to a protected parent: for tables without a workspace column, or with `add_column`
    /// where the workspace of the rows that are there comes from.
    pub via: Option<String>,
    /// The workspace, by name or id, of the rows that are there and have none.
    pub workspace: Option<String>,
    /// Leaves unique constraints without the workspace as they are when a column is added.
    pub keep_unique: bool,
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
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Makes a table tenant-safe.
///
/// # Errors
/// No such table, no workspace column, rows that belong to nobody, an owner as which tenants run, or whatever Postgres refuses;
/// nothing is changed then.
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
    if [&roles.application, &roles.read_only].contains(&&found.owner) {
        return Err(SchemaError::Refused(format!(
            "{0} is owned by {1}, as which tenants run: they could drop its policies. ALTER TABLE {0} OWNER TO {2} first",
            found.name,
            found.owner,
            ident(&roles.owner)
        )));
    }
    let mut plan = Plan::default();
    let parent = match &options.via {
        Some(via) => Some(Parent::of(client, &found, via).await?),
        None => None,
    };
    let belongs = match &parent {
        Some(parent) if !options.add_column => Belongs::Via(parent),
        _ => Belongs::Column(column(client, names, &found, parent.as_ref(), options, &mut plan).await?),
    };
    walled(client, &found, &belongs, roles, &mut plan).await?;
    grants(&found, roles, &mut plan);
    surroundings::close_views(client, &found, roles, &mut plan).await?;
    surroundings::propose_keys(client, &found, &mut plan).await?;
    if !options.dry_run {
        plan.apply(client, &found.name).await?;
    }
    Ok(Protected { statements: plan.statements(), table: found.name, notes: plan.notes })
}

/// Takes back what `protect` changed: policies, the column's default, indexes and unique constraints that it made. The tenants'
/// grants are taken away, for the table is open now; an added column and its data stay.
///
/// # Errors
/// No such table, or whatever Postgres refuses: two workspaces may have by now what was unique before.
pub async fn unprotect(
    client: &mut Client,
    roles: &RoleNames,
    table: &str,
    dry_run: bool,
) -> Result<Protected, SchemaError> {
    require_migrated(client).await?;
    let found = Table::find(client, table).await?;
    let tenants = format!("{}, {}", ident(&roles.application), ident(&roles.read_only));
    let mut plan = Plan::default();
    let mut all = vec![found.name.clone()];
    all.extend(found.descendants(client).await?.into_iter().filter_map(|(name, has_walls)| has_walls.then_some(name)));
    for name in &all {
        plan.always([
            format!("REVOKE ALL ON {name} FROM {tenants}"),
            format!("DROP POLICY IF EXISTS {WALL} ON {name}"),
            format!("DROP POLICY IF EXISTS {OPEN} ON {name}"),
            format!("ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY"),
            format!("ALTER TABLE {name} DISABLE ROW LEVEL SECURITY"),
        ]);
    }
    let changes = client
        .query("SELECT undo FROM cordon.protection WHERE relation = $1 ORDER BY id DESC", &[&found.name])
        .await
        .map_err(SchemaError::at(format!("what was changed of {}", found.name)))?;
    plan.always(changes.iter().map(|row| row.get(0)));
    plan.always([format!("DELETE FROM cordon.protection WHERE relation = {}", literal(&found.name))]);
    if !dry_run {
        plan.apply(client, &found.name).await?;
    }
    Ok(Protected { statements: plan.statements(), table: found.name, notes: plan.notes })
}

/// How a row's workspace is known.
enum Belongs<'a> {
    /// By a column of its own.
    Column(String),
    /// By its parent.
    Via(&'a Parent),
}

impl Belongs<'_> {
    /// The condition, for a table that is quoted and has its schema.
    fn holds(&self, table: &str) -> String {
        match self {
            Self::Column(column) => format!("{} = (SELECT cordon.workspace_id())", ident(column)),
            Self::Via(parent) => parent.is_visible(table),
        }
    }
}

/// Sees to the workspace column: there, filled, with the context as its default, and indexed. Returns its name.
async fn column(
    client: &impl GenericClient,
    names: &ContextNames,
    table: &Table,
    parent: Option<&Parent>,
    options: &Options,
    plan: &mut Plan,
) -> Result<String, SchemaError> {
    let whose = match &options.workspace {
        Some(workspace) => Some(workspace_id(client, workspace).await?),
        None => None,
    };
    let column = workspace_column(client, table, options).await?;
    let quoted = ident(&column);
    let default = match table.column(&column) {
        Some(there) => {
            fill(client, table, &column, whose.as_deref(), plan).await?;
            there.default.clone()
        }
        None => {
            add(client, table, &quoted, (parent, whose.as_deref()), plan).await?;
            if !options.keep_unique {
                surroundings::widen_unique(client, table, &column, plan).await?;
            }
            None
        }
    };
    let alter = format!("ALTER TABLE {} ALTER COLUMN {quoted}", table.name);
    let setting = literal(&names.workspace);
    let context = format!("NULLIF(pg_catalog.current_setting({setting}, true), '')::uuid");
    if default.as_ref().is_none_or(|default| !default.contains(&format!("current_setting({setting}"))) {
        let undo =
            default.map_or_else(|| format!("{alter} DROP DEFAULT"), |default| format!("{alter} SET DEFAULT {default}"));
        plan.step(format!("{alter} SET DEFAULT {context}"), Some(undo));
    }
    if !table.has_index_on(client, &column).await? {
        let mut columns = vec![quoted.clone()];
        columns.extend(table.primary_key(client).await?.into_iter().filter(|key| *key != quoted));
        let name = index_name(&table.bare, &column);
        plan.step(
            format!("CREATE INDEX {} ON {} ({})", ident(&name), table.name, columns.join(", ")),
            Some(format!("DROP INDEX IF EXISTS {}.{}", ident(&table.schema), ident(&name))),
        );
    }
    Ok(column)
}

/// Postgres cuts names after 63 bytes (Postgres docs, "Identifiers and Key Words").
fn index_name(table: &str, column: &str) -> String {
    let mut end = table.len().min(63 - "_pgcordon_idx".len() - column.len().min(20));
    while !table.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_{}_pgcordon", &table[..end], column.chars().take(20).collect::<String>())
}

/// Adds the column. Rows that are there must belong to somebody.
async fn add(
    client: &impl GenericClient,
    table: &Table,
    quoted: &str,
    (parent, whose): (Option<&Parent>, Option<&str>),
    plan: &mut Plan,
) -> Result<(), SchemaError> {
    let name = &table.name;
    let orphans = match parent {
        Some(parent) => {
            let missing: Vec<String> =
                parent.pairs.iter().map(|(ours, _)| format!("{} IS NULL", ident(ours))).collect();
            missing.join(" OR ")
        }
        None => "true".to_owned(),
    };
    if whose.is_none() && table.has_row(client, &orphans).await? {
        let which = if parent.is_some() { "rows without a parent" } else { "rows" };
        return Err(SchemaError::Refused(format!(
            "{name} has {which}, and nothing says whose they are: give --workspace for all of them, or --via with a foreign key to \
             a protected table whose workspace is theirs"
        )));
    }
    let constant = whose.map(|id| format!(" DEFAULT {}", literal(id))).unwrap_or_default();
    let Some(parent) = parent else {
        plan.step(format!("ALTER TABLE {name} ADD COLUMN {quoted} uuid NOT NULL{constant}"), None);
        return Ok(());
    };
    let Some(theirs) = &parent.column else {
        return Err(SchemaError::Refused(format!(
            "{} has no workspace column of its own, so {name} can't take it from there: --via without --add-column goes by it",
            parent.name
        )));
    };
    plan.step(format!("ALTER TABLE {name} ADD COLUMN {quoted} uuid{constant}"), None);
    plan.always([
        format!(
            "UPDATE {name} SET {quoted} = parent.{} FROM {} AS parent WHERE {}",
            ident(theirs),
            parent.name,
            parent.matches(name)
        ),
        format!("ALTER TABLE {name} ALTER COLUMN {quoted} SET NOT NULL"),
    ]);
    Ok(())
}

/// Sees to it that no row is without a workspace, as far as that can be known.
async fn fill(
    client: &impl GenericClient,
    table: &Table,
    column: &str,
    whose: Option<&str>,
    plan: &mut Plan,
) -> Result<(), SchemaError> {
    if !table.column(column).is_some_and(|column| column.is_nullable) {
        return Ok(());
    }
    let (name, quoted) = (&table.name, ident(column));
    if table.has_row(client, &format!("{quoted} IS NULL")).await? {
        let Some(whose) = whose else {
            plan.note(format!(
                "{name} has rows whose {quoted} is null: no tenant will see them. --workspace gives them to one"
            ));
            return Ok(());
        };
        plan.always([format!("UPDATE {name} SET {quoted} = {} WHERE {quoted} IS NULL", literal(whose))]);
    }
    Ok(())
}

async fn workspace_id(client: &impl GenericClient, workspace: &str) -> Result<String, SchemaError> {
    let known = client
        .query_opt("SELECT id::text FROM cordon.workspace WHERE id::text = $1 OR name = $1 ORDER BY id::text = $1 DESC LIMIT 1", &[&workspace])
        .await
        .map_err(SchemaError::at("the workspaces"))?;
    known.map(|row| row.get(0)).ok_or_else(|| SchemaError::Refused(format!("there is no workspace {workspace:?}")))
}

async fn workspace_column(
    client: &impl GenericClient,
    table: &Table,
    options: &Options,
) -> Result<String, SchemaError> {
    let candidates: Vec<&str> =
        options.column.as_deref().map_or(vec!["workspace_id", "workspaceId"], |column| vec![column]);
    let found = table.columns.iter().find(|column| candidates.contains(&column.name.as_str()));
    match found {
        Some(column) if column.kind == "uuid" => Ok(column.name.clone()),
        Some(column) => {
            let (name, quoted, kind) = (&table.name, ident(&column.name), &column.kind);
            let mut told = format!("{name}: the column {} is of type {kind}, and a workspace is a uuid", column.name);
            if ["text", "character varying", "character"].contains(&kind.as_str()) {
                let is_none = format!("{quoted}::text !~* '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'");
                told += &if table.has_row(client, &is_none).await? {
                    ". Some of its values aren't uuids: they need one each, in a column of that type".to_owned()
                } else {
                    format!(
                        ". All of its values are: ALTER TABLE {name} ALTER COLUMN {quoted} TYPE uuid USING {quoted}::uuid first"
                    )
                };
            }
            Err(SchemaError::Refused(told))
        }
        None if options.add_column => Ok(candidates[0].to_owned()),
        None => Err(SchemaError::Refused(format!(
            "{} has no workspace column: give --column, --add-column, or --via with a foreign key to a protected table",
            table.name
        ))),
    }
}

/// Walls around the table and around each partition and child of it, which a policy of the table says nothing about when it is
/// named itself.
async fn walled(
    client: &impl GenericClient,
    table: &Table,
    belongs: &Belongs<'_>,
    roles: &RoleNames,
    plan: &mut Plan,
) -> Result<(), SchemaError> {
    plan.always(walls(&table.name, &belongs.holds(&table.name)));
    for (name, has_policies) in table.descendants(client).await? {
        let tenants = format!("{}, {}", ident(&roles.application), ident(&roles.read_only));
        plan.always([format!("REVOKE ALL ON {name} FROM PUBLIC, {tenants}")]);
        if has_policies {
            plan.always(walls(&name, &belongs.holds(&name)));
        } else {
            plan.note(format!(
                "{name} can't have policies of its own: tenants reach it by way of {} alone",
                table.name
            ));
        }
    }
    Ok(())
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

fn grants(table: &Table, roles: &RoleNames, plan: &mut Plan) {
    let name = &table.name;
    let (application, read_only, system) = (ident(&roles.application), ident(&roles.read_only), ident(&roles.system));
    plan.always([
        format!("REVOKE ALL ON {name} FROM PUBLIC, {application}, {read_only}"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {application}, {system}"),
        format!("GRANT SELECT ON {name} TO {read_only}"),
        format!("GRANT USAGE ON SCHEMA {} TO {application}, {read_only}, {system}", ident(&table.schema)),
    ]);
    plan.always(
        table.sequences.iter().map(|sequence| format!("GRANT USAGE ON SEQUENCE {sequence} TO {application}, {system}")),
    );
}
