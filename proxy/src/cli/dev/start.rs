//! The order of the steps from nothing to a proxy that accepts connections. Every step that starts something notes it
//! on the stage first, so that whatever interrupts it can stop it.

use std::path::{Path, PathBuf};

use toml::Table;

use super::Args;
use super::account::Account;
use super::binaries::Binaries;
use super::cluster::{Cluster, SUPERUSER, Setup};
use super::home::Home;
use super::memory::Memory;
use super::orphan;
use super::prepare::{self, Prepared};
use super::progress::Progress;
use super::proxy::{self, Ports};
use super::report::{Circumstances, Dsn, Http, Proxy, Report, Upstream, Workspace};
use super::stage::Stage;
use crate::app;
use crate::cli::{Failure, logging};
use crate::config::Secret;
use crate::control::RoleNames;

/// The application's database.
pub(super) const DATABASE: &str = "app";
/// Server connections per role when neither the command line nor the configuration says otherwise.
const POOL_SIZE: u32 = 20;
/// Connections beside the pools: the control connection, migrations, psql past the proxy.
const CONNECTIONS_BESIDE: u32 = 60;

/// Starts everything and prints how to connect.
pub(super) async fn everything(args: &Args, stage: &mut Stage, progress: &Progress) -> Result<(), Failure> {
    let overrides = proxy::overrides(args.config.as_deref())?;
    let schema = args.schema.as_deref().map(readable).transpose()?;
    let ports = Ports::reserve(args, &overrides)?;
    let binaries = Binaries::find(args.pg_bin.as_deref())?;
    let (account, ourselves) = (Account::for_postgres()?, Account::ourselves()?);
    let home = stage.home.insert(Home::open(args.data_dir.as_deref(), &account)?);
    let cluster = &mut stage.cluster;
    let (roles, names) = (proxy::roles(&overrides)?, proxy::context_names(&overrides));
    let pool_size = args.pool_size.or_else(|| proxy::pool_size(&overrides)).unwrap_or(POOL_SIZE);
    let max_connections = pool_size * 5 + CONNECTIONS_BESIDE;
    let logins = logins(&roles);
    let setup =
        Setup { binaries: &binaries, home, account: &account, ourselves: &ourselves, roles: &logins, max_connections };

    let mut memory = postgres(cluster, &setup, progress).await?;
    let wanted = prepare::Wanted {
        schema: schema.as_deref(),
        quotas: &args.quota,
        superuser_key: args.superuser_key,
        roles: &roles,
        names: &names,
        psql: binaries.psql(),
    };
    let prepared = prepare::everything(cluster, home, &mut memory, &wanted, progress).await?;

    let configuration = configuration(args, overrides, &ports, &memory, (cluster, home, pool_size));
    proxy::write(&configuration, &home.config())?;
    let http = ports.http.0.clone();
    drop(ports);
    let (running, token) = serve(&home.config()).await?;
    let address = running.address().to_string();
    let http = running.http_address().map_or(http, |bound| bound.to_string());
    stage.running = Some(running);
    let report = report(&address, (&http, &token), cluster.port, &memory, &prepared);
    if args.json {
        report.print_json();
        return Ok(());
    }
    report.print_page(&Circumstances {
        postgres: &binaries.version,
        took: progress.elapsed(),
        kept_in: home.kept.then(|| home.base.display().to_string()),
        config: home.config().display().to_string(),
        try_table: prepared.try_table,
        demo: args.schema.is_none(),
    });
    Ok(())
}

/// A running, empty or found Postgres, and what is remembered of it.
async fn postgres(cluster: &mut Cluster, setup: &Setup<'_>, progress: &Progress) -> Result<Memory, Failure> {
    let home = setup.home;
    home.wait_for_keepers().await?;
    if orphan::stop(&home.data()).await? {
        progress.say("stopped the Postgres that an earlier run left");
    }
    let version = &setup.binaries.version;
    let remembered =
        Memory::read(&home.memory()).filter(|memory| memory.complete && home.data().join("PG_VERSION").exists());
    let memory = match remembered {
        Some(memory) if memory.major != setup.binaries.major => {
            return Err(Failure::usage(format!(
                "the database in {} is of Postgres {}, and the binaries in {} are {version}",
                home.base.display(),
                memory.major,
                setup.binaries.directory.display()
            ))
            .hint("give --pg-bin DIR with the older binaries, or another --data-dir"));
        }
        Some(memory) => memory,
        None => {
            progress
                .say(&format!("making a database with Postgres {version} ({})", setup.binaries.directory.display()));
            cluster.init(setup).await?;
            Memory::new(setup.binaries.major)
        }
    };
    *cluster = Cluster::new(memory.port);
    cluster.start(setup).await?;
    progress.say(&format!("Postgres runs as the user {} on port {}", setup.account.name, cluster.port));
    Ok(Memory { port: cluster.port, ..memory })
}

/// What `dev` says, what `--config` says over it, and what can't be otherwise: where Postgres is.
fn configuration(args: &Args, overrides: Table, ports: &Ports, memory: &Memory, of: (&Cluster, &Home, u32)) -> Table {
    let (cluster, home, pool_size) = of;
    let mut table = Table::new();
    if !proxy::has(&overrides, "http", "token_file") {
        proxy::set(&mut table, "http", "token", memory.http_token.clone());
    }
    proxy::set(&mut table, "log", "filter", "warn");
    proxy::set(&mut table, "audit", "spool_dir", home.audit().display().to_string());
    proxy::overlay(&mut table, overrides);
    proxy::set(&mut table, "server", "listen", ports.proxy.0.clone());
    proxy::set(&mut table, "http", "listen", ports.http.0.clone());
    proxy::set(&mut table, "pool", "size", i64::from(pool_size));
    proxy::upstream(&mut table, &home.socket(), cluster.port, &admin_dsn(cluster.port, memory));
    if args.no_guard {
        for rule in crate::sql::Rule::ALL {
            proxy::set(&mut table, "guard", rule.as_str(), "off");
        }
    }
    table
}

/// Starts the proxy on threads of its own. Returns the API's token with it, wherever that comes from.
async fn serve(configuration: &Path) -> Result<(app::Running, Secret), Failure> {
    let settings = proxy::settings(configuration)?;
    logging::start(&settings.log)?;
    let token = settings.http.token.clone();
    let started = tokio::task::spawn_blocking(move || app::start(settings)).await;
    let running = started
        .map_err(|error| Failure::outside(format!("the proxy's start broke off: {error}")))?
        .map_err(|error| Failure::outside(format!("the proxy doesn't start: {error:#}")))?;
    Ok((running, token))
}

fn admin_dsn(port: u16, memory: &Memory) -> String {
    format!("postgres://{SUPERUSER}:{}@127.0.0.1:{port}/{DATABASE}", memory.admin_password)
}

fn report(
    address: &str,
    (http, token): (&str, &Secret),
    upstream: u16,
    memory: &Memory,
    prepared: &Prepared,
) -> Report {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    // One that listens everywhere is reached here.
    let host = if matches!(host, "0.0.0.0" | "[::]") { "127.0.0.1" } else { host };
    let dsn = |key: &super::memory::RememberedKey| {
        format!("postgres://{}:{}@{host}:{port}/{DATABASE}", key.key_id, key.secret)
    };
    Report {
        proxy: Proxy { host: host.to_owned(), port: port.parse().unwrap_or(0), database: DATABASE.to_owned() },
        http: Http { url: format!("http://{http}"), token: token.expose().to_owned() },
        upstream: Upstream { admin_dsn: admin_dsn(upstream, memory) },
        system: Dsn { dsn: dsn(&prepared.system) },
        superuser: prepared.superuser.as_ref().map(|key| Dsn { dsn: dsn(key) }),
        workspaces: prepared
            .workspaces
            .iter()
            .map(|(id, key)| Workspace {
                id: id.to_string(),
                name: key.name.clone(),
                key_id: key.key_id.clone(),
                secret: key.secret.clone(),
                dsn: dsn(key),
            })
            .collect(),
    }
}

/// Those that pgcordon logs in as.
fn logins(roles: &RoleNames) -> Vec<String> {
    let logins = [&roles.application, &roles.read_only, &roles.system, &roles.control];
    logins.into_iter().cloned().chain([SUPERUSER.to_owned()]).collect()
}

fn readable(file: &Path) -> Result<PathBuf, Failure> {
    std::fs::File::open(file)
        .and_then(|_| file.canonicalize())
        .map_err(|error| Failure::usage(format!("--schema {}: {error}", file.display())))
}
