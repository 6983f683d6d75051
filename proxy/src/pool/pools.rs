//! All pools: one for each (database, role) that somebody uses.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::task::JoinHandle;

use crate::domain::{WorkspaceId, clock};

use super::roster::{CoreId, Counts, Overdrawn};
use super::settings::Settings;
use super::shell::{Pool, PoolShared};
use super::signals::Signals;
use super::upstream::Upstream;

/// How often pools look after themselves.
const TICK: Duration = Duration::from_millis(250);

/// What all cores share of the pools.
pub struct PoolsShared {
    pools: DashMap<(String, Arc<str>), Arc<PoolShared>, ahash::RandomState>,
    upstream: Arc<Upstream>,
    signals: Signals,
    settings: Settings,
    cores: usize,
    made: AtomicU64,
}

/// One pool in numbers, for an operator.
#[derive(Clone, Debug)]
pub struct PoolReport {
    /// The database.
    pub database: String,
    /// The upstream role.
    pub role: Arc<str>,
    /// Connections and waiters now. Parked connections count as used.
    pub counts: Counts,
    /// `DISCARD ALL`s so far.
    pub clears: u64,
    /// Connections that changed cores so far.
    pub moves: u64,
}

impl PoolsShared {
    /// The pools of a proxy with so many cores.
    pub fn new(upstream: Arc<Upstream>, signals: Signals, settings: Settings, cores: usize) -> Arc<Self> {
        Arc::new(Self { pools: DashMap::default(), upstream, signals, settings, cores, made: AtomicU64::new(0) })
    }

    /// By pool, who is to give up a connection, for others wait for their share.
    pub fn overdrawn(&self, patience: Duration) -> Vec<(u64, Overdrawn)> {
        let overdrawn = self.pools.iter().map(|entry| (entry.value().id, entry.value().overdrawn(patience)));
        overdrawn.filter(|(_, overdrawn)| *overdrawn != Overdrawn::default()).collect()
    }

    /// Every pool in numbers.
    pub fn report(&self) -> Vec<PoolReport> {
        let report = |pool: &PoolShared| PoolReport {
            database: pool.database.clone(),
            role: pool.role.clone(),
            counts: pool.counts(),
            clears: pool.clears.load(Ordering::Relaxed),
            moves: pool.moves.load(Ordering::Relaxed),
        };
        self.pools.iter().map(|entry| report(entry.value())).collect()
    }
}

/// One core's pools.
pub struct Pools {
    shared: Arc<PoolsShared>,
    core: CoreId,
    here: RefCell<HashMap<(String, Arc<str>), Here, ahash::RandomState>>,
}

struct Here {
    pool: Rc<Pool>,
    tasks: [JoinHandle<()>; 3],
}

impl Drop for Here {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Pools {
    /// The pools of this core.
    pub fn new(shared: Arc<PoolsShared>, core: CoreId) -> Self {
        Self { shared, core, here: RefCell::default() }
    }

    /// The pool for a database and role. Runs inside the core's local runtime.
    pub fn get(&self, database: &str, role: &Arc<str>) -> Rc<Pool> {
        let key = (database.to_owned(), role.clone());
        let mut here = self.here.borrow_mut();
        if let Some(found) = here.get(&key) {
            return found.pool.clone();
        }
        // Every core reads its mail from the first moment on at which another core could write to it.
        let shared = self.shared.pools.entry(key.clone()).or_insert_with(|| Arc::new(self.make(&key))).clone();
        let pool = Pool::new(shared, self.core);
        let mail = tokio::task::spawn_local(pool.clone().read_mail());
        let patience = tokio::task::spawn_local(pool.clone().expire());
        let anticipation = tokio::task::spawn_local(pool.clone().lapse());
        here.insert(key, Here { pool: pool.clone(), tasks: [mail, patience, anticipation] });
        pool
    }

    fn make(&self, (database, role): &(String, Arc<str>)) -> PoolShared {
        let PoolsShared { upstream, signals, settings, cores, .. } = &*self.shared;
        let reached = (upstream.clone(), signals.clone());
        let id = self.shared.made.fetch_add(1, Ordering::Relaxed);
        PoolShared::new(id, database.clone(), role.clone(), reached, settings.clone(), *cores)
    }

    /// Looks after this core's pools until the task is dropped.
    pub async fn tend(&self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let before = clock::now();
            tick.tick().await;
            for pool in self.all() {
                pool.tick(before);
            }
        }
    }

    /// A key of the workspace was revoked: connections that carried it are closed.
    pub fn revoked(&self, workspace: WorkspaceId) {
        for pool in self.all() {
            pool.revoked(workspace);
        }
    }

    /// Postgres is asked to drop, rename, move or copy this database, which it does when nobody else is connected: idle
    /// connections are closed, others when they come back. Postgres waits some seconds for that, so it needn't.
    pub fn vacate(&self, database: &str) {
        let of_it = |(of, _): &&(String, Arc<str>)| of == database;
        let keys: Vec<(String, Arc<str>)> =
            self.shared.pools.iter().map(|entry| entry.key().clone()).filter(|key| of_it(&key)).collect();
        for (database, role) in keys {
            self.get(&database, &role).vacate();
        }
    }

    /// Runs a task of the pools' own on this core.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    fn all(&self) -> Vec<Rc<Pool>> {
        self.here.borrow().values().map(|here| here.pool.clone()).collect()
    }
}
