//! Anticipation: a workspace that comes back at once keeps its connection for that moment, though others wait. Else, with more
//! workspaces than connections, each transaction would change the workspace of a connection, and a change costs several times
//! what a small transaction does. (The same thought, for the heads of disks: Iyer and Druschel, *Anticipatory scheduling*, 2001.)
//!
//! Those who wait do so for its turn at most, as they do when its own clients stand in line. To the roster a kept connection is a
//! held one.
//!
//! A turn is as long as the pool's quantum, and longer where changes are slow, as they are on a machine that has more to do than it
//! can: short turns would leave it doing little else.

use std::collections::HashMap;
use std::time::Duration;

use super::backends::State;
use super::{BackendId, Command, CoreId, Roster};
use crate::domain::clock::Instant;
use crate::tenant::Tenant;

/// What a change of workspace costs, as a multiple of what its clearing takes: behind it comes the bind, and Postgres plans anew
/// whatever it had planned. Measured: see ARCHITECTURE, *The price of clearing*.
const CHANGE: u32 = 3;
/// What a clearing is taken to last before one was seen.
const CLEARING: Duration = Duration::from_micros(400);
/// A turn is as long as so many clearings, within bounds.
const TURN: u32 = 8;
/// So many times the quantum at most.
const TURN_MAX: u32 = 8;
/// How many times its habit a workspace is waited for.
const PATIENCE: u32 = 4;
/// The shortest wait that is worth a timer.
const PATIENCE_MIN: Duration = Duration::from_micros(500);
/// Whoever hasn't been seen for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2);

/// A mean that forgets: each new value counts for a quarter.
#[derive(Clone, Copy, Debug, Default)]
struct Mean(Option<Duration>);

impl Mean {
    fn saw(&mut self, value: Duration) {
        self.0 = Some(self.0.map_or(value, |mean| (mean * 3 + value) / 4));
    }
}

/// How a workspace comes back.
#[derive(Clone, Copy, Debug)]
struct Habit {
    /// How long it leaves a connection before it wants one again.
    gap: Mean,
    /// When it left one, if it hasn't come back since.
    left: Option<Instant>,
    seen: Instant,
}

/// What is known of those who come and go while others wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Habits {
    by_tenant: HashMap<Tenant, Habit, ahash::RandomState>,
    clearing: Mean,
}

impl Habits {
    pub(super) fn came(&mut self, tenant: Tenant, now: Instant) {
        if let Some(habit) = self.by_tenant.get_mut(&tenant)
            && let Some(left) = habit.left.take()
        {
            habit.gap.saw(now.duration_since(left));
        }
    }

    /// A clearing took so long. A tenant can make one of its own take long: `most` is all that one may count for.
    pub(super) fn cleared(&mut self, took: Duration, most: Duration) {
        self.clearing.saw(took.min(most));
    }

    pub(super) fn forget(&mut self, now: Instant) {
        self.by_tenant.retain(|_, habit| now.duration_since(habit.seen) < FORGOTTEN_AFTER);
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.by_tenant.len()
    }

    /// It leaves one now. For how long it is worth being waited for, if at all.
    fn left(&mut self, tenant: Tenant, gap: Option<Duration>, now: Instant) -> Option<Duration> {
        let habit = self.by_tenant.entry(tenant).or_insert(Habit { gap: Mean::default(), left: None, seen: now });
        if let Some(gap) = gap {
            habit.gap.saw(gap);
        }
        habit.left = Some(now);
        habit.seen = now;
        let worth = self.clearing.0.unwrap_or(CLEARING) * CHANGE;
        let gap = habit.gap.0.filter(|gap| *gap <= worth)?;
        Some((gap * PATIENCE).max(PATIENCE_MIN))
    }
}

impl Roster {
    /// A connection would come back clean while others wait. Until when its core keeps it for its workspace instead, if that is
    /// worth it and its turn isn't over: whoever of the workspace wants one on that core takes it without asking here, and says
    /// at its next coming back how long it was left alone (`gap`).
    pub fn keep(&mut self, id: BackendId, core: CoreId, gap: Option<Duration>, now: Instant) -> Option<Instant> {
        let turn_lasts = self.turn();
        self.backends.keep(id, None);
        let backend = self.backends.get(id)?;
        let State::Held { tenant, turn } = backend.state() else { return None };
        let doomed = backend.doomed;
        let worth = self.habits.left(tenant, gap, now)?;
        let is_awaited = self.queue.waits(tenant) || self.homecomers.iter().any(|each| each.home == id);
        let turn_ends = turn + turn_lasts;
        if doomed || is_awaited || self.queue.is_empty() || turn_ends <= now {
            return None;
        }
        self.backends.keep(id, Some(core));
        Some(turn_ends.min(now + worth))
    }

    /// How long a workspace may have a connection while others wait.
    pub(super) fn turn(&self) -> Duration {
        let quantum = self.bounds.quantum;
        self.habits.clearing.0.map_or(quantum, |clearing| (clearing * TURN).clamp(quantum, quantum * TURN_MAX))
    }

    /// Somebody of this workspace waits: what other cores keep for it is brought.
    pub(super) fn bring_kept(&self, tenant: Tenant, commands: &mut Vec<Command>) {
        if self.backends.kept() == 0 {
            return;
        }
        let kept = self.backends.iter().filter_map(|(id, each)| match each.state() {
            State::Held { tenant: of, .. } if of == tenant => each.kept_on().map(|core| Command::Bring(id, core)),
            _ => None,
        });
        commands.extend(kept);
    }
}
