//! The process id that a client is told at its login, and the one it sees.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, bind, execute, extended, function_call, parse, query, sync};

const PID: &str = "select pg_backend_pid()";
const PINNED: &str = "pgcordon_clients_pinned{reason=\"backend_pid\"}";
const PG_BACKEND_PID: u32 = 2026;

fn told(wire: &Wire) -> String {
    wire.key.0.to_string()
}

#[test]
fn a_client_sees_the_process_id_that_it_was_told_however_it_asks() {
    let dev = Dev::start(&["--pool-size", "2"]);
    for url in [dev.acme(), dev.globex(), dev.system()] {
        let mut wire = Wire::open(url);
        let pid = told(&wire);
        wire.query("select 1");
        assert_eq!(wire.value(PID), pid);
        wire.send(&extended(PID, &[]));
        assert_eq!(wire.cycles(1), format!("1 2 D({pid}) C(SELECT 1) Z(I)"));
        wire.send(&[parse("s", PID), sync(), bind("", "s", &[]), execute("", 0), sync()].concat());
        assert_eq!(wire.cycles(2), format!("1 Z(I) 2 D({pid}) C(SELECT 1) Z(I)"));
        wire.query("begin");
        assert_eq!(wire.value(PID), pid);
        wire.query("commit");
        wire.query("discard all");
        assert_eq!(wire.value("select pg_catalog.pg_backend_pid()"), pid);
    }
    let mut wire = Wire::open(dev.acme());
    wire.send(&function_call(PG_BACKEND_PID, &[]));
    assert_eq!(wire.cycles(1), format!("V({}) Z(I)", told(&wire)));
}

#[test]
fn clients_that_live_at_the_same_time_have_process_ids_of_their_own_while_the_pool_has_room() {
    let dev = Dev::start(&["--pool-size", "6"]);
    let urls = [dev.acme(), dev.globex(), dev.acme(), dev.globex(), dev.acme(), dev.globex()];
    let mut clients: Vec<Wire> = urls.iter().map(|url| Wire::open(url)).collect();
    let pids: HashSet<String> = clients.iter().map(told).collect();
    assert_eq!(pids.len(), clients.len());
    for round in 0..3 {
        for wire in &mut clients {
            let asked =
                if round == 1 { wire.query("begin; select 1; commit").len().to_string() } else { wire.value(PID) };
            assert!(round == 1 || asked == told(wire), "round {round}");
        }
    }
    assert_eq!(dev.metric(PINNED), 6);
    // There is no room for a seventh: it shares one with somebody.
    let seventh = Wire::open(dev.acme());
    assert!(pids.contains(&told(&seventh)));
    drop(clients);
    let mut wire = seventh;
    assert_eq!(wire.value(PID), told(&wire));
}

#[test]
fn what_is_asked_once_stays_so_whatever_others_do() {
    let dev = Dev::start(&["--pool-size", "3"]);
    dev.make_process_id();
    let mut wire = Wire::open(dev.acme());
    let mut others: Vec<Wire> = (0..8).map(|_| Wire::open(dev.acme())).collect();
    assert_eq!(wire.value(PID), told(&wire));
    for round in 0..40 {
        let other = &mut others[round % 8];
        assert_ne!(other.value("select process_id()"), told(&wire));
        assert_eq!(wire.value("select process_id()"), told(&wire), "round {round}");
    }
}

#[test]
fn a_client_that_is_elsewhere_goes_home_to_be_asked() {
    let dev = Dev::start(&["--pool-size", "2"]);
    dev.make_process_id();
    // Of four clients each process id is two's.
    let mut clients: Vec<Wire> = (0..4).map(|_| Wire::open(dev.acme())).collect();
    let first = told(&clients[0]);
    let at = (1..4).find(|at| told(&clients[*at]) == first).unwrap();
    let mut mate = clients.remove(at);
    let mut wire = clients.remove(0);
    // While its home is another's, it is elsewhere.
    mate.query("begin");
    assert_eq!(mate.value("select process_id()"), first);
    assert_ne!(wire.value("select process_id()"), first);
    mate.query("commit");
    // Both are free now, and the other one was used last.
    assert_eq!(wire.value(PID), first);
    assert_eq!(wire.value("select process_id()"), first);
}

#[test]
fn a_home_that_another_keeps_is_not_waited_for_to_the_end() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let mut clients: Vec<Wire> = (0..3).map(|_| Wire::open(dev.acme())).collect();
    let mut third = clients.pop().unwrap();
    let pids = clients.iter().map(told).collect::<Vec<_>>();
    let at = pids.iter().position(|pid| *pid == told(&third)).unwrap_or_else(|| panic!("{} of {pids:?}", told(&third)));
    let mut mate = clients.swap_remove(at);
    // Two connections of one request: the one waits for the other.
    mate.query("begin");
    assert_eq!(mate.value(PID), told(&mate));
    let elsewhere = third.value(PID);
    assert_ne!(elsewhere, told(&third));
    mate.query("commit");
    // What it has seen doesn't change any more.
    assert_eq!(third.value(PID), elsewhere);
}

#[test]
fn clients_that_only_know_their_process_id_starve_nobody() {
    let dev = Dev::start(&["--pool-size", "1"]);
    let mut clients: Vec<Wire> =
        (0..6).map(|each| Wire::open(if each % 2 == 0 { dev.acme() } else { dev.globex() })).collect();
    for _ in 0..3 {
        for wire in &mut clients {
            assert_eq!(wire.value(PID), told(wire));
        }
    }
    // Nor do they when they do something all the time.
    thread::scope(|scope| {
        for wire in &mut clients {
            scope.spawn(move || {
                for _ in 0..200 {
                    assert_eq!(wire.value(PID), told(wire));
                }
            });
        }
    });
}

#[test]
fn a_pinned_client_is_at_home_and_ends_with_its_server_process() {
    let dev = Dev::start(&["--pool-size", "3"]);
    let (mut bystander, mut wire) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    bystander.query("select 1");
    wire.query("select 1");
    wire.query("listen news");
    assert_eq!(wire.value(PID), told(&wire));
    let mut asks = Wire::open(dev.globex());
    asks.value(PID);
    for wire in [&mut wire, &mut asks] {
        assert_eq!(dev.admin().value(&format!("select pg_terminate_backend({})", told(wire))), "t");
        assert!(wire.until(b'E').ends_with("E(57P01)"));
        assert_eq!(wire.read(), None);
    }
    assert_eq!(bystander.value("select 1"), "1");
}

#[test]
fn cancels_reach_each_its_own_of_those_that_share_a_process_id() {
    let dev = Dev::start(&["--pool-size", "1"]);
    let (mut busy, other, stranger) = (Wire::open(dev.acme()), Wire::open(dev.acme()), Wire::open(dev.globex()));
    assert!(busy.key.0 == other.key.0 && other.key.0 == stranger.key.0);
    busy.send(&query("select pg_sleep(1)"));
    thread::sleep(Duration::from_millis(200));
    other.cancel(true);
    stranger.cancel(true);
    assert_eq!(busy.cycles(1), "T D() C(SELECT 1) Z(I)");
    busy.send(&query("select pg_sleep(30)"));
    thread::sleep(Duration::from_millis(200));
    busy.cancel(true);
    assert!(busy.cycles(1).ends_with("E(57014) Z(I)"));
}

#[test]
fn many_idle_clients_have_no_more_server_connections_than_there_may_be() {
    let dev = Dev::start(&["--pool-size", "3"]);
    let clients: Vec<Wire> = (0..120).map(|_| Wire::open(dev.acme())).collect();
    let pids: HashSet<String> = clients.iter().map(told).collect();
    assert_eq!(pids.len(), 3);
    let there = dev.admin().value("select count(*) from pg_stat_activity where usename = 'pgcordon_app'");
    assert_eq!(there, "3");
    // Each is as many clients' home as any other.
    for pid in &pids {
        assert_eq!(clients.iter().filter(|each| told(each) == *pid).count(), 40);
    }
}

#[test]
fn a_notification_has_the_senders_process_id_only_if_the_listener_sent_it() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let mut clients: Vec<Wire> = (0..3).map(|_| Wire::open(dev.acme())).collect();
    let mut mate = clients.pop().unwrap();
    let at = clients.iter().position(|each| told(each) == told(&mate)).unwrap();
    let mut wire = clients.swap_remove(at);
    // It listens where it isn't at home, for another is there.
    mate.query("begin; select 1");
    wire.query("listen news");
    mate.query("commit");
    let heard = |wire: &mut Wire| loop {
        let message = wire.read().expect("a message");
        if message.tag == b'A' {
            return i32::from_be_bytes(message.body[..4].try_into().unwrap());
        }
    };
    assert_eq!(wire.query("notify news"), "A C(NOTIFY) Z(I)".replace("A C(NOTIFY)", "C(NOTIFY) A"));
    wire.send(&query("notify news, 'own'"));
    assert_eq!(heard(&mut wire), wire.key.0);
    wire.until(b'Z');
    // The mate sends from the very process that the listener was told to be its own.
    assert_eq!(mate.value(PID), told(&wire));
    mate.query("notify news, 'theirs'");
    assert_ne!(heard(&mut wire), wire.key.0);
}

#[test]
fn a_home_that_is_gone_is_replaced_by_where_the_client_is_and_that_stays() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let mut wire = Wire::open(dev.acme());
    let gone = told(&wire);
    let mut admin = dev.admin();
    assert_eq!(admin.value(&format!("select pg_terminate_backend({gone}, 10000)")), "t");
    let now = wire.value(PID);
    assert_ne!(now, gone);
    for _ in 0..3 {
        wire.query("select 1");
        assert_eq!(wire.value(PID), now);
    }
}
