//! Who waits. Workspaces take turns; within a workspace it is first come, first served, core by core when that is cheaper.

use std::collections::{BTreeMap, HashMap, VecDeque};
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
    /// Tenants with waiters by their numbers in turn, the next one in front. However many wait, who comes and who goes is found.
    turns: Turns,
    /// Their waiters.
    tenants: HashMap<Tenant, Waiting, ahash::RandomState>,
    places: HashMap<WaiterId, (Tenant, CoreId), ahash::RandomState>,
}

type Turns = BTreeMap<u64, Tenant>;

/// Puts a tenant at the end of the turns. Its number there.
fn last(turns: &mut Turns, tenant: Tenant) -> u64 {
    let turn = turns.last_key_value().map_or(0, |(last, _)| last + 1);
    turns.insert(turn, tenant);
    turn
}

/// Those of a tenant.
#[derive(Clone, Debug, Default)]
struct Waiting {
    turn: u64,
    /// Oldest first, one line per core.
    lines: Vec<(CoreId, VecDeque<Waiter>)>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn push(&mut self, tenant: Tenant, core: CoreId, id: WaiterId, home: Option<BackendId>, since: Instant) {
        let waiting = self.tenants.entry(tenant).or_default();
        if waiting.lines.is_empty() {
            waiting.turn = last(&mut self.turns, tenant);
        }
        let waiter = Waiter { id, core, home, since };
        match waiting.lines.iter_mut().find(|(each, _)| *each == core) {
            Some((_, line)) => line.push_back(waiter),
            None => waiting.lines.push((core, VecDeque::from([waiter]))),
        }
        self.places.insert(id, (tenant, core));
    }

    /// The next tenant in turn that may have a connection, and its oldest waiter.
    pub(super) fn next(&self, may: impl Fn(Tenant) -> bool) -> Option<(Tenant, Waiter)> {
        let tenant = self.turns.values().copied().find(|tenant| may(*tenant))?;
        let lines = self.lines(tenant);
        let oldest = lines.iter().filter_map(|(_, line)| line.front().copied());
        oldest.min_by_key(|waiter| (waiter.since, waiter.core)).map(|waiter| (tenant, waiter))
    }

    /// Takes the tenant's oldest waiter, or the oldest on `core` if there is one there. The tenant goes to the end of the turns.
    pub(super) fn pop(&mut self, tenant: Tenant, core: Option<CoreId>) -> Option<Waiter> {
        let waiting = self.tenants.get_mut(&tenant)?;
        let lines = &mut waiting.lines;
        let here = core.and_then(|core| lines.iter().position(|(each, _)| *each == core));
        let oldest = || (0..lines.len()).min_by_key(|at| lines[*at].1.front().map(|waiter| waiter.since));
        let at = here.or_else(oldest)?;
        let waiter = lines[at].1.pop_front()?;
        if lines[at].1.is_empty() {
            lines.swap_remove(at);
        }
        self.places.remove(&waiter.id);
        if waiting.lines.is_empty() {
            self.forget(tenant);
        } else if self.turns.len() > 1 {
            self.turns.remove(&waiting.turn);
            waiting.turn = last(&mut self.turns, tenant);
        }
        Some(waiter)
    }

    pub(super) fn remove(&mut self, waiter: WaiterId) -> bool {
        let Some((tenant, core)) = self.places.remove(&waiter) else { return false };
        if let Some(waiting) = self.tenants.get_mut(&tenant) {
            if let Some((_, line)) = waiting.lines.iter_mut().find(|(each, _)| *each == core) {
                line.retain(|each| each.id != waiter);
            }
            waiting.lines.retain(|(_, line)| !line.is_empty());
            if waiting.lines.is_empty() {
                self.forget(tenant);
            }
        }
        true
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Waiter> + use<> {
        self.turns.clear();
        self.places.clear();
        std::mem::take(&mut self.tenants).into_values().flat_map(|waiting| waiting.lines).flat_map(|(_, line)| line)
    }

    /// All of it, in whatever order.
    #[cfg(test)]
    pub(super) fn shown(&self) -> Vec<String> {
        let lines = self.tenants.iter().map(|(tenant, waiting)| format!("{tenant:?} {:?}", waiting.lines));
        let places = self.places.iter().map(|each| format!("{each:?}"));
        lines.chain(places).chain([format!("{:?}", self.turns.values().collect::<Vec<_>>())]).collect()
    }

    /// Whether anybody of the tenant waits.
    pub(super) fn waits(&self, tenant: Tenant) -> bool {
        self.tenants.contains_key(&tenant)
    }

    /// Whether anybody of the tenant waits on `core`.
    pub(super) fn waits_on(&self, tenant: Tenant, core: CoreId) -> bool {
        self.lines(tenant).iter().any(|(each, _)| *each == core)
    }

    /// How much earlier than `core`'s own oldest waiter the tenant's oldest came.
    pub(super) fn lead(&self, tenant: Tenant, core: CoreId) -> Duration {
        let lines = self.lines(tenant);
        let fronts = || lines.iter().filter_map(|(each, line)| Some((*each, line.front()?.since)));
        let own = fronts().find(|(each, _)| *each == core).map(|(_, since)| since);
        let oldest = fronts().map(|(_, since)| since).min();
        own.zip(oldest).map_or(Duration::ZERO, |(own, oldest)| own.duration_since(oldest))
    }

    /// Every tenant that waits, and for how long its oldest waiter has.
    pub(super) fn waiting(&self, now: Instant) -> impl Iterator<Item = (Tenant, Duration)> {
        self.tenants.iter().filter_map(move |(tenant, waiting)| {
            let oldest = waiting.lines.iter().filter_map(|(_, line)| line.front()).map(|waiter| waiter.since).min()?;
            Some((*tenant, now.saturating_duration_since(oldest)))
        })
    }

    /// Whether another tenant that may have a connection waits.
    pub(super) fn others_wait(&self, tenant: Tenant, may: impl Fn(Tenant) -> bool) -> bool {
        self.turns.values().any(|other| *other != tenant && may(*other))
    }

    /// How many waiters could be given a connection, when each tenant has room for so many; `most` of them at most.
    pub(super) fn eligible(&self, most: usize, room: impl Fn(Tenant) -> usize) -> usize {
        let mut eligible = 0;
        for tenant in self.turns.values() {
            if eligible >= most {
                break;
            }
            let waiting: usize = self.lines(*tenant).iter().map(|(_, line)| line.len()).sum();
            eligible += waiting.min(room(*tenant));
        }
        eligible.min(most)
    }

    fn lines(&self, tenant: Tenant) -> &[(CoreId, VecDeque<Waiter>)] {
        self.tenants.get(&tenant).map_or(&[], |waiting| &waiting.lines)
    }

    fn forget(&mut self, tenant: Tenant) {
        if let Some(waiting) = self.tenants.remove(&tenant) {
            self.turns.remove(&waiting.turn);
        }
    }
}
