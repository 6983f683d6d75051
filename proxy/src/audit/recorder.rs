//! Where events are handed in. Nobody waits here: events are queued for the one thread that writes, and whoever must know
//! that they are on disk is given a ticket.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rand::Rng as _;
use serde_json::json;
use tokio::sync::{Notify, oneshot, watch};

use super::event::{Client, Event, EventType};
use super::pace::{ENOUGH, Who};
use super::parcel::Handover;
use super::segments::{self, Shelf};
use super::settings::Settings;
use super::shipper::{Shipper, Sink};
use super::spool::Spool;
use super::storage::{Disk, Storage};
use super::timestamp;
use super::writer::Writer;
use crate::domain::{Fault, Origin, SqlState, clock};

/// Events that nobody waits for are queued up to this number; one more is counted as lost.
pub const QUEUED_EVENTS_MAX: usize = 65_536;
/// The same for those that somebody waits for; one more is refused.
pub const QUEUED_TICKETS_MAX: usize = 65_536;

/// Where events are handed in. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    shared: Option<Arc<Shared>>,
}

/// What the threads of one trail share.
pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    pub(super) woken: Condvar,
    /// So many wait for the disk that it needn't wait for more.
    pub(super) enough: Condvar,
    /// Rung when there is something new to ship.
    pub(super) saved: Notify,
    /// What of this stream is on disk, for whoever ships it.
    pub(super) handover: Arc<Handover>,
    pub(super) failing: AtomicBool,
    pub(super) counters: Counters,
}

/// What waits for the writing thread.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) items: Vec<Item>,
    pub(super) events: usize,
    pub(super) tickets: usize,
    pub(super) lost: u64,
    pub(super) closed: bool,
}

pub(super) enum Item {
    Relaxed(Event),
    Durable(Vec<Event>, oneshot::Sender<Result<(), Fault>>),
}

impl Item {
    /// Whose client waits for it, if one does.
    pub(super) fn who(&self) -> Option<Who> {
        match self {
            Self::Relaxed(_) => None,
            Self::Durable(events, _) => Some(who(events)),
        }
    }
}

/// A number for the client whose events these are: the same as long as it is there.
pub(super) fn who(events: &[Event]) -> Who {
    events.first().map_or(0, |event| Arc::as_ptr(&event.client).addr())
}

/// What the trail has done.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) recorded: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) alike: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) saved_seq: AtomicU64,
    pub(super) shipped_seq: AtomicU64,
    pub(super) shipped: AtomicU64,
    pub(super) ship_failures: AtomicU64,
    pub(super) spool_bytes: Arc<AtomicU64>,
}

/// What the trail has done, as numbers for whoever watches it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events that were taken into the chain.
    pub recorded: u64,
    /// Events that weren't: the queue or the spool was full.
    pub lost: u64,
    /// Events that were only counted, because there were too many alike from one source.
    pub alike: u64,
    /// Times the disk was asked to make sure.
    pub syncs: u64,
    /// Times the disk refused.
    pub failures: u64,
    /// Whether the last write failed.
    pub failing: bool,
    /// Bytes on disk.
    pub spool_bytes: u64,
    /// Records of this run that are on disk and not in the database yet.
    pub unshipped: u64,
    /// Records the database took from us.
    pub shipped: u64,
    /// Times the database didn't take any.
    pub ship_failures: u64,
}

impl Recorder {
    /// A recorder that keeps nothing.
    pub const fn off() -> Self {
        Self { shared: None }
    }

    /// Hands in an event that nobody waits for: it is on disk within 50 ms. When the queue is full it is counted as lost.
    pub fn record(&self, event: Event) {
        let Some(shared) = &self.shared else { return };
        let mut queue = shared.queue.lock();
        if queue.events >= QUEUED_EVENTS_MAX || queue.closed {
            queue.lost += 1;
            shared.counters.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.events += 1;
        queue.items.push(Item::Relaxed(event));
        // The thread looks by itself soon enough, unless it sleeps for good.
        if queue.items.len() == 1 {
            shared.woken.notify_one();
        }
    }

    /// Hands in events whose ticket is ready when they are on disk for sure. One sync serves all that were handed in meanwhile.
    /// An error says that they may not be: they are kept in memory and tried again, but a crash now would lose them.
    pub fn record_durably(&self, events: Vec<Event>) -> Ticket {
        let Some(shared) = &self.shared else { return Ticket(State::Ready(Ok(()))) };
        if events.is_empty() {
            return Ticket(State::Ready(Ok(())));
        }
        let mut queue = shared.queue.lock();
        if queue.tickets >= QUEUED_TICKETS_MAX || queue.closed {
            let lost = events.len() as u64;
            queue.lost += lost;
            shared.counters.lost.fetch_add(lost, Ordering::Relaxed);
            return Ticket(State::Ready(Err(fault("too many events wait to be written"))));
        }
        let (sender, receiver) = oneshot::channel();
        queue.tickets += 1;
        queue.items.push(Item::Durable(events, sender));
        shared.woken.notify_one();
        if queue.tickets == ENOUGH {
            shared.enough.notify_one();
        }
        Ticket(State::Waiting(receiver))
    }

    /// Whether the last write failed (the disk or the spool is full, …): whoever must record what it does may refuse to do it.
    pub fn is_failing(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.failing.load(Ordering::Relaxed))
    }

    /// What the trail has done; none when there is no trail.
    pub fn report(&self) -> Option<Report> {
        let shared = self.shared.as_ref()?;
        let counters = &shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(Report {
            recorded: get(&counters.recorded),
            lost: get(&counters.lost),
            alike: get(&counters.alike),
            syncs: get(&counters.syncs),
            failures: get(&counters.failures),
            failing: self.is_failing(),
            spool_bytes: get(&counters.spool_bytes),
            unshipped: get(&counters.saved_seq).saturating_sub(get(&counters.shipped_seq)),
            shipped: get(&counters.shipped),
            ship_failures: get(&counters.ship_failures),
        })
    }
}

/// The fault that a ticket of events which can't be written carries.
pub(super) fn fault(why: impl Into<String>) -> Fault {
    Fault::new(Origin::Proxy, SqlState::IO_ERROR, "the audit trail can't be written")
        .hint("the operator finds the cause in the proxy's log")
        .log(why)
}

/// Ready when the events are on disk for sure, or can't be for now.
#[derive(Debug)]
#[must_use = "the events are on disk when it is ready, not before"]
pub struct Ticket(State);

#[derive(Debug)]
enum State {
    Ready(Result<(), Fault>),
    Waiting(oneshot::Receiver<Result<(), Fault>>),
}

impl Future for Ticket {
    type Output = Result<(), Fault>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(result) => Poll::Ready(result.clone()),
            State::Waiting(receiver) => Pin::new(receiver)
                .poll(context)
                .map(|answer| answer.unwrap_or_else(|_| Err(fault("the thread that writes has ended")))),
        }
    }
}

/// A trail that is being written: its threads, and the recorder for everybody else.
pub struct Trail {
    recorder: Recorder,
    stream: Arc<str>,
    directory: PathBuf,
    settings: Settings,
    shelves: Vec<Shelf>,
    writer: Option<JoinHandle<()>>,
    shipper: Option<JoinHandle<()>>,
    stop: watch::Sender<Option<clock::Instant>>,
}

impl Trail {
    /// Begins a stream in the spool of this directory. `detail` says who writes it.
    ///
    /// # Errors
    /// The directory can't be made, locked or written.
    pub fn start(settings: &Settings, directory: PathBuf, detail: serde_json::Value) -> io::Result<Self> {
        Self::start_on(Disk, settings, directory, detail)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// As [`Trail::start`].
    pub fn start_on<S: Storage>(
        storage: S,
        settings: &Settings,
        directory: PathBuf,
        detail: serde_json::Value,
    ) -> io::Result<Self> {
        super::storage::make_directory(&directory)?;
        let stream: Arc<str> = stream_name().into();
        let own = Shelf::create(&directory, &stream)?;
        let mut shelves = Shelf::adopt(&directory, std::slice::from_ref(&stream))?;
        let counters = Counters::default();
        let used: u64 =
            shelves.iter().flat_map(|shelf| shelf.segments().unwrap_or_default()).map(|segment| segment.bytes).sum();
        counters.spool_bytes.store(used, Ordering::Relaxed);
        let mut spool = Spool::new(
            storage,
            own.directory.clone(),
            stream.clone(),
            counters.spool_bytes.clone(),
            settings.spool_bytes_max,
        );
        shelves.push(own);
        let handover = Arc::<Handover>::default();
        if settings.ship {
            spool.hand_over_to(handover.clone());
        }
        spool.push(Event { detail: Some(detail), ..Event::new(EventType::AuditStarted, Arc::new(Client::default())) });
        // Whether the directory can be written is known now, not at the first login.
        spool.save()?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            woken: Condvar::new(),
            enough: Condvar::new(),
            saved: Notify::new(),
            handover,
            failing: AtomicBool::new(false),
            counters,
        });
        shared.counters.saved_seq.store(spool.head().seq, Ordering::Relaxed);
        shared.counters.recorded.store(1, Ordering::Relaxed);
        let writer = Writer::new(shared.clone(), spool);
        let writer = std::thread::Builder::new().name("pgcordon-audit".to_owned()).spawn(move || writer.run())?;
        Ok(Self {
            recorder: Recorder { shared: Some(shared) },
            stream,
            directory,
            settings: settings.clone(),
            shelves,
            writer: Some(writer),
            shipper: None,
            stop: watch::Sender::new(None),
        })
    }

    /// Where events are handed in.
    pub fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    /// The stream that is written.
    pub const fn stream(&self) -> &Arc<str> {
        &self.stream
    }

    /// Brings what is on disk into the database from now on, what dead proxies left in this spool included.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn ship(&mut self, sink: impl Sink + 'static) -> io::Result<()> {
        let Some(shared) = self.recorder.shared.clone() else { return Ok(()) };
        let shelves = std::mem::take(&mut self.shelves);
        let stopped = self.stop.subscribe();
        let (directory, settings, stream) = (self.directory.clone(), self.settings.clone(), self.stream.clone());
        let run = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return tracing::error!(%error, "the audit trail isn't shipped: no runtime"),
            };
            let shipper = Shipper::new(shared, sink, directory, &settings, &stream, shelves);
            runtime.block_on(shipper.run(stopped));
        };
        self.shipper = Some(std::thread::Builder::new().name("pgcordon-ship".to_owned()).spawn(run)?);
        Ok(())
    }

    /// Ends the stream: everything that was handed in is on disk when this returns, and in the database if that takes it
    /// within `grace`. Blocks.
    pub fn stop(mut self, grace: Duration) {
        self.recorder.record(Event::new(EventType::AuditStopped, Arc::new(Client::default())));
        self.close(grace);
    }

    fn close(&mut self, grace: Duration) {
        if let Some(shared) = &self.recorder.shared {
            shared.queue.lock().closed = true;
            shared.woken.notify_one();
        }
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
        self.stop.send_replace(Some(clock::now() + grace));
        if let Some(shipper) = self.shipper.take() {
            let _ = shipper.join();
        }
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

/// A name that sorts by time and that no other start has.
fn stream_name() -> String {
    let time = timestamp::write(clock::unix_micros());
    let digits: String = time.chars().take(19).filter(char::is_ascii_digit).collect();
    format!("{digits}-{:012x}", rand::rng().random::<u64>() >> 16)
}

/// Who writes a stream: for its first record.
pub fn provenance() -> serde_json::Value {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    json!({ "program": concat!("pgcordon ", env!("CARGO_PKG_VERSION")), "host": host, "pid": std::process::id() })
}

/// The bytes of all segments in a directory, for tests and reports.
///
/// # Errors
/// The directory can't be read.
pub fn spool_bytes(directory: &std::path::Path) -> io::Result<u64> {
    let mut sum = 0;
    for stream in segments::streams(directory)? {
        sum += segments::segments(&directory.join(stream))?.iter().map(|segment| segment.bytes).sum::<u64>();
    }
    Ok(sum)
}

#[cfg(test)]
mod tests;
