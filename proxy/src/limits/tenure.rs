//! What a client does with the server connection that it has, and since when. The client's own task notes it, a few plain stores
//! for a transaction; the watch reads it a few times in a second. Time is told by a beat, so that nobody asks a clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Settings;
use crate::domain::{Fault, Origin, SqlState};

/// How long a statement that was cancelled may go on before its session is ended, in milliseconds.
const HEEDED_WITHIN_MS: u64 = 2000;

/// A coarse clock: milliseconds since the proxy began, as of the last beat.
#[derive(Debug, Default)]
pub struct Beat(AtomicU64);

impl Beat {
    /// Now, as of the last beat.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// It beats.
    pub fn set(&self, since_start: Duration) {
        self.0.store(u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// What a client does with a server connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It has none.
    #[default]
    Away = 0,
    /// It waits for an answer, or is being given one.
    Running = 1,
    /// It does nothing, within a transaction or a cycle.
    InTransaction = 2,
    /// It does nothing, and keeps the connection for what is there of it.
    Kept = 3,
}

impl Phase {
    const fn of(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::Away,
            1 => Self::Running,
            2 => Self::InTransaction,
            _ => Self::Kept,
        }
    }
}

/// One client's, as it writes and the watch reads it.
#[derive(Debug, Default)]
pub struct Tenure {
    /// Since when, and which phase in the last two bits.
    phase: AtomicU64,
    /// Since when the transaction is open.
    transaction: AtomicU64,
    /// Since when the client has the connection.
    lease: AtomicU64,
}

/// What the client's task remembers of what it has noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    phase: Phase,
    /// Which statement, and which transaction: they change with each.
    place: (u64, u64),
}

/// What the watch saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What the client does.
    pub phase: Phase,
    /// Since when.
    pub since: u64,
    transaction: u64,
    lease: u64,
}

impl Tenure {
    /// The client does this now, with this statement of this transaction. Says whether that is something else than before.
    pub fn note(&self, noted: &mut Noted, phase: Phase, place: (u64, u64), beat: &Beat) -> bool {
        let now = Noted { phase, place };
        if *noted == now {
            return false;
        }
        if noted.phase == Phase::Away {
            self.lease.store(beat.now(), Ordering::Relaxed);
        }
        let begins = matches!(noted.phase, Phase::Away | Phase::Kept) || noted.place.1 != place.1;
        *noted = now;
        let at = beat.now();
        if begins {
            self.transaction.store(at, Ordering::Relaxed);
        }
        self.phase.store(at << 2 | phase as u64, Ordering::Relaxed);
        true
    }

    /// What the client does.
    pub fn seen(&self) -> Seen {
        let phase = self.phase.load(Ordering::Relaxed);
        Seen {
            phase: Phase::of(phase),
            since: phase >> 2,
            transaction: self.transaction.load(Ordering::Relaxed),
            lease: self.lease.load(Ordering::Relaxed),
        }
    }
}

impl Seen {
    /// For how long the client has done this, in milliseconds.
    pub const fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.since)
    }

    /// For how long the client has had the connection, in milliseconds.
    pub const fn had(&self, now: u64) -> u64 {
        now.saturating_sub(self.lease)
    }

    /// Which bound of time is passed, if one is.
    pub fn overstay(&self, settings: &Settings, now: u64) -> Option<Overstay> {
        let is_over = |bound: u64, age: u64| bound > 0 && age >= bound;
        let is_old = is_over(settings.transaction_timeout_ms, now.saturating_sub(self.transaction));
        match self.phase {
            Phase::Running if is_old => Some(Overstay::Transaction),
            Phase::Running if is_over(settings.statement_timeout_ms, self.age(now)) => Some(Overstay::Statement),
            Phase::InTransaction if is_over(settings.idle_in_transaction_timeout_ms, self.age(now)) => {
                Some(Overstay::Idle)
            }
            Phase::InTransaction if is_old => Some(Overstay::Transaction),
            _ => None,
        }
    }
}

/// What a client took too long for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overstay {
    /// A statement.
    Statement = 0,
    /// Its waiting for a lock.
    Lock = 1,
    /// A lock on a whole table, for which another workspace waits.
    TableLock = 2,
    /// A transaction.
    Transaction = 3,
    /// Doing nothing in a transaction.
    Idle = 4,
    /// Keeping more than its share while others wait.
    Share = 5,
}

impl Overstay {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Statement, Self::Lock, Self::TableLock, Self::Transaction, Self::Idle, Self::Share];

    /// The name of its setting, without the unit.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Statement => "statement_timeout",
            Self::Lock => "lock_timeout",
            Self::TableLock => "table_lock_timeout",
            Self::Transaction => "transaction_timeout",
            Self::Idle => "idle_in_transaction_timeout",
            Self::Share => "share_timeout",
        }
    }

    /// Whether it still is so of a client that was seen then and is seen again now. One that is never idle has begun something else
    /// each time.
    pub fn is_still_so(self, then: &Seen, now: &Seen) -> bool {
        match (self, then.phase) {
            (Self::Transaction, Phase::Running) => now.transaction == then.transaction,
            (Self::Share, Phase::Running) => now.lease == then.lease,
            _ => now == then,
        }
    }

    /// What becomes of a client that does this. A cancel is heeded soon, or the session ends.
    pub const fn verdict(self, seen: &Seen, stopped: Option<u64>, now: u64) -> Verdict {
        let by_cancelling = match self {
            Self::Statement | Self::Lock | Self::TableLock => true,
            // With its statement the connection is given up, if that is all it is kept for.
            Self::Share => seen.since == seen.lease,
            Self::Transaction | Self::Idle => false,
        };
        match (seen.phase, stopped) {
            (Phase::Running, None) if by_cancelling => Verdict::Cancel,
            (Phase::Running, Some(at)) if by_cancelling && now.saturating_sub(at) < HEEDED_WITHIN_MS => Verdict::Wait,
            _ => Verdict::End,
        }
    }

    /// What the client is told, in the codes that Postgres has for it (Postgres docs, appendix A).
    pub fn fault(self, phase: Phase) -> Fault {
        let told = |state: SqlState, text: &'static str| Fault::new(Origin::Proxy, state, text);
        match self {
            Self::Statement => told(SqlState::QUERY_CANCELED, "canceling statement due to limits.statement_timeout_ms"),
            Self::Lock => told(SqlState::LOCK_NOT_AVAILABLE, "canceling statement due to limits.lock_timeout_ms"),
            Self::TableLock => told(
                SqlState::LOCK_NOT_AVAILABLE,
                "a lock on a whole table kept another workspace waiting for limits.table_lock_timeout_ms",
            )
            .hint("LOCK TABLE in ROW EXCLUSIVE and weaker modes keeps nobody waiting, nor does SELECT … FOR UPDATE."),
            Self::Transaction => {
                told(SqlState::TRANSACTION_TIMEOUT, "terminating connection due to limits.transaction_timeout_ms")
            }
            Self::Idle => told(
                SqlState::IDLE_IN_TRANSACTION_TIMEOUT,
                "terminating connection due to limits.idle_in_transaction_timeout_ms",
            ),
            Self::Share => {
                let state = match phase {
                    Phase::Running => SqlState::QUERY_CANCELED,
                    Phase::InTransaction => SqlState::IDLE_IN_TRANSACTION_TIMEOUT,
                    Phase::Kept | Phase::Away => SqlState::IDLE_SESSION_TIMEOUT,
                };
                told(state, "others wait for a server connection, of which the workspace holds more than its share")
                    .hint("End transactions soon, and what keeps a server connection: LISTEN, temporary tables, advisory locks, cursors WITH HOLD.")
            }
        }
    }
}

/// What becomes of a client that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its statement is cancelled.
    Cancel,
    /// Its statement was cancelled just now.
    Wait,
    /// Its session ends.
    End,
}

#[cfg(test)]
#[path = "tenure/tests.rs"]
mod tests;
