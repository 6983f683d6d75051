use std::sync::atomic::AtomicBool;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::*;
use crate::audit::recorder::Counters;
use crate::audit::storage::fake::FakeDisk;

#[test]
fn a_ticket_whose_events_were_too_many_isnt_good_because_the_disk_is_well_again() {
    let disk = FakeDisk::default();
    let spool = Spool::new(disk.clone(), "/spool/s".into(), "s".into(), Arc::default(), u64::MAX);
    let shared = Shared {
        queue: Mutex::default(),
        woken: Condvar::new(),
        enough: Condvar::new(),
        saved: Notify::new(),
        handover: Arc::default(),
        failing: AtomicBool::new(false),
        counters: Counters::default(),
    };
    let mut writer = Writer::new(Arc::new(shared), spool);
    let event = || Event {
        statement: Some("x".repeat(15_000).into()),
        ..Event::new(EventType::ResourceCreated, Arc::default())
    };
    disk.set_full(true);
    while writer.push(event()) {}
    assert!(writer.put_on_disk(clock::now(), true).is_err());
    disk.set_full(false);
    writer.due = Some(clock::now());
    let (ticket, mut told) = oneshot::channel();
    writer.shared.queue.lock().items.push(Item::Durable(vec![event()], ticket));
    writer.shared.queue.lock().closed = true;
    writer.run();
    assert!(told.try_recv().expect("an answer").is_err());
}
