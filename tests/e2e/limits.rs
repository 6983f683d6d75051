//! What one workspace may take of what all share. Bounds of time are short here, and nothing is asserted of how long anything took.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{self, Wire};

/// A proxy with these limits. The guard is off, for it is no limit.
fn limited(pool_size: usize, limits: &str) -> (Dev, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("limits.toml");
    std::fs::write(&file, format!("[limits]\n{limits}\n")).unwrap();
    let size = pool_size.to_string();
    let dev = Dev::start(&["--pool-size", &size, "--no-guard", "--config", file.to_str().unwrap()]);
    (dev, directory)
}

/// The last word of a session that is ended.
fn last_word(wire: &mut Wire) -> (String, String) {
    let error = wire.read().expect("a last word");
    assert_eq!(error.tag, b'E');
    assert!(wire.read().is_none(), "nothing follows");
    (error.field(b'C').unwrap(), error.field(b'M').unwrap())
}

/// Waits for what is to come, for a minute at most.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let came = (0..6000).any(|_| {
        let is_so = is_so();
        if !is_so {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        is_so
    });
    assert!(came, "{what}");
}

fn is_answered(wire: &mut Wire, sql: &str) -> bool {
    let said = wire.query(sql);
    said.ends_with("C(SELECT 1) Z(I)")
}

/// Waits until Postgres has so many processes of the tenants' role.
fn await_processes(admin: &mut Wire, wanted: &str) {
    let processes = "select count(*) from pg_stat_activity where usename = 'pgcordon_app'";
    eventually("the server processes", || admin.value(processes) == wanted);
}

#[test]
fn a_statement_has_its_time_whatever_the_tenant_sets() {
    let (dev, _directory) = limited(2, "statement_timeout_ms = 300");
    let mut wire = Wire::open(dev.acme());
    wire.query("set statement_timeout = 0");
    wire.send(&wire::query("select pg_sleep(3600)"));
    let error = std::iter::from_fn(|| wire.read()).find(|message| message.tag == b'E').unwrap();
    assert_eq!(error.field(b'C').as_deref(), Some("57014"));
    assert_eq!(error.field(b'M').as_deref(), Some("pgcordon: canceling statement due to limits.statement_timeout_ms"));
    assert_eq!(wire.until(b'Z'), "Z(I)");
    // Shorter ones go on, in a transaction as well, and the session is as it was.
    assert_eq!(wire.query("select pg_sleep(0.01)"), "T D() C(SELECT 1) Z(I)");
    assert_eq!(wire.value("show statement_timeout"), "0");
    // In the extended protocol, with others behind it.
    wire.send(&[wire::extended("select pg_sleep(3600)", &[]), wire::extended("select 1", &[])].concat());
    assert_eq!(wire.cycles(2), "1 2 E(57014) Z(I) 1 2 D(1) C(SELECT 1) Z(I)");
    assert_eq!(dev.metric("pgcordon_limits_reached_total{limit=\"statement_timeout\"}"), 2);
    // A cancel of the client's own says what Postgres says.
    let (dev, _directory) = limited(2, "statement_timeout_ms = 0");
    let mut wire = Wire::open(dev.acme());
    wire.send(&wire::query("select pg_sleep(3600)"));
    await_running(&mut dev.admin(), "%3600%");
    wire.cancel(true);
    let error = std::iter::from_fn(|| wire.read()).find(|message| message.tag == b'E').unwrap();
    assert_eq!(error.field(b'M').as_deref(), Some("canceling statement due to user request"));
}

fn await_running(admin: &mut Wire, like: &str) {
    let running = format!(
        "select count(*) from pg_stat_activity where state = 'active' and query like '{like}' and pid <> pg_backend_pid()"
    );
    eventually("it runs", || admin.value(&running) != "0");
}

#[test]
fn many_short_statements_are_no_long_one_and_many_transactions_no_long_one_either() {
    let (dev, _directory) = limited(2, "statement_timeout_ms = 600\ntransaction_timeout_ms = 600");
    let mut wire = Wire::open(dev.acme());
    let cycle = wire::extended("select pg_sleep(0.05)", &[]);
    wire.send(&cycle.repeat(30));
    let answered = wire.cycles(30);
    assert!(!answered.contains("E("), "{answered}");
    // In one transaction they are as many, as far as Postgres tells: what it answers it keeps until a Flush or Sync.
    let (other, _directory) = limited(2, "statement_timeout_ms = 600");
    let mut one = Wire::open(other.acme());
    let sleep =
        [wire::parse("", "select pg_sleep(0.05)"), wire::bind("", "", &[]), wire::execute("", 0), wire::flush()]
            .concat();
    one.send(&[sleep.repeat(30), wire::sync()].concat());
    let answered = one.cycles(1);
    assert!(!answered.contains("E("), "{answered}");
    // Pinned, its transactions are told apart too.
    wire.query("listen news");
    for _ in 0..30 {
        assert_eq!(wire.query("select pg_sleep(0.05)"), "T D() C(SELECT 1) Z(I)");
    }
}

#[test]
fn a_transaction_has_its_time_and_a_client_in_it_may_not_sleep() {
    let (dev, _directory) = limited(2, "idle_in_transaction_timeout_ms = 300");
    let mut wire = Wire::open(dev.acme());
    wire.query("set idle_in_transaction_session_timeout = 0");
    assert_eq!(wire.query("begin"), "C(BEGIN) Z(T)");
    let (code, text) = last_word(&mut wire);
    assert_eq!(
        (code.as_str(), text.as_str()),
        ("25P03", "pgcordon: terminating connection due to limits.idle_in_transaction_timeout_ms")
    );
    // So does one that leaves a cycle open, without a transaction of its own.
    let mut wire = Wire::open(dev.acme());
    wire.send(&[wire::parse("", "select 1"), wire::bind("", "", &[]), wire::execute("", 0), wire::flush()].concat());
    assert_eq!(wire.until(b'C'), "1 2 D(1) C(SELECT 1)");
    assert_eq!(last_word(&mut wire).0, "25P03");
    // And one that listens doesn't: that is no transaction.
    let mut listener = Wire::open(dev.acme());
    listener.query("listen news");
    let mut other = Wire::open(dev.acme());
    other.query("begin");
    let reached = "pgcordon_limits_reached_total{limit=\"idle_in_transaction_timeout\"}";
    eventually("the other is ended", || dev.metric(reached) == 3);
    assert!(listener.query("select 1") == "T D(1) C(SELECT 1) Z(I)");

    let (dev, _directory) = limited(2, "transaction_timeout_ms = 400");
    let mut wire = Wire::open(dev.acme());
    wire.query("begin");
    // Busy all the time.
    let end = loop {
        wire.send(&wire::query("select 1"));
        match std::iter::from_fn(|| wire.read()).find(|message| matches!(message.tag, b'E' | b'Z')) {
            Some(message) if message.tag == b'Z' => {}
            other => break other.expect("a last word"),
        }
    };
    assert_eq!(end.field(b'C').as_deref(), Some("25P04"));
    await_processes(&mut dev.admin(), "0");
}

#[test]
fn a_client_that_is_still_sending_does_something() {
    let (dev, _directory) = limited(2, "idle_in_transaction_timeout_ms = 400");
    let mut wire = Wire::open(dev.acme());
    assert_eq!(wire.query("begin"), "C(BEGIN) Z(T)");
    // Longer than what is read before it is passed on.
    let long = wire::query(&format!("select length('{}')", "x".repeat(3 << 20)));
    for piece in long.chunks(long.len() / 12) {
        wire.send(piece);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(wire.until(b'Z'), "T D(3145728) C(SELECT 1) Z(T)");
    assert_eq!(wire.query("commit"), "C(COMMIT) Z(I)");
}

#[test]
fn waiting_for_a_lock_has_its_time() {
    let (dev, _directory) = limited(4, "lock_timeout_ms = 300");
    let (mut holder, mut waiter) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    let insert = "insert into \"Segment\" (name) values ('locked')";
    assert_eq!(holder.query(insert), "C(INSERT 0 1) Z(I)");
    let update = "update \"Segment\" set name = 'other' where name = 'locked'";
    assert_eq!(holder.query(&format!("begin; {update}")), "C(BEGIN) C(UPDATE 1) Z(T)");
    waiter.query("set lock_timeout = 0");
    waiter.send(&wire::query(update));
    let error = std::iter::from_fn(|| waiter.read()).find(|message| message.tag == b'E').unwrap();
    assert_eq!(error.field(b'C').as_deref(), Some("55P03"));
    assert_eq!(error.field(b'M').as_deref(), Some("pgcordon: canceling statement due to limits.lock_timeout_ms"));
    assert_eq!(waiter.until(b'Z'), "Z(I)");
    assert_eq!(holder.query("commit"), "C(COMMIT) Z(I)");
}

#[test]
fn a_lock_on_a_whole_table_keeps_no_other_workspace_waiting_for_long() {
    let (dev, _directory) = limited(6, "table_lock_timeout_ms = 300");
    let (mut hostile, mut victim) = (Wire::open(dev.acme()), Wire::open(dev.globex()));
    let honest = "select count(*) from \"Segment\"";
    // Held by a client that does nothing, held by one that is busy, and merely waited for, behind an honest reader.
    assert_eq!(hostile.query("begin; lock table \"Segment\""), "C(BEGIN) C(LOCK TABLE) Z(T)");
    assert!(is_answered(&mut victim, honest));
    assert_eq!(last_word(&mut hostile).0, "55P03");

    let mut hostile = Wire::open(dev.acme());
    hostile.query("begin; lock table \"Segment\"");
    hostile.send(&wire::query("select pg_sleep(3600)"));
    assert!(is_answered(&mut victim, honest));
    assert_eq!(hostile.until(b'Z'), "T E(55P03) Z(E)");
    hostile.query("rollback");

    let mut reader = Wire::open(dev.globex());
    assert!(reader.query(&format!("begin; {honest}")).starts_with("C(BEGIN) T D("));
    hostile.send(&wire::query("begin; lock table \"Segment\""));
    let waits = "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'";
    let mut admin = dev.admin();
    eventually("it waits", || admin.value(waits) != "0");
    assert!(is_answered(&mut victim, honest));
    assert_eq!(hostile.until(b'Z'), "C(BEGIN) E(55P03) Z(E)");
    // The honest reader, for which the hostile client waited, wasn't touched.
    assert_eq!(reader.query("commit"), "C(COMMIT) Z(I)");
    let events =
        "select count(*) from cordon.audit_event where event_type = 'SUSPICIOUS_ACTIVITY' and sqlstate = '55P03'";
    eventually("it is recorded", || admin.value(events) == "3");
}

#[test]
fn rows_that_a_workspace_locks_are_its_own_affair() {
    let (dev, _directory) = limited(6, "table_lock_timeout_ms = 200");
    let (mut holder, mut waiter) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    holder.query("insert into \"Segment\" (name) values ('mine')");
    holder.query("begin; update \"Segment\" set name = 'changed' where name = 'mine'");
    waiter.send(&wire::query("update \"Segment\" set name = 'again' where name in ('mine', 'changed')"));
    let mut admin = dev.admin();
    // As long as this takes, the watch has looked many times.
    let waits = "select count(*) from pg_locks where not granted and clock_timestamp() - waitstart > '1 s'";
    eventually("it waits for long", || admin.value(waits) != "0");
    assert_eq!(holder.query("commit"), "C(COMMIT) Z(I)");
    assert_eq!(waiter.until(b'Z'), "C(UPDATE 1) Z(I)");
}

#[test]
fn who_holds_more_than_its_share_and_does_nothing_with_it_gives_one_up() {
    let (dev, _directory) = limited(4, "share_timeout_ms = 300");
    let mut hostile: Vec<Wire> = (0..3).map(|_| Wire::open(dev.acme())).collect();
    hostile.iter_mut().for_each(|each| assert_eq!(each.query("begin"), "C(BEGIN) Z(T)"));
    let (mut second, mut victim) = (Wire::open(dev.globex()), Wire::open(dev.globex()));
    assert_eq!(second.query("begin"), "C(BEGIN) Z(T)");
    assert_eq!(victim.query("begin"), "C(BEGIN) Z(T)");
    // One, and no other: nobody has more than its share now, and nobody has nothing.
    let said: Vec<String> = hostile.iter_mut().map(|each| each.query("commit")).collect();
    assert_eq!(said.iter().filter(|said| said.starts_with("E(25P03)")).count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|said| *said == "C(COMMIT) Z(I)").count(), 2, "{said:?}");
    for wire in [&mut second, &mut victim] {
        assert_eq!(wire.query("commit"), "C(COMMIT) Z(I)");
    }
}

#[test]
fn a_pool_that_one_workspace_fills_is_not_closed_to_another() {
    let (dev, _directory) = limited(1, "share_timeout_ms = 200");
    let mut hostile = Wire::open(dev.acme());
    hostile.query("begin");
    let mut victim = Wire::open(dev.globex());
    assert_eq!(victim.query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    assert_eq!(last_word(&mut hostile).0, "25P03");
    // Nor for what a client keeps without a transaction.
    let mut hostile = Wire::open(dev.acme());
    assert_eq!(hostile.query("listen news"), "C(LISTEN) Z(I)");
    assert_eq!(victim.query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    let (code, text) = last_word(&mut hostile);
    assert_eq!(code, "57P05");
    assert!(text.starts_with("pgcordon: others wait for a server connection"), "{text}");
}

#[test]
fn workspaces_that_keep_themselves_busy_dont_shut_one_out_that_has_nothing() {
    let (dev, _directory) = limited(2, "share_timeout_ms = 200");
    // Both of the pool's, by one statement each that goes on; in a transaction that is never idle; and pinned.
    let mut hostile = Wire::open(dev.acme());
    let mut another = Wire::open(dev.acme());
    let (slow, mut victim) = (wire::query("select pg_sleep(3600)"), Wire::open(dev.globex()));
    hostile.send(&slow);
    another.send(&slow);
    await_active(&mut dev.admin(), 2);
    assert_eq!(victim.query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    let said = [hostile.is_over(), another.is_over()];
    assert_eq!(said, [false, false], "they are only cancelled");
    let dev = &dev;
    for before in ["begin", "listen news"] {
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let mut busy = Wire::open(dev.acme());
                busy.query(before);
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) && !busy.query("select 1").ends_with("EOF") {
                    }
                });
            }
            let said = Wire::open(dev.globex()).query("select 1");
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(said, "T D(1) C(SELECT 1) Z(I)", "{before}");
        });
    }
}

#[test]
fn a_workspace_has_so_many_clients_and_another_one_is_let_in() {
    let (dev, _directory) = limited(2, "client_connections_max = 3");
    let mut clients: Vec<Wire> = (0..3).map(|_| Wire::open(dev.acme())).collect();
    let refused = Wire::try_open(dev.acme(), &[]).err().expect("one too many");
    assert_eq!(refused.field(b'C').as_deref(), Some("53300"));
    assert_eq!(refused.field(b'M').as_deref(), Some("pgcordon: too many connections for this workspace: 3 at most"));
    Wire::open(dev.globex());
    assert_eq!(dev.metric("pgcordon_limits_reached_total{limit=\"client_connections\"}"), 1);
    clients.pop().unwrap().hang_up();
    eventually("there is room again", || Wire::try_open(dev.acme(), &[]).is_ok());
}

/// A statement that Postgres doesn't interrupt, neither for a cancel request nor for a signal: libxml2 evaluates it, for a few
/// seconds.
const DEAF: &str = "select xpath('count(//a[count(//a[count(//a)>1])>1])', ('<r>'||repeat('<a/>',400)||'</r>')::xml)";

#[test]
fn statements_that_nobody_can_stop_are_never_more_than_the_workspaces_share_of_server_processes() {
    let dev = Dev::start(&["--pool-size", "4", "--no-guard"]);
    let mut admin = dev.admin();
    assert_eq!(Wire::open(dev.acme()).query(DEAF), "E(42501) Z(I)", "hardened");
    admin.query("grant execute on function xpath(text, xml), xpath(text, xml, text[]) to public");
    // Begun and left, as many as the workspace may have; and then as many again.
    for number in 1..=3 {
        let mut wire = Wire::open(dev.acme());
        wire.send(&wire::query(DEAF));
        await_active(&mut admin, number);
        wire.hang_up();
    }
    let more: Vec<Wire> = (0..3)
        .map(|_| {
            let mut wire = Wire::open(dev.acme());
            wire.send(&wire::query(DEAF));
            wire
        })
        .collect();
    let (waiting, ending) =
        (of_pool("pgcordon_clients_waiting", ""), of_pool("pgcordon_server_connections", ",state=\"ending\""));
    // As soon as those who left are gone, the others run if they may.
    eventually("they run or wait", || {
        let kept = dev.metric(&ending) == 3 && dev.metric(&waiting) == 3;
        kept || admin.value(ACTIVE).parse::<u32>().unwrap() > 3
    });
    assert_eq!(admin.value(ACTIVE), "3", "more than the workspace's share");
    drop(more);
    // Another workspace has its server connection all the while.
    assert_eq!(Wire::open(dev.globex()).query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    // When they are over their places are free again.
    eventually("their places are free again", || dev.metric(&ending) == 0);
    assert_eq!(Wire::open(dev.acme()).query("select 1"), "T D(1) C(SELECT 1) Z(I)");
}

/// A metric of the tenants' pool.
fn of_pool(name: &str, further: &str) -> String {
    format!("{name}{{database=\"app\",role=\"pgcordon_app\"{further}}}")
}

#[test]
fn a_function_that_catches_the_cancel_is_terminated_and_so_is_its_session() {
    let (dev, _directory) = limited(2, "statement_timeout_ms = 300");
    let mut admin = dev.admin();
    admin.query("grant usage on language plpgsql to public");
    let stubborn =
        "do $$ begin loop begin perform pg_sleep(3600); exception when query_canceled then null; end; end loop; end $$";
    let mut wire = Wire::open(dev.acme());
    wire.send(&wire::query(stubborn));
    let (code, text) = last_word(&mut wire);
    assert_eq!(
        (code.as_str(), text.as_str()),
        ("57014", "pgcordon: canceling statement due to limits.statement_timeout_ms")
    );
    await_processes(&mut admin, "0");
    // Left alone it ends as well.
    let mut wire = Wire::open(dev.acme());
    wire.send(&wire::query(stubborn));
    await_active(&mut admin, 1);
    wire.hang_up();
    await_processes(&mut admin, "0");
    assert_eq!(Wire::open(dev.acme()).query("select 1"), "T D(1) C(SELECT 1) Z(I)");
}

/// What runs for tenants.
const ACTIVE: &str = "select count(*) from pg_stat_activity where usename = 'pgcordon_app' and state = 'active'";

/// Waits until so many statements of tenants run.
fn await_active(admin: &mut Wire, least: u32) {
    eventually("they run", || admin.value(ACTIVE).parse::<u32>().unwrap() >= least);
}
