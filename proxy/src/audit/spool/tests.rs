use proptest::prelude::*;

use super::*;
use crate::audit::event::{Client, EventType};
use crate::audit::segments::lines;
use crate::audit::storage::fake::FakeDisk;
use crate::audit::verify::Copies;

fn event(number: u64) -> Event {
    Event { rows: Some(number), ..Event::new(EventType::ResourceCreated, Arc::new(Client::default())) }
}

fn spool(disk: &FakeDisk, bytes_max: u64) -> Spool<FakeDisk> {
    Spool::new(disk.clone(), "/spool/s".into(), "s".into(), Arc::default(), bytes_max).with_segments_of(1500)
}

/// The records that are found after a crash, and what is wrong with them.
fn found(disk: &FakeDisk, kept: usize) -> (u64, Vec<String>) {
    let (mut copies, mut last) = (Copies::default(), 0);
    let segments: Vec<_> = disk.after_crash(kept).iter().map(|bytes| lines(bytes)).collect();
    for row in segments.iter().flatten().flatten() {
        last = last.max(row.seq);
    }
    copies.take(&"s".into(), segments);
    (last, copies.findings.iter().map(ToString::to_string).collect())
}

#[test]
fn what_was_saved_is_found_after_a_crash_and_what_wasnt_is_no_damage() {
    let disk = FakeDisk::default();
    let mut spool = spool(&disk, u64::MAX);
    (0..10).for_each(|number| spool.push(event(number)));
    spool.save().expect("saved");
    (0..10).for_each(|number| spool.push(event(number)));
    spool.write().expect("written");
    for kept in 0..2000 {
        let (last, findings) = found(&disk, kept);
        assert!((10..20).contains(&last), "{last} of {kept} bytes");
        assert!(findings.is_empty(), "{findings:?} of {kept} bytes");
    }
}

#[test]
fn a_full_spool_refuses_and_goes_on_when_there_is_room() {
    let disk = FakeDisk::default();
    let used = Arc::new(AtomicU64::new(0));
    let mut spool = Spool::new(disk.clone(), "/spool/s".into(), "s".into(), used.clone(), 2000);
    let mut number = 0;
    let refused = loop {
        spool.push(event(number));
        number += 1;
        if let Err(refused) = spool.save() {
            break refused;
        }
    };
    assert!(refused.to_string().contains("audit.spool_bytes_max"), "{refused}");
    assert!((3..20).contains(&number) && used.load(Ordering::Relaxed) <= 2000);
    used.store(0, Ordering::Relaxed);
    spool.save().expect("there is room");
    assert_eq!(found(&disk, 0), (number, vec![]), "the refused one too");
}

#[test]
fn a_segment_that_somebody_removed_is_noticed_and_the_rest_is_kept() {
    let disk = FakeDisk::default();
    let mut spool = spool(&disk, u64::MAX);
    spool.push(event(1));
    assert_eq!(spool.save().expect("saved"), Saved::Quietly);
    disk.remove_all();
    spool.push(event(2));
    assert_eq!(spool.save().expect("saved"), Saved::AfterRemoval);
    let (last, findings) = found(&disk, 0);
    assert_eq!((last, findings.len()), (2, 0), "what is left begins with record 2: {findings:?}");
}

#[test]
fn nothing_is_handed_on_before_it_is_on_disk_for_sure() {
    let (disk, handover) = (FakeDisk::default(), Arc::<Handover>::default());
    let mut spool = spool(&disk, u64::MAX);
    spool.hand_over_to(handover.clone());
    (0..3).for_each(|number| spool.push(event(number)));
    spool.write().expect("written");
    assert!(handover.take(1).is_none(), "a crash may still lose it");
    disk.0.lock().fails.push_back(true);
    spool.save().expect_err("the sync fails");
    assert!(handover.take(1).is_none(), "and so it may now");
    spool.push(event(3));
    spool.save().expect("saved");
    let rows = handover.take(1).and_then(|parcel| parcel.rows()).expect("records");
    assert_eq!(rows.iter().map(|row| row.rows).collect::<Vec<_>>(), [0, 1, 2, 3].map(Some));
    let on_disk: Vec<Row> = disk.after_crash(0).iter().flat_map(|bytes| lines(bytes)).flatten().collect();
    assert_eq!(rows, on_disk);
}

#[derive(Clone, Debug)]
enum Step {
    Push,
    Write,
    Save,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(prop_oneof![4 => Just(Step::Push), 1 => Just(Step::Write), 2 => Just(Step::Save)], 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever fails in whatever order, and however much a crash tears off: what was said to be on disk is there, and the chain
    /// is whole.
    #[test]
    fn nothing_that_was_saved_is_lost(
        steps in steps(),
        fails in prop::collection::vec(prop::bool::weighted(0.3), 0..80),
        kept in 0_usize..3000,
    ) {
        let disk = FakeDisk::default();
        disk.0.lock().fails.extend(fails);
        let used = Arc::new(AtomicU64::new(0));
        let mut spool = Spool::new(disk.clone(), "/spool/s".into(), "s".into(), used.clone(), u64::MAX).with_segments_of(1500);
        let mut saved = 0;
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Push => spool.push(event(number as u64)),
                Step::Write => drop(spool.write()),
                Step::Save => if spool.save().is_ok() { saved = spool.head().seq },
            }
        }
        let (last, findings) = found(&disk, kept);
        prop_assert!(last >= saved, "{last} of {saved}");
        prop_assert!(findings.is_empty(), "{findings:?}");
        disk.0.lock().fails.clear();
        spool.save().expect("the disk is well again");
        prop_assert_eq!(found(&disk, 0), (spool.head().seq, vec![]));
    }
}
