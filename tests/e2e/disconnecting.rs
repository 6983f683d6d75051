//! Clients that leave at any byte.

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
