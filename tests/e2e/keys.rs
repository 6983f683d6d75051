//! Revoking a key ends what was opened with it.

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
