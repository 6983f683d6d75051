//! What the database takes of a stream, and what it doesn't.

use std::sync::Arc;

use pgcordon::audit::shipper::{Appended, Sink};
use pgcordon::audit::{Hash, Head, Parcel, Row};
use pgcordon::control::audit_sink::ControlSink;

use crate::scratch::{Database, event};

fn rows(count: u64) -> Vec<Row> {
    let (stream, mut head): (Arc<str>, _) = ("s".into(), Head::default());
    (0..count)
        .map(|number| {
            let mut row = Row::unlinked(&stream, event(number));
            head.link(&mut row);
            row
        })
        .collect()
}

fn parcel(rows: &[Row]) -> Parcel {
    rows.into()
}

#[tokio::test]
async fn a_stream_grows_at_its_end_and_each_record_is_taken_once() {
    let database = Database::migrated().await;
    let mut sink = ControlSink::new(database.target());
    let rows = rows(30);
    let through = |seq: usize| Appended::Through(Head { seq: seq as u64, hash: rows[seq - 1].hash });
    assert_eq!(sink.head("s").await.unwrap(), Head::default());
    assert_eq!(sink.append("s", &parcel(&rows[..10]), false).await.unwrap(), through(10));
    assert_eq!(sink.append("s", &parcel(&rows[..10]), false).await.unwrap(), through(10), "the same again");
    assert_eq!(sink.append("s", &parcel(&rows[5..15]), false).await.unwrap(), through(15), "some again");
    assert_eq!(sink.append("s", &parcel(&rows[3..4]), false).await.unwrap(), through(15), "an old one again");
    assert_eq!(database.number("select count(*) from cordon.audit_event where stream = 's'").await, 15);
    let at_15 = Head { seq: 15, hash: rows[14].hash };
    assert_eq!(sink.append("s", &parcel(&rows[17..20]), false).await.unwrap(), Appended::Gap(at_15));
    let mut unlinked = rows[15].clone();
    unlinked.prev_hash = Hash([1; 32]);
    assert_eq!(sink.append("s", &parcel(&[unlinked]), false).await.unwrap(), Appended::Gap(at_15));
    let mut other = rows[4..6].to_vec();
    other[0].hash = Hash([1; 32]);
    assert_eq!(sink.append("s", &parcel(&other), false).await.unwrap(), Appended::Fork(5));
    assert_eq!(sink.append("s", &parcel(&other), true).await.unwrap(), Appended::Fork(5), "not after a gap either");
    assert!(sink.append("s", &parcel(&[rows[15].clone(), rows[17].clone()]), true).await.is_err(), "a hole in a batch");
    assert_eq!(sink.head("s").await.unwrap(), at_15, "nothing of all that was taken");
    database.is_whole();
    assert_eq!(sink.append("s", &parcel(&rows[20..]), true).await.unwrap(), through(30));
    let (code, said) = database.pgcordon(&["audit", "verify"]);
    assert!(code == 1 && said.contains("records 16 to 20 are missing"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_ship_the_same_stream_at_once_make_no_copy() {
    let database = Database::migrated().await;
    let rows = Arc::new(rows(200));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (mut sink, rows) = (ControlSink::new(database.target()), rows.clone());
        tasks.push(tokio::spawn(async move {
            for batch in rows.chunks(10) {
                let appended = sink.append("s", &parcel(batch), false).await.unwrap();
                assert!(matches!(appended, Appended::Through(_)), "{appended:?}");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(database.number("select count(*) from cordon.audit_event where stream = 's'").await, 200);
    database.is_whole();
}
