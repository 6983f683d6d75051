//! What one query string does and may leave behind, as far as its text tells.

use std::sync::Arc;

use super::channels::Mention;
use super::guard_hit::GuardHit;
use super::statement::{Statement, StatementKind};

/// What is known of a query string from its text. Nothing of it is certain: each statement may fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its statements in order. Each brings exactly one CommandComplete. A text that wasn't understood is one statement
    /// that hides everything; a text without a statement (EmptyQueryResponse) has none.
    pub statements: Vec<Statement>,
    /// Settings that may have another value afterwards, in lower case.
    pub touches: Vec<Box<str>>,
    /// Those of them whose last change in it is RESET or SET TO DEFAULT.
    pub resets: Vec<Reset>,
    /// RESET ALL or DISCARD ALL is in it: every setting goes back, the sealed context included, but for those of `touches`
    /// that are in `set_behind`.
    pub resets_all: bool,
    /// Settings that are set behind the last RESET ALL, in lower case.
    pub set_behind: Vec<Box<str>>,
    /// DISCARD ALL is in it: prepared statements go too.
    pub discards_all: bool,
    /// DEALLOCATE ALL is in it.
    pub deallocates_all: bool,
    /// The prepared statements that a DEALLOCATE in it names.
    pub deallocates: Vec<Box<str>>,
    /// The prepared statements that EXECUTE or PREPARE in it name.
    pub prepared: Vec<Box<str>>,
    /// It may leave something that can't be carried to another server connection.
    pub pins: Option<PinReason>,
    /// What of the server process it asks that differs from one server connection to another.
    pub asks: Asks,
    /// DISCARD SEQUENCES is in it.
    pub discards_sequences: bool,
    /// Databases that Postgres refuses to drop, rename, move or copy while anybody else is connected to them.
    pub empties: Vec<Box<str>>,
    /// What in it looks like an attempt on the walls, for good errors and for evidence.
    pub guard: Vec<GuardHit>,
    /// Where it speaks of channels, in the order of the text.
    pub channels: Vec<Mention>,
    /// The text with every literal taken out; `None` where that can't be done surely.
    pub normalized: Option<Arc<str>>,
}

impl Facts {
    /// Whether there is nothing to remember: at most one statement, which reads or stands for the transaction as its own
    /// CommandComplete tells, and leaves nothing behind.
    pub fn is_trivial(&self) -> bool {
        let harmless = match self.statements.as_slice() {
            [] => true,
            [one] => one.is_trivial(),
            _ => false,
        };
        let is_quiet = self.asks == Asks::default() && !self.discards_sequences;
        harmless && self.guard.is_empty() && self.leaves_nothing() && is_quiet
    }

    /// Whether it leaves nothing behind in its session.
    pub fn leaves_nothing(&self) -> bool {
        let takes_names = self.discards_all || self.deallocates_all || !self.deallocates.is_empty();
        self.touches.is_empty() && !self.resets_all && !takes_names && self.pins.is_none()
    }

    /// The facts of a text that wasn't understood and may leave state behind: it may do everything, so its client stays
    /// where it is.
    pub fn unknown() -> Self {
        Self { pins: Some(PinReason::NotUnderstood), ..Self::hidden() }
    }

    /// The facts of a text that wasn't understood, but has no word without which nothing is left behind in a session.
    pub fn hidden() -> Self {
        Self { statements: vec![Statement::unknown()], ..Self::default() }
    }

    /// Whether the text was understood. Where it wasn't, Postgres mostly won't understand it either.
    pub fn is_understood(&self) -> bool {
        self.statements.iter().all(|statement| statement.kind != StatementKind::Unknown)
    }

    /// Whether a text that differs from this one in its constants alone has the same facts, but for whether one of them is of the moment.
    pub(super) fn heeds_no_constants(&self) -> bool {
        let [one] = self.statements.as_slice() else { return false };
        let is_plain = matches!(
            one.kind,
            StatementKind::Select | StatementKind::Insert | StatementKind::Update | StatementKind::Delete
        );
        let is_quiet = self.guard.is_empty() && self.channels.is_empty() && self.asks == Asks::default();
        let names_nothing = self.prepared.is_empty() && self.empties.is_empty() && !self.discards_sequences;
        is_plain && is_quiet && names_nothing && self.leaves_nothing() && !one.hidden && !one.heeds_constants
    }

    /// Whether any statement may change what names stand for.
    pub fn may_alter(&self) -> bool {
        self.statements.iter().any(Statement::may_alter)
    }

    /// Whether any statement may do what isn't visible in the text.
    pub fn hides(&self) -> bool {
        self.statements.iter().any(|statement| statement.hidden)
    }

    /// About how many bytes of memory these facts take.
    pub(super) fn weight(&self) -> usize {
        let statements: usize = self.statements.iter().map(Statement::weight).sum();
        let touches = self.touches.len() * 48;
        size_of::<Self>()
            + statements
            + touches
            + self.guard.len() * 64
            + self.channels.len() * 128
            + self.normalized.as_ref().map_or(0, |n| n.len())
    }
}

/// What a text asks of the server process itself, as far as the text shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// `pg_backend_pid()`.
    pub pid: bool,
    /// `currval()` or `lastval()`: the numbers that this session has taken from sequences.
    pub sequences: bool,
}

impl Asks {
    /// The functions that ask.
    pub(super) const FUNCTIONS: [&str; 3] = ["pg_backend_pid", "currval", "lastval"];

    /// What a FunctionCall of this number asks, as `pg_proc.dat` numbers them; built-in OIDs never change.
    pub const fn by_call(oid: Option<u32>) -> Self {
        const PG_BACKEND_PID: u32 = 2026;
        const CURRVAL: u32 = 1575;
        const LASTVAL: u32 = 2559;
        Self { pid: matches!(oid, Some(PG_BACKEND_PID)), sequences: matches!(oid, Some(CURRVAL | LASTVAL)) }
    }

    /// A function of this name is called.
    pub(super) const fn note(&mut self, function: &[u8]) {
        self.pid |= function.eq_ignore_ascii_case(b"pg_backend_pid");
        self.sequences |= function.eq_ignore_ascii_case(b"currval") || function.eq_ignore_ascii_case(b"lastval");
    }
}

/// A setting that goes back to what it was when the session began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Its name, in lower case.
    pub name: Box<str>,
    /// SET LOCAL … TO DEFAULT: only while the transaction lasts.
    pub is_local: bool,
}

/// Why a client must stay on its server connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PinReason {
    /// SQL PREPARE: the statement lives on one server connection.
    Prepare,
    /// LISTEN: notifications arrive there.
    Listen,
    /// A temporary table.
    Temporary,
    /// A cursor WITH HOLD.
    HeldCursor,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// SET ROLE or SET SESSION AUTHORIZATION.
    Role,
    /// A setting whose name isn't visible in the text.
    HiddenSetting,
    /// LOAD.
    Load,
    /// A text that the parser doesn't understand, or one too long to be opened.
    NotUnderstood,
    /// It asked for the process id of its server connection. Such a client makes way for others while it does nothing.
    BackendPid,
    /// It uses the numbers that it took from sequences. Such a client makes way as well.
    Sequence,
}

impl PinReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Prepare,
        Self::Listen,
        Self::Temporary,
        Self::HeldCursor,
        Self::AdvisoryLock,
        Self::Role,
        Self::HiddenSetting,
        Self::Load,
        Self::NotUnderstood,
        Self::BackendPid,
        Self::Sequence,
    ];

    /// A word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Listen => "listen",
            Self::Temporary => "temporary",
            Self::HeldCursor => "held_cursor",
            Self::AdvisoryLock => "advisory_lock",
            Self::Role => "role",
            Self::HiddenSetting => "hidden_setting",
            Self::Load => "load",
            Self::NotUnderstood => "not_understood",
            Self::BackendPid => "backend_pid",
            Self::Sequence => "sequence",
        }
    }
}
