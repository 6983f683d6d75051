//! Clients that leave at any byte.

use std::net::Shutdown;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, bind, execute, extended, flush, frame, parse, query, sync};

/// A conversation with a bit of everything.
fn conversation() -> Vec<u8> {
    [
        query("begin"),
        extended("select $1::int", &["1"]),
        parse("s", "select 1"),
        flush(),
        bind("", "s", &[]),
        execute("", 0),
        sync(),
        query("set work_mem = '3MB'"),
        query("select pg_sleep(0.001)"),
        query("commit"),
        frame(b'X', b""),
    ]
    .concat()
}

#[test]
fn a_client_that_leaves_at_any_byte_leaves_the_pool_clean() {
    let dev = Dev::shared(1);
    let bytes = conversation();
    let mut watcher = Wire::open(dev.globex());
    for cut in (0..bytes.len()).step_by(3) {
        let mut leaving = Wire::open(dev.acme());
        leaving.send(&bytes[..cut]);
        leaving.hang_up();
        if cut % 9 == 0 {
            assert_eq!(watcher.query("show work_mem"), "T D(4MB) C(SHOW) Z(I)", "after {cut} bytes");
        }
    }
    assert_eq!(Wire::open(dev.acme()).value("show work_mem"), "4MB");
    let open =
        "select count(*) from pg_stat_activity where usename = 'pgcordon_app' and state like 'idle in transaction%'";
    assert_eq!(dev.admin().value(open), "0");
}

#[test]
fn what_a_client_left_running_is_stopped() {
    let dev = Dev::shared(1);
    let mut leaving = Wire::open(dev.acme());
    leaving.send(&query("select pg_sleep(60)"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    leaving.hang_up();
    assert_eq!(Wire::open(dev.globex()).value("select 1"), "1");
    let mut admin = dev.admin();
    let running = "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(60)%' and pid <> pg_backend_pid()";
    let stopped = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        admin.value(running) == "0"
    });
    assert!(stopped);
}

#[test]
fn who_says_goodbye_behind_a_statement_is_told_its_answer_first() {
    let dev = Dev::shared(1);
    let goodbye = frame(b'X', b"");
    let portal = [parse("", "select generate_series(1, 5)"), bind("", "", &[]), execute("", 3), flush()].concat();
    let insert = query("insert into \"Segment\" (name) values ('bye')");
    for (sent, expected) in [
        ([query("select 1"), goodbye.clone()].concat(), "T D(1) C(SELECT 1) Z(T)"),
        ([query("select 1/0"), goodbye.clone()].concat(), "E(22012) Z(E)"),
        ([query("select pg_sleep(0.05)"), goodbye.clone()].concat(), "T D() C(SELECT 1) Z(T)"),
        ([insert, query("commit"), goodbye.clone()].concat(), "C(INSERT 0 1) Z(T) C(COMMIT) Z(I)"),
        // It only stops sending.
        (query("select pg_sleep(0.05)"), "T D() C(SELECT 1) Z(T)"),
    ] {
        let mut leaving = Wire::open(dev.acme());
        leaving.query("begin");
        leaving.send(&sent);
        leaving.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(leaving.cycles(usize::MAX), format!("{expected} EOF"));
    }
    let mut leaving = Wire::open(dev.acme());
    leaving.send(&portal);
    leaving.until(b's');
    leaving.send(&[sync(), goodbye].concat());
    assert_eq!(leaving.cycles(2), "Z(I) EOF");
    assert_eq!(Wire::open(dev.acme()).value("select count(*) from \"Segment\" where name = 'bye'"), "1");
}
