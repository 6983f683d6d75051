//! A session and a server connection: what is written when they come together, the workspace's context in front of everything else,
//! and what the session knows no more when they part.

use std::sync::Arc;

use crate::backend::BackendState;
use crate::backend::settings::Change;
use crate::domain::Fault;
use crate::domain::limits::SEAL_LIFE;
use crate::tenant::{Seal, context};
use crate::wire::{author, inject};

use super::effects::{Barrier, Removal};
use super::expect::{BindStep, Expect, Injected};
use super::{Core, Lanes, Reported, Session};

impl Session {
    /// Takes a server connection into use: gives it the session's settings and, unless it is bound already, the
    /// workspace's context, in front of everything else.
    pub fn attach(&mut self, backend: &mut BackendState, must_bind: bool, core: &Core<'_>, lanes: &mut Lanes) {
        if must_bind {
            backend.unsealed();
        }
        self.lodging.arrived = true;
        self.open_context(&[], backend, core, lanes);
    }

    /// Writes what is missing on the server connection. Called whenever the client is about to begin a new statement.
    pub(super) fn open_context(
        &mut self,
        input: &[u8],
        backend: &mut BackendState,
        core: &Core<'_>,
        lanes: &mut Lanes,
    ) {
        // First, for a client's own timeouts are not meant for it.
        self.bind_context(input, backend, core, lanes);
        if !Arc::ptr_eq(backend.settings(), &self.settings) {
            let had = backend.settings().clone();
            for change in had.changes_to(&self.settings) {
                let (name, value) = match change {
                    Change::Set(name, value) => (name, Some(value)),
                    Change::Reset(name) => (name, None),
                };
                inject::set_config(lanes.server.author(input), name.as_bytes(), value);
                self.expects.push(Expect::Injected(Injected::Setting), &mut lanes.client);
            }
            backend.given(self.settings.clone());
        }
    }

    /// Writes the workspace's context, unless the server connection has it.
    pub(super) fn bind_context(
        &mut self,
        input: &[u8],
        backend: &mut BackendState,
        core: &Core<'_>,
        lanes: &mut Lanes,
    ) {
        let Some(workspace) = self.workspace else { return };
        let key = core.signing_keys.newest();
        if backend.is_sealed(core.now, key.id()) {
            return;
        }
        let database_now = core.now.saturating_add(backend.clock_offset());
        let seal = Seal::new(key, workspace, backend.pid(), database_now);
        let (sealed, by) = ((workspace, &seal), backend.bind_by());
        context::bind(lanes.server.author(input), core.names, sealed, by, (core.seed)(), &mut self.bind_echo);
        backend.tag_meters(key);
        for step in BindStep::all(by) {
            self.expects.push(Expect::Injected(Injected::Bind(*step)), &mut lanes.client);
        }
        let half_life = i64::try_from(SEAL_LIFE.as_secs() / 2).unwrap_or(0);
        backend.sealed(core.now.saturating_add(half_life), key.id());
    }

    /// Opens the session on a server connection without a statement of the client, to learn what the client is greeted with:
    /// what the server reports then, and [`Session::take_reported`].
    pub fn greet(&mut self, backend: &mut BackendState, must_bind: bool, core: &Core<'_>, lanes: &mut Lanes) {
        self.reported = Some(Reported::default());
        self.attach(backend, must_bind, core, lanes);
    }

    /// What the server said since [`Session::greet`].
    pub fn take_reported(&mut self) -> Reported {
        self.reported.take().unwrap_or_default()
    }

    /// The server connection is gone before the session's statements ran in its workspace: each cycle under way is
    /// answered with the fault, and the session is idle again.
    pub fn detach_failed(&mut self, fault: &Fault, lanes: &mut Lanes) {
        let statements = &mut self.statements;
        let cycles = self.expects.abandon(|each| statements.undo(each));
        let out = lanes.client.author(&[]);
        for _ in 0..cycles {
            author::error(out, author::Severity::Error, fault);
            author::ready(out);
        }
        if self.in_cycle {
            author::error(out, author::Severity::Error, fault);
            self.refusing = true;
        }
        self.dropping = self.passing;
        self.detached();
    }

    /// The server connection was given back or is gone.
    pub fn detached(&mut self) {
        self.status = b'I';
        self.ended += 1;
        self.stopped = None;
        self.in_cycle = false;
        self.skipping = false;
        self.copying_in = false;
        self.early_data = false;
        self.copy_synced = 0;
        self.copy_failed = false;
        self.copy_refused = false;
        self.passing = 0;
        self.relaying = 0;
        self.discarding = 0;
        self.pin = None;
        self.stays = None;
        self.lodging.discarding = false;
        self.touched.clear();
        self.touched_in_doubt = false;
        self.ungiven = false;
        self.barrier = Barrier::None;
        self.removal = Removal::default();
        self.thrown_away.clear();
        self.awaiting = false;
        self.portals.clear();
        self.channels.clear();
        self.metered.clear();
        self.deciding = None;
        self.repeating = false;
        self.holds_query = false;
    }
}
