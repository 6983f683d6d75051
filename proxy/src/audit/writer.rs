//! The one thread that writes. It takes all that is queued, links it, writes it at once and, when somebody waits or time is
//! up, syncs once for all. When many write it lets some more of them come first ([`Pace`]).

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use super::event::{Client, Event, EventType, Outcome, Severity};
use super::flood::Flood;
use super::pace::{ENOUGH, Pace};
use super::recorder::{Item, Shared, fault, who};
use super::spool::{Saved, Spool};
use super::storage::Storage;
use crate::domain::Fault;
use crate::domain::clock::{self, Instant};

/// What nobody waits for is on disk after this time at the latest.
const RELAXED: Duration = Duration::from_millis(50);
/// After the disk refused it is tried again after this time.
const RETRY: Duration = Duration::from_millis(100);
/// How often counted events are looked through.
const SUMMARIES: Duration = Duration::from_secs(1);
/// How often a thread that is closed tries a disk that refuses, before it gives up.
const LAST_TRIES: u32 = 5;

pub(super) struct Writer<S: Storage> {
    shared: Arc<Shared>,
    spool: Spool<S>,
    flood: Flood,
    pace: Pace,
    /// When the oldest line that isn't synced must be.
    due: Option<Instant>,
    /// Events that were lost and aren't told in the trail yet.
    lost: u64,
}

type Sender = oneshot::Sender<Result<(), Fault>>;

impl<S: Storage> Writer<S> {
    pub(super) fn new(shared: Arc<Shared>, spool: Spool<S>) -> Self {
        Self { shared, spool, flood: Flood::default(), pace: Pace::new(clock::now()), due: None, lost: 0 }
    }

    /// Writes until the queue is closed and everything is on disk.
    pub(super) fn run(mut self) {
        let (mut items, mut tickets) = (Vec::new(), Vec::new());
        let mut last_tries = 0;
        loop {
            let closed = self.wait(&mut items);
            let now = clock::now();
            for item in items.drain(..) {
                self.take(item, now, &mut tickets);
            }
            for event in self.flood.summaries(now, closed) {
                self.push(event);
            }
            let done = self.put_on_disk(now, closed || !tickets.is_empty());
            let done = done.map_err(|error| fault(error.to_string()));
            for (ticket, kept) in tickets.drain(..) {
                let told = if kept { done.clone() } else { Err(fault("too many events wait for the disk")) };
                let _ = ticket.send(told);
            }
            if !closed {
                continue;
            }
            last_tries += 1;
            if last_tries == LAST_TRIES || (done.is_ok() && !self.spool.has_unsaved()) {
                return;
            }
            if done.is_err() {
                std::thread::sleep(RETRY);
            }
        }
    }

    /// Waits for events, or until something is due. Whether the queue is closed.
    fn wait(&mut self, items: &mut Vec<Item>) -> bool {
        let counting = self.flood.is_counting().then(|| clock::now() + SUMMARIES);
        let until = [self.due, counting].into_iter().flatten().min();
        let mut queue = self.shared.queue.lock();
        while queue.items.is_empty() && !queue.closed {
            match until {
                Some(until) if self.shared.woken.wait_until(&mut queue, until).timed_out() => break,
                Some(_) => {}
                None => self.shared.woken.wait(&mut queue),
            }
        }
        let until_due = self.due.map_or(RELAXED, |due| due.saturating_duration_since(clock::now()));
        // Of more than enough nobody is looked at one by one.
        let few = if queue.tickets < ENOUGH { &queue.items[..] } else { &[] };
        let now = clock::now();
        let gather = self.pace.gather(few.iter().filter_map(Item::who), now).min(until_due);
        if !queue.closed && !gather.is_zero() {
            let until = now + gather;
            while queue.tickets < ENOUGH && !self.shared.enough.wait_until(&mut queue, until).timed_out() {}
            self.pace.gathered(queue.tickets);
        }
        std::mem::swap(&mut queue.items, items);
        (queue.events, queue.tickets) = (0, 0);
        self.lost += std::mem::take(&mut queue.lost);
        queue.closed
    }

    fn take(&mut self, item: Item, now: Instant, tickets: &mut Vec<(Sender, bool)>) {
        match item {
            Item::Relaxed(event) => {
                tell(&event);
                match self.flood.admit(event, now) {
                    Some(event) => drop(self.push(event)),
                    None => drop(self.shared.counters.alike.fetch_add(1, Ordering::Relaxed)),
                }
            }
            Item::Durable(events, ticket) => {
                self.pace.came(who(&events), now);
                events.iter().for_each(tell);
                let count = events.len();
                let kept = events.into_iter().filter_map(|event| self.push(event).then_some(())).count();
                tickets.push((ticket, kept == count));
            }
        }
    }

    /// Into the chain, unless too much waits for a disk that refuses.
    fn push(&mut self, event: Event) -> bool {
        let counters = &self.shared.counters;
        if self.spool.is_overfull() {
            self.lost += 1;
            counters.lost.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        counters.recorded.fetch_add(1, Ordering::Relaxed);
        self.spool.push(event);
        true
    }

    fn put_on_disk(&mut self, now: Instant, must: bool) -> io::Result<()> {
        if !self.spool.has_unsaved() {
            self.due = None;
            return Ok(());
        }
        let was_failing = self.shared.failing.load(Ordering::Relaxed);
        let is_due = self.due.is_some_and(|due| due <= now);
        if was_failing && !is_due {
            // What the disk refused waits for its next try, and those who ask meanwhile don't.
            return Err(io::Error::other("the disk refused a moment ago"));
        }
        let sync = must || is_due;
        match if sync { self.spool.save() } else { self.spool.write() } {
            Ok(saved) => {
                if sync {
                    self.saved(was_failing);
                } else if self.due.is_none() {
                    self.due = Some(now + RELAXED);
                }
                if saved == Saved::AfterRemoval {
                    self.removed();
                }
                Ok(())
            }
            Err(error) => {
                self.refused(&error, was_failing, now);
                Err(error)
            }
        }
    }

    fn saved(&mut self, was_failing: bool) {
        let counters = &self.shared.counters;
        counters.syncs.fetch_add(1, Ordering::Relaxed);
        counters.saved_seq.store(self.spool.head().seq, Ordering::Relaxed);
        self.due = None;
        if was_failing {
            self.shared.failing.store(false, Ordering::Relaxed);
            tracing::warn!("the audit trail is written again");
        }
        self.shared.saved.notify_one();
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            tracing::error!(lost, "audit events were lost: more came than could be kept");
            self.note(json!({ "events": lost, "why": "more came than could be kept in memory or on disk" }));
        }
    }

    fn removed(&mut self) {
        tracing::error!("a segment of the audit trail was removed while it was written: see audit.spool_dir");
        self.note(json!({ "why": "a segment was removed while it was written" }));
    }

    /// Records something about the trail itself.
    fn note(&mut self, detail: serde_json::Value) {
        let event = Event::new(EventType::AuditEventsLost, Arc::new(Client::default()));
        self.push(Event { outcome: Outcome::Failed, detail: Some(detail), ..event });
        self.due = Some(clock::now());
    }

    fn refused(&mut self, error: &io::Error, was_failing: bool, now: Instant) {
        self.shared.counters.failures.fetch_add(1, Ordering::Relaxed);
        self.due = Some(now + RETRY);
        if !was_failing {
            self.shared.failing.store(true, Ordering::Relaxed);
            tracing::error!(%error, "the audit trail can't be written; it is tried again until it can");
        }
    }
}

/// What is critical doesn't wait for anybody to look at the trail. Strings are written with escapes and stay on their line.
fn tell(event: &Event) {
    if event.severity == Severity::Critical {
        let client = &event.client;
        tracing::error!(
            event = event.kind.as_str(),
            outcome = event.outcome.as_str(),
            workspace = event.workspace.map(tracing::field::display),
            key = event.key_id.as_ref().map(crate::domain::KeyId::as_str),
            relation = event.relation.as_deref(),
            addr = client.addr.map(tracing::field::display),
            "a critical event was recorded"
        );
    }
}

#[cfg(test)]
mod tests;
