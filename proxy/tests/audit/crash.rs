//! A process that is killed loses no event that it was told is on disk.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use pgcordon::audit::recorder::Trail;
use pgcordon::audit::{Settings, segments};

use crate::scratch::event;

const PLACE: &str = "PGCORDON_TEST_CRASH_SPOOL";

/// Records and says what is on disk, until it is killed. It does nothing unless the test below runs it.
#[test]
fn child_that_records() {
    let Some(place) = std::env::var_os(PLACE) else { return };
    let trail = Trail::start(&Settings::default(), place.into(), serde_json::json!({})).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let recorder = trail.recorder();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for number in 0.. {
                    let number = thread * 1_000_000 + number;
                    runtime.block_on(recorder.record_durably(vec![event(number)])).unwrap();
                    println!("acknowledged {number}");
                }
            });
        }
    });
}

#[test]
fn a_killed_process_loses_no_acknowledged_event() {
    for round in 1..=5 {
        let place = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_that_records", "--nocapture"])
            .env(PLACE, place.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = Vec::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut read = |lines: &mut dyn Iterator<Item = std::io::Result<String>>| {
            for line in lines {
                acknowledged
                    .extend(line.unwrap().strip_prefix("acknowledged ").map(|number| number.parse::<u64>().unwrap()));
            }
        };
        read(&mut lines.by_ref().take(200 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        read(&mut lines);
        let stream = segments::streams(place.path()).unwrap().remove(0);
        let mut copies = pgcordon::audit::verify::Copies::default();
        let mut found = std::collections::HashSet::new();
        for segment in segments::segments(&place.path().join(&stream)).unwrap() {
            let rows = segments::rows(&segment.path).unwrap();
            found.extend(rows.iter().flatten().filter_map(|row| row.rows));
            copies.take(&stream.as_str().into(), [rows]);
        }
        assert_eq!(copies.findings, []);
        assert!(acknowledged.len() > 50, "{}", acknowledged.len());
        let lost: Vec<u64> = acknowledged.into_iter().filter(|number| !found.contains(number)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }
}
