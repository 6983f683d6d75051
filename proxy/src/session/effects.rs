//! What a client's statements leave behind in its session, and how it is carried along.
//!
//! The value of a setting is never guessed from the text: when a transaction that may have changed settings is over, they
//! are read back from the server, whatever became of the transaction, its savepoints and its functions. Only what a RESET
//! goes back to is ours to say: the server knows nothing of what the client asked for when it connected.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::backend::{BackendState, Settings};
use crate::sql::{Facts, PinReason, Reset};
use crate::wire::inject;

use super::expect::{Expect, Injected};
use super::{Core, Lanes, Session};

/// More settings than this in one transaction aren't read back: the client keeps its server connection instead.
const TOUCHED_MAX: usize = 64;

/// What the statements on their way take away. What follows them waits, for it must be given other names or settings.
#[derive(Debug, Default)]
pub(super) struct Removal {
    /// RESET ALL: the settings, and with them the context.
    settings: bool,
    /// Names of prepared statements may go, each when its statement is complete.
    names: bool,
    /// DISCARD ALL: whatever pinned the client.
    pin: bool,
    /// Settings of the startup that go back alone.
    resets: SmallVec<[Reset; 1]>,
    /// Settings that are set behind a RESET ALL.
    set_behind: SmallVec<[Box<str>; 1]>,
    /// It happened, and was rolled back in the same string.
    undone: bool,
    /// DISCARD ALL is complete. It commits at once, whatever fails behind it.
    discarded: bool,
    /// The position in the queue of what is owed from which on an error means that nothing was taken away.
    since: u64,
}

/// Whether the client's next message is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Barrier {
    /// Nothing is taken away.
    #[default]
    None,
    /// The statement is on its way, and the Sync that makes the server answer isn't.
    Armed,
    /// Nothing follows until all is answered.
    Raised,
}

impl Session {
    /// Whether a client whose message was held is to be heard again, although not all is answered: the server waits for
    /// copy data.
    pub const fn may_be_heard(&self) -> bool {
        self.copying_in
    }

    /// Whether the client's next message must wait.
    pub(super) fn is_held(&self) -> bool {
        // Copy data is what the server waits for itself.
        let holding = self.awaiting || self.repeating || self.barrier == Barrier::Raised;
        holding && !self.expects.is_empty() && !self.copying_in
    }

    /// A statement with these facts is on its way.
    pub(super) fn note_facts(&mut self, facts: &Facts, backend: &mut BackendState, core: &Core<'_>) {
        if let Some(reason) = facts.pins {
            self.pin.get_or_insert(reason);
        }
        self.note_channels(facts, core);
        // Postgres would refuse a tenant, who must have no say in others' connections.
        if self.workspace.is_none() {
            self.emptied.extend_from_slice(&facts.empties);
        }
        for name in &facts.touches {
            self.touch(name, backend, core);
        }
    }

    /// A setting may have another value when the transaction is over.
    pub(super) fn touch(&mut self, name: &str, backend: &mut BackendState, core: &Core<'_>) {
        if core.names.contains(name) {
            backend.unsealed();
        } else if name == "seed" {
            // What it reads as can't be given again. It is reset with every workspace, and isn't carried along.
        } else if !self.touched.iter().any(|each| **each == *name) {
            if self.touched.len() >= TOUCHED_MAX {
                self.pin.get_or_insert(PinReason::HiddenSetting);
            } else {
                self.touched.push(name.into());
            }
        }
    }

    /// A statement with these facts is about to be executed: what it takes away holds the client.
    pub(super) fn arm(&mut self, facts: &Facts) {
        let had_any = self.barrier != Barrier::None;
        if !had_any {
            self.erred = false;
            self.removal = Removal { since: self.expects.next_at(), ..Removal::default() };
        }
        let removal = &mut self.removal;
        if facts.resets_all {
            removal.settings = true;
            removal.resets.clear();
            removal.set_behind = facts.set_behind.iter().cloned().collect();
        }
        if had_any || facts.resets_all {
            for name in &facts.touches {
                removal.resets.retain(|each| each.name != *name);
                let is_behind = !facts.resets_all && removal.settings;
                if is_behind && !removal.set_behind.contains(name) {
                    removal.set_behind.push(name.clone());
                }
            }
        }
        for reset in &facts.resets {
            removal.set_behind.retain(|each| *each != reset.name);
            if self.startup.get(&reset.name).is_some() {
                removal.resets.push(reset.clone());
            }
        }
        removal.pin |= facts.discards_all;
        removal.names |= facts.discards_all || facts.deallocates_all || !facts.deallocates.is_empty();
        if removal.settings || removal.names || removal.pin || !removal.resets.is_empty() {
            self.barrier = Barrier::Armed;
        }
    }

    /// The client resets one setting by a FunctionCall.
    pub(super) fn arm_reset(&mut self, name: &str) {
        let reset = Reset { name: name.into(), is_local: false };
        self.arm(&Facts { touches: vec![name.into()], resets: vec![reset], ..Facts::default() });
    }

    /// Whether names of prepared statements may be about to go.
    pub(super) const fn may_lose_names(&self) -> bool {
        self.removal.names && !matches!(self.barrier, Barrier::None)
    }

    /// The server will answer now: what is armed holds the client.
    pub(super) const fn raise_barrier(&mut self) {
        if matches!(self.barrier, Barrier::Armed) {
            self.barrier = Barrier::Raised;
        }
    }

    /// The Sync that was to make the server answer doesn't: the client must be let through to its next one.
    pub(super) const fn lower_barrier(&mut self) {
        if matches!(self.barrier, Barrier::Raised) {
            self.barrier = Barrier::Armed;
        }
    }

    /// An error came: what was to be taken away behind it is there still.
    pub(super) fn note_error(&mut self) {
        self.touched_in_doubt |= !self.touched.is_empty();
        self.erred |= self.barrier != Barrier::None && self.expects.head_at() >= self.removal.since;
    }

    /// A statement is complete: what takes settings back may have happened, or be undone.
    pub(super) fn note_undone(&mut self, tag: &[u8]) {
        if self.barrier == Barrier::None || self.expects.head_at() < self.removal.since {
            return;
        }
        self.removal.discarded |= tag.starts_with(b"DISCARD ALL");
        if tag.starts_with(b"ROLLBACK") {
            self.removal.undone = true;
        } else if [&b"RESET"[..], b"SET", b"DISCARD"].iter().any(|word| tag.starts_with(word)) {
            self.removal.undone = false;
        }
    }

    /// The server has skipped what was sent up to a Sync, and with it perhaps what was to take something away.
    pub(super) fn note_skipped(&mut self) {
        self.erred |= self.barrier != Barrier::None && self.expects.head_at() > self.removal.since;
    }

    /// All is answered: settings are read back as soon as the transaction is over.
    pub(super) fn settle(&mut self, lanes: &mut Lanes) {
        if !self.expects.is_empty() {
            return;
        }
        (self.awaiting, self.early_data) = (false, false);
        if self.barrier == Barrier::Raised && !self.in_cycle {
            self.barrier = Barrier::None;
        }
        if self.touched.is_empty() || self.in_cycle || self.status != b'I' {
            return;
        }
        let in_doubt = std::mem::take(&mut self.touched_in_doubt);
        for name in std::mem::take(&mut self.touched) {
            if in_doubt && self.settings.get(&name).is_none() {
                inject::set_config_as(lanes.server.author(&[]), name.as_bytes(), None, true);
                self.expects.push(Expect::Injected(Injected::MayGive), &mut lanes.client);
            }
            let arguments = [Some(name.as_bytes()), Some(&b"t"[..])];
            inject::function_call(lanes.server.author(&[]), inject::CURRENT_SETTING_OID, &arguments);
            self.expects.push(Expect::Injected(Injected::ReadBack(name)), &mut lanes.client);
        }
    }

    /// A setting's value was read back. One that the client was refused isn't carried along: the next server connection
    /// would refuse it as well.
    pub(super) fn read_back(&mut self, name: &str, value: Option<&[u8]>, backend: &mut BackendState) {
        let is_given = !std::mem::take(&mut self.ungiven);
        let Some(value) = value else { return };
        if !is_given {
            backend.soil();
            return;
        }
        if self.settings.get(name) != Some(value) {
            self.settings = self.settings.with(name, value);
        }
        backend.given(self.settings.clone());
    }

    /// Whether the cycle that ends took something back to what the server knows, so that it must be given what the client asked for before the
    /// client hears of it.
    pub(super) fn must_refit(&self) -> bool {
        self.barrier == Barrier::Raised
            && self.expects.head_at() >= self.removal.since
            && (self.removal.settings || self.removal.pin || !self.removal.resets.is_empty())
    }

    /// The ReadyForQuery of statements that took settings back is there. What the client's startup asked for is given again,
    /// in the transaction that took it back, and with it the context.
    pub(super) fn refit(&mut self, backend: &mut BackendState, core: &Core<'_>, lanes: &mut Lanes) {
        self.barrier = Barrier::None;
        let removal = std::mem::take(&mut self.removal);
        if (self.erred || removal.undone || self.status == b'E') && !removal.discarded {
            if removal.settings {
                // Of a string of several statements some may have been committed.
                backend.unsealed();
                self.touch_all(backend, core);
            }
            return;
        }
        if removal.pin {
            self.pin = None;
            self.stays = None;
        }
        if removal.settings {
            self.reset_all(&removal, backend, core, lanes);
        }
        for Reset { name, is_local } in &removal.resets {
            let Some(value) = self.startup.get(name) else { continue };
            inject::set_config_as(lanes.server.author(&[]), name.as_bytes(), Some(value), *is_local);
            self.expects.push(Expect::Injected(Injected::Setting), &mut lanes.client);
        }
    }

    fn reset_all(&mut self, removal: &Removal, backend: &mut BackendState, core: &Core<'_>, lanes: &mut Lanes) {
        if self.status == b'I' {
            self.touched.retain(|each| removal.set_behind.contains(each));
        } else {
            // A rollback brings back what was before.
            self.touch_all(backend, core);
        }
        let startup = self.startup.clone();
        for (name, value) in startup.iter().filter(|(name, _)| !removal.set_behind.iter().any(|each| **each == **name))
        {
            inject::set_config(lanes.server.author(&[]), name.as_bytes(), Some(value));
            self.expects.push(Expect::Injected(Injected::Setting), &mut lanes.client);
        }
        backend.given(startup.clone());
        self.settings = startup;
        backend.unsealed();
        self.bind_context(&[], backend, core, lanes);
    }

    /// Every setting the client ever gave may have another value.
    fn touch_all(&mut self, backend: &mut BackendState, core: &Core<'_>) {
        let (settings, startup): (Arc<Settings>, Arc<Settings>) = (self.settings.clone(), self.startup.clone());
        for (name, _) in settings.iter().chain(startup.iter()) {
            self.touch(name, backend, core);
        }
    }
}
