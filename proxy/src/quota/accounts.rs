//! The books of all workspaces, shared by all cores. Everything here is quick and waits for nothing: what must be waited
//! for is in `decide`, what must be counted in `counting`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::bell::{Bell, Ear};
use super::counting::Wishes;
use super::escrow::{Account, Answer, Doubt, Moment, Warning};
use super::resource::{Definitions, Limit, ResourceId};
use super::settings::Settings;
use super::tally::Tallies;
use super::window::Window;
use crate::domain::WorkspaceId;
use crate::domain::clock::{self, Instant};

/// How many locks the books are spread over.
const SHARDS: usize = 64;
pub(super) type Key = (WorkspaceId, ResourceId);

/// The books of all workspaces.
pub struct Accounts {
    pub(super) shards: Box<[Shard]>,
    definitions: ArcSwap<Definitions>,
    redefined: Bell,
    /// How many counts have arrived.
    pub(super) moment: AtomicU64,
    pub(super) settings: Settings,
    /// What is to be counted: of stocks, of flows.
    pub(super) wishes: [Wishes; 2],
    tallies: Tallies,
    clock: Box<dyn Fn() -> i64 + Send + Sync>,
}

/// A lock, alone on its cache lines.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Shard(pub(super) Mutex<HashMap<Key, Slot, ahash::RandomState>>);

/// An account and who waits for it.
pub(super) struct Slot {
    pub(super) account: Account,
    bell: Option<Arc<Bell>>,
    listeners: usize,
    pub(super) is_wished: bool,
    /// A count that begins earlier would be one too many.
    pub(super) not_before: Option<Instant>,
    pub(super) counted: Option<Instant>,
    pub(super) touched: bool,
}

/// What a transaction that was committed leaves in one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// What it had reserved.
    pub reserved: u64,
    /// Rows that the client's own DELETE took away.
    pub credited: u64,
    /// [`Accounts::moment`] from before the transaction sent anything. An older one is always right.
    pub since: Moment,
}

/// What became of a reservation when the meter told the true number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjusted {
    /// It fits.
    Fits,
    /// It was booked, and this many rows of it are beyond the limit.
    Debt(u64),
    /// It was booked, and whether it fits isn't known: it is being counted, and a debt will be told as a warning.
    Unsure,
}

/// What is known of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The resource.
    pub resource: ResourceId,
    /// Its name.
    pub name: Arc<str>,
    /// Rows at most.
    pub limit: Limit,
    /// Rows that are used.
    pub used: u64,
    /// Rows that transactions in flight have reserved.
    pub reserved: u64,
    /// Whether it is exactly so, as far as it is known.
    pub exact: bool,
    /// When a flow's count starts anew.
    pub resets_at: Option<String>,
}

impl Accounts {
    /// Books of which nothing is known yet.
    pub fn new(settings: Settings, definitions: Arc<Definitions>) -> Self {
        Self::with_clock(settings, definitions, clock::unix_seconds)
    }

    /// As [`Self::new`], with a clock for the windows of flows: seconds since the Unix epoch.
    pub fn with_clock(
        settings: Settings,
        definitions: Arc<Definitions>,
        clock: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            definitions: ArcSwap::new(definitions),
            redefined: Bell::default(),
            moment: AtomicU64::new(0),
            settings,
            wishes: Default::default(),
            tallies: Tallies::default(),
            clock: Box::new(clock),
        }
    }

    /// Reserves rows, if that is surely right. The caller settles, releases or doubts what it was granted, without a limit too.
    pub fn try_reserve(&self, workspace: WorkspaceId, resource: ResourceId, rows: u64) -> Answer {
        self.with((workspace, resource), |slot| {
            slot.touched = true;
            slot.account.try_reserve(rows)
        })
    }

    /// The meter said `to` where `from` was reserved. What was reserved too much is given back; what nobody could stop is
    /// booked, beyond the limit too.
    pub fn adjust(&self, workspace: WorkspaceId, resource: ResourceId, from: u64, to: u64) -> Adjusted {
        let debt = self.with((workspace, resource), |slot| {
            if to <= from {
                slot.account.release(from - to);
                slot.ring();
                return Some(0);
            }
            slot.account.force(to - from)
        });
        match debt {
            Some(0) => Adjusted::Fits,
            Some(rows) => {
                self.tallies.note(resource, |tally| tally.debt_rows += rows);
                Adjusted::Debt(rows)
            }
            None => {
                // If it is a debt, the count tells.
                self.wish((workspace, resource));
                Adjusted::Unsure
            }
        }
    }

    /// A transaction was committed.
    pub fn commit(&self, workspace: WorkspaceId, resource: ResourceId, settlement: Settlement) -> Option<Warning> {
        let Settlement { reserved, credited, since } = settlement;
        let (warning, to_save) = self.with((workspace, resource), |slot| {
            slot.touched = true;
            let warning = slot.account.settle(reserved, credited, since);
            slot.ring();
            (warning, slot.account.has_unsaved() && !slot.is_wished)
        });
        if to_save {
            self.note_wish((workspace, resource));
        }
        warning
    }

    /// What was reserved is given back: the transaction, or the part of it since a savepoint, was rolled back.
    pub fn release(&self, workspace: WorkspaceId, resource: ResourceId, reserved: u64) {
        self.with((workspace, resource), |slot| {
            slot.account.release(reserved);
            slot.ring();
        });
    }

    /// Something isn't known any more.
    pub fn doubt(&self, workspace: WorkspaceId, resource: ResourceId, doubt: Doubt) {
        let now = clock::now();
        let to_save = self.with((workspace, resource), |slot| {
            slot.account.doubt(doubt, now);
            slot.ring();
            slot.account.has_unsaved()
        });
        if to_save {
            self.note_wish((workspace, resource));
        }
    }

    /// A moment of the books, for [`Settlement::since`].
    pub fn moment(&self) -> Moment {
        Moment(self.moment.load(Ordering::SeqCst))
    }

    /// As if a count of some other account had arrived.
    #[cfg(test)]
    pub(crate) fn pass_moment(&self) {
        self.moment.fetch_add(1, Ordering::SeqCst);
    }

    /// Other definitions hold from now on. What is known of workspaces that aren't there any more is forgotten.
    pub fn define(&self, definitions: Arc<Definitions>, is_known: impl Fn(WorkspaceId) -> bool) {
        let changed = **self.definitions.load() != *definitions;
        // Whoever makes an account from here on reads the new ones, and the others are gone through below.
        self.definitions.store(definitions.clone());
        let now = (self.clock)();
        for shard in &self.shards {
            shard.0.lock().retain(|(workspace, resource), slot| {
                let defined = definitions.resource(*resource);
                if changed {
                    slot.account.define(
                        definitions.limit(*workspace, *resource),
                        defined.and_then(|defined| defined.per),
                        now,
                    );
                    slot.ring();
                }
                let is_wanted = defined.is_some() && is_known(*workspace);
                is_wanted || slot.listeners > 0 || slot.is_wished || !slot.account.is_idle()
            });
        }
        self.redefined.ring();
    }

    /// The definitions that hold.
    pub fn definitions(&self) -> Arc<Definitions> {
        self.definitions.load_full()
    }

    /// Hears of new definitions.
    pub(super) fn hear_definitions(&self) -> Ear {
        self.redefined.listen()
    }

    /// Whether anything was ever asked about an account.
    pub fn is_known(&self, workspace: WorkspaceId, resource: ResourceId) -> bool {
        let key = (workspace, resource);
        self.shard(key).lock().contains_key(&key)
    }

    /// The name of a resource.
    pub fn name(&self, resource: ResourceId) -> Arc<str> {
        match self.definitions.load().resource(resource) {
            Some(defined) => defined.name.clone(),
            None => format!("resource {}", resource.0).into(),
        }
    }

    /// What is known of a workspace, by resource. See [`Accounts::counted_usage`] for what is counted first.
    pub fn usage(&self, workspace: WorkspaceId) -> Vec<Usage> {
        let definitions = self.definitions();
        let usage = definitions.resources().iter().map(|resource| {
            self.with((workspace, resource.id), |slot| Usage {
                resource: resource.id,
                name: resource.name.clone(),
                limit: slot.account.limit(),
                used: slot.account.used(),
                reserved: slot.account.reserved(),
                exact: slot.account.is_exact(),
                resets_at: slot.account.window().map(Window::resets_at),
            })
        });
        usage.collect()
    }

    /// The counters.
    pub const fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// Does something with an account, which is made if it isn't there.
    pub(super) fn with<T>(&self, key: Key, act: impl FnOnce(&mut Slot) -> T) -> T {
        let mut shard = self.shard(key).lock();
        let slot = shard.entry(key).or_insert_with(|| self.open(key));
        if slot.account.is_flow() {
            slot.account.turn((self.clock)());
        }
        act(slot)
    }

    fn shard(&self, (workspace, ResourceId(resource)): Key) -> &Mutex<HashMap<Key, Slot, ahash::RandomState>> {
        // Ids needn't be random: each bit must count.
        let (high, low) = workspace.uuid().as_u64_pair();
        let mixed =
            (high ^ low.rotate_left(32) ^ u64::from(resource.cast_unsigned())).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.shards[usize::try_from(mixed >> 32).unwrap_or_default() % SHARDS].0
    }

    fn open(&self, (workspace, resource): Key) -> Slot {
        let definitions = self.definitions.load();
        let per = definitions.resource(resource).and_then(|defined| defined.per);
        Slot {
            account: Account::new(definitions.limit(workspace, resource), per, (self.clock)()),
            bell: None,
            listeners: 0,
            is_wished: false,
            not_before: None,
            counted: None,
            touched: false,
        }
    }
}

impl Slot {
    /// Hears of every change from now on, until [`Self::stop_listening`].
    pub(super) fn listen(&mut self) -> Ear {
        self.listeners += 1;
        self.bell.get_or_insert_default().listen()
    }

    pub(super) fn stop_listening(&mut self) {
        self.listeners = self.listeners.saturating_sub(1);
        if self.listeners == 0 {
            self.bell = None;
        }
    }

    /// Something has changed for those who wait.
    pub(super) fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }
}

#[cfg(test)]
mod tests;
