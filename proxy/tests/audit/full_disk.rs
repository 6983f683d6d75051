//! A disk that is really full: a small file system of this test's own, in a mount name space that ends with it. That takes root;
//! without it the test says so. (What a failing disk does in every order is `audit/spool/tests.rs`.)

use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use pgcordon::audit::recorder::Trail;
use pgcordon::audit::{Settings, segments};

use crate::scratch::{event, is_root};

const PLACE: &str = "PGCORDON_TEST_SMALL_DISK";

#[test]
fn a_full_disk_refuses_and_recovers() {
    if !is_root() {
        eprintln!("not tried: only root can mount a small file system");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size=1m none {0} && exec \"$@\"", place.path().display());
    let child = Command::new("unshare")
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "full_disk::child_on_a_small_disk", "--nocapture"])
        .env(PLACE, place.path())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && said.contains("refused and recovered"), "{said}");
}

/// Does nothing unless the test above runs it.
#[test]
fn child_on_a_small_disk() {
    let Some(place) = std::env::var_os(PLACE).map(std::path::PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let trail = Trail::start(&Settings::default(), place.join("spool"), serde_json::json!({})).unwrap();
    let recorder = trail.recorder();
    runtime.block_on(recorder.record_durably(vec![event(1)])).unwrap();
    let mut ballast = std::fs::File::create(place.join("ballast")).unwrap();
    while ballast.write_all(&[1; 4096]).is_ok() {}
    let mut number = 1;
    let refused = loop {
        number += 1;
        if let Err(refused) = runtime.block_on(recorder.record_durably(vec![event(number)])) {
            break refused;
        }
    };
    assert_eq!(refused.sqlstate.0, "58030");
    assert!(refused.log.as_deref().unwrap_or_default().contains("No space left"), "{refused}");
    assert!(recorder.is_failing());
    drop(ballast);
    std::fs::remove_file(place.join("ballast")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while recorder.is_failing() {
        assert!(Instant::now() < deadline, "it never recovers");
        std::thread::sleep(Duration::from_millis(5));
    }
    runtime.block_on(recorder.record_durably(vec![event(number + 1)])).unwrap();
    let directory = place.join("spool").join(&**trail.stream());
    let mut copies = pgcordon::audit::verify::Copies::default();
    let read =
        segments::segments(&directory).unwrap().into_iter().map(|segment| segments::rows(&segment.path).unwrap());
    let read: Vec<_> = read.collect();
    let found: std::collections::BTreeSet<u64> = read.iter().flatten().flatten().filter_map(|row| row.rows).collect();
    copies.take(trail.stream(), read);
    assert_eq!(copies.findings, []);
    assert!(found.into_iter().eq(1..=number + 1), "all of them, once");
    println!("refused and recovered");
}
