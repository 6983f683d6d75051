use std::io::Write as _;

use super::*;
use crate::audit::{Client, Event, EventType, Head};

fn write(directory: &Path, first: u64, rows: &[Row], torn: &[u8]) {
    let mut bytes = Vec::new();
    rows.iter().for_each(|row| row.write(&mut bytes));
    bytes.extend_from_slice(torn);
    fs::write(directory.join(segment_name(first)), bytes).expect("written");
}

fn rows_of(count: u64) -> Vec<Row> {
    let mut head = Head::default();
    (0..count)
        .map(|_| {
            let mut row = Row::unlinked(&"s".into(), Event::new(EventType::ApiKeyAccess, Arc::new(Client::default())));
            head.link(&mut row);
            row
        })
        .collect()
}

fn read_all(reader: &mut Reader) -> Vec<u64> {
    let (rows, unreadable) = reader.read(1000, usize::MAX).expect("read");
    assert_eq!(unreadable, 0);
    rows.iter().map(|row| row.seq).collect()
}

#[test]
fn a_reader_goes_from_segment_to_segment_and_waits_at_the_end() {
    let (place, rows) = (tempfile::tempdir().expect("a directory"), rows_of(10));
    let mut reader = Reader::new(place.path(), 1);
    assert_eq!(read_all(&mut reader), [0; 0]);
    write(place.path(), 1, &rows[..3], b"{\"torn");
    assert_eq!(read_all(&mut reader), [1, 2, 3]);
    assert_eq!(read_all(&mut reader), [0; 0]);
    // The torn line was written anew, in the next segment, after one that is there already.
    write(place.path(), 3, &rows[2..6], b"");
    assert_eq!(read_all(&mut reader), [4, 5, 6]);
    let mut file = File::options().append(true).open(place.path().join(segment_name(3))).expect("open");
    let mut line = Vec::new();
    rows[6].write(&mut line);
    file.write_all(&line[..40]).expect("half a line");
    assert_eq!(read_all(&mut reader), [0; 0]);
    file.write_all(&line[40..]).expect("the other half");
    assert_eq!(read_all(&mut reader), [7]);
}

#[test]
fn a_reader_begins_in_the_middle_and_takes_no_more_than_it_is_asked_for() {
    let (place, rows) = (tempfile::tempdir().expect("a directory"), rows_of(10));
    write(place.path(), 1, &rows[..5], b"");
    write(place.path(), 6, &rows[5..], b"");
    for next in 1..=10 {
        let mut reader = Reader::new(place.path(), next);
        let mut seen = Vec::new();
        while let (rows, 0) = reader.read(2, usize::MAX).expect("read")
            && !rows.is_empty()
        {
            assert!(rows.len() <= 2);
            seen.extend(rows.iter().map(|row| row.seq));
        }
        assert_eq!(seen, (next..=10).collect::<Vec<_>>());
    }
    let mut by_bytes = Reader::new(place.path(), 1);
    assert_eq!(by_bytes.read(1000, 1).expect("read").0.len(), 1);
}

#[test]
fn a_stream_that_is_written_isnt_taken_over_and_a_dead_one_is_once() {
    let place = tempfile::tempdir().expect("a directory");
    let live = Shelf::create(place.path(), "live").expect("made");
    drop(Shelf::create(place.path(), "dead").expect("made"));
    fs::create_dir(place.path().join("lost+found")).expect("made");
    let adopted = Shelf::adopt(place.path(), &[]).expect("read");
    assert_eq!(adopted.iter().map(|shelf| &*shelf.stream).collect::<Vec<_>>(), ["dead"]);
    assert!(Shelf::adopt(place.path(), &[]).expect("read").is_empty(), "both are taken");
    drop((live, adopted));
    assert_eq!(Shelf::adopt(place.path(), &["dead".into()]).expect("read").len(), 1);
}

#[test]
fn a_directory_that_cant_be_written_is_told() {
    let place = tempfile::tempdir().expect("a directory");
    fs::write(place.path().join("file"), "").expect("written");
    assert!(probe(&place.path().join("file/audit")).is_err());
    probe(&place.path().join("deep/down")).expect("it is made");
    assert_eq!(fs::read_dir(place.path().join("deep/down")).expect("read").count(), 0);
}
