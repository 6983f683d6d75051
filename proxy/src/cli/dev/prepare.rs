//! From an empty Postgres to two tenants: the database, the `cordon` schema, the application's tables behind their
//! walls, workspaces, rows and keys. Every step but the loading of the schema may be done again.

use std::path::{Path, PathBuf};

use postgres_protocol::password::scram_sha_256;
use tokio_postgres::Client;
use uuid::Uuid;

use super::cluster::{Cluster, SUPERUSER, explain};
use super::home::Home;
use super::keys::{self, Wish};
use super::memory::{Memory, RememberedKey};
use super::progress::Progress;
use super::quota;
use super::schema;
use super::start::DATABASE;
use super::walls;
use crate::cli::Failure;
use crate::control::RoleNames;
use crate::control::schema::ident;
use crate::domain::KeyKind;
use crate::tenant::ContextNames;

/// The workspaces, in the order they are printed.
const WORKSPACES: [&str; 2] = ["acme", "globex"];

/// What is to be prepared.
pub(super) struct Wanted<'a> {
    /// An application's schema in place of the demo one.
    pub(super) schema: Option<&'a Path>,
    pub(super) quotas: &'a [quota::Wish],
    pub(super) superuser_key: bool,
    pub(super) roles: &'a RoleNames,
    pub(super) names: &'a ContextNames,
    pub(super) psql: PathBuf,
}

/// What is there now.
pub(super) struct Prepared {
    pub(super) workspaces: Vec<(Uuid, RememberedKey)>,
    pub(super) system: RememberedKey,
    pub(super) superuser: Option<RememberedKey>,
    /// A protected table that a person may try.
    pub(super) try_table: Option<String>,
}

/// Prepares everything.
pub(super) async fn everything(
    cluster: &Cluster,
    home: &Home,
    memory: &mut Memory,
    wanted: &Wanted<'_>,
    progress: &Progress,
) -> Result<Prepared, Failure> {
    let mut client = database(cluster, home, memory).await?;
    walls::migrate(&mut client, wanted.roles, wanted.names).await?;
    let fresh = !memory.complete;
    if fresh {
        load(cluster, home, &client, wanted, progress).await?;
    } else if wanted.schema.is_some() {
        progress.say("this database has its schema already: --schema is for a new one, and not loaded again");
    }
    let try_table = walls::raise(&mut client, wanted.roles, wanted.names, progress).await?;
    quota::meter(&mut client, wanted.roles, wanted.quotas, progress).await?;
    let ids = workspaces(&client).await.map_err(failed("the workspaces"))?;
    if fresh && wanted.schema.is_none() {
        client.batch_execute(schema::DEMO_ROWS).await.map_err(failed("the demo rows"))?;
    }
    let made = keys(&client, memory, &ids, wanted).await.map_err(failed("the keys"))?;
    memory.complete = true;
    memory.write(&home.memory())?;
    progress.say("workspaces and keys are there");
    Ok(Prepared { try_table, ..made })
}

/// The application's database, and a connection to it as the superuser.
async fn database(cluster: &Cluster, home: &Home, memory: &Memory) -> Result<Client, Failure> {
    let made = async {
        let client = cluster.connect(home, "postgres").await?;
        // A verifier in place of the password: nothing that could be logged opens a door.
        let verifier = scram_sha_256(memory.admin_password.as_bytes());
        client.batch_execute(&format!("ALTER ROLE {SUPERUSER} PASSWORD '{verifier}'")).await?;
        if client.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&DATABASE]).await?.is_none() {
            client.batch_execute(&format!("CREATE DATABASE {}", ident(DATABASE))).await?;
        }
        cluster.connect(home, DATABASE).await
    };
    made.await.map_err(failed("the database"))
}

async fn load(
    cluster: &Cluster,
    home: &Home,
    client: &Client,
    wanted: &Wanted<'_>,
    progress: &Progress,
) -> Result<(), Failure> {
    let owner = &wanted.roles.owner;
    match wanted.schema {
        Some(file) => {
            schema::load_file(&wanted.psql, cluster, home, owner, DATABASE, file).await?;
            progress.say(&format!("loaded {}", file.display()));
        }
        None => {
            schema::load_demo(client, owner).await?;
            progress.say("loaded the demo schema");
        }
    }
    Ok(())
}

async fn workspaces(client: &Client) -> Result<Vec<(&'static str, Uuid)>, tokio_postgres::Error> {
    let mut ids = Vec::new();
    for name in WORKSPACES {
        client
            .execute("INSERT INTO cordon.workspace (name) VALUES ($1) ON CONFLICT (name) DO NOTHING", &[&name])
            .await?;
        ids.push((name, client.query_one("SELECT id FROM cordon.workspace WHERE name = $1", &[&name]).await?.get(0)));
    }
    Ok(ids)
}

async fn keys(
    client: &Client,
    memory: &mut Memory,
    ids: &[(&str, Uuid)],
    wanted: &Wanted<'_>,
) -> Result<Prepared, tokio_postgres::Error> {
    let mut workspaces = Vec::new();
    for (name, id) in ids {
        let wish = Wish { name, kind: KeyKind::Workspace, workspace: Some(*id), role: None };
        workspaces.push((*id, keys::ensure(client, memory, &wish).await?));
    }
    let wish = Wish { name: "system", kind: KeyKind::System, workspace: None, role: None };
    let system = keys::ensure(client, memory, &wish).await?;
    let superuser = if wanted.superuser_key {
        let wish = Wish { name: "superuser", kind: KeyKind::System, workspace: None, role: Some(SUPERUSER) };
        Some(keys::ensure(client, memory, &wish).await?)
    } else {
        // One that an earlier run on this directory made opens nothing without being asked for.
        client.execute("DELETE FROM cordon.api_key WHERE role = $1", &[&SUPERUSER]).await?;
        None
    };
    Ok(Prepared { workspaces, system, superuser, try_table: None })
}

/// Names the step in front of Postgres' own words.
pub(super) fn failed(step: &'static str) -> impl Fn(tokio_postgres::Error) -> Failure {
    move |error| Failure::outside(format!("{step}: {}", explain(&error)))
}
