//! One client's life after authentication, as a pure machine: bytes from either side go in, bytes for either side come
//! out. It opens no socket, asks no clock and takes no lease; `serve` does those in its name.
//!
//! A session works in two modes. *Idle* it holds no server connection: `idle.rs` gathers one cycle of the client's messages
//! (up to Sync, Flush, Query or FunctionCall) before it asks for one. *Attached* every message is passed on at once:
//! `client.rs` sends, `server.rs` relays what comes back, and `expect.rs` keeps in order what is still to come.

mod admission;
mod asynchronous;
mod attachment;
mod channels;
mod client;
mod client_statements;
mod effects;
mod errors;
mod expect;
mod habits;
mod happened;
mod idle;
mod lodging;
mod outcome;
mod portals;
mod preparing;
mod repeating;
mod reports;
mod server;
mod statements;
#[cfg(test)]
mod tests;
mod transaction;
mod trial;
mod watched;
mod writes;

use std::sync::Arc;

use bytes::Bytes;

use crate::backend::{BackendState, Bodies, Parameters, SessionId, Settings};
use crate::domain::{Fault, KeyId, WorkspaceId};
use crate::limits::Phase;
use crate::quota::meter::Change;
use crate::quota::{Accounts, ResourceId};
use crate::sql::{Analysis, Catalog, PinReason, Rules};
use crate::tenant::{ChannelKey, ContextNames, Guard, SigningKeys};
use crate::wire::{Outbound, author};

use admission::Asked;
use channels::Channels;
use effects::{Barrier, Removal};
use expect::{Expect, Expects};
use lodging::Lodging;
use outcome::Deciding;
use portals::Portals;
use statements::Statements;
use transaction::Transaction;

pub use admission::Request;
pub use client::{Taken, Wish};
pub use habits::Habits;
pub use happened::{AuditPolicy, Happened, Texts};
pub use idle::Idle;

/// What a session borrows from its core while it decides.
pub struct Core<'a> {
    /// What texts leave behind.
    pub analysis: &'a mut Analysis,
    /// The bodies of prepared statements.
    pub bodies: &'a Bodies,
    /// The keys of seals.
    pub signing_keys: &'a SigningKeys,
    /// The names of the context's settings.
    pub names: &'a ContextNames,
    /// Seconds since the epoch, by our clock; up to half a second behind.
    pub now: i64,
    /// Microseconds since the epoch, by our clock.
    pub clock: &'a dyn Fn() -> i64,
    /// Makes a random number from -1 to 1, for `setseed`.
    pub seed: &'a dyn Fn() -> f64,
    /// What becomes of visible attempts on the walls.
    pub guard: &'a Guard,
    /// Which of the guard's rules a key may break.
    pub allowed: &'a dyn Fn(&KeyId) -> Rules,
    /// The secret in the names of a workspace's channels.
    pub channel_key: &'a dyn Fn(WorkspaceId) -> Option<ChannelKey>,
    /// What is known of the database's catalog.
    pub catalog: &'a dyn Fn() -> Option<Arc<Catalog>>,
    /// What workspaces use, and how much they may.
    pub accounts: &'a Accounts,
    /// How the audit trail keeps writes.
    pub audit: AuditPolicy,
    /// Which workspaces ask for the numbers of sequences.
    pub habits: &'a Habits,
    /// Texts that come again and again without a name may go out by one.
    pub repeats: bool,
}

/// Where the bytes go.
#[derive(Default)]
pub struct Lanes {
    /// To the client.
    pub client: Outbound,
    /// To the server connection.
    pub server: Outbound,
}

/// What reading from a server connection came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// All went on as it should.
    Going,
    /// The context or a setting of the session couldn't be established: nothing that follows ran in the workspace. The
    /// server connection must be closed, and [`Session::detach_failed`] tells the client.
    Unbound(Fault),
    /// Rows must be reserved before the client hears of its statement. [`Session::answered`] and [`Session::proceed`] follow.
    Ask(Request),
    /// A write is done, and the client may hear of it when [`Session::take_owed`] is on disk. [`Session::release_withheld`]
    /// follows.
    Withheld,
}

/// How a server connection is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// The next client of the same workspace may have it as it is.
    Clean,
    /// It must be cleared before anybody has it.
    Soiled,
    /// It is in the middle of something and must be closed.
    Busy,
}

/// What a server said while a session was being greeted.
#[derive(Debug, Default)]
pub struct Reported {
    /// A setting that Postgres refused, with its own error.
    pub refused: Option<Fault>,
    /// Notices that it sent for the settings, as they came.
    pub notices: Vec<Bytes>,
}

/// One client's session.
pub struct Session {
    id: SessionId,
    workspace: Option<WorkspaceId>,
    /// The key that the client connected with.
    key: Option<KeyId>,
    startup: Arc<Settings>,
    settings: Arc<Settings>,
    statements: Statements,
    expects: Expects,
    /// Postgres' word for where the transaction stands: `I`, `T` or `E`.
    status: u8,
    /// Messages of the extended protocol went out since the last Sync: the server is inside a cycle.
    in_cycle: bool,
    /// The server skips all up to the next Sync.
    skipping: bool,
    /// Copy data flows from the client.
    copying_in: bool,
    /// Copy data was sent before the server is known to wait for it. Whether it reads what follows as such isn't known either.
    early_data: bool,
    /// Syncs of the client's, the last of its messages, that a copy would ignore and its failure wouldn't.
    copy_synced: usize,
    /// A copy has failed, and those Syncs are due.
    copy_failed: bool,
    /// The copy was told to fail, for the client sent something else than data.
    copy_refused: bool,
    /// What the answer to the bind that is on its way must say.
    bind_echo: String,
    /// The server connection broke the protocol.
    broken: bool,
    /// What the client's transaction has done.
    transaction: Transaction,
    portals: Portals,
    channels: Channels,
    /// What the meters reported since the last answer.
    metered: smallvec::SmallVec<[(ResourceId, Change); 2]>,
    /// What was asked for the message that comes next.
    asked: Asked,
    /// A held statement whose rows are being reserved.
    deciding: Option<Deciding>,
    /// The transaction may have changed what names stand for.
    alters: bool,
    /// A cycle went out by a name, and isn't bound yet: nothing follows it, for it may have to be sent again.
    repeating: bool,
    /// A simple Query was sent in the extended protocol, and its Sync wasn't.
    holds_query: bool,
    /// The status of a ReadyForQuery that waits for the audit trail.
    withheld: Option<u8>,
    happened: Vec<Happened>,
    /// Writes of a transaction that is over are to be on disk before the client is told that its cycle is.
    owes_records: bool,
    /// Bytes of a client's message still to be passed on unread.
    passing: usize,
    /// Bytes of a client's message still to be dropped unread.
    dropping: usize,
    /// Bytes of a server's message still to be relayed unread.
    relaying: usize,
    /// Bytes of a server's message still to be dropped unread.
    discarding: usize,
    /// Without a server connection: everything up to the next Sync is ignored, for its cycle was refused.
    refusing: bool,
    pin: Option<PinReason>,
    /// Why the client keeps its server connection while nobody waits for one.
    stays: Option<PinReason>,
    lodging: Lodging,
    touched: Vec<Box<str>>,
    /// An error came meanwhile: what was to set them may have been refused.
    touched_in_doubt: bool,
    /// The setting that is read back next can't be given by this client.
    ungiven: bool,
    /// Databases that a statement on its way wants to find without a session.
    emptied: Vec<Box<str>>,
    barrier: Barrier,
    /// What the barrier is for.
    removal: Removal,
    /// Names under which an empty text of ours may have been left on the server connection.
    thrown_away: Vec<Box<[u8]>>,
    /// An error came since the barrier was raised.
    erred: bool,
    /// The client's next message waits for answers that were asked for with a Flush.
    awaiting: bool,
    /// The server sent an error that ends the connection.
    fatal: bool,
    /// Transactions that the server has ended.
    ended: u64,
    /// Why the statement that runs was cancelled by the proxy, for the client to read in place of Postgres' words.
    stopped: Option<Fault>,
    /// What the server says while the session is being greeted.
    reported: Option<Reported>,
    /// The ParameterStatus messages that the client got.
    told: Arc<Parameters>,
    /// The process id of the client's BackendKeyData.
    pid: i32,
}

impl Session {
    /// A session for an authenticated client, with the settings it asked for when it connected.
    pub fn new(id: SessionId, workspace: Option<WorkspaceId>, startup: Arc<Settings>) -> Self {
        Self {
            id,
            workspace,
            key: None,
            settings: startup.clone(),
            startup,
            statements: Statements::default(),
            expects: Expects::default(),
            status: b'I',
            in_cycle: false,
            skipping: false,
            copying_in: false,
            early_data: false,
            copy_synced: 0,
            copy_failed: false,
            copy_refused: false,
            bind_echo: String::new(),
            broken: false,
            transaction: Transaction::default(),
            portals: Portals::default(),
            channels: Channels::default(),
            metered: smallvec::SmallVec::new(),
            asked: Asked::default(),
            deciding: None,
            alters: false,
            repeating: false,
            holds_query: false,
            withheld: None,
            happened: Vec::new(),
            owes_records: false,
            passing: 0,
            dropping: 0,
            relaying: 0,
            discarding: 0,
            refusing: false,
            pin: None,
            stays: None,
            lodging: Lodging::new(id),
            touched: Vec::new(),
            touched_in_doubt: false,
            ungiven: false,
            emptied: Vec::new(),
            barrier: Barrier::None,
            removal: Removal::default(),
            thrown_away: Vec::new(),
            erred: false,
            awaiting: false,
            fatal: false,
            ended: 0,
            stopped: None,
            reported: None,
            told: Arc::default(),
            pid: 0,
        }
    }

    /// The same, for a client that was told these parameters and this process id.
    #[must_use]
    pub fn greeted(mut self, told: Arc<Parameters>, pid: i32) -> Self {
        self.lodging.home = pid;
        Self { told, pid, ..self }
    }

    /// The same, for a client that connected with this key.
    #[must_use]
    pub fn of_key(self, key: KeyId) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Whether the server connection owes nothing and is in no cycle: what is sent now begins a new statement.
    pub fn is_at_boundary(&self) -> bool {
        self.expects.is_empty() && !self.in_cycle && !self.skipping && self.passing == 0 && self.deciding.is_none()
    }

    /// Whether the server connection may be given back.
    pub fn may_leave(&self) -> bool {
        self.is_at_boundary() && self.status == b'I' && self.pin.is_none() && self.stays.is_none()
    }

    /// How the server connection is left if it is given back now.
    pub fn leaving(&self, backend: &BackendState) -> Leaving {
        if !self.is_at_boundary() || self.status != b'I' || self.fatal || self.broken {
            Leaving::Busy
        } else if self.pin.is_some() || backend.is_soiled() {
            Leaving::Soiled
        } else {
            Leaving::Clean
        }
    }

    /// Whether Postgres has already told the client why the connection ends.
    pub const fn was_told_the_end(&self) -> bool {
        self.fatal
    }

    /// Whether a statement of the client runs or waits for its answer.
    pub fn is_waiting(&self) -> bool {
        !self.expects.is_empty() || self.deciding.is_some()
    }

    /// What the client does with a server connection.
    pub fn phase(&self) -> Phase {
        if self.is_waiting() {
            Phase::Running
        } else if self.is_at_boundary() && self.status == b'I' {
            Phase::Kept
        } else {
            Phase::InTransaction
        }
    }

    /// Which statement runs, or how much of it is still to come, and in which transaction: other numbers than before when
    /// something has come of it.
    pub fn place(&self) -> (u64, u64) {
        let to_come = u64::try_from(self.passing).unwrap_or(u64::MAX);
        (self.expects.head_at().wrapping_add(to_come << 32), self.ended)
    }

    /// The proxy cancels what runs, and this is why; or it no longer does.
    pub fn stopped_by(&mut self, why: Option<Fault>) {
        self.stopped = why;
    }

    /// Whether the server owes the client an answer that comes without another message of the client's.
    pub fn owes_answers(&self) -> bool {
        !self.copying_in && !self.in_cycle && self.is_waiting()
    }

    /// What the audit trail is to be told at once, since this was last asked.
    pub fn take_happened(&mut self) -> Vec<Happened> {
        if !self.owes_records {
            return std::mem::take(&mut self.happened);
        }
        let (owed, free) = std::mem::take(&mut self.happened).into_iter().partition(Happened::is_done_write);
        self.happened = owed;
        free
    }

    /// The same with what must be on disk before the client hears more.
    pub fn take_owed(&mut self) -> Vec<Happened> {
        self.owes_records = false;
        std::mem::take(&mut self.happened)
    }

    /// Databases that Postgres is about to wait for: whoever has idle connections to them lets them go.
    pub fn take_emptied(&mut self) -> Vec<Box<str>> {
        std::mem::take(&mut self.emptied)
    }

    /// Whether there is anything to tell.
    pub const fn has_happened(&self) -> bool {
        !self.happened.is_empty()
    }

    /// Whether something must be on disk before the client hears more.
    pub const fn owes_records(&self) -> bool {
        self.owes_records
    }

    /// What the client waited for is on disk: it is told that its cycle is over.
    pub fn release_withheld(&mut self, lanes: &mut Lanes) {
        if let Some(status) = self.withheld.take() {
            author::ready_in(lanes.client.author(&[]), status);
            if matches!(self.expects.head(), Some(Expect::Ready)) {
                self.expects.pop(&[], &mut lanes.client);
            }
        }
    }

    /// Whether a transaction is open, as far as the server has told.
    pub const fn in_transaction(&self) -> bool {
        self.status != b'I'
    }

    /// Why the client keeps its server connection, if it does.
    pub fn pinned(&self) -> Option<PinReason> {
        self.pin.or(self.stays)
    }
}
