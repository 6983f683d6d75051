//! `pgcordon harden`: closes what one role sees of its siblings.

use clap::ValueEnum;

use super::Failure;
use super::connect::{Configured, administrator, run as block_on, schema};
use crate::control::schema::harden::{self, Allow};

/// Options of `harden`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    configured: Configured,
    /// What the application keeps, and with it what that opens
    #[arg(long, value_delimiter = ',', value_name = "WHAT")]
    allow: Vec<Kept>,
    /// Prints the SQL and changes nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kept {
    /// Temporary tables: a tenant can fill the disk with them
    Temp,
    /// DO blocks: loops in plpgsql
    Do,
    /// Large objects: all tenants share their name space
    LargeObjects,
    /// pg_notify in functions: all tenants share its channels
    Notify,
    /// XPath: nothing can interrupt what it evaluates
    Xpath,
}

impl Kept {
    const fn allow(self) -> Allow {
        match self {
            Self::Temp => Allow::Temp,
            Self::Do => Allow::Do,
            Self::LargeObjects => Allow::LargeObjects,
            Self::Notify => Allow::Notify,
            Self::Xpath => Allow::Xpath,
        }
    }
}

/// Hardens.
///
/// # Errors
/// Postgres unreachable; or the administrator isn't allowed a step (exit code 1), which is named.
pub fn run(args: Args) -> Result<(), Failure> {
    let settings = args.configured.settings()?;
    let allow: Vec<Allow> = args.allow.iter().map(|kept| kept.allow()).collect();
    block_on(async {
        let client = administrator(&settings).await?;
        let hardened = harden::harden(&client, &settings.upstream.roles, &allow, args.dry_run).await.map_err(schema)?;
        if args.dry_run {
            hardened.done.iter().for_each(|statement| say!("{statement};"));
            return Ok(());
        }
        say!("hardened: {} statements", hardened.done.len());
        if hardened.refused.is_empty() {
            return Ok(());
        }
        for (statement, reason) in &hardened.refused {
            say!("stays open: {statement}: {reason}");
        }
        Err(Failure::not_so(format!("{} steps aren't allowed to this administrator", hardened.refused.len()))
            .hint("have them run by a superuser, or ask the provider; what they would close stays open until then"))
    })
}
