//! A cancel request stops the statement it is for, or nothing.

use std::thread;
use std::time::Duration;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, cancel, query};

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
