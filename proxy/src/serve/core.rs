//! What all clients of one core share. A core is one thread with a runtime of its own; nothing here is locked.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use rand::Rng;

use crate::audit::{self, Recorder};
use crate::auth::MockSecret;
use crate::backend::Bodies;
use crate::control::{Catalogs, Snapshot};
use crate::domain::clock;
use crate::limits;
use crate::metrics::CoreCounters;
use crate::pool::Pools;
use crate::pool::upstream::Upstream;
use crate::quota::Accounts;
use crate::session::{self, Lanes};
use crate::sql::{Analysis, Watched};
use crate::tenant::ContextNames;

use super::greeting::Greetings;
use super::inlet::Scratch;
use super::live::Live;
use super::registry::Registry;

/// How often a core looks at the clock for what needs no better than seconds.
const TICK: Duration = Duration::from_millis(250);

/// What all cores share.
pub struct Shared {
    /// Keys, workspaces and signing keys, as last loaded.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// What workspaces use, and how much they may.
    pub accounts: Arc<Accounts>,
    /// What is known of the databases' catalogs.
    pub catalogs: Arc<ArcSwap<Catalogs>>,
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// The bodies of prepared statements.
    pub bodies: Bodies,
    /// The names of the context's settings.
    pub names: ContextNames,
    /// The Postgres behind the proxy.
    pub upstream: Arc<Upstream>,
    /// What an operator may change meanwhile.
    pub live: Arc<ArcSwap<Live>>,
    /// What unknown users are shown in place of a key's salt.
    pub mock_secret: MockSecret,
    /// The databases that workspace keys may use; the first stands in for a client that names none.
    pub databases: Vec<String>,
    /// Where what happens is recorded.
    pub recorder: Recorder,
    /// How: what waits for the disk, and what becomes of it if that refuses.
    pub audit: audit::Settings,
    /// Which workspaces ask for the numbers of sequences.
    pub habits: session::Habits,
    /// Texts that come again and again without a name may be prepared under one.
    pub repeats: bool,
    /// How many clients each workspace has.
    pub clients: Arc<limits::Clients>,
    /// Client connections that there is room for.
    pub connections_max: usize,
    /// How often which limit was reached.
    pub tally: Arc<limits::Tally>,
    /// The clock of the watch.
    pub beat: limits::Beat,
}

/// What the clients of one core share.
pub struct CoreContext {
    /// What all cores share.
    pub shared: Arc<Shared>,
    /// The server connections of this core.
    pub pools: Pools,
    /// Where sockets are read into.
    pub(super) scratch: RefCell<Scratch>,
    /// Where messages are written for the sockets.
    lanes: RefCell<Lanes>,
    /// What was said last by operators and by the control data.
    said: RefCell<Said>,
    /// Seconds since the epoch, as of the last tick.
    seconds: Cell<i64>,
    /// What texts leave behind.
    pub(super) analysis: RefCell<Analysis>,
    /// What Postgres reports to a new client.
    pub(super) greetings: RefCell<Greetings>,
    /// What this core has done.
    pub counters: Arc<CoreCounters>,
}

/// What changes rarely and is looked at with every message: a look costs one comparison as long as it is the same.
struct Said {
    snapshot: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    live: Cache<Arc<ArcSwap<Live>>, Arc<Live>>,
}

impl CoreContext {
    /// A core with these server connections.
    pub fn new(shared: Arc<Shared>, pools: Pools, counters: Arc<CoreCounters>) -> Rc<Self> {
        let names = &shared.names;
        let analysis = Analysis::watching(Watched::context([&*names.workspace, &*names.seal]));
        let said = Said { snapshot: Cache::new(shared.snapshot.clone()), live: Cache::new(shared.live.clone()) };
        Rc::new(Self {
            said: RefCell::new(said),
            seconds: Cell::new(clock::unix_seconds()),
            shared,
            pools,
            scratch: RefCell::default(),
            lanes: RefCell::default(),
            analysis: RefCell::new(analysis),
            greetings: RefCell::default(),
            counters,
        })
    }

    /// Lends what messages are written into for one turn of one client, empty: what a client left in it that was ended in
    /// mid-turn is nobody else's.
    pub(super) fn lanes(&self) -> RefMut<'_, Lanes> {
        let mut lanes = self.lanes.borrow_mut();
        lanes.client.clear();
        lanes.server.clear();
        lanes
    }

    /// Keeps the time until the task is dropped.
    pub async fn keep_time(&self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.seconds.set(clock::unix_seconds());
            // A core with nothing to do would keep what was replaced, and drop it in its next client's time.
            let said = &mut *self.said.borrow_mut();
            let _ = (said.snapshot.load(), said.live.load());
        }
    }

    /// Lends a session of `database` what it decides by.
    pub(super) fn with<T>(&self, database: &str, decide: impl FnOnce(&mut session::Core<'_>) -> T) -> T {
        let Said { snapshot, live } = &mut *self.said.borrow_mut();
        let (snapshot, live) = (snapshot.load(), live.load());
        decide(&mut session::Core {
            analysis: &mut self.analysis.borrow_mut(),
            bodies: &self.shared.bodies,
            signing_keys: snapshot.signing_keys(),
            names: &self.shared.names,
            now: self.seconds.get(),
            clock: &clock::unix_micros,
            seed: &|| rand::rng().random_range(-1.0..1.0),
            guard: &live.guard,
            allowed: &|key| snapshot.allowed(key),
            channel_key: &|workspace| snapshot.channel_key(workspace),
            catalog: &|| self.shared.catalogs.load().of(database).cloned(),
            accounts: &self.shared.accounts,
            audit: super::audit::policy(&self.shared),
            habits: &self.shared.habits,
            repeats: self.shared.repeats,
        })
    }
}
