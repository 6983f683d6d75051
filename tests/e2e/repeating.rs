//! Texts that come again and again without a name are prepared under one. Whatever is altered meanwhile, by clients of the proxy or beside
//! it, each answer is the one that Postgres gives to a text that it reads anew.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, bind, describe, execute, extended, parse, sync};

/// Often enough for a name, and for a plan that is made once for all values (Postgres docs, PREPARE).
const OFTEN: usize = 9;

/// What drivers send for a query without a name.
fn cycle(sql: &str, values: &[&str]) -> Vec<u8> {
    [parse("", sql), bind("", "", values), describe(b'P', ""), execute("", 0), sync()].concat()
}

fn run(wire: &mut Wire, sql: &str, values: &[&str]) -> String {
    wire.send(&cycle(sql, values));
    wire.cycles(1)
}

/// How many statements the client's server connection has that were prepared from this text.
fn prepared(wire: &mut Wire, sql: &str) -> String {
    wire.value(&format!("select count(*) from pg_prepared_statements where statement = '{}'", sql.replace('\'', "''")))
}

#[test]
fn what_reads_is_prepared_and_what_postgres_reads_anew_each_time_isnt() {
    let dev = Dev::start(&["--pool-size", "1"]);
    let mut system = Wire::open(dev.system());
    system.query("create table r (id int primary key, a text); insert into r values (1, 'one'), (2, 'two')");
    system.query("create sequence r_s");
    // What is new is known to the proxy a moment later.
    let known = "select a from r where id = 2";
    let is_known = (0..1000).any(|_| {
        thread::sleep(std::time::Duration::from_millis(10));
        run(&mut system, known, &[]);
        prepared(&mut system, known) == "1"
    });
    assert!(is_known);
    let mut acme = Wire::open(dev.acme());
    let names = "select name from \"Segment\" where id = $1";
    let nobody = "00000000-0000-4000-8000-000000000000";
    for _ in 0..OFTEN {
        assert_eq!(run(&mut acme, names, &[nobody]), "1 2 T C(SELECT 0) Z(I)");
    }
    for (sql, is_prepared) in [
        ("select a from r where id = 1", "1"),
        ("select count(*) from r", "1"),
        ("select now() > 'now'::timestamptz", "0"),
        ("select 'r'::regclass", "0"),
        ("select * from r for update", "0"),
        ("select nextval('r_s')", "0"),
        ("insert into r values (3, 'three') on conflict do nothing", "0"),
    ] {
        for _ in 0..OFTEN {
            run(&mut system, sql, &[]);
        }
        assert_eq!(prepared(&mut system, sql), is_prepared, "{sql}");
    }
}

#[test]
fn whatever_is_altered_the_next_answer_is_as_of_then() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let (mut system, mut other, mut admin) = (Wire::open(dev.system()), Wire::open(dev.system()), dev.admin());
    for beside in [false, true] {
        let mut alter = |sql: &str| {
            let told = if beside { admin.query(sql) } else { other.query(sql) };
            assert!(!told.contains("E("), "{sql}: {told}");
        };
        alter(
            "drop table if exists r; create table r (id int primary key, a text); insert into r values (1, '01'), (2, '2')",
        );
        if beside {
            alter("alter table r owner to pgcordon_owner; grant all on r to pgcordon_system");
        }
        let all = "select * from r where id = $1";
        let often = |system: &mut Wire, sql: &str, values: &[&str], answer: &str| {
            for _ in 0..OFTEN {
                assert_eq!(run(system, sql, values), answer, "{sql}, beside: {beside}");
            }
        };
        often(&mut system, all, &["1"], "1 2 T D(1|01) C(SELECT 1) Z(I)");
        alter("alter table r add b int default 7");
        often(&mut system, all, &["1"], "1 2 T D(1|01|7) C(SELECT 1) Z(I)");
        alter("alter table r drop column b");
        often(&mut system, all, &["2"], "1 2 T D(2|2) C(SELECT 1) Z(I)");
        let by_a = "select id from r where a = $1";
        often(&mut system, by_a, &["1"], "1 2 T C(SELECT 0) Z(I)");
        alter("alter table r alter a type int using a::int");
        often(&mut system, by_a, &["1"], "1 2 T D(1) C(SELECT 1) Z(I)");
        alter("alter table r rename to gone");
        often(&mut system, by_a, &["1"], "E(42P01) Z(I)");
        alter("alter table gone rename to r");
        often(&mut system, by_a, &["2"], "1 2 T D(2) C(SELECT 1) Z(I)");
        assert_eq!(run(&mut system, by_a, &["x"]), "1 E(22P02) Z(I)", "an error of the client's own");
        often(&mut system, by_a, &["2"], "1 2 T D(2) C(SELECT 1) Z(I)");
    }
}

#[test]
fn no_alteration_beside_the_proxy_makes_an_error_that_postgres_would_have_spared() {
    let dev = Dev::start(&["--pool-size", "4"]);
    let mut system = Wire::open(dev.system());
    system.query("create table r (id int primary key, a text); insert into r values (1, '1')");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut wire, mut answers) = (Wire::open(dev.system()), [0_usize; 2]);
                    while !stop.load(Ordering::Relaxed) {
                        let answer = run(&mut wire, "select * from r where id = $1", &["1"]);
                        let columns = ["1 2 T D(1|1) C(SELECT 1) Z(I)", "1 2 T D(1|1|7) C(SELECT 1) Z(I)"];
                        let which = columns.iter().position(|each| *each == answer);
                        answers[which.unwrap_or_else(|| panic!("{answer}"))] += 1;
                    }
                    answers
                })
            })
            .collect();
        let mut admin = dev.admin();
        for _ in 0..60 {
            for sql in ["alter table r add b int default 7", "alter table r drop column b"] {
                assert!(!admin.query(sql).contains("E("), "{sql}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            let answers = client.join().unwrap();
            assert!(answers.iter().all(|each| *each > 0), "{answers:?}");
        }
    });
}

#[test]
fn what_is_taken_away_behind_the_proxys_back_is_made_again() {
    let dev = Dev::start(&["--pool-size", "1"]);
    let mut system = Wire::open(dev.system());
    system.query("create table r (id int primary key); insert into r values (1)");
    system.query(
        "create function take_away() returns void language plpgsql as $$ begin execute 'deallocate all'; end $$",
    );
    for _ in 0..3 {
        for _ in 0..OFTEN {
            assert_eq!(run(&mut system, "select id from r", &[]), "1 2 T D(1) C(SELECT 1) Z(I)");
        }
        system.query("select take_away()");
    }
}

#[test]
fn a_cancel_is_heard_once_and_what_waits_behind_a_lock_is_as_of_its_end() {
    let dev = Dev::start(&["--pool-size", "3"]);
    let (mut system, mut admin) = (Wire::open(dev.system()), dev.admin());
    system.query("create table r (id int primary key, a text); insert into r values (1, '1')");
    let all = "select * from r";
    for _ in 0..OFTEN {
        run(&mut system, all, &[]);
    }
    admin.query("begin; lock table r in access exclusive mode");
    system.send(&cycle(all, &[]));
    thread::sleep(std::time::Duration::from_millis(100));
    system.cancel(true);
    assert!(system.cycles(1).ends_with("E(57014) Z(I)"));
    system.send(&cycle(all, &[]));
    thread::sleep(std::time::Duration::from_millis(100));
    admin.query("alter table r add b int default 7");
    admin.query("commit");
    assert_eq!(system.cycles(1), "1 2 T D(1|1|7) C(SELECT 1) Z(I)");
    // In a transaction of its own making it sees what it altered, and behind a rollback what was before.
    system.query("begin; alter table r drop column b");
    system.send(&extended(all, &[]));
    assert_eq!(system.cycles(1), "1 2 D(1|1) C(SELECT 1) Z(T)");
    system.query("rollback");
    assert_eq!(run(&mut system, all, &[]), "1 2 T D(1|1|7) C(SELECT 1) Z(I)");
}

#[test]
fn it_can_be_turned_off() {
    let config = std::env::temp_dir().join(format!("pgcordon-repeating-{}.toml", std::process::id()));
    std::fs::write(&config, "[pool]\nprepare_repeated = false\n").unwrap();
    let dev = Dev::start(&["--pool-size", "1", "--config", config.to_str().unwrap()]);
    let mut system = Wire::open(dev.system());
    system.query("create table r (id int primary key)");
    for _ in 0..OFTEN {
        run(&mut system, "select id from r", &[]);
    }
    assert_eq!(prepared(&mut system, "select id from r"), "0");
    let _ = std::fs::remove_file(config);
}
