//! A cancel request stops the statement it is for, or nothing.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::libpq::target;
use pgcordon_tests::wire::{Wire, cancel, query, startup};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_running_statement_is_cancelled_and_the_session_goes_on() {
    let dev = Dev::shared(1);
    let mut wire = Wire::open(dev.acme());
    wire.send(&query("select pg_sleep(30)"));
    thread::sleep(Duration::from_millis(200));
    wire.cancel(true);
    assert!(wire.cycles(1).ends_with("E(57014) Z(I)"));
    assert_eq!(wire.value("select 1"), "1");
}

#[test]
fn a_client_that_waits_for_a_connection_can_be_cancelled_too() {
    let dev = Dev::shared(1);
    let (mut holder, mut waiter) = (Wire::open(dev.acme()), Wire::open(dev.globex()));
    holder.query("begin");
    waiter.send(&query("select 1"));
    thread::sleep(Duration::from_millis(200));
    waiter.cancel(true);
    assert_eq!(waiter.cycles(1), "E(57014) Z(I)");
    holder.query("commit");
    assert_eq!(waiter.value("select 1"), "1");
}

#[test]
fn a_wrong_key_cancels_nothing() {
    let dev = Dev::shared(1);
    let mut wire = Wire::open(dev.acme());
    wire.send(&query("select pg_sleep(0.5)"));
    for secret in [&[0, 0, 0, 0][..], &[1; 32], &[7; 256]] {
        let (host, port) = dev.address();
        let mut other = Wire::raw((&host, port));
        other.send(&cancel(wire.key.0, secret));
        assert_eq!(other.read(), None);
    }
    assert_eq!(wire.cycles(1), "T D() C(SELECT 1) Z(I)");
}

#[test]
fn a_late_cancel_hits_no_statement_of_the_next_client() {
    let dev = Dev::shared(1);
    let (mut canceller, mut innocent) = (Wire::open(dev.acme()), Wire::open(dev.globex()));
    for round in 0..150 {
        canceller.send(&query("select 1"));
        // Not followed: the canceller doesn't care what it hits.
        canceller.cancel(false);
        canceller.cycles(1);
        assert_eq!(innocent.query("select 2"), "T D(2) C(SELECT 1) Z(I)", "round {round}");
    }
}

struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn thousands_of_cancels_at_the_boundaries_of_statements_stop_no_innocent_one() {
    const CANCELLERS: usize = 4;
    let dev = Dev::start(&["--pool-size", "2"]);
    let short = "select count(*) from generate_series(1, 4000)";
    let (running, sent, hits) = (AtomicUsize::new(CANCELLERS), AtomicUsize::new(0), AtomicUsize::new(0));
    // Both workspaces have cancellers and innocents, on the same two server connections.
    thread::scope(|scope| {
        for number in 0..CANCELLERS {
            let url = if number % 2 == 0 { dev.acme() } else { dev.globex() };
            let follows = number >= 2;
            let (running, sent, hits) = (&running, &sent, &hits);
            scope.spawn(move || {
                // Who fails is done as well: the innocents go on until all are.
                let _done = Done(running);
                let mut wire = Wire::open(url);
                for round in 0..if follows { 300 } else { 1200 } {
                    wire.send(&query(short));
                    if round % 3 == 0 {
                        thread::yield_now();
                    }
                    wire.cancel(follows);
                    let said = wire.cycles(1);
                    assert!(said == "T D(4000) C(SELECT 1) Z(I)" || said.ends_with("E(57014) Z(I)"), "{said}");
                    sent.fetch_add(1, Ordering::Relaxed);
                    hits.fetch_add(usize::from(said.contains("57014")), Ordering::Relaxed);
                    // One who waited for the end of the cancel is safe from it.
                    if follows {
                        assert_eq!(wire.query(short), "T D(4000) C(SELECT 1) Z(I)", "round {round}");
                    }
                }
            });
        }
        for url in [dev.acme(), dev.globex(), dev.globex()] {
            let running = &running;
            scope.spawn(move || {
                let mut wire = Wire::open(url);
                while running.load(Ordering::Relaxed) > 0 {
                    assert_eq!(wire.query(short), "T D(4000) C(SELECT 1) Z(I)");
                    assert_eq!(wire.query("begin; select 1; commit"), "C(BEGIN) T D(1) C(SELECT 1) C(COMMIT) Z(I)");
                }
            });
        }
    });
    let (sent, hits) = (sent.into_inner(), hits.into_inner());
    assert!(sent >= 3000 && hits > 50, "{hits} of {sent} hit: the race was none");
}

#[test]
fn a_flood_of_cancels_stops_one_statement_and_leaves_the_proxy_as_it_was() {
    let dev = Dev::shared(2);
    let (mut wire, mut other) = (Wire::open(dev.acme()), Wire::open(dev.globex()));
    wire.send(&query("select pg_sleep(30)"));
    thread::sleep(Duration::from_millis(200));
    let (host, port) = dev.address();
    let flood: Vec<Wire> = (0..400)
        .map(|number| {
            let mut each = Wire::raw((&host, port));
            // Every other one has a key that is nearly right.
            let mut secret = wire.key.1.clone();
            secret[3] ^= u8::from(number % 2 == 1);
            each.send(&cancel(wire.key.0, &secret));
            each
        })
        .collect();
    assert_eq!(other.query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    for mut each in flood {
        assert_eq!(each.read(), None, "nobody is told anything");
    }
    assert!(wire.cycles(1).ends_with("E(57014) Z(I)"));
    assert_eq!(wire.value("select 40 + 2"), "42");
    assert_eq!(other.value("select 40 + 2"), "42");
}

#[test]
fn the_long_key_of_a_newer_protocol_cancels_too() {
    let dev = Dev::shared(1);
    let url = pgcordon_tests::wire::Url::parse(dev.acme());
    let mut wire = Wire::raw((&url.host, url.port));
    wire.send(&startup(3 << 16 | 2, &[("user", &url.user), ("database", &url.database)]));
    wire.authenticate(&url.password).unwrap();
    assert_eq!(wire.key.1.len(), 32);
    // Its beginning isn't the key, nor is more than it.
    wire.send(&query("select pg_sleep(0.5)"));
    for secret in [&wire.key.1[..4], &wire.key.1[..31], &[&wire.key.1[..], b"x"].concat()] {
        let mut other = Wire::raw((&url.host, url.port));
        other.send(&cancel(wire.key.0, secret));
        assert_eq!(other.read(), None);
    }
    assert_eq!(wire.cycles(1), "T D() C(SELECT 1) Z(I)");
    wire.send(&query("select pg_sleep(30)"));
    thread::sleep(Duration::from_millis(200));
    wire.cancel(true);
    assert!(wire.cycles(1).ends_with("E(57014) Z(I)"));
}

/// Sends psql a Ctrl-C while it runs a long statement; what it says.
pub(crate) fn interrupt_psql(dev: &Dev, parameters: &str) -> String {
    let marker = format!("select pg_sleep(60), {}", std::process::id());
    let mut psql = Command::new("psql")
        .args(["-XAtc", &marker, &target(dev.acme(), parameters)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut admin = dev.admin();
    let running = format!("select count(*) from pg_stat_activity where state = 'active' and query = '{marker}'");
    while admin.value(&running) == "0" {
        assert!(psql.try_wait().unwrap().is_none(), "psql ended early");
    }
    kill_process(Pid::from_raw(i32::try_from(psql.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let mut said = String::new();
    psql.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    psql.wait().unwrap();
    assert_eq!(admin.value(&running), "0");
    said
}

#[test]
fn psqls_ctrl_c_stops_its_statement() {
    let dev = Dev::shared(1);
    assert!(interrupt_psql(&dev, "sslmode=disable").contains("canceling statement due to user request"));
}
