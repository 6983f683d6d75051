//! Homes. Each client has one connection to which it comes back when it can, and whose process id it is told at its login. A
//! home is a wish and no right: it is granted by the rules for all, and others use the connection meanwhile. Nothing is
//! remembered of a client but a number at the connection, so that any number of idle clients cost nothing here.

use super::backends::Backend;
use super::{BackendId, Command, CoreId, Granted, Roster, WaiterId};
use crate::domain::clock::Instant;
use crate::tenant::Tenant;

/// Where a client is at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// At this connection, whose server process has this id.
    At(BackendId, i32),
    /// Each connection is somebody's home, of which this is the best; but another one is being opened, or there is room for one:
    /// [`Roster::opens_for_home`] asks for it.
    Crowded(BackendId, i32),
    /// There is no connection. One may be on its way as well.
    Nowhere,
}

/// One that waits for a particular connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Homecomer {
    waiter: WaiterId,
    tenant: Tenant,
    core: CoreId,
    pub(super) home: BackendId,
}

impl Roster {
    /// The best home for a client of this tenant: one that fewest others have, then one that was the workspace's before. It isn't
    /// its home yet, see [`Roster::moved_in`].
    pub fn settle(&self, tenant: Tenant) -> Settled {
        let fit = self.backends.iter().filter(|(_, each)| !each.doomed);
        let best = fit.min_by_key(|(id, each)| {
            (each.homes, each.bound != Some(tenant), !each.is_idle(), each.bound.is_some(), *id)
        });
        match best {
            None => Settled::Nowhere,
            Some((id, each)) if each.homes > 0 && (self.has_room() || self.is_opening()) => {
                Settled::Crowded(id, each.pid)
            }
            Some((id, each)) => Settled::At(id, each.pid),
        }
    }

    /// A connection is to be opened for a client without a home of its own, if there is room. `Opened` or `OpenFailed` follows.
    pub fn opens_for_home(&mut self, now: Instant) -> bool {
        let may_open = self.closed_until.as_ref().is_none_or(|(until, _)| now >= *until);
        let opens = may_open && self.has_room();
        self.opening += usize::from(opens);
        opens
    }

    /// Whether a connection is being opened.
    pub const fn is_opening(&self) -> bool {
        self.opening > 0
    }

    /// A client has its home here from now on.
    pub fn moved_in(&mut self, id: BackendId) {
        if let Some(backend) = self.backends.get_mut(id) {
            backend.homes += 1;
        }
    }

    /// It no longer has.
    pub fn moved_out(&mut self, id: BackendId) {
        if let Some(backend) = self.backends.get_mut(id) {
            backend.homes = backend.homes.saturating_sub(1);
        }
    }

    /// Whether there is such a connection still, to be waited for.
    pub fn is_there(&self, id: BackendId) -> bool {
        self.backends.get(id).is_some_and(|each| !each.doomed)
    }

    /// A session wants its home and no other connection, and wouldn't wait.
    pub fn try_take_home(&mut self, home: BackendId, tenant: Tenant, now: Instant) -> Option<Granted> {
        let is_free = self.queue.is_empty() && self.is_fit(home, tenant) && !self.is_at_ceiling(tenant);
        is_free.then(|| self.grant(home, tenant, now))
    }

    /// The same, and it waits for it. Whoever waits for any connection of another tenant comes first. It must give up by itself.
    pub fn waits_for_home(
        &mut self,
        waiter: WaiterId,
        tenant: Tenant,
        core: CoreId,
        home: BackendId,
        now: Instant,
    ) -> Vec<Command> {
        self.homecomers.push(Homecomer { waiter, tenant, core, home });
        let mut commands = Vec::new();
        if !self.bring_home(home, now, &mut commands) {
            commands.push(Command::Recall);
        }
        commands
    }

    pub(super) fn comes_home_no_more(&mut self, waiter: WaiterId) -> bool {
        let before = self.homecomers.len();
        self.homecomers.retain(|each| each.waiter != waiter);
        self.homecomers.len() < before
    }

    /// A connection may have become free: whoever waits for it in particular gets it, or it is cleared for them. Says
    /// whether either is so.
    pub(super) fn bring_home(&mut self, id: BackendId, now: Instant, commands: &mut Vec<Command>) -> bool {
        let may = |each: &&Homecomer| {
            each.home == id
                && !self.is_at_ceiling(each.tenant)
                && !self.queue.others_wait(each.tenant, |other| !self.is_at_ceiling(other))
        };
        let Some(Homecomer { waiter, tenant, core, .. }) = self.homecomers.iter().find(may).copied() else {
            return false;
        };
        if self.is_fit(id, tenant) {
            self.comes_home_no_more(waiter);
            let bound = self.grant(id, tenant, now).bound;
            commands.push(Command::Grant { waiter, core, backend: id, bound });
            return true;
        }
        let is_idle = self.backends.get(id).is_some_and(Backend::is_idle);
        if is_idle {
            self.clear(id, now, commands);
        }
        is_idle
    }

    /// Whether it is idle and not bound to another tenant.
    fn is_fit(&self, id: BackendId, tenant: Tenant) -> bool {
        self.backends.get(id).is_some_and(|each| each.is_idle() && each.bound.is_none_or(|bound| bound == tenant))
    }

    fn has_room(&self) -> bool {
        self.backends.len() + self.opening < self.bounds.size
    }
}
