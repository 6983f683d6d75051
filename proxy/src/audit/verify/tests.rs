use proptest::prelude::*;

use super::*;
use crate::audit::{Client, Event, EventType};

fn chain_of(length: u64) -> Vec<Row> {
    let (stream, mut head): (Arc<str>, _) = ("s".into(), Head::default());
    (0..length)
        .map(|number| {
            let event =
                Event { rows: Some(number), ..Event::new(EventType::ResourceCreated, Arc::new(Client::default())) };
            let mut row = Row::unlinked(&stream, event);
            head.link(&mut row);
            row
        })
        .collect()
}

fn head(rows: &[Row]) -> Head {
    rows.last().map(|row| Head { seq: row.seq, hash: row.hash }).unwrap_or_default()
}

/// What a walk along the rows finds, when the head is still the old one.
fn findings(rows: &[Row], kept: Head) -> Vec<(u64, What)> {
    let mut walk = Walk::from_the_first("s".into());
    rows.iter().for_each(|row| walk.row(row));
    walk.end(kept);
    walk.findings.into_iter().map(|finding| (finding.seq, finding.what)).collect()
}

#[test]
fn a_whole_stream_has_no_findings() {
    let rows = chain_of(20);
    assert_eq!(findings(&rows, head(&rows)), []);
    assert_eq!(findings(&[], Head::default()), []);
}

#[test]
fn each_kind_of_tampering_is_named_and_placed_once() {
    let whole = chain_of(10);
    let kept = head(&whole);
    let after = |tamper: &dyn Fn(&mut Vec<Row>)| {
        let mut rows = whole.clone();
        tamper(&mut rows);
        findings(&rows, kept)
    };
    assert_eq!(after(&|rows| rows[4].rows = Some(99)), [(5, What::Changed)]);
    assert_eq!(after(&|rows| rows[9].rows = Some(99)), [(10, What::Changed)]);
    let replaced = after(&|rows| {
        rows[4].rows = Some(99);
        rows[4].hash = chain::hash(&rows[4]);
    });
    assert_eq!(replaced, [(6, What::Unlinked)]);
    assert_eq!(after(&|rows| drop(rows.drain(3..6))), [(7, What::Removed(4, 6))]);
    assert_eq!(after(&|rows| drop(rows.drain(..2))), [(3, What::Removed(1, 2))]);
    assert_eq!(after(&|rows| rows.truncate(8)), [(0, What::RemovedAtEnd(9, 10))]);
    assert_eq!(after(&|rows| rows.clear()), [(0, What::RemovedAtEnd(1, 10))]);
    assert_eq!(after(&|rows| rows.insert(5, rows[4].clone())), [(5, What::Inserted)]);
    assert_eq!(after(&|rows| rows.swap(3, 4)), [(5, What::Removed(4, 4)), (4, What::Reordered)]);
    let forged = after(&|rows| {
        // Somebody who writes the end anew, as it should be, is found by the head alone.
        let mut head = head(&rows[..8]);
        rows[8..].iter_mut().for_each(|row| {
            row.rows = Some(99);
            head.link(row);
        });
    });
    assert_eq!(forged, [(10, What::Head)]);
}

#[test]
fn a_copy_in_the_spool_tells_what_was_rewritten_in_the_database() {
    let whole = chain_of(10);
    let mut rewritten = whole[..8].to_vec();
    let mut anew = Head::default();
    rewritten.iter_mut().for_each(|row| {
        row.rows = Some(7);
        anew.link(row);
    });
    let stream: Arc<str> = "s".into();
    let verify = |database: &[Row]| {
        let mut copies = Copies::default();
        copies.take(&stream, [whole[5..].iter().cloned().map(Some).collect()]);
        let mut walk = Walk::from_the_first(stream.clone());
        for row in database {
            walk.row(row);
            copies.compare(row, &mut walk);
        }
        copies.rest(&stream, &mut walk, |_| {});
        walk.findings.into_iter().map(|finding| (finding.seq, finding.what)).collect::<Vec<_>>()
    };
    assert_eq!(verify(&whole[..8]), []);
    assert_eq!(verify(&whole), []);
    let differs: Vec<_> = (6..=8).map(|seq| (seq, What::Differs)).chain([(9, What::Unlinked)]).collect();
    assert_eq!(verify(&rewritten), differs);
    assert_eq!(verify(&whole[..4]), [(6, What::Removed(5, 5))], "neither has it");
}

#[test]
fn a_segment_may_repeat_what_the_one_before_it_may_have_lost_and_nothing_else() {
    let whole = chain_of(10);
    let take = |segments: &[&[Row]]| {
        let mut copies = Copies::default();
        copies.take(&"s".into(), segments.iter().map(|rows| rows.iter().cloned().map(Some).collect::<Vec<_>>()));
        copies.findings.into_iter().map(|finding| (finding.seq, finding.what)).collect::<Vec<_>>()
    };
    assert_eq!(take(&[&whole[..6], &whole[4..]]), []);
    let mut other = whole[4..].to_vec();
    other[0].rows = Some(99);
    other[0].hash = chain::hash(&other[0]);
    assert!(!take(&[&whole[..6], &other]).is_empty());
    assert_eq!(take(&[&whole[..3], &whole[5..]]), [(6, What::Removed(4, 5))]);
}

#[derive(Clone, Debug)]
enum Tampering {
    Change(usize),
    Remove(usize, usize),
    Swap(usize, usize),
    Insert(usize, usize),
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let at = 0_usize..30;
    prop_oneof![
        at.clone().prop_map(Tampering::Change),
        (at.clone(), 1_usize..30).prop_map(|(at, count)| Tampering::Remove(at, count)),
        (at.clone(), at.clone()).prop_map(|(a, b)| Tampering::Swap(a, b)),
        (at.clone(), at).prop_map(|(from, to)| Tampering::Insert(from, to)),
    ]
}

proptest! {
    #[test]
    fn any_tampering_is_found(length in 1_u64..30, tampering in prop::collection::vec(tampering(), 1..4)) {
        let whole = chain_of(length);
        let mut rows = whole.clone();
        for tampering in tampering {
            let count = rows.len().max(1);
            match tampering {
                Tampering::Change(at) => if let Some(row) = rows.get_mut(at % count) { row.severity = "none".into() },
                Tampering::Remove(at, more) => {
                    let at = (at % count).min(rows.len());
                    rows.drain(at..(at + more).min(rows.len()));
                }
                Tampering::Swap(a, b) => if !rows.is_empty() { rows.swap(a % count, b % count) },
                Tampering::Insert(from, to) => if let Some(row) = rows.get(from % count).cloned() {
                    rows.insert(to % count, row);
                },
            }
        }
        prop_assert_eq!(findings(&rows, head(&whole)).is_empty(), rows == whole);
    }
}
