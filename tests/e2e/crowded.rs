//! More clients than there is room for.

use std::process::Command;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, startup};

fn dev(connections_max: usize) -> (Dev, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pgcordon.toml");
    std::fs::write(&file, format!("[server]\nconnections_max = {connections_max}\n")).unwrap();
    (Dev::start(&["--pool-size", "2", "--config", file.to_str().unwrap()]), directory)
}

#[test]
fn one_too_many_is_told_so_whatever_it_asks_for_first_and_is_counted() {
    let (dev, _directory) = dev(1);
    let first = Wire::open(dev.acme());
    // psql asks for TLS first, and would report a protocol violation if it got an error at once.
    for mode in ["prefer", "disable", "allow"] {
        let psql =
            Command::new("psql").args(["-XAtc", "select 1", dev.acme()]).env("PGSSLMODE", mode).output().unwrap();
        let said = String::from_utf8_lossy(&psql.stderr).into_owned();
        assert!(!psql.status.success() && said.contains("pgcordon: too many client connections"), "{mode}: {said}");
    }
    let (host, port) = dev.address();
    let mut wire = Wire::raw((&host, port));
    for code in [80_877_104_u32, 80_877_103] {
        wire.send(&[8_u32.to_be_bytes(), code.to_be_bytes()].concat());
        assert_eq!(wire.byte(), Some(b'N'));
    }
    wire.send(&startup(3 << 16, &[("user", "x")]));
    assert_eq!(wire.read().unwrap().word(), "E(53300)");
    assert_eq!(wire.read(), None);
    // `allow` and `prefer` may try twice.
    assert!(dev.metric("pgcordon_client_connections_refused_total") >= 4);
    drop(first);
    let again = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        Wire::try_open_quietly(dev.acme()).is_ok()
    });
    assert!(again, "there is room again");
}

#[test]
fn those_who_are_turned_away_and_say_nothing_hold_nobody_up() {
    let (dev, _directory) = dev(1);
    let first = Wire::open(dev.acme());
    let (host, port) = dev.address();
    let silent: Vec<Wire> = (0..400).map(|_| Wire::raw((&host, port))).collect();
    // More than are listened to at once. The next one gets its error unasked: at once, or, if it took so long to open all
    // these that some were given up, a little later.
    let mut next = Wire::raw((&host, port));
    assert_eq!(next.read().unwrap().word(), "E(53300)");
    assert_eq!(dev.metric("pgcordon_client_connections_refused_total"), 401);
    drop((first, silent));
}

#[test]
fn those_who_only_hold_the_door_open_make_room_for_those_who_come_and_nobody_for_them() {
    let (dev, _directory) = dev(8);
    let mut inside = Wire::open(dev.acme());
    let (host, port) = dev.address();
    // Nothing at all, half a packet, and one that never gives its proof.
    let mut idlers: Vec<Wire> = (0..7).map(|_| Wire::raw((&host, port))).collect();
    idlers[1].send(&[0, 0]);
    idlers[2].send(&startup(3 << 16, &[("user", "x")]));
    assert_eq!(idlers[2].until(b'R'), "R");
    let mut another = Wire::open(dev.globex());
    assert_eq!(another.query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    assert_eq!(idlers[0].byte(), None, "the one that had been there for the longest is gone");
    // Those who are in stay, however many knock.
    for _ in 0..40 {
        idlers.push(Wire::raw((&host, port)));
    }
    let third = Wire::open(dev.acme());
    assert_eq!(inside.query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    assert_eq!(another.query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    drop(third);
}
