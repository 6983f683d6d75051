//! Server connections that die.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, query};

const KILL: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'pgcordon_app'";

#[test]
fn an_idle_connection_that_dies_is_noticed_by_nobody() {
    let dev = Dev::start(&["--pool-size", "3"]);
    let (mut admin, mut wire) = (dev.admin(), Wire::open(dev.acme()));
    for _ in 0..5 {
        assert_eq!(wire.value("select 1"), "1");
        admin.value(KILL);
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(wire.value("select 2"), "2");
    }
}

#[test]
fn one_that_dies_under_a_statement_ends_its_session_with_postgres_own_words_and_no_other() {
    let dev = Dev::start(&["--pool-size", "3"]);
    let (mut admin, mut victim, mut other) = (dev.admin(), Wire::open(dev.acme()), Wire::open(dev.globex()));
    victim.send(&query("select pg_sleep(30)"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    admin.value(KILL);
    assert!(victim.until(b'E').ends_with("E(57P01)"));
    assert_eq!(victim.read(), None);
    while admin.value("select count(*) from pg_stat_activity where usename = 'pgcordon_app'") != "0" {}
    assert_eq!(other.value("select 1"), "1");
}

#[test]
fn a_postgres_that_is_gone_is_told_in_the_right_form() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let mut wire = Wire::open(dev.acme());
    wire.query("begin");
    let mut admin = dev.admin();
    let postmaster = admin.value("select pg_backend_pid()");
    let parent = std::fs::read_to_string(format!("/proc/{postmaster}/stat")).unwrap();
    let parent: i32 = parent.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(parent).unwrap(), rustix::process::Signal::QUIT)
        .unwrap();
    let said = wire.until(b'E');
    assert!(said.ends_with("E(57P01)") || said.ends_with("E(57P02)") || said.ends_with("E(08006)"), "{said}");
    // A new session can't be opened, and is told so.
    std::thread::sleep(std::time::Duration::from_millis(300));
    if let Err(refused) = Wire::try_open_quietly(dev.acme()) {
        assert_eq!(refused.as_deref(), Some("57P03"));
    }
}
