//! `pgcordon workspace`: creates, lists, suspends and deletes workspaces.

use clap::Subcommand;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Failure;
use super::connect::{Configured, control, operator, run as block_on, store as failed};
use crate::control::{Workspace, store};

/// Options of `workspace`.
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
    /// Creates a workspace
    Create {
        /// Its name
        name: String,
        /// Its id, if the application has one already
        #[arg(long)]
        id: Option<Uuid>,
    },
    /// Lists all workspaces
    List,
    /// Shows one, by name or id
    Show {
        /// Name or id
        workspace: String,
    },
    /// Ends its sessions and refuses new ones
    Suspend {
        /// Name or id
        workspace: String,
    },
    /// Lets it in again
    Resume {
        /// Name or id
        workspace: String,
    },
    /// Deletes it and its keys. Its rows in the application's tables stay
    Delete {
        /// Name or id
        workspace: String,
    },
}

/// Does what is asked.
///
/// # Errors
/// No such workspace, a name that is taken, Postgres unreachable.
pub fn run(args: Args) -> Result<(), Failure> {
    let settings = args.configured.settings()?;
    block_on(async {
        let (mut client, by) = (control(&settings).await?, operator());
        let (workspaces, what) = match &args.action {
            Action::Create { name, id } => {
                (vec![store::create_workspace(&mut client, name, *id, &by).await.map_err(failed)?], "created ")
            }
            Action::List => (store::workspaces(&client).await.map_err(failed)?, ""),
            Action::Show { workspace } => (vec![store::find_workspace(&client, workspace).await.map_err(failed)?], ""),
            Action::Suspend { workspace } => {
                (vec![store::set_suspended(&mut client, workspace, true, &by).await.map_err(failed)?], "suspended ")
            }
            Action::Resume { workspace } => {
                (vec![store::set_suspended(&mut client, workspace, false, &by).await.map_err(failed)?], "resumed ")
            }
            Action::Delete { workspace } => {
                (vec![store::delete_workspace(&mut client, workspace, &by).await.map_err(failed)?], "deleted ")
            }
        };
        if args.json {
            let all: Vec<Value> = workspaces.iter().map(as_json).collect();
            let list = matches!(args.action, Action::List);
            say!("{}", if list { json!(all) } else { all.into_iter().next().unwrap_or_default() });
        } else {
            workspaces.iter().for_each(|each| say!("{what}{}  {}  {}", each.id, status(each), each.name));
        }
        Ok(())
    })
}

const fn status(workspace: &Workspace) -> &'static str {
    if workspace.suspended { "suspended" } else { "active" }
}

fn as_json(workspace: &Workspace) -> Value {
    json!({"id": workspace.id.to_string(), "name": workspace.name, "status": status(workspace)})
}
