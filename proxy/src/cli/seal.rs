//! `pgcordon seal`: shows, replaces and retires the keys of the seals. The proxies hear of it by themselves.

use clap::Subcommand;

use super::Failure;
use super::connect::{Configured, administrator, run as block_on, schema};
use crate::control::schema::signing;

/// Options of `seal`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    configured: Configured,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The valid keys, by number and age
    Show {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Makes a new key; the one before stays valid until it is retired
    Rotate,
    /// Ends every key but the newest
    Retire {
        /// Before all that was sealed with an older key has been sealed anew: transactions that are open fail
        #[arg(long)]
        now: bool,
    },
}

/// Shows or changes the keys.
///
/// # Errors
/// Postgres unreachable; a third key, or a key that is retired too early.
pub fn run(args: Args) -> Result<(), Failure> {
    let settings = args.configured.settings()?;
    block_on(async {
        let mut client = administrator(&settings).await?;
        match args.action {
            Action::Show { json } => show(&signing::valid(&client).await.map_err(schema)?, json),
            Action::Rotate => {
                let key = signing::rotate(&mut client).await.map_err(schema)?;
                say!("new seals are made with the key {}; older ones stay valid", key.id);
                say!("in an hour or later: pgcordon seal retire");
            }
            Action::Retire { now } => {
                let retired = signing::retire(&mut client, now).await.map_err(schema)?;
                match retired.as_slice() {
                    [] => say!("there is one key, and it stays valid"),
                    ids => ids.iter().for_each(|id| say!("retired the key {id}")),
                }
            }
        }
        Ok(())
    })
}

fn show(keys: &[signing::Key], json: bool) {
    if json {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| serde_json::json!({ "id": key.id, "created_at": key.created_at, "age_seconds": key.age }))
            .collect();
        say!("{}", serde_json::json!({ "keys": keys }));
        return;
    }
    for (place, key) in keys.iter().enumerate() {
        let what = if place == 0 { "new seals are made with it" } else { "its seals are accepted" };
        say!("{:>4}  {}  {what}", key.id, key.created_at);
    }
}
