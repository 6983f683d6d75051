//! Who holds which server connection, who waits, and what happens next: a pure machine for one (database, role).
//!
//! It knows neither sockets nor tasks. Events come in, commands come out, and `now` is an argument. There is one roster for
//! all cores, so that waiting is fair and a pool of one connection means something; what keeps it off the hot path is that
//! cores *park* connections they will probably need again (see `shell.rs`). To the roster a parked connection is a held one.

mod anticipation;
mod backends;
mod command;
mod ending;
mod homes;
mod queue;
mod share;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::Fault;
use crate::domain::clock::Instant;
use crate::tenant::Tenant;

use anticipation::Habits;
use backends::{Backend, Backends, State};
use homes::Homecomer;
use queue::Queue;

pub use command::{Command, Granted};
pub use homes::Settled;
pub use share::{DESTITUTE, Overdrawn};

/// A server connection.
pub type BackendId = u64;
/// A session that waits for one.
pub type WaiterId = u64;
/// A core, by its number.
pub type CoreId = usize;

/// How many workspaces a connection remembers having carried. Beyond it counts as having carried each.
const CARRIED_MAX: usize = 64;

/// The bounds a roster keeps.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Server connections at most.
    pub size: usize,
    /// Of these, how many one workspace may hold while others wait.
    pub workspace_max: usize,
    /// How long a workspace keeps a connection while others wait, at least: see [`Roster::turn`].
    pub quantum: Duration,
    /// After how long an unused connection is closed.
    pub idle_timeout: Duration,
    /// How long no connection is opened after one couldn't be.
    pub back_off: Duration,
}

/// How a server connection comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Between transactions, with nothing on it that another client of the same workspace may not see.
    Clean,
    /// Between transactions, but it must be cleared before anybody has it.
    Dirty,
    /// In the middle of something, or gone: it is ended.
    Broken,
}

/// The roster of one (database, role).
#[derive(Clone, Debug)]
pub struct Roster {
    bounds: Bounds,
    backends: Backends,
    held: HashMap<Tenant, usize, ahash::RandomState>,
    opening: usize,
    /// Of these, how many aren't wanted any more when they come and nobody waits.
    opening_unwanted: usize,
    queue: Queue,
    /// Who waits for a particular connection, for a while.
    homecomers: Vec<Homecomer>,
    /// No connection is opened before this, and why.
    closed_until: Option<(Instant, Fault)>,
    doomed_held: usize,
    habits: Habits,
}

impl Roster {
    /// An empty roster.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            backends: Backends::default(),
            held: HashMap::default(),
            opening: 0,
            opening_unwanted: 0,
            queue: Queue::default(),
            homecomers: Vec::new(),
            closed_until: None,
            doomed_held: 0,
            habits: Habits::default(),
        }
    }

    /// Whether cores must bring back what they release, because somebody waits for it or it is to be closed.
    pub fn needs_attention(&self) -> usize {
        self.queue.len() + self.doomed_held + self.homecomers.len()
    }

    /// For how many who wait nothing is on its way, and what is to be closed: who keeps a connection without need makes way.
    /// For those who wait for a particular connection others would do.
    pub fn wanted(&self) -> usize {
        let unserved = if self.queue.is_empty() { 0 } else { self.queue.len().saturating_sub(self.coming()) };
        unserved + self.doomed_held
    }

    /// Connections that exist or are being opened, and of these the ones nobody has.
    pub fn counts(&self) -> Counts {
        let ending = self.backends.iter().filter(|(_, each)| matches!(each.state(), State::Ending(..))).count();
        let (open, idle) = (self.backends.len(), self.backends.idle());
        Counts { open, opening: self.opening, idle, ending, waiting: self.queue.len() }
    }

    /// A session wants a connection and wouldn't wait. Of several that are as good it gets its home.
    pub fn try_take(&mut self, tenant: Tenant, core: CoreId, home: Option<BackendId>, now: Instant) -> Option<Granted> {
        self.habits.came(tenant, now);
        if !self.queue.is_empty() || self.is_at_ceiling(tenant) {
            return None;
        }
        let backend = self.best_idle(tenant, core, home)?;
        Some(self.grant(backend, tenant, now))
    }

    /// A session wants a connection and waits for it.
    pub fn waits(
        &mut self,
        waiter: WaiterId,
        tenant: Tenant,
        core: CoreId,
        home: Option<BackendId>,
        now: Instant,
    ) -> Vec<Command> {
        if self.backends.is_empty()
            && self.opening == 0
            && let Some((until, fault)) = &self.closed_until
            && now < *until
        {
            return vec![Command::Refuse { waiter, core, fault: fault.clone() }];
        }
        self.queue.push(tenant, core, waiter, home, now);
        let mut commands = Vec::new();
        self.serve(now, &mut commands);
        let is_answered = |command: &Command| matches!(command, Command::Grant { waiter: who, .. } if *who == waiter);
        if !commands.iter().any(is_answered) {
            commands.push(Command::Recall);
            self.bring_kept(tenant, &mut commands);
        }
        commands
    }

    /// A waiter no longer waits. Whether it was still in the queue; otherwise its connection is on its way to it.
    pub fn gave_up(&mut self, waiter: WaiterId) -> bool {
        self.queue.remove(waiter) | self.comes_home_no_more(waiter)
    }

    /// A connection comes back.
    pub fn released(&mut self, id: BackendId, outcome: Outcome, core: CoreId, now: Instant) -> Vec<Command> {
        let mut commands = Vec::new();
        let Some(backend) = self.backends.get(id) else { return commands };
        let State::Held { tenant, turn } = backend.state() else { return commands };
        let doomed = backend.doomed;
        if doomed {
            self.doomed_held -= 1;
        }
        if outcome == Outcome::Broken {
            self.end(id, Some(tenant), now, &mut commands);
            self.serve(now, &mut commands);
            return commands;
        }
        self.backends.enter(id, State::Idle { core, since: now });
        self.let_go(tenant);
        if doomed {
            self.backends.remove(id);
            commands.push(Command::Close(id));
        } else if outcome == Outcome::Dirty {
            self.clear(id, now, &mut commands);
        } else if self.bring_home(id, now, &mut commands) {
            return commands;
        } else if let Some(waiter) = self.successor(tenant, core, turn, now) {
            let keep_turn = self.grant(id, tenant, turn);
            commands.push(Command::Grant { waiter: waiter.id, core: waiter.core, backend: id, bound: keep_turn.bound });
            return commands;
        }
        self.serve(now, &mut commands);
        commands
    }

    /// What [`Self::released`] comes to most often when somebody waits, said in advance: a connection that would come back clean
    /// stays in its workspace and on its core, and goes from hand to hand. To whom, if that is so; else nothing is changed.
    pub fn hand_over(&mut self, id: BackendId, core: CoreId, now: Instant) -> Option<WaiterId> {
        let backend = self.backends.get(id).filter(|each| !each.doomed)?;
        let State::Held { tenant, turn } = backend.state() else { return None };
        let is_here = self.queue.waits_on(tenant, core) && self.queue.lead(tenant, core) < self.bounds.quantum;
        if !self.homecomers.is_empty() || !is_here || self.is_turn_over(tenant, turn, now) {
            return None;
        }
        let waiter = self.queue.pop(tenant, Some(core))?;
        self.backends.keep(id, None);
        Some(waiter.id)
    }

    /// A connection was opened.
    pub fn opened(&mut self, id: BackendId, pid: i32, core: CoreId, now: Instant) -> Vec<Command> {
        self.opening = self.opening.saturating_sub(1);
        self.closed_until = None;
        if self.comes_unwanted() && self.queue.is_empty() {
            return vec![Command::Close(id)];
        }
        self.backends.insert(id, Backend::opened(pid, core, now));
        let mut commands = Vec::new();
        self.serve(now, &mut commands);
        commands
    }

    /// A connection couldn't be opened. While there are others, those who wait wait for them.
    pub fn open_failed(&mut self, fault: Fault, now: Instant) -> Vec<Command> {
        self.opening = self.opening.saturating_sub(1);
        self.comes_unwanted();
        self.closed_until = Some((now + self.bounds.back_off, fault.clone()));
        if !self.backends.is_empty() || self.opening > 0 {
            return Vec::new();
        }
        let refused = self.queue.drain();
        refused.map(|waiter| Command::Refuse { waiter: waiter.id, core: waiter.core, fault: fault.clone() }).collect()
    }

    /// A connection was cleared.
    pub fn cleared(&mut self, id: BackendId, core: CoreId, now: Instant) -> Vec<Command> {
        let mut commands = Vec::new();
        if let Some(backend) = self.backends.get_mut(id) {
            if let State::Clearing(since) = backend.state() {
                self.habits.cleared(now.duration_since(since), self.bounds.quantum);
            }
            backend.bound = None;
            if backend.doomed {
                self.backends.remove(id);
                commands.push(Command::Close(id));
            }
            self.backends.enter(id, State::Idle { core, since: now });
        }
        self.bring_home(id, now, &mut commands);
        self.serve(now, &mut commands);
        commands
    }

    /// Time has passed: what nobody used for long is closed, and if every connection is bound to somebody, one is cleared
    /// so that the next workspace finds it ready.
    pub fn ticked(&mut self, now: Instant) -> Vec<Command> {
        let mut commands = Vec::new();
        self.habits.forget(now);
        let timeout = self.bounds.idle_timeout;
        let expired: Vec<BackendId> =
            self.idle().filter(|(_, _, since)| now.duration_since(*since) >= timeout).map(|(id, ..)| id).collect();
        for id in expired {
            self.backends.remove(id);
            commands.push(Command::Close(id));
        }
        let full = self.backends.len() + self.opening >= self.bounds.size;
        let any_clean = self.backends.iter().any(|(_, each)| each.bound.is_none());
        if full
            && !any_clean
            && self.queue.is_empty()
            && let Some(id) = self.oldest_idle()
        {
            self.clear(id, now, &mut commands);
        }
        self.serve(now, &mut commands);
        commands
    }

    /// Gives what is free to those who wait, workspace by workspace.
    fn serve(&mut self, now: Instant, commands: &mut Vec<Command>) {
        while self.backends.idle() > 0
            && let Some((tenant, front)) = self.queue.next(|tenant| !self.is_at_ceiling(tenant))
        {
            let Some(backend) = self.best_idle(tenant, front.core, front.home) else { break };
            let Some(waiter) = self.queue.pop(tenant, None) else { break };
            let granted = self.grant(backend, tenant, now);
            commands.push(Command::Grant { waiter: waiter.id, core: waiter.core, backend, bound: granted.bound });
        }
        self.make_room(now, commands);
    }

    /// Opens or clears as many connections as there are waiters that may have one and will get none otherwise.
    fn make_room(&mut self, now: Instant, commands: &mut Vec<Command>) {
        let may_open = self.closed_until.as_ref().is_none_or(|(until, _)| now >= *until);
        let room = if may_open { self.bounds.size.saturating_sub(self.backends.len() + self.opening) } else { 0 };
        // More than these can't be made, so nobody needs to know how many more would have them.
        let most = room + self.backends.idle();
        if most == 0 {
            return;
        }
        let coming = self.coming();
        let mut missing =
            self.queue.eligible(coming + most, |tenant| self.room_under_ceiling(tenant)).saturating_sub(coming);
        while missing > 0 && may_open && self.backends.len() + self.opening < self.bounds.size {
            self.opening += 1;
            missing -= 1;
            commands.push(Command::Open);
        }
        while missing > 0
            && let Some(id) = self.oldest_idle()
        {
            self.clear(id, now, commands);
            missing -= 1;
        }
    }

    /// Connections that are being opened or cleared.
    const fn coming(&self) -> usize {
        self.opening + self.backends.clearing()
    }

    /// Who of the same workspace goes on with a connection that was just released: its own core's queue first, for a
    /// connection that stays on its core costs nothing, unless another core's waiter came much earlier. Nobody, when the turn
    /// is over and others wait.
    fn successor(&mut self, tenant: Tenant, core: CoreId, turn: Instant, now: Instant) -> Option<queue::Waiter> {
        if self.is_turn_over(tenant, turn, now) {
            return None;
        }
        let unfair = self.queue.lead(tenant, core) >= self.bounds.quantum;
        self.queue.pop(tenant, (!unfair).then_some(core))
    }

    /// Whether a workspace has had a connection for its time, and others wait.
    fn is_turn_over(&self, tenant: Tenant, turn: Instant, now: Instant) -> bool {
        now.duration_since(turn) >= self.turn() && self.queue.others_wait(tenant, |other| !self.is_at_ceiling(other))
    }

    fn grant(&mut self, id: BackendId, tenant: Tenant, turn: Instant) -> Granted {
        let mut bound = false;
        if let Some(backend) = self.backends.get_mut(id) {
            bound = backend.bound == Some(tenant);
            backend.bound = Some(tenant);
            if let Some(workspace) = tenant.workspace
                && !backend.carried.contains(&workspace)
                && backend.carried.len() < CARRIED_MAX
            {
                backend.carried.push(workspace);
            }
            self.backends.enter(id, State::Held { tenant, turn });
            *self.held.entry(tenant).or_insert(0) += 1;
        }
        Granted { backend: id, bound }
    }

    /// The connection that costs the tenant least: one that is bound already, then the client's home, then nobody's. One that is
    /// bound to somebody else is never among them.
    fn best_idle(&self, tenant: Tenant, core: CoreId, home: Option<BackendId>) -> Option<BackendId> {
        self.backends
            .iter()
            .filter_map(|(id, each)| match each.state() {
                State::Idle { core: on, since } if each.bound.is_none() || each.bound == Some(tenant) => {
                    Some((each.bound.is_some(), Some(id) == home, each.homes == 0, on == core, since, id))
                }
                _ => None,
            })
            .max()
            .map(|(.., id)| id)
    }

    fn idle(&self) -> impl Iterator<Item = (BackendId, &Backend, Instant)> {
        self.backends.iter().filter_map(|(id, each)| match each.state() {
            State::Idle { since, .. } => Some((id, each, since)),
            _ => None,
        })
    }

    /// The bound connection that was idle longest, of those that are nobody's home if there are any.
    fn oldest_idle(&self) -> Option<BackendId> {
        let bound = self.idle().filter(|(_, each, _)| each.bound.is_some());
        bound.min_by_key(|(_, each, since)| (each.homes > 0, *since)).map(|(id, ..)| id)
    }

    fn clear(&mut self, id: BackendId, now: Instant, commands: &mut Vec<Command>) {
        if self.backends.get(id).is_some() {
            self.backends.enter(id, State::Clearing(now));
            commands.push(Command::Clear(id));
        }
    }

    fn room_under_ceiling(&self, tenant: Tenant) -> usize {
        // Who has no workspace shares its pool with nobody.
        let most = if tenant.workspace.is_some() { self.bounds.workspace_max } else { self.bounds.size };
        most.saturating_sub(self.held.get(&tenant).copied().unwrap_or(0))
    }

    fn is_at_ceiling(&self, tenant: Tenant) -> bool {
        self.room_under_ceiling(tenant) == 0
    }

    fn let_go(&mut self, tenant: Tenant) {
        if let Some(held) = self.held.get_mut(&tenant) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&tenant);
            }
        }
    }
}

/// A roster in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Server connections.
    pub open: usize,
    /// Being opened.
    pub opening: usize,
    /// Of the open ones, those that nobody has.
    pub idle: usize,
    /// Of the open ones, those whose process is awaited to be gone.
    pub ending: usize,
    /// Sessions that wait.
    pub waiting: usize,
}
