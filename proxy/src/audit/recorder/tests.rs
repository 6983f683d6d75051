use std::pin::pin;
use std::task::Waker;

use super::*;
use crate::audit::row::Row;
use crate::audit::segments::lines;
use crate::audit::storage::fake::FakeDisk;
use crate::audit::verify::Copies;

fn start(disk: &FakeDisk, settings: &Settings) -> (tempfile::TempDir, Trail) {
    let place = tempfile::tempdir().expect("a directory");
    let trail = Trail::start_on(disk.clone(), settings, place.path().to_owned(), json!({})).expect("a trail");
    (place, trail)
}

fn event(number: u64) -> Event {
    Event { rows: Some(number), ..Event::new(EventType::ResourceCreated, Arc::new(Client::default())) }
}

/// What is on the disk for sure, whole and in order.
fn found(disk: &FakeDisk) -> Vec<Row> {
    let segments: Vec<_> = disk.after_crash(0).iter().map(|bytes| lines(bytes)).collect();
    let mut copies = Copies::default();
    let rows: Vec<Row> = segments.iter().flatten().flatten().cloned().collect();
    if let Some(first) = rows.first() {
        copies.take(&first.stream, segments);
    }
    assert_eq!(copies.findings, []);
    rows
}

fn wait(ticket: Ticket) -> Result<(), Fault> {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(ticket)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = clock::now() + Duration::from_secs(30);
    while !holds() {
        assert!(clock::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_ticket_is_ready_when_its_events_are_on_disk_for_sure() {
    let disk = FakeDisk::default();
    let (_place, trail) = start(&disk, &Settings::default());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (recorder, disk) = (trail.recorder(), &disk);
            scope.spawn(move || {
                for number in 0..50 {
                    let number = thread * 1000 + number;
                    wait(recorder.record_durably(vec![event(number), event(number + 500)])).expect("recorded");
                    let rows: Vec<u64> = found(disk).iter().filter_map(|row| row.rows).collect();
                    assert!(rows.contains(&number) && rows.contains(&(number + 500)), "{number}");
                }
            });
        }
    });
    let report = trail.recorder().report().expect("a report");
    assert_eq!((report.recorded, report.lost, report.failing), (801, 0, false));
    assert!(report.syncs <= 400 && disk.syncs() <= 401, "one sync for all that wait: {report:?}");
}

#[test]
fn what_nobody_waits_for_is_on_disk_soon_and_a_stream_begins_and_ends_with_its_own_records() {
    let disk = FakeDisk::default();
    let (_place, trail) = start(&disk, &Settings::default());
    trail.recorder().record(event(7));
    until("it is on disk", || found(&disk).iter().any(|row| row.rows == Some(7)));
    trail.stop(Duration::ZERO);
    let types: Vec<String> = found(&disk).iter().map(|row| row.event_type.to_string()).collect();
    assert_eq!(types, ["AUDIT_STARTED", "RESOURCE_CREATED", "AUDIT_STOPPED"]);
}

#[test]
fn a_disk_that_refuses_is_told_at_once_and_nothing_is_lost_when_it_recovers() {
    let disk = FakeDisk::default();
    let (_place, trail) = start(&disk, &Settings::default());
    let recorder = trail.recorder();
    wait(recorder.record_durably(vec![event(1)])).expect("recorded");
    disk.set_full(true);
    let refused = wait(recorder.record_durably(vec![event(2)])).expect_err("the disk is full");
    assert_eq!(refused.sqlstate, SqlState::IO_ERROR);
    assert!(recorder.is_failing());
    recorder.record(event(3));
    wait(recorder.record_durably(vec![event(4)])).expect_err("the disk is still full");
    disk.set_full(false);
    until("it recovers", || !recorder.is_failing());
    wait(recorder.record_durably(vec![event(5)])).expect("recorded");
    let rows: Vec<u64> = found(&disk).iter().filter_map(|row| row.rows).collect();
    assert_eq!(rows, [1, 2, 3, 4, 5]);
    assert_eq!(recorder.report().expect("a report").lost, 0);
}

#[test]
fn memory_is_bounded_and_what_is_lost_is_told_in_the_trail() {
    let disk = FakeDisk::default();
    let (_place, trail) = start(&disk, &Settings::default());
    let recorder = trail.recorder();
    let statement: Arc<str> = "x".repeat(15_000).into();
    let big = || Event { statement: Some(statement.clone()), ..event(1) };
    disk.set_full(true);
    let mut refused = 0;
    until("what waits is too much", || {
        refused += u32::from(wait(recorder.record_durably((0..100).map(|_| big()).collect())).is_err());
        recorder.report().expect("a report").lost > 0
    });
    let lost = recorder.report().expect("a report").lost;
    disk.set_full(false);
    until("it is told", || found(&disk).iter().any(|row| row.event_type == "AUDIT_EVENTS_LOST"));
    let told: u64 = found(&disk)
        .iter()
        .filter(|row| row.event_type == "AUDIT_EVENTS_LOST")
        .filter_map(|row| row.detail.as_ref()?.get("events")?.as_u64())
        .sum();
    assert_eq!(told, lost);
    let kept = found(&disk).iter().filter(|row| row.event_type == "RESOURCE_CREATED").count() as u64;
    assert_eq!(kept + lost, u64::from(refused) * 100);
}

#[test]
fn a_full_queue_never_blocks() {
    let disk = FakeDisk::default();
    let (_place, trail) = start(&disk, &Settings::default());
    let recorder = trail.recorder();
    {
        let _stuck = disk.0.lock();
        let more = QUEUED_EVENTS_MAX * 3;
        (0..more).for_each(|number| recorder.record(event(number as u64)));
        assert!(recorder.report().expect("a report").lost > 0);
        let mut ticket = pin!(recorder.record_durably(vec![event(0)]));
        let mut context = Context::from_waker(Waker::noop());
        assert!(ticket.as_mut().poll(&mut context).is_pending());
    }
    until("it is told", || found(&disk).iter().any(|row| row.event_type == "AUDIT_EVENTS_LOST"));
}

#[test]
fn a_recorder_that_is_off_keeps_nobody_waiting() {
    let recorder = Recorder::off();
    recorder.record(event(1));
    wait(recorder.record_durably(vec![event(1)])).expect("nothing to wait for");
    assert!(!recorder.is_failing() && recorder.report().is_none());
}

#[test]
fn after_the_end_nothing_is_taken_for_recorded() {
    let disk = FakeDisk::default();
    let (_place, trail) = start(&disk, &Settings::default());
    let recorder = trail.recorder();
    trail.stop(Duration::ZERO);
    wait(recorder.record_durably(vec![event(1)])).expect_err("the stream has ended");
}
