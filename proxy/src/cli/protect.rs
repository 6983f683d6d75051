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
    #[arg(long, conflicts_with = "via")]
    add_column: bool,
    /// The foreign key, or its column, by which rows belong to a protected parent
    #[arg(long, value_name = "FK", conflicts_with = "column")]
    via: Option<String>,
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
    let options = Options { column: args.column, add_column: args.add_column, via: args.via, dry_run: args.dry_run };
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
                "is no longer protected, and closed to tenants; its column, default and index stay",
                args.dry_run,
            );
        }
        Ok(())
    })
}

fn tell(done: &Protected, what: &str, dry_run: bool) {
    if dry_run {
        say!("-- {}", done.table);
        for statement in &done.statements {
            say!("{statement};");
        }
    } else {
        say!("{} {what}", done.table);
    }
}
