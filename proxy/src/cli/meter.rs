//! `pgcordon meter`: counts a resource, and with a limit holds it.

use clap::ValueEnum;

use super::Failure;
use super::connect::{Configured, administrator, run as block_on, schema};
use crate::control::schema::meter::{self, Done, Options};
use crate::quota::window::Per;

/// Options of `meter`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    configured: Configured,
    /// The resource's name
    resource: String,
    /// The tables whose rows count; a camelCase name needs no quotes of its own. What the resource has already stays
    #[arg(long = "table", required = true, num_args = 1.., value_name = "T")]
    tables: Vec<String>,
    /// Which rows count: a condition on a row's own columns
    #[arg(long = "where", value_name = "SQL")]
    filter: Option<String>,
    /// Counts the rows inserted in a calendar window (UTC) instead of those that exist
    #[arg(long, value_name = "WINDOW")]
    per: Option<Window>,
    /// The limit of every workspace that has none of its own; `pgcordon quota set` gives it one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX.unsigned_abs()))]
    limit: Option<u64>,
    /// Holds the limit against the application's own functions too (not in this version)
    #[arg(long)]
    strict: bool,
    /// Prints the SQL and changes nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Window {
    /// From midnight to midnight
    Day,
    /// From the first of a month to the next
    Month,
}

impl Window {
    const fn per(self) -> Per {
        match self {
            Self::Day => Per::Day,
            Self::Month => Per::Month,
        }
    }
}

/// Meters tables, in one transaction.
///
/// # Errors
/// A table that isn't protected, a filter that can't be metered, Postgres unreachable.
pub fn run(args: Args) -> Result<(), Failure> {
    if args.strict {
        return Err(Failure::usage("--strict isn't in this version").hint(
            "without it the limit is exact for statements, and what functions insert beyond it is booked as debt",
        ));
    }
    let settings = args.configured.settings()?;
    let options = Options {
        resource: args.resource,
        tables: args.tables,
        filter: args.filter,
        per: args.per.map(Window::per),
        limit: args.limit,
        dry_run: args.dry_run,
    };
    block_on(async {
        let mut client = administrator(&settings).await?;
        let done = meter::meter(&mut client, &settings.upstream.roles, &options).await.map_err(schema)?;
        tell(&done, &options);
        Ok(())
    })
}

fn tell(done: &Done, options: &Options) {
    if options.dry_run {
        say!("-- {}", options.resource);
        done.statements.iter().for_each(|statement| say!("{statement};"));
        return;
    }
    let limit = options.limit.map(|limit| format!(", at most {limit} for each workspace")).unwrap_or_default();
    say!("{} counts the rows of {}{limit}", options.resource, done.tables.join(", "));
}
