//! `pgcordon migrate`: creates or upgrades the schema `cordon` and the upstream roles.

use super::Failure;
use super::connect::{Configured, administrator, run as block_on, schema};
use crate::control::schema::migrate;

/// Options of `migrate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    configured: Configured,
}

/// Migrates.
///
/// # Errors
/// Postgres unreachable, or a schema that a newer program made.
pub fn run(args: Args) -> Result<(), Failure> {
    let settings = args.configured.settings()?;
    block_on(async {
        let mut client = administrator(&settings).await?;
        let (upstream, names) = (&settings.upstream, settings.context_names());
        let done = migrate::with_passwords(&mut client, &upstream.roles, &names, &upstream.passwords).await;
        let done = done.map_err(schema)?;
        if done.applied.is_empty() {
            say!("the schema cordon is at version {}: nothing to do", done.version);
        }
        for name in &done.applied {
            say!("applied {name}");
        }
        for role in &done.passwords {
            say!("the role {role} has its password of the configuration");
        }
        if !done.is_marked {
            say!(
                "each statement verifies its seal, which about halves the rate of short ones: GRANT SET ON PARAMETER backtrace_functions"
            );
            say!("TO {} needs a superuser, and Postgres 15 or newer", upstream.roles.cordon);
        }
        if !done.signals {
            say!(
                "server processes that go on without a client can't be ended, nor waits for locks be seen: {} needs pg_signal_backend",
                upstream.roles.control
            );
        }
        Ok(())
    })
}
