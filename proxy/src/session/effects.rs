//! What a client's statements leave behind in its session, and how it is carried along.
//!
//! The value of a setting is never guessed from the text: when a transaction that may have changed settings is over, they
//! are read back from the server, whatever became of the transaction, its savepoints and its functions.

use std::sync::Arc;

use crate::backend::{BackendState, Settings, Unnamed};
use crate::sql::{Deallocates, Facts, PinReason};
use crate::wire::inject;

use super::expect::{Expect, Injected};
use super::{Core, Lanes, Session};

/// More settings than this in one transaction aren't read back: the client keeps its server connection instead.
const TOUCHED_MAX: usize = 64;

/// What of a session a statement takes away as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removal {
    /// RESET ALL: the settings, and with them the context.
    settings: bool,
    /// DEALLOCATE ALL: the prepared statements.
    statements: bool,
    /// DISCARD ALL: whatever pinned the client.
    pin: bool,
}

impl Removal {
    /// What a statement with these facts removes.
    pub(super) fn of(facts: &Facts) -> Self {
        let all = facts.deallocates == Some(Deallocates::All);
        Self { settings: facts.resets_all, statements: facts.discards_all || all, pin: facts.discards_all }
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            settings: self.settings || other.settings,
            statements: self.statements || other.statements,
            pin: self.pin || other.pin,
        }
    }
}

/// Holds the client's next message behind a statement that takes something away, because what follows must be given a
/// context again, or other names.
#[derive(Debug, Default)]
pub(super) enum Barrier {
    /// Nothing is on its way.
    #[default]
    None,
    /// The statement is on its way, and the Sync that makes the server answer isn't.
    Armed(Removal),
    /// Nothing follows until all is answered.
    Raised(Removal),
}

impl Session {
    /// Whether the client's next message must wait.
    pub(super) fn is_held(&self) -> bool {
        // Copy data is what the server waits for itself.
        let holding = self.awaiting || matches!(self.barrier, Barrier::Raised(_));
        holding && !self.expects.is_empty() && !self.copying_in
    }

    /// A statement with these facts is on its way.
    pub(super) fn note_facts(&mut self, facts: &Arc<Facts>, backend: &mut BackendState, core: &Core<'_>) {
        if let Some(reason) = facts.pins {
            self.pin.get_or_insert(reason);
        }
        // Postgres would refuse a tenant, who must have no say in others' connections.
        if self.workspace.is_none() {
            self.emptied.extend_from_slice(&facts.empties);
        }
        for name in &facts.touches {
            if core.names.contains(name) {
                backend.unsealed();
            } else if self.touched.len() >= TOUCHED_MAX {
                self.pin.get_or_insert(PinReason::HiddenSetting);
            } else if !self.touched.contains(name) {
                self.touched.push(name.clone());
            }
        }
    }

    /// A statement that takes something away is on its way.
    pub(super) fn arm(&mut self, removal: Removal) {
        if removal.is_empty() {
            return;
        }
        if matches!(self.barrier, Barrier::None) {
            self.erred = false;
        }
        self.barrier = match self.barrier {
            Barrier::None => Barrier::Armed(removal),
            Barrier::Armed(other) | Barrier::Raised(other) => Barrier::Armed(removal.and(other)),
        };
    }

    /// The server will answer now: what is armed holds the client.
    pub(super) fn raise_barrier(&mut self) {
        if let Barrier::Armed(removal) = self.barrier {
            self.barrier = Barrier::Raised(removal);
        }
        self.bound = Removal::default();
    }

    /// The Sync that was to make the server answer doesn't: the client must be let through to its next one.
    pub(super) fn lower_barrier(&mut self) {
        if let Barrier::Raised(removal) = self.barrier {
            self.barrier = Barrier::Armed(removal);
        }
    }

    /// All is answered: what a barrier stood for has happened or not, and settings are read back.
    pub(super) fn settle(&mut self, backend: &mut BackendState, lanes: &mut Lanes) {
        if !self.expects.is_empty() {
            return;
        }
        self.awaiting = false;
        if let Barrier::Raised(removal) = self.barrier {
            self.barrier = Barrier::None;
            self.removed(removal, backend);
        }
        if self.touched.is_empty() || self.in_cycle || self.status != b'I' {
            return;
        }
        for name in std::mem::take(&mut self.touched) {
            let arguments = [Some(name.as_bytes()), Some(&b"t"[..])];
            inject::function_call(lanes.server.author(&[]), inject::CURRENT_SETTING_OID, &arguments);
            self.expects.push(Expect::Injected(Injected::ReadBack(name)), &mut lanes.client);
        }
    }

    /// A setting's value was read back.
    pub(super) fn read_back(&mut self, name: &str, value: &[u8], backend: &mut BackendState) {
        if self.settings.get(name) != Some(value) {
            self.settings = self.settings.with(name, value);
        }
        backend.given(self.settings.clone());
    }

    fn removed(&mut self, removal: Removal, backend: &mut BackendState) {
        if self.erred {
            if removal.settings {
                backend.soil();
            }
            return;
        }
        if removal.statements {
            self.statements.clear();
            backend.deallocated();
            backend.set_unnamed(Unnamed::Unknown);
        }
        if removal.pin {
            self.pin = None;
        }
        if removal.settings {
            if self.status != b'I' {
                // A rollback would bring back what can't be seen any more.
                backend.soil();
            }
            self.touched.clear();
            self.settings = self.startup.clone();
            backend.given(Settings::none());
            backend.unsealed();
            self.reopening = true;
        }
    }
}
