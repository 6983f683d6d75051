//! The roster's hands: keeps the connections, opens, clears and closes them, and brings each to the core it was granted to.
//!
//! A core that releases a clean connection while nobody waits *parks* it: the next transaction of that workspace on that
//! core takes it without asking anybody. No lock, no system call. As soon as somebody waits, parked connections are recalled,
//! and releases go to the roster, which is fair to all cores.

mod anticipation;
mod ending;
mod errands;
pub(super) mod homes;
mod place;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::backend::{BackendState, Parameters};
use crate::domain::clock::{self, Instant};
use crate::domain::limits::CLEAR_TIMEOUT;
use crate::domain::{Fault, Origin, SqlState, WorkspaceId};
use crate::tenant::{Binding, Tenant};

use super::lease::{Backend, Lease};
use super::reset;
use super::roster::{BackendId, Command, CoreId, Counts, Outcome, Overdrawn, Roster, WaiterId};
use super::settings::Settings;
use super::signals::Signals;
use super::upstream::{ServerConnection, ServerSocket, Upstream};
use anticipation::Next;
use errands::Errand;
use homes::Home;
use place::{Place, Waiting};

/// What all cores share of one (database, role).
pub(super) struct PoolShared {
    /// Its number.
    pub(super) id: u64,
    pub(super) database: String,
    pub(super) role: Arc<str>,
    upstream: Arc<Upstream>,
    signals: Signals,
    settings: Settings,
    inner: Mutex<Inner>,
    /// Above zero: what is released goes to the roster. Kept equal to `Roster::needs_attention`.
    attention: AtomicUsize,
    /// The same, but for those who wait for a particular connection. Kept equal to `Roster::wanted`.
    wanted: AtomicUsize,
    mailboxes: Vec<Mailbox>,
    /// How many connections each core has parked, or has in the hands of clients that make way for others.
    parked: Vec<AtomicUsize>,
    ids: AtomicU64,
    /// `DISCARD ALL`s that were run.
    pub(super) clears: AtomicU64,
    /// Connections that went from one core to another.
    pub(super) moves: AtomicU64,
    /// How often nobody was to be connected here any more.
    vacations: AtomicU64,
    /// A connection was opened, or couldn't be.
    opened: Notify,
}

struct Inner {
    roster: Roster,
    /// Connections that nobody holds.
    stock: HashMap<BackendId, Box<Backend>, ahash::RandomState>,
}

#[derive(Default)]
struct Mailbox {
    mail: Mutex<Vec<Mail>>,
    arrived: Notify,
}

enum Mail {
    Granted { waiter: WaiterId, backend: Box<Backend>, bound: bool },
    Refused { waiter: WaiterId, fault: Fault },
    Recall,
    Bring(BackendId),
}

impl PoolShared {
    pub(super) fn new(
        id: u64,
        database: String,
        role: Arc<str>,
        (upstream, signals): (Arc<Upstream>, Signals),
        settings: Settings,
        cores: usize,
    ) -> Self {
        let inner = Inner { roster: Roster::new(settings.bounds()), stock: HashMap::default() };
        Self {
            id,
            database,
            role,
            upstream,
            signals,
            settings,
            inner: Mutex::new(inner),
            attention: AtomicUsize::new(0),
            wanted: AtomicUsize::new(0),
            mailboxes: (0..cores).map(|_| Mailbox::default()).collect(),
            parked: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            ids: AtomicU64::new(1),
            clears: AtomicU64::new(0),
            moves: AtomicU64::new(0),
            vacations: AtomicU64::new(0),
            opened: Notify::new(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.inner.lock().roster.counts()
    }

    pub(super) fn overdrawn(&self, patience: Duration) -> Overdrawn {
        self.inner.lock().roster.overdrawn(patience, clock::now())
    }

    fn new_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    fn post(&self, core: CoreId, mail: Mail) {
        let mailbox = &self.mailboxes[core];
        mailbox.mail.lock().push(mail);
        mailbox.arrived.notify_one();
    }

    /// Lets all cores see who waits. Called with the lock held, whenever that may have changed.
    fn show(&self, roster: &Roster) {
        self.attention.store(roster.needs_attention(), Ordering::SeqCst);
        self.wanted.store(roster.wanted(), Ordering::SeqCst);
    }

    /// Tells the roster something. Connections that its commands are about leave the stock with them.
    fn tell(&self, event: impl FnOnce(&mut Inner) -> Vec<Command>) -> Vec<Errand> {
        let mut inner = self.inner.lock();
        let commands = event(&mut inner);
        self.show(&inner.roster);
        commands.into_iter().map(|command| Errand::of(command, &mut inner.stock)).collect()
    }
}

/// One core's share of a (database, role).
pub struct Pool {
    shared: Arc<PoolShared>,
    core: CoreId,
    parked: RefCell<Vec<Parked>>,
    waiting: RefCell<HashMap<WaiterId, Rc<Waiting>, ahash::RandomState>>,
    /// Nobody waited, and somebody does.
    somebody_waits: Notify,
    /// Nothing was kept for a workspace while others wait, and something is.
    something_kept: Notify,
    /// Clients that make way when somebody waits, by the connection they have.
    yielding: RefCell<Vec<(BackendId, Waker)>>,
    /// How often something that was parked here was given back.
    returns: Cell<u64>,
}

struct Parked {
    tenant: Tenant,
    backend: Box<Backend>,
    since: Instant,
    /// Until when it is kept for its workspace while others wait.
    kept: Option<Instant>,
}

impl Pool {
    pub(super) fn new(shared: Arc<PoolShared>, core: CoreId) -> Rc<Self> {
        Rc::new(Self {
            shared,
            core,
            parked: RefCell::default(),
            waiting: RefCell::default(),
            somebody_waits: Notify::new(),
            something_kept: Notify::new(),
            yielding: RefCell::default(),
            returns: Cell::new(0),
        })
    }

    /// A server connection, if one can be had without waiting: the home rather than another one that is as near. On the
    /// steady path this takes no lock.
    pub fn try_lease(self: &Rc<Self>, binding: &Binding, home: Option<&Home>) -> Option<Lease> {
        let tenant = binding.tenant();
        if let Some(lease) = home.filter(|home| home.may_be_elsewhere()).and_then(|home| self.try_home(tenant, home)) {
            return Some(lease);
        }
        let home = home.map(Home::id);
        while let Some(mut backend) = self.unpark(tenant, home) {
            if !is_stale(&mut backend) {
                return Some(Lease::new(self.clone(), backend, tenant, true));
            }
            self.give_back(backend, tenant, Outcome::Broken);
        }
        loop {
            let taken = {
                let mut inner = self.shared.inner.lock();
                let granted = inner.roster.try_take(tenant, self.core, home, clock::now())?;
                inner.stock.remove(&granted.backend).map(|backend| (backend, granted.bound))
            };
            let (backend, bound) = taken?;
            if let Some(lease) = self.usable(backend, tenant, bound) {
                return Some(lease);
            }
        }
    }

    /// A server connection, when it is this session's turn. Dropping the future gives the place up.
    ///
    /// # Errors
    /// 53300 when none became free in time; the fault of the upstream when none can be opened.
    pub async fn lease(self: &Rc<Self>, binding: &Binding, home: Option<&Home>) -> Result<Lease, Fault> {
        let (tenant, home) = (binding.tenant(), home.map(Home::id));
        let until = clock::now() + self.shared.settings.wait_timeout();
        loop {
            let place = Place::take(self, until, |roster, id| roster.waits(id, tenant, self.core, home, clock::now()));
            let answered = poll_fn(|context| place.poll(context)).await;
            drop(place);
            let (backend, bound) = answered?;
            if let Some(lease) = self.usable(backend, tenant, bound) {
                return Ok(lease);
            }
        }
    }

    /// A granted connection on this core, unless it has died in the meantime.
    fn usable(self: &Rc<Self>, mut backend: Box<Backend>, tenant: Tenant, bound: bool) -> Option<Lease> {
        let id = backend.id;
        if is_stale(&mut backend) {
            self.return_to_roster(backend, Outcome::Broken);
            return None;
        }
        match self.bring_here(backend) {
            Ok(backend) => Some(Lease::new(self.clone(), backend, tenant, bound)),
            Err(_) => {
                let errands =
                    self.shared.tell(|inner| inner.roster.released(id, Outcome::Broken, self.core, clock::now()));
                self.run(errands);
                None
            }
        }
    }

    /// Moves a connection's socket to this core's runtime.
    fn bring_here(&self, backend: Box<Backend>) -> std::io::Result<Box<Backend>> {
        if backend.core == self.core {
            return Ok(backend);
        }
        self.shared.moves.fetch_add(1, Ordering::Relaxed);
        let Backend { id, connection, state, gap, .. } = *backend;
        let socket = ServerSocket::attach(connection.socket.detach()?)?;
        let connection = ServerConnection { socket, ..connection };
        Ok(Box::new(Backend { id, core: self.core, connection, state, gap }))
    }

    /// A connection comes back: it is parked while nobody waits, and goes to the roster otherwise.
    pub(super) fn give_back(self: &Rc<Self>, mut backend: Box<Backend>, tenant: Tenant, outcome: Outcome) {
        if outcome != Outcome::Clean {
            return self.return_to_roster(backend, outcome);
        }
        if self.shared.attention.load(Ordering::SeqCst) > 0 {
            return match self.next(&mut backend) {
                Next::Waiter(waiter) => self.answer(waiter, Ok((backend, true))),
                Next::Kept(until) => self.keep_until(backend, tenant, until),
                Next::Roster => self.return_to_roster(backend, outcome),
            };
        }
        self.park(backend, tenant, clock::now());
    }

    fn park(self: &Rc<Self>, mut backend: Box<Backend>, tenant: Tenant, since: Instant) {
        backend.gap = None;
        self.parked.borrow_mut().push(Parked { tenant, backend, since, kept: None });
        self.count_parked();
        // Whoever began to wait meanwhile may have seen nothing parked here: look again.
        if self.shared.attention.load(Ordering::SeqCst) > 0 {
            self.unpark_all(None);
        }
    }

    pub(super) fn return_to_roster(self: &Rc<Self>, mut backend: Box<Backend>, outcome: Outcome) {
        backend.gap = None;
        let id = backend.id;
        let errands = self.shared.tell(|inner| {
            inner.stock.insert(id, backend);
            inner.roster.released(id, outcome, self.core, clock::now())
        });
        self.run(errands);
    }

    /// What is kept for a moment isn't recalled.
    fn count_parked(&self) {
        let parked = self.parked.borrow().iter().filter(|each| each.kept.is_none()).count();
        let recalled = parked + self.yielding.borrow().len();
        self.shared.parked[self.core].store(recalled, Ordering::SeqCst);
    }

    /// Takes a connection of the tenant that is parked here: its home, or else the one that was parked last. While somebody
    /// waits, one that is kept for it.
    fn unpark(&self, tenant: Tenant, home: Option<BackendId>) -> Option<Box<Backend>> {
        let others_wait = self.shared.attention.load(Ordering::SeqCst) > 0;
        let mut parked = self.parked.borrow_mut();
        let may = |each: &Parked| each.tenant == tenant && (!others_wait || each.kept.is_some());
        let at = parked.iter().rposition(|each| may(each) && Some(each.backend.id) == home);
        let at = at.or_else(|| parked.iter().rposition(may))?;
        let Parked { mut backend, since, kept, .. } = parked.swap_remove(at);
        drop(parked);
        match kept {
            Some(_) => backend.gap = Some(clock::now().duration_since(since)),
            None => self.count_parked(),
        }
        Some(backend)
    }

    /// Gives parked connections back to the roster: all of them, or those parked before `before`.
    fn unpark_all(self: &Rc<Self>, before: Option<Instant>) {
        if self.parked.borrow().is_empty() {
            return;
        }
        let returned: Vec<Parked> = {
            let mut parked = self.parked.borrow_mut();
            parked
                .extract_if(.., |each| match before {
                    Some(before) => each.since < before,
                    None => each.kept.is_none(),
                })
                .collect()
        };
        self.count_parked();
        if !returned.is_empty() {
            self.returns.set(self.returns.get() + 1);
        }
        for each in returned {
            self.return_to_roster(each.backend, Outcome::Clean);
        }
    }

    fn timed_out(&self) -> Fault {
        let counts = self.shared.counts();
        let waited = self.shared.settings.wait_timeout_ms;
        let detail = format!(
            "{} server connections are open for this database and role, and {} clients wait.",
            counts.open, counts.waiting
        );
        Fault::new(
            Origin::Proxy,
            SqlState::TOO_MANY_CONNECTIONS,
            format!("no server connection became free within {waited} ms"),
        )
        .detail(detail)
        .hint("Shorten transactions, above all those that wait for another connection of the same application, or raise pool.size or pool.wait_timeout_ms.")
    }

    async fn open(self: Rc<Self>) {
        let opened = self.shared.upstream.connect(&self.shared.database, &self.shared.role).await;
        let errands = match opened {
            Ok(connection) => {
                let id = self.shared.new_id();
                let reported = Parameters::of(connection.parameters.iter().map(|(name, value)| (name, value)));
                let state = BackendState::new(connection.pid, connection.clock_offset)
                    .bound_by(connection.bind_by)
                    .reporting(Arc::new(reported));
                let backend = Box::new(Backend { id, core: self.core, connection, state, gap: None });
                let pid = backend.connection.pid;
                self.shared.tell(|inner| {
                    inner.stock.insert(id, backend);
                    inner.roster.opened(id, pid, self.core, clock::now())
                })
            }
            Err(fault) => {
                tracing::warn!(database = %self.shared.database, role = %self.shared.role, %fault, "a server connection couldn't be opened");
                self.shared.tell(|inner| inner.roster.open_failed(fault, clock::now()))
            }
        };
        self.shared.opened.notify_waiters();
        self.run(errands);
    }

    async fn clear(self: Rc<Self>, backend: Box<Backend>) {
        let (id, pid) = (backend.id, backend.connection.pid);
        let cleared = self.cleared(backend).await;
        if cleared.is_err() {
            tracing::warn!(pid, "a server connection couldn't be cleared and is ended");
        }
        let errands = self.shared.tell(|inner| match cleared {
            Ok(backend) => {
                inner.stock.insert(id, backend);
                inner.roster.cleared(id, self.core, clock::now())
            }
            Err(backend) => {
                inner.stock.extend(backend.map(|backend| (id, backend)));
                inner.roster.not_cleared(id, clock::now())
            }
        });
        self.run(errands);
    }

    /// The connection, cleared; or as it is then, if there is anything left of it.
    async fn cleared(&self, backend: Box<Backend>) -> Result<Box<Backend>, Option<Box<Backend>>> {
        let mut backend = self.bring_here(backend).map_err(|_| None)?;
        let Backend { connection, state, .. } = &mut *backend;
        let clearing = reset::clear(&mut connection.socket, |name, value| state.reports(name, value));
        let cleared = tokio::time::timeout(CLEAR_TIMEOUT, clearing).await;
        self.shared.clears.fetch_add(1, Ordering::Relaxed);
        backend.state.cleared();
        if matches!(cleared, Ok(Ok(()))) { Ok(backend) } else { Err(Some(backend)) }
    }

    /// Reads this core's mail until the task is dropped.
    pub(super) async fn read_mail(self: Rc<Self>) {
        let mailbox = &self.shared.mailboxes[self.core];
        loop {
            mailbox.arrived.notified().await;
            let mail = std::mem::take(&mut *mailbox.mail.lock());
            for each in mail {
                match each {
                    Mail::Granted { waiter, backend, bound } => self.answer(waiter, Ok((backend, bound))),
                    Mail::Refused { waiter, fault } => self.answer(waiter, Err(fault)),
                    Mail::Recall => self.recalled(),
                    Mail::Bring(id) => self.bring(id),
                }
            }
        }
    }

    /// Time has passed: what was parked and not used goes back to the roster, which decides what is too old.
    pub(super) fn tick(self: &Rc<Self>, before: Instant) {
        self.unpark_all(Some(before));
        let errands = self.shared.tell(|inner| inner.roster.ticked(clock::now()));
        self.run(errands);
    }

    /// Nobody is to be connected here: what is idle is closed, the rest when it comes back.
    pub(super) fn vacate(self: &Rc<Self>) {
        self.shared.vacations.fetch_add(1, Ordering::Relaxed);
        let errands = self.shared.tell(|inner| inner.roster.vacated());
        self.run(errands);
    }

    /// Its number: the same on every core.
    pub fn number(&self) -> u64 {
        self.shared.id
    }

    /// Changes when the database may have become another one.
    pub fn vacations(&self) -> u64 {
        self.shared.vacations.load(Ordering::Relaxed)
    }

    /// A key of the workspace was revoked: connections that carried it are closed.
    pub(super) fn revoked(self: &Rc<Self>, workspace: WorkspaceId) {
        let errands = self.shared.tell(|inner| inner.roster.revoked(workspace));
        self.run(errands);
    }
}

/// Whether the server has closed the connection, or said something on it that nobody asked for. Costs no system call.
fn is_stale(backend: &mut Backend) -> bool {
    backend.connection.socket.poll_stale(&mut Context::from_waker(Waker::noop()))
}
