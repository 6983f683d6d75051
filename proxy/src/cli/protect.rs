//! `pgcordon protect` and `unprotect`: makes tables tenant-safe, and undoes it.

use super::Failure;
use super::connect::{Configured, administrator, run as block_on, schema};
use crate::control::schema::protect::{self, Options, Protected};

/// Options of `protect`.
#[derive(Debug, clap::Args)]
pub struct ProtectArgs {
    #[command(flatten)]
    configured: Configured,
    /// The tables; a camelCase name needs no quotes of its own
    #[arg(required = true, value_name = "TABLE")]
    tables: Vec<String>,
    /// The workspace column [default: workspace_id or workspaceId]
    #[arg(long, value_name = "C")]
    column: Option<String>,
    /// Adds the workspace column where there is none
    #[arg(long)]
    add_column: bool,
    /// The foreign key, or its column, by which rows belong to a protected parent; with --add-column, where the workspace of the
    /// rows that are there comes from
    #[arg(long, value_name = "FK")]
    via: Option<String>,
    /// The workspace, by name or id, of the rows that are there and have none
    #[arg(long, value_name = "W")]
    workspace: Option<String>,
    /// With --add-column: what is unique stays so across workspaces
    #[arg(long, requires = "add_column")]
    keep_unique: bool,
    /// Prints the SQL and changes nothing
    #[arg(long)]
    dry_run: bool,
}

/// Options of `unprotect`.
#[derive(Debug, clap::Args)]
pub struct UnprotectArgs {
    #[command(flatten)]
    configured: Configured,
    /// The tables
    #[arg(required = true, value_name = "TABLE")]
    tables: Vec<String>,
    /// Prints the SQL and changes nothing
    #[arg(long)]
    dry_run: bool,
}

/// Protects tables, one transaction each.
///
/// # Errors
/// No such table, no workspace column, Postgres unreachable.
pub fn run(args: ProtectArgs) -> Result<(), Failure> {
    let settings = args.configured.settings()?;
    let options = Options {
        column: args.column,
        add_column: args.add_column,
        via: args.via,
        workspace: args.workspace,
        keep_unique: args.keep_unique,
        dry_run: args.dry_run,
    };
    block_on(async {
        let mut client = administrator(&settings).await?;
        for table in &args.tables {
            let names = settings.context_names();
            let done = protect::protect(&mut client, &settings.upstream.roles, &names, table, &options).await;
            tell(&done.map_err(schema)?, "is protected", options.dry_run);
        }
        Ok(())
    })
}

/// Takes the protection off tables.
///
/// # Errors
/// No such table, Postgres unreachable.
pub fn run_undo(args: UnprotectArgs) -> Result<(), Failure> {
    let settings = args.configured.settings()?;
    block_on(async {
        let mut client = administrator(&settings).await?;
        for table in &args.tables {
            let done =
                protect::unprotect(&mut client, &settings.upstream.roles, table, args.dry_run).await.map_err(schema)?;
            tell(
                &done,
                "is no longer protected, and closed to tenants; a column that was added stays, with its data",
                args.dry_run,
            );
        }
        Ok(())
    })
}

fn tell(done: &Protected, what: &str, dry_run: bool) {
    if dry_run {
        say!("-- {}", done.table);
        done.notes.iter().for_each(|note| say!("-- Note: {note}"));
        say!("BEGIN;");
        done.statements.iter().for_each(|statement| say!("{statement};"));
        say!("COMMIT;");
    } else {
        say!("{} {what}", done.table);
        done.notes.iter().for_each(|note| say!("  note: {note}"));
    }
}
