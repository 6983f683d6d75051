//! The connections of a roster, counted by what they are at. Every client that waits asks how many are free or on their way: with
//! hundreds of connections, and as many who wait, looking through them each time would cost more than a small transaction.

use std::collections::HashMap;

use super::{BackendId, CoreId};
use crate::domain::WorkspaceId;
use crate::domain::clock::Instant;
use crate::tenant::Tenant;

/// A server connection.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    /// Whom it is bound to, if it wasn't cleared since.
    pub(super) bound: Option<Tenant>,
    /// Every workspace that was ever bound on it: their seals are good for this process until they expire.
    pub(super) carried: Vec<WorkspaceId>,
    /// It is to be closed when it comes back.
    pub(super) doomed: bool,
    /// The server process.
    pub(super) pid: i32,
    /// How many clients have their home here.
    pub(super) homes: u32,
    /// See [`Backends::keep`].
    kept_on: Option<CoreId>,
    /// See [`Backends::enter`].
    state: State,
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody has it. On which core it was last, and since when.
    Idle { core: CoreId, since: Instant },
    /// Somebody has it, or a core has parked it.
    Held { tenant: Tenant, turn: Instant },
    /// It is being cleared, since when.
    Clearing(Instant),
    /// It is being ended. Until its process is gone it is one of those that the workspace holds for which something runs there.
    /// Since when that is.
    Ending(Option<Tenant>, Instant),
}

impl Backend {
    /// One that was opened just now, clear and nobody's.
    pub(super) const fn opened(pid: i32, core: CoreId, now: Instant) -> Self {
        let state = State::Idle { core, since: now };
        Self { bound: None, carried: Vec::new(), doomed: false, pid, homes: 0, kept_on: None, state }
    }

    pub(super) const fn state(&self) -> State {
        self.state
    }

    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle { .. })
    }

    /// The core that was last told to keep it for its workspace. Whether it was taken since isn't known here.
    pub(super) const fn kept_on(&self) -> Option<CoreId> {
        self.kept_on
    }
}

/// All connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Backends {
    by_id: HashMap<BackendId, Backend, ahash::RandomState>,
    idle: usize,
    clearing: usize,
    kept: usize,
}

impl Backends {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How many nobody has.
    pub(super) const fn idle(&self) -> usize {
        self.idle
    }

    /// How many are being cleared.
    pub(super) const fn clearing(&self) -> usize {
        self.clearing
    }

    /// How many a core was told to keep.
    pub(super) const fn kept(&self) -> usize {
        self.kept
    }

    pub(super) fn get(&self, id: BackendId) -> Option<&Backend> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: BackendId) -> Option<&mut Backend> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (BackendId, &Backend)> {
        self.by_id.iter().map(|(id, backend)| (*id, backend))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (BackendId, &mut Backend)> {
        self.by_id.iter_mut().map(|(id, backend)| (*id, backend))
    }

    pub(super) fn insert(&mut self, id: BackendId, backend: Backend) {
        self.remove(id);
        self.count(backend.state, backend.kept_on, true);
        self.by_id.insert(id, backend);
    }

    pub(super) fn remove(&mut self, id: BackendId) -> Option<Backend> {
        let backend = self.by_id.remove(&id)?;
        self.count(backend.state, backend.kept_on, false);
        Some(backend)
    }

    /// A connection is at something else from now on, and isn't kept.
    pub(super) fn enter(&mut self, id: BackendId, state: State) {
        self.change(id, state, None);
    }

    /// A core is told to keep a connection that is held, or none is any more.
    pub(super) fn keep(&mut self, id: BackendId, on: Option<CoreId>) {
        if let Some(state) = self.get(id).map(Backend::state) {
            self.change(id, state, on);
        }
    }

    fn change(&mut self, id: BackendId, state: State, kept_on: Option<CoreId>) {
        let Some(backend) = self.by_id.get_mut(&id) else { return };
        let was = (backend.state, backend.kept_on);
        (backend.state, backend.kept_on) = (state, kept_on);
        self.count(was.0, was.1, false);
        self.count(state, kept_on, true);
    }

    fn count(&mut self, state: State, kept_on: Option<CoreId>, comes: bool) {
        let one_of = |count: &mut usize, is_one: bool| {
            if is_one && comes {
                *count += 1;
            } else if is_one {
                *count -= 1;
            }
        };
        one_of(&mut self.idle, matches!(state, State::Idle { .. }));
        one_of(&mut self.clearing, matches!(state, State::Clearing(_)));
        one_of(&mut self.kept, kept_on.is_some());
    }

    /// The three numbers, counted anew.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (usize, usize, usize) {
        let count = |is_one: fn(&Backend) -> bool| self.by_id.values().filter(|each| is_one(each)).count();
        let is_clearing = |each: &Backend| matches!(each.state, State::Clearing(_));
        (count(Backend::is_idle), count(is_clearing), count(|each| each.kept_on.is_some()))
    }
}
