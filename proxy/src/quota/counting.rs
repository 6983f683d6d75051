//! Which books are to be counted, and what a count brings. They are wished for by those who aren't sure, and counted by the
//! bookkeeper.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::accounts::{Accounts, Key};
use super::bell::{Bell, Ear};
use super::escrow::{Moment, Warning};
use super::truth::FlowRows;
use super::window::Window;
use crate::domain::clock::{self, Instant};

/// For how many times as long as a count took no other one of the same books begins: a workspace at its limit that tries
/// without end costs a fifth of one connection.
const REST: u32 = 4;
/// And for how long at most.
const REST_MAX: Duration = Duration::from_secs(1);

/// Books that somebody wants counted, each once.
#[derive(Default)]
pub(super) struct Wishes {
    queue: Mutex<VecDeque<Key>>,
    bell: Bell,
}

impl Accounts {
    /// Wants an account counted. It is, soon and once, however often it is wanted meanwhile.
    pub(super) fn wish(&self, key: Key) {
        let is_flow = self.note_wish(key);
        self.wishes[usize::from(is_flow)].bell.ring();
    }

    /// Wants it without haste. Returns whether it is a flow.
    pub(super) fn note_wish(&self, key: Key) -> bool {
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
        let now = clock::now();
        self.with(key, |slot| {
            slot.is_wished = false;
            slot.account.count_begins(now)
        })
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
        self.tallies().note(key.1, |tally| {
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
