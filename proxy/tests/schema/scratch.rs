//! A Postgres of this test binary's own, and in it a migrated and hardened database for each test.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use pgcordon::control::schema::protect::{self, Options};
use pgcordon::control::schema::{harden, migrate};
use pgcordon::control::{ControlTarget, RoleNames};
use pgcordon::domain::WorkspaceId;
use pgcordon::tenant::ContextNames;
use pgcordon::tenant::seal::{Seal, SigningKey};
use tokio_postgres::{Client, NoTls};

pub(crate) const A: &str = "00000000-0000-0000-0000-00000000000a";
pub(crate) const B: &str = "00000000-0000-0000-0000-00000000000b";
pub(crate) const APPLICATION: &str = "pgcordon_app";

const DEMO: &str = "\
create table note (id serial primary key, workspace_id uuid not null, body text);
create table comment (id int primary key, note_id int not null references note, body text);
alter table note owner to pgcordon_owner; alter table comment owner to pgcordon_owner;";

struct Scratch {
    directory: tempfile::TempDir,
    databases: Mutex<u32>,
}

static SHARED: Mutex<Weak<Scratch>> = Mutex::new(Weak::new());
/// Roles belong to the whole server, so databases are made, and roles changed, one after the other.
pub(crate) static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Scratch {
    fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(Self::start());
            *shared = Arc::downgrade(&fresh);
            fresh
        })
    }

    fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("pgcordon-schema-").tempdir().unwrap();
        if is_root() {
            assert!(Command::new("chown").arg("postgres").arg(directory.path()).status().unwrap().success());
        }
        let (data, log) = (directory.path().join("data"), directory.path().join("log"));
        run("initdb", &["-D", data.to_str().unwrap(), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"]);
        let sockets = directory.path().display();
        let options = format!("-c listen_addresses='' -c unix_socket_directories={sockets} -c fsync=off");
        run("pg_ctl", &["-D", data.to_str().unwrap(), "-l", log.to_str().unwrap(), "-w", "-o", &options, "start"]);
        Self { directory, databases: Mutex::new(0) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let data = self.directory.path().join("data");
        let _ = command("pg_ctl").arg("-D").arg(data).args(["-m", "immediate", "-w", "stop"]).output();
    }
}

/// One test's database.
pub(crate) struct Database {
    scratch: Arc<Scratch>,
    name: String,
}

impl Database {
    /// An empty one.
    pub(crate) async fn empty() -> Self {
        let scratch = Scratch::shared();
        let name = {
            let mut databases = scratch.databases.lock().unwrap_or_else(PoisonError::into_inner);
            *databases += 1;
            format!("test_{databases}")
        };
        let postgres = Self { scratch: Arc::clone(&scratch), name: "postgres".to_owned() };
        postgres.admin().await.batch_execute(&format!("create database {name}")).await.unwrap();
        Self { scratch, name }
    }

    /// One with the schema cordon and two tables, `note` protected and `comment` protected by way of it.
    pub(crate) async fn protected() -> Self {
        let _one = MAKING.lock().await;
        let database = Self::empty().await;
        let mut admin = database.admin().await;
        migrate::migrate(&mut admin, &RoleNames::default(), &ContextNames::default()).await.unwrap();
        admin.batch_execute(DEMO).await.unwrap();
        database.protect("note", &Options::default()).await;
        database.protect("comment", &Options { via: Some("note_id".to_owned()), ..Options::default() }).await;
        database
    }

    /// As [`Self::protected`], and hardened.
    pub(crate) async fn hardened() -> Self {
        let database = Self::protected().await;
        let hardened = harden::harden(&database.admin().await, &RoleNames::default(), &[], false).await.unwrap();
        assert_eq!(hardened.refused, []);
        database
    }

    /// Migrates, or says why not.
    pub(crate) async fn migrate(&self) -> Result<migrate::Migrated, pgcordon::control::schema::SchemaError> {
        let _one = MAKING.lock().await;
        migrate::migrate(&mut self.admin().await, &RoleNames::default(), &ContextNames::default()).await
    }

    pub(crate) async fn protect(&self, table: &str, options: &Options) -> Vec<String> {
        let (roles, names) = (RoleNames::default(), ContextNames::default());
        protect::protect(&mut self.admin().await, &roles, &names, table, options).await.unwrap().statements
    }

    /// The major version of its server.
    pub(crate) async fn version(&self) -> i32 {
        let sql = "select current_setting('server_version_num')::int / 10000";
        self.admin().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Where its server listens.
    pub(crate) fn sockets(&self) -> &Path {
        self.scratch.directory.path()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn admin(&self) -> Client {
        self.connect("postgres").await
    }

    /// How the proxy would reach its control data here, and the catalogs of this database and of one that isn't there.
    pub(crate) fn control_target(&self) -> ControlTarget {
        let (config, databases) = (self.config("pgcordon_control"), vec![self.name.clone(), "nowhere".to_owned()]);
        ControlTarget { config, tls: None, roles: RoleNames::default(), databases }
    }

    fn config(&self, role: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.scratch.directory.path()).user(role).dbname(&self.name);
        config
    }

    /// A connection as a role, without a workspace.
    pub(crate) async fn connect(&self, role: &str) -> Client {
        let config = self.config(role);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// The SQLSTATE with which a start with these options is refused.
    pub(crate) async fn refused_start(&self, role: &str, options: &str) -> String {
        let Err(error) = self.config(role).options(options).connect(NoTls).await else { return String::new() };
        error.code().map(|code| code.code().to_owned()).unwrap_or_default()
    }

    /// A connection of the application role that is bound to a workspace as the proxy binds it.
    pub(crate) async fn bound(&self, workspace: &str) -> Client {
        let client = self.sealed(workspace).await;
        assert_eq!(text(&client, "select cordon.mark()").await, "t");
        client
    }

    /// The same without the mark: as an older proxy binds, or one whose administrator is no superuser.
    pub(crate) async fn sealed(&self, workspace: &str) -> Client {
        let client = self.connect(APPLICATION).await;
        let seal = self.seal(workspace, pid(&client).await, 0).await;
        set_context(&client, workspace, &seal).await;
        client
    }

    /// A true seal made `ago` seconds ago.
    pub(crate) async fn seal(&self, workspace: &str, pid: i32, ago: i64) -> String {
        let admin = self.admin().await;
        let sql = "select secret, extract(epoch from clock_timestamp())::bigint from cordon.signing_key where retired_at is null order by id desc limit 1";
        let row = admin.query_one(sql, &[]).await.unwrap();
        let key = SigningKey::new(1, row.get(0));
        let workspace: WorkspaceId = workspace.parse().unwrap();
        Seal::new(&key, workspace, pid, row.get::<_, i64>(1) - ago).as_str().to_owned()
    }

    /// Runs a script in psql, each statement on its own, and returns all that it prints, errors and messages of every
    /// level included.
    pub(crate) fn psql(&self, role: &str, script: &str) -> String {
        let directory = self.scratch.directory.path().to_str().unwrap();
        let mut psql = command("psql");
        psql.args(["-XAtq", "-h", directory, "-U", role, "-d", &self.name]);
        let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        psql.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let Output { stdout, stderr, .. } = psql.wait_with_output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
    }
}

pub(crate) async fn pid(client: &Client) -> i32 {
    client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
}

pub(crate) async fn set_context(client: &Client, workspace: &str, seal: &str) {
    let sql = "select set_config('app.workspace_id', $1, false), set_config('app.workspace_seal', $2, false)";
    client.query_one(sql, &[&workspace, &seal]).await.unwrap();
}

/// Everything a user may set, to what is most talkative, as statements of a script.
pub(crate) async fn every_setting(admin: &Client) -> String {
    let sql = "select string_agg(format('set %s = %L', name, case when vartype = 'bool' then 'on' else 'debug5' end), ';') \
        from pg_settings where context = 'user' and (name = 'client_min_messages' or vartype = 'bool') \
        and name not like 'default_transaction%' and name not like 'transaction%' \
        and name not in ('zero_damaged_pages', 'exit_on_error', 'row_security')";
    text(admin, sql).await
}

/// A function `public.bind_to(workspace)` that seals the session it is called in: of psql's process id only the server knows in time.
pub(crate) async fn let_bind(admin: &Client) {
    let sql = "create function public.bind_to(w uuid) returns void language sql security definer set search_path = pg_catalog as $$ \
        select set_config('app.workspace_id', w::text, false), set_config('app.workspace_seal', e || '.' || encode(sha256(outer_pad || sha256(inner_pad || \
            convert_to(w || '|' || pg_backend_pid() || '|' || e, 'UTF8'))), 'hex'), false) \
        from cordon.signing_key, (select extract(epoch from now())::bigint + 600) t (e) $$";
    admin.batch_execute(sql).await.unwrap();
}

/// The SQLSTATE with which Postgres refuses a statement; empty if it doesn't.
pub(crate) async fn refusal(client: &Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => String::new(),
        Err(error) => error.code().map_or("gone", |code| code.code()).to_owned(),
    }
}

/// The first column of the first row, as text.
pub(crate) async fn text(client: &Client, sql: &str) -> String {
    let rows = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter()
        .find_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
            _ => None,
        })
        .unwrap_or_default()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(program: &str, arguments: &[&str]) {
    let output = command(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A program of the server that is tested: beside the initdb on PATH, as `pgcordon dev` looks for it, else Debian's newest.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    directories.sort();
    directories.extend(std::env::split_paths(&path).find(|directory| directory.join("initdb").exists()));
    let installed = directories.into_iter().rev().map(|directory| directory.join(name)).find(|path| path.exists());
    installed.unwrap_or_else(|| PathBuf::from(name))
}

fn command(name: &str) -> Command {
    let program = program(name);
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}
