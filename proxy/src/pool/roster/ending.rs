//! How connections come to their end. One on which something may still run isn't gone when its socket is closed: Postgres
//! notices that when the statement is over, and some statements can't even be cancelled. So it keeps its place in the pool, and
//! in its workspace's share, until its process is gone: however many a client begins and leaves, Postgres has no more to do than
//! the pool allows.

use super::backends::{Backend, State};
use super::{BackendId, CARRIED_MAX, Command, Roster};
use crate::domain::WorkspaceId;
use crate::domain::clock::Instant;
use crate::tenant::Tenant;

impl Roster {
    /// The process of a connection that was to be ended is gone.
    pub fn ended(&mut self, id: BackendId, now: Instant) -> Vec<Command> {
        let mut commands = Vec::new();
        if let Some(backend) = self.backends.remove(id)
            && let State::Ending(Some(tenant), _) = backend.state()
        {
            self.let_go(tenant);
        }
        self.serve(now, &mut commands);
        commands
    }

    /// A connection couldn't be cleared.
    pub fn not_cleared(&mut self, id: BackendId, now: Instant) -> Vec<Command> {
        let mut commands = Vec::new();
        self.end(id, None, now, &mut commands);
        self.serve(now, &mut commands);
        commands
    }

    pub(super) fn end(&mut self, id: BackendId, tenant: Option<Tenant>, now: Instant, commands: &mut Vec<Command>) {
        if let Some(backend) = self.backends.get_mut(id) {
            // It is nobody's home any more.
            backend.doomed = true;
            self.backends.enter(id, State::Ending(tenant, now));
            commands.push(Command::End(id));
        }
    }

    /// A key of the workspace was revoked: whatever carried it is closed, for its seals could be replayed there.
    pub fn revoked(&mut self, workspace: WorkspaceId) -> Vec<Command> {
        self.doom(|backend| backend.carried.contains(&workspace) || backend.carried.len() >= CARRIED_MAX)
    }

    /// Nobody is to be connected to the database any more: every connection is closed, or will be when it comes back.
    pub fn vacated(&mut self) -> Vec<Command> {
        self.opening_unwanted = self.opening;
        self.doom(|_| true)
    }

    pub(super) fn comes_unwanted(&mut self) -> bool {
        let unwanted = self.opening_unwanted > 0;
        self.opening_unwanted -= usize::from(unwanted);
        unwanted
    }

    fn doom(&mut self, which: impl Fn(&Backend) -> bool) -> Vec<Command> {
        let mut closed = Vec::new();
        for (id, backend) in self.backends.iter_mut() {
            if !which(backend) || backend.doomed {
                continue;
            }
            backend.doomed = true;
            match backend.state() {
                State::Idle { .. } => closed.push(id),
                State::Held { .. } => self.doomed_held += 1,
                State::Clearing(_) | State::Ending(..) => {}
            }
        }
        let mut commands: Vec<Command> = Vec::with_capacity(closed.len() + 1);
        for id in closed {
            self.backends.remove(id);
            commands.push(Command::Close(id));
        }
        if self.doomed_held > 0 {
            commands.push(Command::Recall);
        }
        commands
    }
}
