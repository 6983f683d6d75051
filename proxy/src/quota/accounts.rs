//! The books of all workspaces, shared by all cores. Everything here is quick and waits for nothing: what must be waited
//! for is in `decide`, and what must be counted is wished for here and done by the bookkeeper.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::bell::{Bell, Ear};
use super::escrow::{Account, Answer, Doubt, Moment, Warning};
use super::resource::{Definitions, Limit, ResourceId};
use super::settings::Settings;
use super::tally::Tallies;
use super::truth::FlowRows;
use super::window::Window;
use crate::domain::WorkspaceId;
use crate::domain::clock::{self, Instant};

/// How many locks the books are spread over.
const SHARDS: usize = 64;
/// For how many times as long as a count took no other one of the same books begins: a workspace at its limit that tries
/// without end costs a fifth of one connection.
const REST: u32 = 4;
/// And for how long at most.
const REST_MAX: Duration = Duration::from_secs(1);

pub(super) type Key = (WorkspaceId, ResourceId);

/// The books of all workspaces.
pub struct Accounts {
    shards: Box<[Shard]>,
    definitions: ArcSwap<Definitions>,
    redefined: Bell,
    /// How many counts have arrived.
    moment: AtomicU64,
    pub(super) settings: Settings,
    /// What is to be counted: of stocks, of flows.
    wishes: [Wishes; 2],
    tallies: Tallies,
    clock: Box<dyn Fn() -> i64 + Send + Sync>,
}

/// A lock, alone on its cache lines.
#[derive(Default)]
#[repr(align(128))]
struct Shard(Mutex<HashMap<Key, Slot, ahash::RandomState>>);

/// Books that somebody wants counted, each once.
#[derive(Default)]
struct Wishes {
    queue: Mutex<VecDeque<Key>>,
    bell: Bell,
}

/// An account and who waits for it.
pub(super) struct Slot {
    pub(super) account: Account,
    bell: Option<Arc<Bell>>,
    listeners: usize,
    is_wished: bool,
    /// A count that begins earlier would be one too many.
    not_before: Option<Instant>,
    counted: Option<Instant>,
    touched: bool,
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
    /// It was booked, and whether it fits isn't known: the books must be counted.
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
            None => Adjusted::Unsure,
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

/// What must be counted.
impl Accounts {
    /// Wants an account counted. It is, soon and once, however often it is wanted meanwhile.
    pub(super) fn wish(&self, key: Key) {
        let is_flow = self.note_wish(key);
        self.wishes[usize::from(is_flow)].bell.ring();
    }

    /// Wants it without haste. Returns whether it is a flow.
    fn note_wish(&self, key: Key) -> bool {
        let (is_flow, wished_before) =
            self.with(key, |slot| (slot.account.is_flow(), std::mem::replace(&mut slot.is_wished, true)));
        if !wished_before {
            self.wishes[usize::from(is_flow)].queue.lock().push_back(key);
        }
        is_flow
    }

    /// Hears of wishes.
    pub(super) fn hear_wishes(&self, of_flows: bool) -> Ear {
        self.wishes[usize::from(of_flows)].bell.listen()
    }

    /// What is wished for. Each is owed [`Self::count_begins`].
    pub(super) fn take_wishes(&self, of_flows: bool) -> VecDeque<Key> {
        std::mem::take(&mut *self.wishes[usize::from(of_flows)].queue.lock())
    }

    /// When an account may be counted again.
    pub(super) fn may_count_at(&self, key: Key) -> Option<Instant> {
        self.with(key, |slot| slot.not_before)
    }

    /// A count begins now.
    pub(super) fn count_begins(&self, key: Key) -> u64 {
        self.with(key, |slot| slot.count_begins(clock::now()))
    }

    /// Accounts in use whose count is older than this. Those that aren't in use are forgotten instead: their next use
    /// counts them.
    pub(super) fn old(&self, age: Duration) -> Vec<Key> {
        let (mut old, now) = (Vec::new(), clock::now());
        for shard in &self.shards {
            for (key, slot) in shard.0.lock().iter_mut() {
                let is_old = slot.counted.is_some_and(|counted| now.duration_since(counted) >= age);
                if !is_old || slot.account.is_flow() || slot.account.limit().is_none() {
                    continue;
                }
                if slot.touched {
                    old.push(*key);
                } else {
                    slot.account.forget();
                    slot.counted = None;
                }
            }
        }
        old
    }

    /// A count ended.
    pub(super) fn count_ends(
        &self,
        key: Key,
        number: u64,
        outcome: Result<(u64, Option<Window>), String>,
        took: Duration,
    ) -> Option<Warning> {
        let failed = outcome.is_err();
        self.tallies.note(key.1, |tally| {
            tally.counts += 1;
            tally.failed_counts += u64::from(failed);
        });
        self.with(key, |slot| {
            let now = clock::now();
            slot.not_before = Some(now + (took * REST).min(REST_MAX));
            let warning = match outcome {
                Ok((rows, window)) => {
                    slot.counted = Some(now);
                    slot.touched = false;
                    let moment = Moment(self.moment.fetch_add(1, Ordering::SeqCst) + 1);
                    slot.account.count_arrives(number, rows, window, moment)
                }
                Err(why) => {
                    slot.account.count_fails(number, why);
                    None
                }
            };
            slot.ring();
            warning
        })
    }

    /// What of flows is to be recorded or read, that of each account in a row and its present window last.
    pub(super) fn take_flows(&self) -> Vec<FlowRows> {
        let mut batch = Vec::new();
        for key in self.take_wishes(true) {
            let (workspace, resource) = key;
            let unsaved = self.with(key, |slot| {
                slot.is_wished = false;
                slot.account.take_unsaved()
            });
            batch.extend(unsaved.into_iter().map(|(window, rows)| FlowRows { workspace, resource, window, rows }));
        }
        batch
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

    fn count_begins(&mut self, now: Instant) -> u64 {
        self.is_wished = false;
        self.account.count_begins(now)
    }

    /// Something has changed for those who wait.
    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }
}

#[cfg(test)]
mod tests;
