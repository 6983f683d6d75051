//! Who waits. Workspaces take turns; within a workspace it is first come, first served, core by core when that is cheaper.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::{BackendId, CoreId, WaiterId};
use crate::domain::clock::Instant;
use crate::tenant::Tenant;

/// One that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    pub(super) core: CoreId,
    /// The connection it would rather have.
    pub(super) home: Option<BackendId>,
    since: Instant,
}

/// All that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    /// Tenants with waiters, the next one in front.
    turns: VecDeque<Tenant>,
    /// Their waiters, oldest first, one line per core.
    lines: HashMap<Tenant, Vec<(CoreId, VecDeque<Waiter>)>, ahash::RandomState>,
    places: HashMap<WaiterId, (Tenant, CoreId), ahash::RandomState>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn contains(&self, waiter: WaiterId) -> bool {
        self.places.contains_key(&waiter)
    }

    pub(super) fn push(&mut self, tenant: Tenant, core: CoreId, id: WaiterId, home: Option<BackendId>, since: Instant) {
        let lines = self.lines.entry(tenant).or_default();
        if lines.is_empty() {
            self.turns.push_back(tenant);
        }
        let waiter = Waiter { id, core, home, since };
        match lines.iter_mut().find(|(each, _)| *each == core) {
            Some((_, line)) => line.push_back(waiter),
            None => lines.push((core, VecDeque::from([waiter]))),
        }
        self.places.insert(id, (tenant, core));
    }

    /// The next tenant in turn that may have a connection, and its oldest waiter.
    pub(super) fn next(&self, may: impl Fn(Tenant) -> bool) -> Option<(Tenant, Waiter)> {
        let tenant = self.turns.iter().copied().find(|tenant| may(*tenant))?;
        let lines = self.lines.get(&tenant)?;
        let oldest = lines.iter().filter_map(|(_, line)| line.front().copied());
        oldest.min_by_key(|waiter| (waiter.since, waiter.core)).map(|waiter| (tenant, waiter))
    }

    /// Takes the tenant's oldest waiter, or the oldest on `core` if there is one there. The tenant goes to the end of the turns.
    pub(super) fn pop(&mut self, tenant: Tenant, core: Option<CoreId>) -> Option<Waiter> {
        let lines = self.lines.get_mut(&tenant)?;
        let here = core.and_then(|core| lines.iter().position(|(each, _)| *each == core));
        let oldest = || (0..lines.len()).min_by_key(|at| lines[*at].1.front().map(|waiter| waiter.since));
        let at = here.or_else(oldest)?;
        let waiter = lines[at].1.pop_front()?;
        if lines[at].1.is_empty() {
            lines.swap_remove(at);
        }
        let more = !lines.is_empty();
        self.places.remove(&waiter.id);
        self.turn_taken(tenant, more);
        Some(waiter)
    }

    pub(super) fn remove(&mut self, waiter: WaiterId) -> bool {
        let Some((tenant, core)) = self.places.remove(&waiter) else { return false };
        if let Some(lines) = self.lines.get_mut(&tenant) {
            if let Some((_, line)) = lines.iter_mut().find(|(each, _)| *each == core) {
                line.retain(|each| each.id != waiter);
            }
            lines.retain(|(_, line)| !line.is_empty());
            if lines.is_empty() {
                self.forget(tenant);
            }
        }
        true
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Waiter> + use<> {
        self.turns.clear();
        self.places.clear();
        std::mem::take(&mut self.lines).into_values().flatten().flat_map(|(_, line)| line)
    }

    /// All of it, in whatever order.
    #[cfg(test)]
    pub(super) fn shown(&self) -> Vec<String> {
        let lines = self.lines.iter().map(|each| format!("{each:?}"));
        let places = self.places.iter().map(|each| format!("{each:?}"));
        lines.chain(places).chain([format!("{:?}", self.turns)]).collect()
    }

    /// Whether anybody of the tenant waits.
    pub(super) fn waits(&self, tenant: Tenant) -> bool {
        self.lines.contains_key(&tenant)
    }

    /// Whether anybody of the tenant waits on `core`.
    pub(super) fn waits_on(&self, tenant: Tenant, core: CoreId) -> bool {
        self.lines.get(&tenant).is_some_and(|lines| lines.iter().any(|(each, _)| *each == core))
    }

    /// How much earlier than `core`'s own oldest waiter the tenant's oldest came.
    pub(super) fn lead(&self, tenant: Tenant, core: CoreId) -> Duration {
        let Some(lines) = self.lines.get(&tenant) else { return Duration::ZERO };
        let fronts = || lines.iter().filter_map(|(each, line)| Some((*each, line.front()?.since)));
        let own = fronts().find(|(each, _)| *each == core).map(|(_, since)| since);
        let oldest = fronts().map(|(_, since)| since).min();
        own.zip(oldest).map_or(Duration::ZERO, |(own, oldest)| own.duration_since(oldest))
    }

    /// Every tenant that waits, and for how long its oldest waiter has.
    pub(super) fn waiting(&self, now: Instant) -> impl Iterator<Item = (Tenant, Duration)> {
        self.lines.iter().filter_map(move |(tenant, lines)| {
            let oldest = lines.iter().filter_map(|(_, line)| line.front()).map(|waiter| waiter.since).min()?;
            Some((*tenant, now.saturating_duration_since(oldest)))
        })
    }

    /// Whether another tenant that may have a connection waits.
    pub(super) fn others_wait(&self, tenant: Tenant, may: impl Fn(Tenant) -> bool) -> bool {
        self.turns.iter().any(|other| *other != tenant && may(*other))
    }

    /// How many waiters could be given a connection, when each tenant has room for so many.
    pub(super) fn eligible(&self, room: impl Fn(Tenant) -> usize) -> usize {
        let waiting = |lines: &Vec<(CoreId, VecDeque<Waiter>)>| lines.iter().map(|(_, line)| line.len()).sum::<usize>();
        self.lines.iter().map(|(tenant, lines)| waiting(lines).min(room(*tenant))).sum()
    }

    fn turn_taken(&mut self, tenant: Tenant, more: bool) {
        if !more {
            self.forget(tenant);
        } else if let Some(at) = self.turns.iter().position(|each| *each == tenant) {
            self.turns.remove(at);
            self.turns.push_back(tenant);
        }
    }

    fn forget(&mut self, tenant: Tenant) {
        self.lines.remove(&tenant);
        self.turns.retain(|each| *each != tenant);
    }
}
