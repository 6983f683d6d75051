//! Revoking a key ends what was opened with it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Url, Wire, query};

#[test]
fn a_revoked_key_ends_its_sessions_and_the_connections_that_carried_its_workspace() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let mut admin = dev.admin();
    let (mut session, mut busy) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    let pid = session.value("select pg_backend_pid()");
    busy.send(&query("select pg_sleep(30)"));
    std::thread::sleep(std::time::Duration::from_millis(100));
    admin.rows(&format!(
        "update cordon.api_key set revoked_at = now() where key_id = '{}'",
        Url::parse(dev.acme()).user
    ));
    assert!(session.until(b'E').ends_with("E(57P01)"));
    assert!(busy.until(b'E').ends_with("E(57P01)"));
    let gone = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        admin.value(&format!("select count(*) from pg_stat_activity where pid = {pid}")) == "0"
    });
    assert!(gone, "the server process that carried the workspace lives on");
    assert_eq!(Wire::open(dev.globex()).value("select 1"), "1");
}

/// A second key of a workspace, which expires after so long if it does; its URL.
fn another_key(dev: &Dev, admin: &mut Wire, name: &str, expiry: &str) -> String {
    let acme = Url::parse(dev.acme()).user;
    let id = format!("{name}{acme}");
    admin.rows(&format!(
        "insert into cordon.api_key (key_id, workspace_id, kind, role, verifier, allow, expires_at) \
         select '{id}', workspace_id, kind, role, verifier, allow, {expiry} from cordon.api_key where key_id = '{acme}'"
    ));
    dev.acme().replace(&acme, &id)
}

#[test]
fn a_key_that_expires_ends_its_sessions_and_the_connections_that_carried_its_workspace() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let mut admin = dev.admin();
    let expiring = another_key(&dev, &mut admin, "x", "now() + interval '4 s'");
    let mut session = loop {
        // Until the proxy has heard of it.
        match Wire::try_open(&expiring, &[]) {
            Ok(session) => break session,
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    };
    let pid = session.value("select pg_backend_pid()");
    assert!(session.until(b'E').ends_with("E(57P01)"));
    let gone = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        admin.value(&format!("select count(*) from pg_stat_activity where pid = {pid}")) == "0"
    });
    assert!(gone, "the server process that carried the workspace lives on, and so do its seals");
    assert_eq!(Wire::open(dev.acme()).value("select 1"), "1", "the workspace's other key is good");
}

#[test]
fn a_key_is_revoked_once_and_whoever_has_another_one_goes_on_undisturbed() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let mut admin = dev.admin();
    let other = another_key(&dev, &mut admin, "y", "null");
    let mut revoked = Wire::open(dev.acme());
    assert_eq!(revoked.value("select 1"), "1");
    let acme = Url::parse(dev.acme()).user;
    admin.rows(&format!("update cordon.api_key set revoked_at = now() where key_id = '{acme}'"));
    assert!(revoked.until(b'E').ends_with("E(57P01)"));
    let mut session = Wire::open(&other);
    let pid = loop {
        // What carried the workspace is closed, and once more when the sessions are gone.
        let pid = session.value("select pg_backend_pid()");
        std::thread::sleep(std::time::Duration::from_millis(1500));
        if session.value("select pg_backend_pid()") == pid {
            break pid;
        }
    };
    for _ in 0..15 {
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(session.value("select pg_backend_pid()"), pid, "it is closed again and again");
    }
}

struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The keys of the seals are replaced while clients write: no statement fails, and no row goes uncounted.
#[test]
fn the_keys_of_the_seals_are_replaced_under_traffic() {
    let data = tempfile::tempdir().unwrap();
    let data_dir = data.path().join("data");
    let dev =
        Dev::run(&["--pool-size", "3", "--quota", "segments=Segment:100000", "--data-dir", data_dir.to_str().unwrap()]);
    let configuration = data_dir.join("pgcordon.toml");
    let seal = |words: &[&str]| {
        let mut command = std::process::Command::new(pgcordon_tests::dev::binary());
        let done = command.arg("seal").args(words).arg("--config").arg(&configuration).output().unwrap();
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr),
        )
    };
    let (written, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut admin = dev.admin();
    std::thread::scope(|scope| {
        // Whatever fails, the clients end.
        let _stops = Stops(&stop);
        for number in 0..4 {
            let (dev, written, stop) = (&dev, &written, &stop);
            scope.spawn(move || {
                let mut wire = Wire::open(if number == 3 { dev.globex() } else { dev.acme() });
                let insert = "insert into \"Segment\" (name) values ('n ' || gen_random_uuid())";
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(wire.query(insert), "C(INSERT 0 1) Z(I)");
                    let several = format!("begin; select 1; {insert}; commit");
                    assert_eq!(wire.query(&several), "C(BEGIN) T D(1) C(SELECT 1) C(INSERT 0 1) C(COMMIT) Z(I)");
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let turns = || {
            let before = written.load(Ordering::Relaxed);
            let goes_on = (0..4000).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                written.load(Ordering::Relaxed) >= before + 40
            });
            assert!(goes_on, "the clients have stopped");
        };
        turns();
        assert_eq!(seal(&["rotate"]).0, Some(0));
        turns();
        // Its first minute is over: meters report under it.
        admin.query("update cordon.signing_key set created_at = created_at - interval '2 minutes'");
        turns();
        let (code, said) = seal(&["retire"]);
        assert!(code == Some(1) && said.contains("--now"), "{code:?} {said}");
        assert_eq!(seal(&["retire", "--now"]), (Some(0), "retired the key 1\n".to_owned()));
        turns();
    });
    for (place, before) in [(0, 24), (1, 15)] {
        let id = dev.text(&format!("/workspaces/{place}/id"));
        let count: u64 =
            admin.value(&format!("select count(*) from \"Segment\" where \"workspaceId\" = '{id}'")).parse().unwrap();
        let used = dev.http(&format!("/api/workspaces/{id}/quota"))["quotas"][0]["currentUsage"].as_u64().unwrap();
        let odd = admin.rows("select concat_ws(' ', at, event_type, detail) from cordon.audit_event where event_type = 'SUSPICIOUS_ACTIVITY'");
        assert!(count > before && used == count, "{place}: {used} of {count}: {odd:?}");
    }
    assert_eq!(admin.value("select count(*) from cordon.audit_event where event_type = 'SUSPICIOUS_ACTIVITY'"), "0");
}
