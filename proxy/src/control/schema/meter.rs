//! Meters tables: triggers that report, for each statement of a tenant, how many rows of a resource it added or took away.
//! Only Postgres knows that: an upsert, a CTE, a function or a cascade doesn't show it on the wire.
//!
//! `target` finds out what a table is, `filter` lets Postgres read a filter, `statements` writes the SQL; here it is done.

use tokio_postgres::{Client, Transaction};

use self::statements::Metered as Counted;
use self::target::Target;
use super::{SchemaError, ident};
use crate::control::RoleNames;
use crate::quota::window::Per;

mod filter;
mod statements;
mod target;

pub use statements::TRIGGERS;

/// How long a table that is written to may keep a trigger waiting; writers wait behind it meanwhile.
const PATIENCE: &str = "SET LOCAL lock_timeout = '10s'";
/// What must be true of a resource's name, as people read it.
const NAME_MAX: usize = 63;

/// What is to be metered.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The resource's name.
    pub resource: String,
    /// Its tables; what the resource has already stays.
    pub tables: Vec<String>,
    /// Which rows of these tables count, as SQL over their columns.
    pub filter: Option<String>,
    /// A flow's window; a resource that is there keeps its own.
    pub per: Option<Per>,
    /// The limit of each workspace that has none of its own; a resource that is there keeps its own.
    pub limit: Option<u64>,
    /// Changes nothing, only says what would be done.
    pub dry_run: bool,
}

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The resource's id; a dry run guesses that of a new one.
    pub resource: i32,
    /// The tables, quoted and with their schemas.
    pub tables: Vec<String>,
    /// The statements.
    pub statements: Vec<String>,
}

/// Meters tables as a resource, in one transaction.
///
/// # Errors
/// A table that isn't protected, a filter that can't be metered, or whatever Postgres refuses; nothing is changed then.
pub async fn meter(client: &mut Client, roles: &RoleNames, options: &Options) -> Result<Done, SchemaError> {
    let at = || SchemaError::at(format!("the meter of {}", options.resource));
    named(&options.resource)?;
    let work = client.transaction().await.map_err(at())?;
    work.batch_execute(PATIENCE).await.map_err(at())?;
    // One of these at a time. What is read and written of cordon is its owner's affair.
    let cordon = ident(&roles.cordon);
    let lock = format!("SET LOCAL ROLE {cordon}; LOCK TABLE cordon.meter IN SHARE ROW EXCLUSIVE MODE; RESET ROLE");
    work.batch_execute(&lock).await.map_err(missing)?;
    let done = inside(&work, roles, options).await?;
    if options.dry_run {
        work.rollback().await.map_err(at())?;
    } else {
        work.commit().await.map_err(at())?;
    }
    Ok(done)
}

/// The schema may be older than this program.
fn missing(error: tokio_postgres::Error) -> SchemaError {
    match error.code().map(tokio_postgres::error::SqlState::code) {
        // The role, too: nothing was ever migrated on this server.
        Some("42P01" | "3F000" | "22023") => {
            SchemaError::Refused("this database's schema cordon has no meters: run pgcordon migrate first".to_owned())
        }
        _ => SchemaError::at("the tables of meters")(error),
    }
}

fn named(resource: &str) -> Result<(), SchemaError> {
    let fits = !resource.is_empty()
        && resource.len() <= NAME_MAX
        && resource.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if fits {
        return Ok(());
    }
    Err(SchemaError::Refused(format!(
        "{resource:?} can't be a resource's name: 1 to {NAME_MAX} printable ASCII characters can"
    )))
}

/// The statements that were run, so that a dry run shows what a real one does.
struct Statements<'a> {
    work: &'a Transaction<'a>,
    cordon: String,
    said: Vec<String>,
}

impl Statements<'_> {
    async fn run(&mut self, statement: String) -> Result<(), SchemaError> {
        self.work.batch_execute(&statement).await.map_err(|error| match error.code().map(|code| code.code()) {
            Some("55P03") => {
                SchemaError::Refused(format!("{statement}: the table is in use; try again when it is quiet"))
            }
            _ => SchemaError::at(statement.clone())(error),
        })?;
        self.said.push(statement);
        Ok(())
    }

    /// As the role that owns the schema `cordon`.
    async fn run_as_cordon(&mut self, statements: impl IntoIterator<Item = String>) -> Result<(), SchemaError> {
        self.run(format!("SET LOCAL ROLE {}", self.cordon)).await?;
        for statement in statements {
            self.run(statement).await?;
        }
        self.run("RESET ROLE".to_owned()).await
    }
}

async fn inside(work: &Transaction<'_>, roles: &RoleNames, options: &Options) -> Result<Done, SchemaError> {
    let mut targets: Vec<Target> = Vec::new();
    for table in &options.tables {
        let target = Target::find(work, table).await?;
        if targets.iter().all(|known| known.name != target.name) {
            targets.push(target);
        }
    }
    let mut statements = Statements { work, cordon: ident(&roles.cordon), said: Vec::new() };
    let resource = resource(&mut statements, options).await?;
    for target in &targets {
        one(&mut statements, roles, options, resource, target).await?;
    }
    let tables = targets.into_iter().map(|target| target.name).collect();
    Ok(Done { resource, tables, statements: statements.said })
}

/// The resource, made if it isn't there.
async fn resource(statements: &mut Statements<'_>, options: &Options) -> Result<i32, SchemaError> {
    let at = || SchemaError::at(format!("the resource {}", options.resource));
    let find = "SELECT id, per, default_limit FROM cordon.resource WHERE name = $1";
    let per = options.per.map(Per::as_str);
    if let Some(row) = statements.work.query_opt(find, &[&options.resource]).await.map_err(at())? {
        let (id, has, limit): (i32, Option<String>, Option<i64>) = (row.get(0), row.get(1), row.get(2));
        if per.is_some() && per != has.as_deref() {
            let is = has
                .map_or("counts the rows that exist".to_owned(), |per| format!("counts the rows inserted per {per}"));
            return Err(SchemaError::Refused(format!(
                "the resource {} {is}, and what it counts can't be changed: meter another resource",
                options.resource
            )));
        }
        let wanted = statements::limit(options.limit)?;
        if wanted.is_some() && wanted != limit {
            statements.run_as_cordon([statements::set_limit(id, wanted)]).await?;
        }
        return Ok(id);
    }
    let insert = statements::insert_resource(&options.resource, per, statements::limit(options.limit)?);
    statements.run_as_cordon([insert]).await?;
    let row = statements.work.query_one(find, &[&options.resource]).await.map_err(at())?;
    Ok(row.get(0))
}

async fn one(
    statements: &mut Statements<'_>,
    roles: &RoleNames,
    options: &Options,
    resource: i32,
    target: &Target,
) -> Result<(), SchemaError> {
    target.refuse_twice(statements.work, resource).await?;
    let filter = match &options.filter {
        Some(_) if target.is_partitioned => {
            return Err(SchemaError::Refused(format!(
                "{}: a partitioned table can't be metered with a filter: a MERGE that moves rows from one partition to \
                 another shows in no statement trigger",
                target.name
            )));
        }
        Some(text) => Some(filter::normalized(statements.work, target, text).await?),
        None => None,
    };
    let renamed = target.former_name(statements.work).await?;
    if let Some((former, _)) = &renamed {
        let follow = statements::follow(former, &target.name);
        statements.run_as_cordon([follow]).await?;
    }
    let upsert = statements::upsert_meter(resource, target, filter.as_deref());
    statements.run_as_cordon([upsert]).await?;
    let counted = counted(statements.work, target).await?;
    if renamed.is_some() {
        let recount = counted.iter().filter(|each| each.resource != resource);
        let recount: Vec<String> =
            recount.map(|each| statements::upsert_meter(each.resource, target, each.filter.as_deref())).collect();
        statements.run_as_cordon(recount).await?;
    }
    let function = &target.function;
    statements.run_as_cordon(statements::functions(target, &roles.application, &counted)).await?;
    for member in target.family(statements.work).await? {
        for statement in statements::triggers(&member, function, &counted) {
            statements.run(statement).await?;
        }
    }
    if let Some((_, stale)) = &renamed {
        statements.run_as_cordon([format!("DROP FUNCTION {stale}()")]).await?;
    }
    for grant in target.missing_grants(statements.work, roles).await? {
        statements.run(grant).await?;
    }
    // What counts must be what Postgres can count.
    let count = statements::count_sql(target, filter.as_deref());
    statements.work.prepare(&count).await.map_err(SchemaError::at(format!("counting the rows of {}", target.name)))?;
    Ok(())
}

/// Everything a table is metered for, by resource.
async fn counted(work: &Transaction<'_>, target: &Target) -> Result<Vec<Counted>, SchemaError> {
    let rows = work
        .query(
            "SELECT m.resource_id, r.per IS NOT NULL, m.filter FROM cordon.meter m JOIN cordon.resource r ON r.id = m.resource_id \
             WHERE m.relation = $1 ORDER BY 1",
            &[&target.name],
        )
        .await
        .map_err(SchemaError::at(format!("the meters of {}", target.name)))?;
    Ok(rows.iter().map(|row| Counted { resource: row.get(0), is_flow: row.get(1), filter: row.get(2) }).collect())
}
