//! The composition root: every part is made here, by hand, and handed to those that need it.
//!
//! Threads: one per core for clients and their server connections, and one for everything else (the door, control data,
//! HTTP), so that an operator's request never waits behind a tenant's.

mod keys;
mod quotas;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::runtime::{LocalOptions, Runtime};
use tokio::sync::watch;

use crate::admin::http::{self, Http, Readiness};
use crate::admin::quota::Quotas as QuotaRoutes;
use crate::audit::Recorder;
use crate::audit::recorder::{Trail, provenance};
use crate::auth::MockSecret;
use crate::backend::Bodies;
use crate::config::{Secret, Settings};
use crate::control::audit_sink::ControlSink;
use crate::control::{Control, signaller};
use crate::domain::clock;
use crate::domain::limits::CORE_STACK_BYTES;
use crate::limits;
use crate::metrics::exporter::Exporter;
use crate::metrics::{CoreCounters, DoorCounters};
use crate::pool::signals::Signals;
use crate::pool::upstream::Upstream;
use crate::pool::{Pools, PoolsShared};
use crate::quota::Accounts;
use crate::serve::accept::{self, CoreQueue, core_door};
use crate::serve::core::{CoreContext, Shared};
use crate::serve::live::Live;
use crate::serve::registry::Order;
use crate::serve::watch::Watch;
use crate::tls::Connector;

use quotas::Quotas;

/// How often a stopping proxy looks whether its clients are gone.
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// How long clients that were told to leave at once are waited for.
const FAREWELL: Duration = Duration::from_millis(1500);
/// How long the database may take for the rest of the audit trail. What it doesn't take is shipped by the next start.
const LAST_SHIPPING: Duration = Duration::from_millis(500);

/// How far a proxy is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Clients are let in.
    Serving,
    /// Nobody is let in; those who are in may end their transactions.
    Stopping,
    /// Everybody was told to leave.
    Over,
}

/// A proxy that accepts connections.
pub struct Running {
    address: SocketAddr,
    http: Option<SocketAddr>,
    shared: Arc<Shared>,
    token: Arc<ArcSwap<Secret>>,
    upstream_tls: Option<Connector>,
    phase: watch::Sender<Phase>,
    cores: Vec<JoinHandle<()>>,
    control: Option<Runtime>,
    trail: Option<Trail>,
    quotas: Quotas,
}

/// Starts a proxy, and returns when it accepts connections. Blocks until then.
///
/// # Errors
/// A port in use, Postgres unreachable, control data missing.
pub fn start(settings: Settings) -> anyhow::Result<Running> {
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("pgcordon-control")
        .enable_all()
        .build()
        .context("the control thread can't be started")?;
    let (phase, watched) = watch::channel(Phase::Serving);
    let listener = control.block_on(bind(&settings.server.listen))?;
    let address = listener.local_addr()?;
    let data =
        control.block_on(async { Control::start(settings.control_target()?).await.map_err(anyhow::Error::from) });
    let mut data = data.with_context(|| format!("the control data can't be loaded from {}", settings.address()))?;
    let trail = start_trail(&settings)?;
    let recorder = trail.as_ref().map_or_else(Recorder::off, Trail::recorder);
    let quotas = Quotas::start(control.handle(), &settings, &mut data)?;
    let (signals, questions) = Signals::new();
    control.spawn(signaller::answer(settings.control_target()?, questions));
    let (shared, pools) = shared(&settings, &data, recorder.clone(), quotas.accounts.clone(), signals.clone())?;
    let counters: Vec<Arc<CoreCounters>> = (0..core_count(&settings)).map(|_| Arc::default()).collect();

    let door = Arc::<DoorCounters>::default();
    let mut doors = Vec::with_capacity(counters.len());
    let mut cores = Vec::with_capacity(counters.len());
    let mut revocations = Vec::with_capacity(counters.len());
    for (number, counters) in counters.iter().enumerate() {
        let (door, queue) = core_door();
        let (revoke, revoked) = tokio::sync::mpsc::channel(64);
        let core =
            Core { number, shared: shared.clone(), pools: pools.clone(), counters: counters.clone(), queue, revoked };
        let watched = watched.clone();
        let thread = std::thread::Builder::new().name(format!("pgcordon-core-{number}")).stack_size(CORE_STACK_BYTES);
        cores.push(thread.spawn(move || core.run(watched)).context("a core's thread can't be started")?);
        doors.push(door);
        revocations.push(revoke);
    }

    let ready = watched.clone();
    let reachable = data.reachable.clone();
    let readiness = Box::new(move || match (*ready.borrow(), *reachable.borrow()) {
        (Phase::Serving, true) => Readiness::Ready,
        (Phase::Serving, false) => Readiness::UpstreamUnreachable,
        _ => Readiness::Stopping,
    });
    let token = Arc::new(ArcSwap::from_pointee(settings.http.token.clone()));
    control.spawn(Watch::new(shared.clone(), pools.clone(), signals).keep());
    let exporter =
        Exporter::new(counters, door.clone(), pools, recorder, quotas.accounts.clone(), shared.tally.clone());
    let routes = QuotaRoutes {
        accounts: quotas.accounts.clone(),
        snapshot: data.snapshot.clone(),
        control: settings.control_target()?,
    };
    let http = Http { token: token.clone(), exporter, readiness, quotas: routes };
    let http = control.block_on(serve_http(&settings.http.listen, http))?;
    control.spawn(keys::watch(data, shared.clone(), revocations, watched.clone()));
    control.spawn(until(
        watched,
        Phase::Stopping,
        accept::accept(listener, doors, settings.server.connections_max, door),
    ));
    tracing::info!(%address, "accepting connections");
    let upstream_tls = settings.connector()?;
    Ok(Running { address, http, shared, token, upstream_tls, phase, cores, control: Some(control), trail, quotas })
}

impl Running {
    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where HTTP is served, if it is.
    pub const fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Takes over what may change under running clients: certificates on both sides, how clients prove their secrets, the API's
    /// token.
    ///
    /// # Errors
    /// A certificate that can't be read: everything stays as it was.
    pub fn reload(&self, settings: &Settings) -> anyhow::Result<()> {
        let upstream_tls = settings.connector()?;
        self.shared.live.store(Arc::new(live(settings)?));
        if let (Some(current), Some(new)) = (&self.upstream_tls, &upstream_tls) {
            current.renew(new);
        }
        self.token.store(Arc::new(settings.http.token.clone()));
        Ok(())
    }

    /// Stops: nobody is let in, open transactions may end within `grace` or until `hurry` says so, then everybody is told
    /// 57P01. Blocks.
    pub fn stop(mut self, grace: Duration, hurry: impl Fn() -> bool) {
        let _ = self.phase.send(Phase::Stopping);
        self.wait_for_clients(Order::Drain, grace, hurry);
        self.wait_for_clients(Order::Stop, FAREWELL, || false);
        let _ = self.phase.send(Phase::Over);
        for core in self.cores.drain(..) {
            let _ = core.join();
        }
        if let Some(trail) = self.trail.take() {
            trail.stop(LAST_SHIPPING);
        }
        if let Some(control) = self.control.take() {
            control.block_on(self.quotas.stop());
            control.shutdown_timeout(Duration::from_millis(200));
        }
    }

    fn wait_for_clients(&self, order: Order, bound: Duration, hurry: impl Fn() -> bool) {
        let registry = &self.shared.registry;
        registry.order(order, |_| true);
        let deadline = clock::now() + bound;
        while !registry.is_empty() && clock::now() < deadline && !hurry() {
            std::thread::sleep(DRAIN_POLL);
            registry.order(order, |_| true);
        }
    }
}

async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))
}

/// Fewer threads find more to do at each turn: on two processors one thread takes a sixth less CPU time for a transaction
/// than two, at the same throughput, for Postgres and the network's own work need the other.
fn core_count(settings: &Settings) -> usize {
    match settings.server.cores {
        0 => std::thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2)),
        cores => cores,
    }
}

/// Begins the audit trail, if there is to be one.
fn start_trail(settings: &Settings) -> anyhow::Result<Option<Trail>> {
    if !settings.audit.enabled {
        return Ok(None);
    }
    let directory = settings.audit_directory();
    let mut trail = Trail::start(&settings.audit, directory.clone(), provenance())
        .with_context(|| format!("audit.spool_dir: {} can't be used", directory.display()))?;
    if settings.audit.ship {
        trail
            .ship(ControlSink::new(settings.control_target()?))
            .context("the audit trail's thread can't be started")?;
    }
    tracing::info!(stream = %trail.stream(), directory = %directory.display(), "the audit trail begins");
    Ok(Some(trail))
}

fn shared(
    settings: &Settings,
    data: &Control,
    recorder: Recorder,
    accounts: Arc<Accounts>,
    signals: Signals,
) -> anyhow::Result<(Arc<Shared>, Arc<PoolsShared>)> {
    let upstream = Arc::new(Upstream::new(settings.target().map_err(|mistake| anyhow::anyhow!("{mistake}"))?));
    let pools = PoolsShared::new(upstream.clone(), signals, settings.pool.clone(), core_count(settings));
    let shared = Shared {
        snapshot: data.snapshot.clone(),
        accounts,
        catalogs: data.catalogs.clone(),
        registry: Arc::default(),
        bodies: Bodies::hearing(data.alterations.clone()),
        names: settings.context_names(),
        upstream,
        live: Arc::new(ArcSwap::from_pointee(live(settings)?)),
        mock_secret: MockSecret::random(),
        databases: settings.upstream.databases.clone(),
        recorder,
        audit: settings.audit.clone(),
        habits: crate::session::Habits::default(),
        repeats: settings.pool.prepare_repeated,
        clients: Arc::default(),
        connections_max: settings.server.connections_max,
        tally: Arc::default(),
        beat: limits::Beat::default(),
    };
    Ok((Arc::new(shared), pools))
}

/// What a reload replaces.
fn live(settings: &Settings) -> anyhow::Result<Live> {
    let tls = settings.acceptor().map_err(|mistake| anyhow::anyhow!("{mistake}"))?;
    let client_certificates = settings.client_rules();
    Ok(Live {
        tls,
        client_certificates,
        auth: settings.auth.clone(),
        guard: settings.guard.clone(),
        limits: settings.limits.clone(),
    })
}

async fn serve_http(address: &str, state: Http) -> anyhow::Result<Option<SocketAddr>> {
    if address.is_empty() {
        return Ok(None);
    }
    let listener = bind(address).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        if let Err(error) = http::serve(listener, Arc::new(state)).await {
            tracing::error!(%error, "HTTP ended");
        }
    });
    Ok(Some(bound))
}

async fn until(mut watched: watch::Receiver<Phase>, phase: Phase, task: impl Future<Output = ()>) {
    tokio::select! {
        () = task => {}
        _ = watched.wait_for(|now| *now >= phase) => {}
    }
}

/// What one core's thread is given.
struct Core {
    number: usize,
    shared: Arc<Shared>,
    pools: Arc<PoolsShared>,
    counters: Arc<CoreCounters>,
    queue: CoreQueue,
    revoked: tokio::sync::mpsc::Receiver<crate::domain::WorkspaceId>,
}

impl Core {
    /// Serves this core's clients until the proxy's end.
    fn run(self, watched: watch::Receiver<Phase>) {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = match built {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "a core's runtime can't be started"),
        };
        runtime.block_on(async move {
            let core = CoreContext::new(self.shared, Pools::new(self.pools, self.number), self.counters);
            let tended = core.clone();
            tokio::task::spawn_local(async move { tended.pools.tend().await });
            let timed = core.clone();
            tokio::task::spawn_local(async move { timed.keep_time().await });
            tokio::task::spawn_local(pass_revocations(core.clone(), self.revoked));
            accept::serve(core, self.queue).await;
            // The door is shut. The clients that are left end by the orders they are given.
            until(watched, Phase::Over, std::future::pending()).await;
        });
    }
}

async fn pass_revocations(
    core: std::rc::Rc<CoreContext>,
    mut revoked: tokio::sync::mpsc::Receiver<crate::domain::WorkspaceId>,
) {
    while let Some(workspace) = revoked.recv().await {
        core.pools.revoked(workspace);
    }
}
