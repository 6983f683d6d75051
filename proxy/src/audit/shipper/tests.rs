use std::collections::BTreeMap;
use std::path::Path;

use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::audit::recorder::Trail;
use crate::audit::segments;
use crate::audit::storage::fake::FakeDisk;
use crate::audit::{Client, Event, EventType};

/// A database for tests, which takes records by the same rules as cordon.audit_append.
#[derive(Clone, Default)]
struct Database(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    streams: BTreeMap<String, Vec<Row>>,
    gaps: Vec<(u64, u64)>,
    down: bool,
    /// What is taken is taken, but the answer doesn't arrive.
    deaf: bool,
}

impl Database {
    fn rows(&self) -> Vec<u64> {
        self.0.lock().streams.values().flatten().filter_map(|row| row.rows).collect()
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock());
    }
}

fn end(rows: &[Row]) -> Head {
    rows.last().map(|row| Head { seq: row.seq, hash: row.hash }).unwrap_or_default()
}

impl Sink for Database {
    async fn head(&mut self, stream: &str) -> Result<Head, SinkError> {
        let state = self.0.lock();
        if state.down {
            return Err(SinkError("down".to_owned()));
        }
        Ok(state.streams.get(stream).map(|rows| end(rows)).unwrap_or_default())
    }

    async fn append(&mut self, stream: &str, parcel: &Parcel, after_gap: bool) -> Result<Appended, SinkError> {
        let mut state = self.0.lock();
        if state.down {
            return Err(SinkError("down".to_owned()));
        }
        let rows = parcel.rows().expect("a parcel is made of records");
        let kept = state.streams.entry(stream.to_owned()).or_default();
        let had = end(kept);
        for row in rows.iter().filter(|row| row.seq <= had.seq) {
            if kept.iter().any(|known| known.seq == row.seq && known.hash != row.hash) {
                return Ok(Appended::Fork(row.seq));
            }
        }
        let fresh: Vec<Row> = rows.iter().filter(|row| row.seq > had.seq).cloned().collect();
        let mut gap = None;
        if let Some(first) = fresh.first()
            && (first.seq != had.seq + 1 || first.prev_hash != had.hash)
        {
            if !after_gap {
                return Ok(Appended::Gap(had));
            }
            gap = Some((had.seq + 1, first.seq));
        }
        for pair in fresh.windows(2) {
            assert_eq!((pair[0].seq + 1, pair[0].hash), (pair[1].seq, pair[1].prev_hash), "a batch is linked");
        }
        kept.extend(fresh);
        let now = end(kept);
        state.gaps.extend(gap);
        if std::mem::take(&mut state.deaf) {
            return Err(SinkError("the connection was lost".to_owned()));
        }
        Ok(Appended::Through(now))
    }
}

fn event(number: u64) -> Event {
    Event { rows: Some(number), ..Event::new(EventType::ResourceCreated, Arc::new(Client::default())) }
}

fn record(trail: &Trail, numbers: std::ops::Range<u64>) {
    let ticket = trail.recorder().record_durably(numbers.map(event).collect());
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(ticket).expect("recorded");
}

fn start(place: &Path, settings: &Settings) -> Trail {
    Trail::start(settings, place.to_owned(), json!({})).expect("a trail")
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = clock::now() + Duration::from_secs(30);
    while !holds() {
        assert!(clock::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn eager() -> Settings {
    Settings { spool_keep_bytes: 0, ..Settings::default() }
}

#[test]
fn a_database_that_is_away_gets_everything_once_and_in_order_when_it_is_back() {
    let (place, database) = (tempfile::tempdir().expect("a directory"), Database::default());
    database.set(|state| state.down = true);
    let mut trail = start(place.path(), &Settings::default());
    trail.ship(database.clone()).expect("a thread");
    record(&trail, 0..1500);
    until("it was tried", || trail.recorder().report().expect("a report").ship_failures > 0);
    database.set(|state| (state.down, state.deaf) = (false, true));
    record(&trail, 1500..3000);
    until("all is there", || database.rows().len() == 3000);
    assert!(database.rows().is_sorted() && database.0.lock().gaps.is_empty());
    until("it is counted", || trail.recorder().report().expect("a report").unshipped == 0);
    trail.stop(Duration::from_secs(30));
    let types: Vec<String> =
        database.0.lock().streams.values().flatten().map(|row| row.event_type.to_string()).collect();
    assert_eq!(
        (types.first().map(String::as_str), types.last().map(String::as_str)),
        (Some("AUDIT_STARTED"), Some("AUDIT_STOPPED"))
    );
}

#[test]
fn what_a_dead_proxy_left_is_shipped_by_the_next_one_and_only_then_removed() {
    let (place, database) = (tempfile::tempdir().expect("a directory"), Database::default());
    let first = start(place.path(), &eager());
    let (dead, recorder) = (first.stream().clone(), first.recorder());
    record(&first, 0..100);
    drop((first, recorder));
    database.set(|state| state.down = true);
    let mut second = start(place.path(), &eager());
    second.ship(database.clone()).expect("a thread");
    record(&second, 100..200);
    until("it was tried", || second.recorder().report().expect("a report").ship_failures > 1);
    assert!(place.path().join(&*dead).is_dir(), "the database doesn't have it");
    database.set(|state| state.down = false);
    until("all is there", || database.rows().len() == 200);
    until("its space is given back", || !place.path().join(&*dead).exists());
    assert!(place.path().join(&**second.stream()).is_dir(), "the stream that is written stays");
    let own = segments::segments(&place.path().join(&**second.stream())).expect("segments");
    let report = || second.recorder().report().expect("a report").spool_bytes;
    until("its bytes are counted", || report() == own.iter().map(|segment| segment.bytes).sum::<u64>());
}

#[test]
fn a_database_that_goes_back_in_time_gets_again_what_the_spool_still_has() {
    let (place, database) = (tempfile::tempdir().expect("a directory"), Database::default());
    let mut trail = start(place.path(), &Settings::default());
    trail.ship(database.clone()).expect("a thread");
    record(&trail, 0..100);
    until("all is there", || database.rows().len() == 100);
    // A failover to a copy that lags behind: the connection is lost, and with it what came last.
    database.set(|state| {
        state.streams.values_mut().for_each(|rows| rows.truncate(40));
        state.down = true;
    });
    record(&trail, 100..110);
    until("it was noticed", || trail.recorder().report().expect("a report").ship_failures > 0);
    database.set(|state| state.down = false);
    until("all is there", || database.rows().len() == 110);
    assert!(database.rows().is_sorted() && database.0.lock().gaps.is_empty());
}

#[test]
fn what_is_in_neither_is_noted_and_doesnt_stop_the_rest() {
    let (place, database) = (tempfile::tempdir().expect("a directory"), Database::default());
    let first = start(place.path(), &eager());
    let dead = first.stream().clone();
    record(&first, 0..20);
    drop(first);
    // Somebody took lines out of the spool before they were shipped, and damaged another.
    let segment = segments::segments(&place.path().join(&*dead)).expect("segments").remove(0).path;
    let text = std::fs::read_to_string(&segment).expect("a segment");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[14] = lines[14].replace("RESOURCE", "XESOURCE").replace(':', ";");
    lines.drain(5..8);
    std::fs::write(&segment, lines.join("\n") + "\n").expect("written");
    let mut second = start(place.path(), &eager());
    second.ship(database.clone()).expect("a thread");
    until("the rest is there", || database.rows().len() == 16);
    assert_eq!(database.0.lock().gaps, [(6, 9), (15, 16)]);
    drop(second);
}

#[test]
fn a_stream_that_somebody_else_writes_too_is_left_alone_and_others_go_on() {
    let (place, database) = (tempfile::tempdir().expect("a directory"), Database::default());
    let first = start(place.path(), &eager());
    let dead = first.stream().clone();
    record(&first, 0..20);
    drop(first);
    let segment = segments::segments(&place.path().join(&*dead)).expect("segments").remove(0).path;
    let rows: Vec<Row> = segments::rows(&segment).expect("rows").into_iter().flatten().collect();
    let mut other = rows[..5].to_vec();
    other[4].hash = crate::audit::Hash([7; 32]);
    database.set(|state| drop(state.streams.insert(dead.to_string(), other)));
    let mut second = start(place.path(), &eager());
    second.ship(database.clone()).expect("a thread");
    record(&second, 100..110);
    until("the other is shipped", || database.rows().iter().filter(|number| **number >= 100).count() == 10);
    assert_eq!(database.0.lock().streams[&*dead].len(), 5);
    drop(second);
    assert!(segment.exists(), "nothing is thrown away");
}

#[test]
fn what_was_just_written_isnt_read_back_from_the_disk() {
    let (place, database, disk) = (tempfile::tempdir().expect("a directory"), Database::default(), FakeDisk::default());
    database.set(|state| state.down = true);
    // On this disk nothing is found by reading.
    let mut trail = Trail::start_on(disk, &Settings::default(), place.path().to_owned(), json!({})).expect("a trail");
    trail.ship(database.clone()).expect("a thread");
    record(&trail, 0..500);
    until("it was tried", || trail.recorder().report().expect("a report").ship_failures > 0);
    database.set(|state| state.down = false);
    (5..10).for_each(|part| record(&trail, part * 100..part * 100 + 100));
    until("all is there", || database.rows().len() == 1000);
    assert!(database.rows().is_sorted() && database.0.lock().gaps.is_empty());
    trail.stop(Duration::from_secs(30));
    assert_eq!(database.0.lock().streams.values().flatten().last().map(|row| &*row.event_type), Some("AUDIT_STOPPED"));
}

#[test]
fn what_is_more_than_memory_holds_is_read_from_the_disk_and_the_rest_follows() {
    let (place, database) = (tempfile::tempdir().expect("a directory"), Database::default());
    database.set(|state| state.down = true);
    let mut trail = start(place.path(), &Settings::default());
    trail.ship(database.clone()).expect("a thread");
    let many = 8 * crate::audit::parcel::PARCEL_ROWS as u64;
    (0..many / 500).for_each(|part| record(&trail, part * 500..part * 500 + 500));
    until("it was tried", || trail.recorder().report().expect("a report").ship_failures > 0);
    database.set(|state| state.down = false);
    record(&trail, many..many + 10);
    until("all is there", || database.rows().len() as u64 == many + 10);
    assert!(database.rows().is_sorted() && database.0.lock().gaps.is_empty());
}
