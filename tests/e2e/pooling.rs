//! More clients than connections: turns, time limits, and what stays with a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::Wire;

#[test]
fn whoever_waits_too_long_is_told_and_may_ask_again() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("short.toml");
    std::fs::write(&config, "[pool]\nwait_timeout_ms = 200\n").unwrap();
    let dev = Dev::start(&["--pool-size", "1", "--config", config.to_str().unwrap()]);
    let (mut holder, mut waiter) = (Wire::open(dev.acme()), Wire::open(dev.globex()));
    assert_eq!(holder.query("begin"), "C(BEGIN) Z(T)");
    assert_eq!(waiter.query("select 1"), "E(53300) Z(I)");
    assert_eq!(holder.query("commit"), "C(COMMIT) Z(I)");
    assert_eq!(waiter.query("select 1"), "T D(1) C(SELECT 1) Z(I)");
}

#[test]
fn a_busy_workspace_leaves_turns_to_another() {
    let dev = Dev::shared(1);
    let stop = Arc::new(AtomicBool::new(false));
    let many = Arc::new(AtomicUsize::new(0));
    let crowd: Vec<_> = (0..20)
        .map(|_| {
            let (mut wire, stop, many) = (Wire::open(dev.acme()), stop.clone(), many.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    wire.query("select pg_sleep(0.001)");
                    many.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut one = Wire::open(dev.globex());
    for _ in 0..30 {
        assert_eq!(one.query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    }
    let theirs = many.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    crowd.into_iter().for_each(|each| each.join().unwrap());
    // In turns of a few milliseconds, 30 turns of one are at most some hundreds of short statements of the others.
    assert!(theirs < 600, "the crowd had {theirs} turns for 30 of the other");
}

/// Two workspaces on one connection, whose clients ask again as soon as they are answered. Each sees its own rows, also a second one
/// of the other workspace that comes while the connection is kept; both have their turns, but the connection doesn't change hands
/// for each transaction.
#[test]
fn who_comes_back_at_once_finds_its_connection_though_another_workspace_waits() {
    const EACH: usize = 1_000;
    let dev = Dev::start(&["--pool-size", "1"]);
    let clients = [(dev.acme(), "acme", 0), (dev.globex(), "globex", 0), (dev.globex(), "globex", 1)].map(
        |(dsn, name, pause)| {
            let mut wire = Wire::open(dsn);
            wire.query(&format!("insert into \"Segment\" (name) values ('of {name}')"));
            (wire, format!("T D(of {name}) C(SELECT 1) Z(I)"), Duration::from_millis(pause))
        },
    );
    let clears = "pgcordon_server_clears_total{database=\"app\",role=\"pgcordon_app\"}";
    let before = dev.metric(clears);
    let asking = clients.map(|(mut wire, own, pause)| {
        let asked = "select distinct name from \"Segment\" where name like 'of %'";
        let ask = move |_: &usize| {
            thread::sleep(pause);
            wire.query(asked) == own
        };
        thread::spawn(move || (0..EACH).filter(ask).count())
    });
    asking.into_iter().for_each(|each| assert_eq!(each.join().unwrap(), EACH));
    let changes = dev.metric(clears) - before;
    assert!(changes >= 4, "both had turns: {changes} changes");
    // One for each transaction, without this.
    assert!(changes < EACH as u64, "{changes} changes for {} transactions", 3 * EACH);
}

#[test]
fn a_setting_is_its_clients_own_and_stays_with_it() {
    let dev = Dev::shared(1);
    let (mut one, mut two) = (Wire::open(dev.acme()), Wire::open_with(dev.acme(), &[("application_name", "two")]));
    one.query("set work_mem = '7MB'");
    one.query("begin; set search_path = pg_catalog; commit");
    one.query("begin; set lock_timeout = 5; rollback");
    assert_eq!(two.value("show work_mem"), "4MB");
    assert_eq!(two.value("show search_path"), "\"$user\", public");
    assert_eq!(two.value("show application_name"), "two");
    for _ in 0..2 {
        assert_eq!(one.value("show work_mem"), "7MB");
        assert_eq!(one.value("show search_path"), "pg_catalog");
        assert_eq!(one.value("show lock_timeout"), "0");
        assert_eq!(one.value("show application_name"), "");
        assert_eq!(two.value("show work_mem"), "4MB");
    }
    // Since Postgres 18 a change of search_path is reported.
    let reset = one.query("reset all");
    assert_eq!(reset.replace("S(search_path=\"$user\", public) ", ""), "C(RESET) Z(I)");
    assert_eq!(one.value("show work_mem"), "4MB");
    assert_eq!(one.value("select count(*) > 0 from \"Segment\""), "t", "the workspace isn't lost with the settings");
}

#[test]
fn a_client_that_was_pinned_gives_its_connection_back_clean() {
    let dev = Dev::shared(1);
    {
        let mut pinned = Wire::open(dev.acme());
        pinned.query("prepare p as select 1");
        pinned.query("select pg_advisory_lock(4711)");
        assert_eq!(pinned.query("execute p"), "T D(1) C(SELECT 1) Z(I)");
        pinned.hang_up();
    }
    let mut next = Wire::open(dev.acme());
    assert_eq!(next.query("execute p"), "E(26000) Z(I)");
    assert_eq!(dev.admin().value("select count(*) from pg_locks where locktype = 'advisory' and objid = 4711"), "0");
}

#[test]
fn two_connections_of_one_request_dont_deadlock() {
    let dev = Dev::shared(2);
    let (mut first, mut second) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    assert_eq!(first.query("begin"), "C(BEGIN) Z(T)");
    assert_eq!(second.query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    assert_eq!(first.query("commit"), "C(COMMIT) Z(I)");
}

/// What keeps a server connection to its client, and how the client sees that it has it.
const KEPT: [(&str, &str, &str); 5] = [
    ("create temp table kept (a int)", "select count(*) from kept", "0"),
    ("load 'plpgsql'", "show plpgsql.variable_conflict", "error"),
    ("begin; declare c scroll cursor with hold for select 7; commit", "fetch absolute 1 from c", "7"),
    ("prepare p as select 8", "execute p", "8"),
    ("select pg_advisory_lock(9)", "select count(*) from pg_locks where objid = 9 and pid = pg_backend_pid()", "1"),
];

#[test]
fn two_connections_of_one_request_dont_deadlock_either_when_they_are_kept() {
    let dev = Dev::start(&["--pool-size", "2", "--superuser-key"]);
    let url = dev.text("/superuser/dsn");
    // With them there are more clients than process ids, and the two may have been told the same.
    let mut idle: Vec<Wire> = (0..3).map(|_| Wire::open(url)).collect();
    for (keep, look, seen) in KEPT {
        let (mut first, mut second) = (Wire::open(url), Wire::open(url));
        // Kept before the other begins, and while the other is in a transaction.
        first.query(keep);
        assert_eq!(second.query("begin"), "C(BEGIN) Z(T)", "{keep}");
        assert_eq!(first.value(look), seen, "{keep}");
        assert_eq!(second.value("select 1"), "1", "{keep}");
        first.query("discard all");
        first.query(keep);
        assert_eq!(first.value(look), seen, "{keep}");
        assert_eq!(second.query("commit"), "C(COMMIT) Z(I)", "{keep}");
        // Whoever else there is shares the other connection.
        for each in &mut idle {
            assert_eq!(each.value("select 1"), "1", "{keep}");
        }
        // Kept by one that is in a transaction, with the other between its statements.
        assert_eq!(second.query("begin"), "C(BEGIN) Z(T)", "{keep}");
        second.query("create temp table others (a int)");
        assert_eq!(first.value(look), seen, "{keep}");
        assert_eq!(second.query("commit"), "C(COMMIT) Z(I)", "{keep}");
        assert_eq!((first.value(look).as_str(), second.value("select count(*) from others").as_str()), (seen, "0"));
        second.query("discard all");
        assert_eq!(idle[0].value("select 1"), "1", "{keep}");
        first.hang_up();
    }
}

#[test]
fn who_finds_every_connection_kept_is_told_and_the_others_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("short.toml");
    std::fs::write(&config, "[pool]\nwait_timeout_ms = 500\n").unwrap();
    let dev = Dev::start(&["--pool-size", "2", "--superuser-key", "--config", config.to_str().unwrap()]);
    let url = dev.text("/superuser/dsn");
    // Of one advisory lock the second would wait inside Postgres.
    for (keep, look, seen) in KEPT.into_iter().filter(|each| !each.0.contains("lock")) {
        // Two requests with one connection each; both want a second.
        let (mut first, mut second) = (Wire::open(url), Wire::open(url));
        let (mut of_first, mut of_second) = (Wire::open(url), Wire::open(url));
        first.query(keep);
        second.query(keep);
        assert_eq!(of_first.query("select 1"), "E(53300) Z(I)", "{keep}");
        assert_eq!(of_second.query("select 1"), "E(53300) Z(I)", "{keep}");
        assert_eq!((first.value(look).as_str(), second.value(look).as_str()), (seen, seen), "{keep}");
        // As soon as one gives up what it keeps, both go on.
        second.query("discard all");
        assert_eq!((of_first.value("select 1").as_str(), of_second.value("select 1").as_str()), ("1", "1"), "{keep}");
        assert_eq!(first.value(look), seen, "{keep}");
        first.hang_up();
    }
}

#[test]
fn an_idle_client_holds_no_connection() {
    let dev = Dev::shared(1);
    let idle: Vec<Wire> = (0..50).map(|_| Wire::open(dev.acme())).collect();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(Wire::open(dev.globex()).value("select 1"), "1");
    drop(idle);
}

#[test]
fn a_client_that_keeps_its_connection_is_heard_after_a_reset() {
    let dev = Dev::shared(1);
    for (keep, reset, let_go) in [
        ("begin", "reset all", "rollback"),
        ("begin", "deallocate all", "commit"),
        ("listen a", "reset all", "discard all"),
        ("prepare p as select 1", "deallocate all", "discard all"),
    ] {
        let mut wire = Wire::open(dev.acme());
        wire.query(keep);
        wire.query(reset);
        assert!(wire.query("select 1").starts_with("T D(1)"), "{keep}; {reset}");
        wire.query(let_go);
        assert_eq!(Wire::open(dev.globex()).value("select 1"), "1", "{keep}; {reset}; {let_go}");
        // And when it just leaves.
        wire.query(keep);
        wire.query(reset);
        wire.hang_up();
        assert_eq!(Wire::open(dev.globex()).value("select 1"), "1", "{keep}; {reset}");
    }
}
