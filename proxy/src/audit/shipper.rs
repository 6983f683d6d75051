//! Brings what is on disk into the database, in order and each record once, and then gives the disk's space back.
//!
//! Where it stands it asks the database: the head that a stream has there is what must be there. So nothing has to be
//! remembered on this side, a batch whose answer was lost is simply offered again, and a database that goes back in time (a
//! failover, a restored backup) is given once more what the spool still has.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::chain::Head;
use super::parcel::{PARCEL_BYTES, PARCEL_ROWS, Parcel};
use super::recorder::Shared;
use super::row::Row;
use super::segments::{Reader, SegmentInfo, Shelf};
use super::settings::Settings;
use crate::domain::clock::{self, Instant};

/// How long it gathers after something new: one transaction for what came in this time.
const GATHER: Duration = Duration::from_millis(250);
/// How often it looks for streams that others left, and asks the database where they stand.
const LOOK: Duration = Duration::from_secs(10);
/// The first and the longest wait after the database refused.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Dead streams that are kept although the database has all of them.
const SHELVES_KEPT: usize = 64;

/// Where records go.
pub trait Sink: Send {
    /// Where a stream ends there; the zero head for one that isn't there.
    fn head(&mut self, stream: &str) -> impl Future<Output = Result<Head, SinkError>> + Send;

    /// Takes records that follow each other, all or none of them. Those it has already are no error, if they are the same.
    /// With `after_gap` what is missing before them is no error either, but noted for good.
    fn append(
        &mut self,
        stream: &str,
        parcel: &Parcel,
        after_gap: bool,
    ) -> impl Future<Output = Result<Appended, SinkError>> + Send;
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// All of it is there, for good. This is the stream's head now.
    Through(Head),
    /// Nothing was taken: the first record doesn't follow this head.
    Gap(Head),
    /// Nothing was taken: there is another record of this number. Somebody else writes this stream.
    Fork(u64),
}

/// The sink can't for now. It is tried again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);

/// One stream on its way.
struct Consignment {
    shelf: Shelf,
    /// The stream of this process: its last segment is still written.
    own: bool,
    reader: Option<Reader>,
    /// Read, and not taken yet.
    batch: Parcel,
    shipped: u64,
    /// Nothing more can be done for it: it is told, and left on disk.
    stuck: bool,
}

/// Ships the streams of one spool.
pub(super) struct Shipper<K: Sink> {
    shared: Arc<Shared>,
    sink: K,
    directory: PathBuf,
    keep_bytes: u64,
    bytes_max: u64,
    streams: Vec<Consignment>,
    begin_with: usize,
}

impl<K: Sink> Shipper<K> {
    pub(super) fn new(
        shared: Arc<Shared>,
        sink: K,
        directory: PathBuf,
        settings: &Settings,
        own: &str,
        shelves: Vec<Shelf>,
    ) -> Self {
        let streams = shelves.into_iter().map(|shelf| {
            let own = *shelf.stream == *own;
            Consignment::new(shelf, own)
        });
        let (keep_bytes, bytes_max) = (settings.spool_keep_bytes, settings.spool_bytes_max);
        Self { shared, sink, directory, keep_bytes, bytes_max, streams: streams.collect(), begin_with: 0 }
    }

    /// Ships until it is told to stop, and then what is there until everything is or time is up.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<Option<Instant>>) {
        let mut back_off = BACK_OFF.0;
        let mut look_at = clock::now() + LOOK;
        loop {
            let stop_at = *stopped.borrow_and_update();
            let round = tokio::select! {
                round = self.round() => round,
                () = ends(stop_at) => return,
            };
            match round {
                Ok(()) if stop_at.is_some() => return,
                Ok(()) => {
                    back_off = BACK_OFF.0;
                    self.retire();
                    tokio::select! {
                        () = self.shared.saved.notified() => pause(GATHER, &mut stopped).await,
                        () = tokio::time::sleep_until(look_at.into()) => {}
                        _ = stopped.changed() => continue,
                    }
                }
                Err(error) => {
                    self.failed(&error, back_off);
                    match stop_at {
                        Some(at) if at <= clock::now() => return,
                        Some(_) => tokio::time::sleep(GATHER).await,
                        None => pause(back_off, &mut stopped).await,
                    }
                    back_off = (back_off * 2).min(BACK_OFF.1);
                }
            }
            if look_at <= clock::now() {
                look_at = clock::now() + LOOK;
                self.look_around();
            }
        }
    }

    /// Everything that is on disk, once. What the database refuses of one stream holds up no other; when it doesn't answer at
    /// all, the second to ask is the last. A round begins with another stream each time.
    async fn round(&mut self) -> Result<(), SinkError> {
        let mut refused = Ok(());
        if !self.streams.is_empty() {
            self.begin_with = (self.begin_with + 1) % self.streams.len();
        }
        let (before, from) = self.streams.split_at_mut(self.begin_with);
        for stream in from.iter_mut().chain(before).filter(|stream| !stream.stuck) {
            let shipped = loop {
                match stream.ship(&mut self.sink, &self.shared).await {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            match (shipped, &refused) {
                (Err(error), Ok(())) => refused = Err(error),
                (Err(error), Err(_)) => return Err(error),
                (Ok(()), _) => {}
            }
        }
        refused
    }

    fn failed(&mut self, error: &SinkError, back_off: Duration) {
        self.shared.counters.ship_failures.fetch_add(1, Ordering::Relaxed);
        if back_off == BACK_OFF.0 {
            tracing::error!(%error, "the audit trail isn't shipped; it stays in the spool and is tried again");
        }
        // It may have gone back in time meanwhile.
        self.streams.iter_mut().for_each(Consignment::ask_again);
    }

    /// Takes over what others left since, and asks the database again where everything stands.
    fn look_around(&mut self) {
        let known: Vec<Arc<str>> = self.streams.iter().map(|stream| stream.shelf.stream.clone()).collect();
        match Shelf::adopt(&self.directory, &known) {
            Ok(shelves) => {
                for shelf in shelves {
                    let bytes: u64 = shelf.segments().unwrap_or_default().iter().map(|segment| segment.bytes).sum();
                    self.shared.counters.spool_bytes.fetch_add(bytes, Ordering::Relaxed);
                    tracing::info!(stream = %shelf.stream, bytes, "ships what another proxy left in the spool");
                    self.streams.push(Consignment::new(shelf, false));
                }
            }
            Err(error) => tracing::error!(%error, "the audit spool can't be read"),
        }
        self.streams.iter_mut().for_each(Consignment::ask_again);
    }

    /// Gives back the space of what the database has, the oldest first, but for what is kept in case it goes back in time.
    fn retire(&mut self) {
        let used = &self.shared.counters.spool_bytes;
        let short = used.load(Ordering::Relaxed) > self.bytes_max / 4 * 3;
        let keep = if short { 0 } else { self.keep_bytes };
        self.streams.sort_by(|a, b| a.shelf.stream.cmp(&b.shelf.stream));
        let mut shipped: Vec<SegmentInfo> = self.streams.iter().flat_map(Consignment::retirable).collect();
        let mut kept: u64 = shipped.iter().map(|segment| segment.bytes).sum();
        let dead = self.streams.iter().filter(|stream| !stream.own && stream.is_through()).count();
        let mut too_many = dead.saturating_sub(SHELVES_KEPT);
        shipped.retain(|segment| {
            let goes = kept > keep || too_many > 0;
            if goes && std::fs::remove_file(&segment.path).is_ok() {
                kept -= segment.bytes;
                used.fetch_sub(segment.bytes, Ordering::Relaxed);
                too_many = too_many.saturating_sub(1);
                return false;
            }
            true
        });
        let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.streams)
            .into_iter()
            .partition(|stream| !stream.own && stream.shelf.segments().is_ok_and(|segments| segments.is_empty()));
        self.streams = stay;
        for stream in gone {
            let _ = stream.shelf.remove();
        }
    }
}

impl Consignment {
    fn new(shelf: Shelf, own: bool) -> Self {
        Self { shelf, own, reader: None, batch: Parcel::default(), shipped: 0, stuck: false }
    }

    fn ask_again(&mut self) {
        self.reader = None;
        self.batch = Parcel::default();
    }

    /// Offers one batch. False when there is nothing more for now.
    async fn ship<K: Sink>(&mut self, sink: &mut K, shared: &Shared) -> Result<bool, SinkError> {
        let disk = |error: std::io::Error| SinkError(format!("the audit spool can't be read: {error}"));
        let stream = self.shelf.stream.clone();
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let head = sink.head(&stream).await?;
                if head.seq < self.shipped {
                    tracing::warn!(%stream, had = self.shipped, has = head.seq, "the database went back in time: what the spool has is shipped again");
                }
                self.shipped = head.seq;
                // The last record it has is offered too, so that one that isn't ours is noticed.
                self.reader.insert(Reader::new(&self.shelf.directory, head.seq.max(1)))
            }
        };
        if self.batch.is_empty() {
            let handed_over = if self.own { shared.handover.take(reader.next()) } else { None };
            self.batch = match handed_over {
                Some(parcel) => {
                    reader.skip_to(parcel.last().map_or(reader.next(), |last| last.seq + 1));
                    parcel
                }
                // Nothing more of it is on disk for sure: it isn't looked for there.
                None if self.own && reader.next() > shared.counters.saved_seq.load(Ordering::Relaxed) => {
                    return Ok(false);
                }
                None => batch(reader, &self.shelf).map_err(disk)?,
            };
        }
        if self.batch.is_empty() {
            return Ok(false);
        }
        let mut appended = sink.append(&stream, &self.batch, false).await?;
        if let Appended::Gap(head) = appended {
            let first = self.batch.first().map_or(0, |first| first.seq);
            *reader = Reader::new(&self.shelf.directory, head.seq + 1);
            self.batch = batch(reader, &self.shelf).map_err(disk)?;
            let found = self.batch.first().map_or(0, |first| first.seq);
            if found != head.seq + 1 {
                tracing::error!(%stream, from = head.seq + 1, before = found.max(first), "audit records are neither in the database nor in the spool");
            }
            if self.batch.is_empty() {
                return Ok(false);
            }
            appended = sink.append(&stream, &self.batch, true).await?;
        }
        match appended {
            Appended::Through(head) => {
                let fresh = head.seq.saturating_sub(self.shipped);
                self.shipped = head.seq;
                self.batch = Parcel::default();
                shared.counters.shipped.fetch_add(fresh, Ordering::Relaxed);
                if self.own {
                    shared.counters.shipped_seq.store(head.seq, Ordering::Relaxed);
                }
                Ok(true)
            }
            Appended::Fork(seq) => {
                self.stuck = true;
                tracing::error!(
                    %stream, seq, directory = %self.shelf.directory.display(),
                    "the database has another record of this number: somebody else wrote this stream (a copied machine?), or it \
                     was tampered with. What is in the directory stays there; a restart begins a new stream"
                );
                Ok(false)
            }
            Appended::Gap(_) => Err(SinkError("the stream changed while it was shipped".to_owned())),
        }
    }

    /// Whether the database has all of it.
    fn is_through(&self) -> bool {
        self.reader.is_some() && self.batch.is_empty() && !self.stuck
    }

    /// The segments that the database has: those before the one that holds the next record, and for a dead stream that one too.
    fn retirable(&self) -> Vec<SegmentInfo> {
        if self.stuck {
            return Vec::new();
        }
        let mut segments = self.shelf.segments().unwrap_or_default();
        let last = segments.pop();
        let followed_by: Vec<u64> = segments.iter().skip(1).chain(&last).map(|segment| segment.first).collect();
        let mut retirable: Vec<SegmentInfo> = segments
            .into_iter()
            .zip(followed_by)
            .filter(|(_, next)| *next <= self.shipped + 1)
            .map(|(segment, _)| segment)
            .collect();
        retirable.extend(last.filter(|_| !self.own && self.is_through()));
        retirable
    }
}

/// The next records that follow each other. What comes after a break is read again, for the next batch.
fn batch(reader: &mut Reader, shelf: &Shelf) -> std::io::Result<Parcel> {
    let (mut rows, unreadable) = reader.read(PARCEL_ROWS, PARCEL_BYTES)?;
    if unreadable > 0 {
        let stream = &shelf.stream;
        tracing::error!(%stream, unreadable, "lines of the audit spool are damaged and can't be shipped");
    }
    let follows = |pair: &[Row]| matches!(pair, [a, b] if a.seq + 1 == b.seq && a.hash == b.prev_hash);
    if let Some(end) = rows.windows(2).position(|pair| !follows(pair)) {
        if let Some(after) = rows.get(end + 1) {
            *reader = Reader::new(&shelf.directory, after.seq);
        }
        rows.truncate(end + 1);
    }
    Ok(rows.as_slice().into())
}

/// Waits, but not when it is told to stop.
async fn pause(time: Duration, stopped: &mut watch::Receiver<Option<Instant>>) {
    let _ = tokio::time::timeout(time, stopped.changed()).await;
}

async fn ends(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
