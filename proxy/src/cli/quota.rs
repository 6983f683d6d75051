//! `pgcordon quota`: what workspaces use, and how much they may.

use clap::Subcommand;
use serde_json::json;
use tokio_postgres::Client;

use super::Failure;
use super::connect::{Configured, control, counting, run as block_on, store as failed};
use crate::admin::quota::as_json;
use crate::config::Settings;
use crate::control::quota_store::{self, Wanted};
use crate::control::{Workspace, quota_truth, store};
use crate::domain::clock;
use crate::quota::truth::FlowRows;
use crate::quota::window::Window;
use crate::quota::{Definitions, Resource, Usage};

/// Options of `quota`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    configured: Configured,
    /// Prints JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Counts what a workspace uses of each resource
    Show {
        /// Name or id
        workspace: String,
    },
    /// Sets a limit; running proxies hold to it within a second
    Set {
        /// Name or id
        workspace: String,
        /// The resource's name
        resource: String,
        /// Rows at most; `none` for no limit, `default` for the resource's own
        #[arg(value_parser = limit)]
        limit: Wanted,
    },
    /// Counts anew, here and in every running proxy
    Recount {
        /// Name or id
        workspace: String,
        /// Only this resource
        resource: Option<String>,
    },
}

/// Does what is asked.
///
/// # Errors
/// No such workspace or resource, Postgres unreachable.
pub fn run(args: Args) -> Result<(), Failure> {
    let settings = args.configured.settings()?;
    block_on(async {
        let mut client = control(&settings).await?;
        let (Action::Show { workspace, .. } | Action::Set { workspace, .. } | Action::Recount { workspace, .. }) =
            &args.action;
        let workspace = store::find_workspace(&client, workspace).await.map_err(failed)?;
        let mut definitions = quota_store::definitions(&client).await.map_err(failed)?;
        let named = match &args.action {
            Action::Show { .. } | Action::Recount { resource: None, .. } => None,
            Action::Set { resource, .. } | Action::Recount { resource: Some(resource), .. } => {
                Some(find(&definitions, resource)?.clone())
            }
        };
        match (&args.action, &named) {
            (Action::Set { limit, .. }, Some(resource)) => {
                let wanted = [(resource.id, *limit)];
                quota_store::set_limits(&mut client, workspace.id, &wanted).await.map_err(failed)?;
                definitions = quota_store::definitions(&client).await.map_err(failed)?;
            }
            (Action::Recount { .. }, named) => {
                let resource = named.as_ref().map(|resource| resource.id);
                quota_store::ask_for_recount(&client, workspace.id, resource).await.map_err(failed)?;
            }
            _ => {}
        }
        let wanted =
            definitions.resources().iter().filter(|each| named.as_ref().is_none_or(|named| named.id == each.id));
        let mut usage = Vec::new();
        let counting = counting(&settings).await?;
        for resource in wanted {
            usage.push(used(&client, &counting, &definitions, &workspace, resource).await?);
        }
        report(&usage, &workspace, &settings, args.json);
        Ok(())
    })
}

fn find<'a>(definitions: &'a Definitions, name: &str) -> Result<&'a Resource, Failure> {
    definitions.named(name).ok_or_else(|| {
        let known: Vec<&str> = definitions.resources().iter().map(|resource| &*resource.name).collect();
        let hint = match known.as_slice() {
            [] => "there is none yet; `pgcordon meter` makes one".to_owned(),
            known => format!("there is {}; `pgcordon meter` makes another", known.join(", ")),
        };
        Failure::not_so(format!("there is no resource {name:?}")).hint(hint)
    })
}

async fn used(
    control: &Client,
    counting: &Client,
    definitions: &Definitions,
    workspace: &Workspace,
    resource: &Resource,
) -> Result<Usage, Failure> {
    let window = resource.per.map(|per| per.window(clock::unix_seconds()));
    let counted = match window {
        None => quota_truth::count(counting, definitions, workspace.id, resource.id).await,
        Some(window) => {
            let asked = [FlowRows { workspace: workspace.id, resource: resource.id, window, rows: 0 }];
            quota_truth::recorded(control, &asked).await.map(|totals| totals.first().copied().unwrap_or_default())
        }
    };
    let used = counted.map_err(|error| Failure::outside(format!("{} can't be counted: {error}", resource.name)))?;
    Ok(Usage {
        resource: resource.id,
        name: resource.name.clone(),
        limit: definitions.limit(workspace.id, resource.id),
        used,
        reserved: 0,
        exact: true,
        resets_at: window.map(Window::resets_at),
    })
}

fn report(usage: &[Usage], workspace: &Workspace, settings: &Settings, as_script: bool) {
    if as_script {
        say!("{}", json!({"quotas": usage.iter().map(as_json).collect::<Vec<_>>()}));
        return;
    }
    if usage.is_empty() {
        say!("no resource is metered in {}; `pgcordon meter` makes one", settings.control_database());
    }
    for Usage { name, limit, used, resets_at, .. } in usage {
        let limit = limit.map_or_else(|| "no limit".to_owned(), |limit| format!("of {limit}"));
        let resets = resets_at.as_ref().map(|at| format!(", anew at {at}")).unwrap_or_default();
        say!("{}  {name}  {used} {limit}{resets}", workspace.name);
    }
}

fn limit(text: &str) -> Result<Wanted, String> {
    match text {
        "none" => Ok(Wanted::Unlimited),
        "default" => Ok(Wanted::Default),
        number => match number.parse::<i64>().ok().and_then(|limit| u64::try_from(limit).ok()) {
            Some(limit) => Ok(Wanted::AtMost(limit)),
            None => Err("a limit is a whole number, 0 or more, or `none`, or `default`".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_none_or_the_default() {
        assert_eq!(limit("0"), Ok(Wanted::AtMost(0)));
        assert_eq!(limit("9223372036854775807"), Ok(Wanted::AtMost(i64::MAX as u64)));
        assert_eq!((limit("none"), limit("default")), (Ok(Wanted::Unlimited), Ok(Wanted::Default)));
        for odd in ["-1", "1.5", "9223372036854775808", "", "many", "1e3", "٥"] {
            assert!(limit(odd).is_err(), "{odd}");
        }
    }
}
