//! `currval()` and `lastval()` give a client its own numbers or none, and its own wherever an application relies on it.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, bind, execute, extended, function_call, parse, query, sync};

const PINNED: &str = "pgcordon_clients_pinned{reason=\"sequence\"}";
/// There is no number.
const NONE: &str = "T E(55000) Z(I)";
const LASTVAL: u32 = 2559;
const CURRVAL: &str = "select currval('item_id_seq')";

/// Two tenants with tables that count their rows' ids, and some server connections.
fn dev(pool_size: &str) -> Dev {
    let mut schema = tempfile::NamedTempFile::new().unwrap();
    schema
        .write_all(
            b"create table item (id bigserial, workspace_id uuid not null, name text, primary key (workspace_id, id));
              create table part (id bigint generated always as identity, workspace_id uuid not null, item bigint,
                                 primary key (workspace_id, id));
              create table plain (id uuid default gen_random_uuid(), workspace_id uuid not null, name text);
              create function add_item(called text) returns void language sql
                  as 'insert into item (name) values (called)';",
        )
        .unwrap();
    let dev = Dev::start(&["--pool-size", pool_size, "--schema", schema.path().to_str().unwrap()]);
    dev.admin().query("grant execute on all functions in schema public to public");
    dev
}

fn insert(wire: &mut Wire, name: &str) {
    assert_eq!(wire.query(&format!("insert into item (name) values ('{name}')")), "C(INSERT 0 1) Z(I)");
}

/// The number of a row with this name.
fn id(wire: &mut Wire, name: &str) -> String {
    wire.value(&format!("select id from item where name = '{name}'"))
}

#[test]
fn a_client_is_told_its_own_numbers_however_it_asks() {
    let dev = dev("3");
    let mut wire = Wire::open(dev.acme());
    assert_eq!(wire.query("select lastval()"), NONE);
    insert(&mut wire, "one");
    let one = id(&mut wire, "one");
    assert_eq!((wire.value("select lastval()"), wire.value(CURRVAL)), (one.clone(), one.clone()));
    wire.query("insert into part (item) values (currval('item_id_seq'))");
    assert_eq!(wire.value("select item from part"), one);
    wire.query("begin; insert into item (name) values ('two'); commit");
    let two = id(&mut wire, "two");
    wire.send(&extended("select lastval()", &[]));
    assert_eq!(wire.cycles(1), format!("1 2 D({two}) C(SELECT 1) Z(I)"));
    wire.send(
        &[parse("s", "select currval($1)"), sync(), bind("", "s", &["item_id_seq"]), execute("", 0), sync()].concat(),
    );
    assert_eq!(wire.cycles(2), format!("1 Z(I) 2 D({two}) C(SELECT 1) Z(I)"));
    wire.send(&function_call(LASTVAL, &[]));
    assert_eq!(wire.cycles(1), format!("V({two}) Z(I)"));
    let next = wire.value("select nextval('item_id_seq')");
    assert_eq!((wire.value(CURRVAL), wire.value("select lastval()")), (next.clone(), next));
}

/// What a client is told by another's numbers before anybody has asked.
fn after_a_stranger(stranger: impl Fn(&mut Wire), ask: &[u8], cycles: usize) -> String {
    let dev = dev("1");
    let (mut wire, mut other) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    insert(&mut wire, "mine");
    stranger(&mut other);
    wire.send(ask);
    wire.cycles(cycles)
}

#[test]
fn nobody_is_told_a_strangers_numbers() {
    let inserts = |other: &mut Wire| insert(other, "theirs");
    assert_eq!(after_a_stranger(inserts, &query("select lastval()"), 1), NONE);
    assert_eq!(after_a_stranger(inserts, &query(CURRVAL), 1), NONE);
    assert_eq!(after_a_stranger(inserts, &extended("select lastval()", &[]), 1), "1 2 E(55000) Z(I)");
    assert_eq!(after_a_stranger(inserts, &function_call(LASTVAL, &[]), 1), "E(55000) Z(I)");
    assert_eq!(after_a_stranger(inserts, &query("begin; select lastval()"), 1), "C(BEGIN) T E(55000) Z(E)");
    assert_eq!(
        after_a_stranger(inserts, &[query("begin"), query("select lastval()")].concat(), 2),
        "C(BEGIN) Z(T) T E(55000) Z(E)"
    );
    // By what no text shows.
    assert_eq!(
        after_a_stranger(
            |other| {
                other.value("select add_item('theirs')");
            },
            &query("select lastval()"),
            1
        ),
        NONE
    );
    // In the middle of a cycle Postgres can't be made to forget.
    let piped = [parse("", "select 1"), bind("", "", &[]), execute("", 0), extended("select lastval()", &[])].concat();
    assert_eq!(after_a_stranger(inserts, &piped, 1), "1 2 D(1) C(SELECT 1) E(55000) Z(I)");
    // A failed transaction isn't left by this.
    let dev = dev("1");
    let (mut wire, mut other) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    insert(&mut wire, "mine");
    insert(&mut other, "theirs");
    assert_eq!(wire.query("begin"), "C(BEGIN) Z(T)");
    assert_eq!(wire.query("select 1/0"), "E(22012) Z(E)");
    assert_eq!(wire.query("rollback; select lastval()"), "E(25P02) Z(E)");
    // What the same string takes is its own.
    let both = after_a_stranger(inserts, &query("insert into item (name) values ('again'); select lastval()"), 1);
    assert!(both.starts_with("C(INSERT 0 1) T D(") && both.ends_with(") C(SELECT 1) Z(I)"), "{both}");
}

#[test]
fn an_older_number_isnt_told_for_a_newer_one() {
    let dev = dev("2");
    dev.make_process_id();
    let (mut wire, mut other) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    other.query("select 1");
    insert(&mut wire, "first");
    let home = wire.value("select process_id()");
    // Its home is taken for a moment, so that its second row is written elsewhere.
    let mut holder = Wire::open(dev.acme());
    holder.query("begin");
    let mut second = Wire::open(dev.acme());
    if holder.value("select process_id()") != home {
        second.query("begin");
        assert_eq!(second.value("select process_id()"), home);
        holder.query("commit");
    }
    insert(&mut wire, "second");
    holder.query("commit");
    second.query("commit");
    let second = id(&mut wire, "second");
    let said = wire.query("select lastval()");
    assert!(said == NONE || said.contains(&format!("D({second})")), "{said}");
}

/// Clients that insert and then ask for the number of the row, as PDO's lastInsertId does. Returns how many were told that
/// there is none; a wrong one is a failure.
fn insert_and_ask(clients: &mut [Wire], rounds: usize, in_transaction: bool) -> usize {
    static ROW: AtomicUsize = AtomicUsize::new(0);
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for wire in clients {
            let refused = &refused;
            scope.spawn(move || {
                for round in 0..rounds {
                    let name = format!("row {}", ROW.fetch_add(1, Ordering::Relaxed));
                    let ask = if round % 2 == 0 { "select lastval()" } else { CURRVAL };
                    if in_transaction {
                        wire.query("begin");
                    }
                    wire.query(&format!("insert into item (name) values ('{name}')"));
                    let told = wire.query(ask);
                    if told.starts_with("T E(55000)") {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    if in_transaction {
                        wire.query("commit");
                    }
                    if !told.starts_with("T E(55000)") {
                        let own = id(wire, &name);
                        assert!(told.starts_with(&format!("T D({own}) C(SELECT 1)")), "{told} for {own}");
                    }
                }
            });
        }
    });
    refused.into_inner()
}

#[test]
fn forty_clients_on_four_connections_are_told_their_own_numbers() {
    let dev = dev("4");
    for (workspace, in_transaction) in [(dev.acme(), false), (dev.globex(), true)] {
        let mut clients: Vec<Wire> = (0..40).map(|_| Wire::open(workspace)).collect();
        // Nobody knows yet that they will ask. Each learns at most once that it has none.
        assert!(insert_and_ask(&mut clients, 2, in_transaction) <= 40);
        assert_eq!(insert_and_ask(&mut clients, 12, in_transaction), 0, "in a transaction: {in_transaction}");
        drop(clients);
        // As PHP does: a connection for each request.
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let mut wire = [Wire::open(workspace)];
                        assert_eq!(insert_and_ask(&mut wire, 2, in_transaction), 0);
                    }
                });
            }
        });
    }
}

#[test]
fn a_client_that_keeps_its_numbers_makes_way_for_others_and_stays_otherwise() {
    let dev = dev("1");
    let mut wire = Wire::open(dev.acme());
    insert(&mut wire, "mine");
    let mine = wire.value("select lastval()");
    assert_eq!(dev.metric(PINNED), 1);
    for _ in 0..3 {
        wire.query("select 1");
        assert_eq!(wire.value("select lastval()"), mine);
    }
    // Another workspace waits for the only connection there is.
    let mut other = Wire::open(dev.globex());
    assert_eq!(other.value("select count(*) from item"), "0");
    assert_eq!(wire.query("select lastval()"), NONE);
    insert(&mut wire, "another");
    assert_eq!(wire.value("select lastval()"), id(&mut wire, "another"));
}

#[test]
fn discarding_ends_it() {
    let dev = dev("2");
    for discard in ["discard sequences", "discard all"] {
        let mut wire = Wire::open(dev.acme());
        insert(&mut wire, discard);
        wire.value("select lastval()");
        assert_eq!(dev.metric(PINNED), 1, "{discard}");
        wire.query(discard);
        // It is told before its server connection is given back.
        assert!((0..1000).any(|_| dev.metric(PINNED) == 0), "{discard}");
        assert_eq!(wire.query("select lastval()"), NONE);
    }
}

#[test]
fn who_only_takes_numbers_is_kept_no_longer_than_that_is_tried_out() {
    let dev = dev("8");
    let mut clients: Vec<Wire> = (0..3).map(|_| Wire::open(dev.acme())).collect();
    // Whoever is told what was added needs no second question.
    clients[0].query("insert into item (name) values ('a row') returning id");
    clients[0].query("insert into plain (name) values ('a row')");
    assert_eq!(dev.metric(PINNED), 0);
    insert(&mut clients[0], "a row");
    assert_eq!(dev.metric(PINNED), 1);
    for _ in 0..40 {
        insert(&mut clients[1], "a row");
        clients[1].value("select nextval('item_id_seq')");
    }
    drop(clients);
    let mut clients: Vec<Wire> = (0..3).map(|_| Wire::open(dev.acme())).collect();
    for wire in &mut clients {
        insert(wire, "a row");
        wire.value("select nextval('item_id_seq')");
        assert_eq!(dev.metric(PINNED), 0);
    }
    clients[0].value("select lastval()");
    assert_eq!(dev.metric(PINNED), 1);
    // Reading and setting keep nobody either, but from now on writing does.
    assert_eq!(clients[1].value("select count(*) > 40 from item"), "t");
    clients[1].query("set work_mem = '7MB'");
    assert_eq!(dev.metric(PINNED), 1);
    clients[1].query("update item set name = 'another'");
    assert_eq!(dev.metric(PINNED), 2);
}

/// Runs each of these for the first client that asks in a workspace, on the only server connection there is, behind a stranger.
fn behind_a_stranger<T: ?Sized>(all: &[&T], run: impl Fn(&T, &mut Wire)) {
    for some in all.chunks(2) {
        let dev = dev("1");
        for (each, workspace) in some.iter().zip([dev.acme(), dev.globex()]) {
            let (mut wire, mut other) = (Wire::open(workspace), Wire::open(workspace));
            wire.send(&[parse("i", "insert into item (name) values ('mine')"), sync()].concat());
            assert_eq!(wire.cycles(1), "1 Z(I)");
            insert(&mut other, "theirs");
            run(each, &mut wire);
        }
    }
}

/// Inserts a row and asks for its number.
type Way<'a> = &'a dyn Fn(&mut Wire) -> String;

#[test]
fn the_first_question_of_all_is_answered_as_well() {
    const INSERT: &str = "insert into item (name) values ('mine')";
    let number =
        |said: &str| said.split("D(").nth(1).and_then(|rest| rest.split(')').next()).unwrap_or(said).to_owned();
    let lastval = |wire: &mut Wire| number(&wire.query("select lastval()"));
    let ways: [(&str, Way<'_>); 9] = [
        ("in autocommit", &|wire| {
            wire.query(INSERT);
            lastval(wire)
        }),
        ("by name", &|wire| {
            wire.query(INSERT);
            number(&wire.query(CURRVAL))
        }),
        ("between others", &|wire| {
            wire.query("select 1");
            wire.query(INSERT);
            wire.query("select 1");
            lastval(wire)
        }),
        ("in a transaction", &|wire| {
            wire.query("begin isolation level serializable");
            wire.query("set transaction read write");
            wire.query(INSERT);
            let told = lastval(wire);
            wire.query("commit");
            told
        }),
        ("in a transaction that reads", &|wire| {
            wire.query("begin");
            wire.query("select count(*) from item");
            wire.query("savepoint s");
            wire.query(INSERT);
            wire.query("commit");
            lastval(wire)
        }),
        ("all at once", &|wire| {
            wire.send(&[query("begin"), query(INSERT), query("select lastval()"), query("commit")].concat());
            number(&wire.cycles(4))
        }),
        ("in one cycle", &|wire| {
            wire.send(&[parse("", "BEGIN"), bind("", "", &[]), execute("", 0), extended(INSERT, &[])].concat());
            assert_eq!(wire.cycles(1), "1 2 C(BEGIN) 1 2 C(INSERT 0 1) Z(T)");
            let told = lastval(wire);
            wire.query("commit");
            told
        }),
        ("prepared", &|wire| {
            wire.send(&[bind("", "i", &[]), execute("", 0), sync()].concat());
            assert_eq!(wire.cycles(1), "2 C(INSERT 0 1) Z(I)");
            lastval(wire)
        }),
        ("by nextval", &|wire| {
            wire.value("select nextval('item_id_seq')");
            wire.query("insert into item (id, name) values (currval('item_id_seq'), 'mine')");
            lastval(wire)
        }),
    ];
    let ways: Vec<&(&str, Way<'_>)> = ways.iter().collect();
    behind_a_stranger(&ways, |(called, way), wire| {
        let told = way(wire);
        let own = wire.query("select id from item where name = 'mine'");
        assert_eq!(own, format!("T D({told}) C(SELECT 1) Z(I)"), "{called}");
    });
}

#[test]
fn what_took_no_number_is_told_none() {
    let nothing = [
        "insert into item (id, name) values (1, 'theirs') on conflict do nothing",
        "insert into item (name) select 'mine' where false",
        "insert into item (id, name) values (1000, 'mine')",
        "insert into part (id, item) overriding system value values (1000, 1)",
        "insert into plain (name) values ('mine')",
        "with x as (select 1) insert into item (id, name) select 1001, 'mine' from x",
        "begin; insert into item (name) values ('mine'); rollback; discard sequences",
    ];
    behind_a_stranger(&nothing, |text, wire| {
        wire.query(text);
        assert_eq!(wire.query("select lastval()"), NONE, "{text}");
        assert_eq!(wire.query(CURRVAL), NONE, "{text}");
    });
}

#[test]
fn a_number_of_one_sequence_isnt_told_for_another_one() {
    let dev = dev("1");
    let (mut wire, mut other) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    insert(&mut other, "theirs");
    wire.query("insert into part (item) values (7)");
    assert_eq!(wire.query(CURRVAL), NONE);
    assert_eq!(wire.value("select lastval()"), wire.value("select max(id) from part"));
}

#[test]
fn a_table_that_is_altered_meanwhile_tells_no_strangers_number() {
    let dev = dev("1");
    let (mut wire, mut other, mut owner) = (Wire::open(dev.acme()), Wire::open(dev.acme()), Wire::open(dev.system()));
    // The owner's own connection would count as a change of hands.
    insert(&mut other, "theirs");
    wire.query("select count(*) from item");
    owner.query("alter table item alter id drop default");
    owner.query("alter table item alter id set default 5000");
    insert(&mut other, "at 5000");
    let taken = other.value("select nextval('item_id_seq')");
    wire.query("insert into item (id, name) values (default, 'mine') on conflict do nothing");
    let said = wire.query("select lastval()");
    assert_eq!(said, NONE, "{taken}");
}

/// Three clients of a workspace do what comes, on fewer connections. Each is told the number of its own last row, or none.
#[test]
fn whatever_clients_do_they_are_told_their_own_last_number_or_none() {
    let dev = dev("2");
    let mut clients: Vec<(Wire, bool)> = (0..3).map(|_| (Wire::open(dev.acme()), false)).collect();
    insert(&mut Wire::open(dev.acme()), "the first");
    let (mut seed, mut told) = (7_u64, 0);
    for round in 0..150 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (who, what) = ((seed >> 33) as usize % 3, (seed >> 40) as usize % 10);
        let others_are_free = clients.iter().enumerate().all(|(at, (_, in_transaction))| at == who || !in_transaction);
        let (wire, in_transaction) = &mut clients[who];
        let name = format!("of {who}");
        match what {
            0..=2 => drop(wire.query(&format!("insert into item (name) values ('{name}')"))),
            3 => drop(wire.query(&format!("select add_item('{name}')"))),
            4 => drop(wire.query(&format!("insert into item (id, name) values (1, '{name}') on conflict do nothing"))),
            5 => drop(wire.query("select count(*) from item")),
            6 if *in_transaction || others_are_free => {
                wire.query(if *in_transaction { "commit" } else { "begin" });
                *in_transaction = !*in_transaction;
            }
            7 => drop(wire.query(&format!("insert into item (name) values ('{name}') returning id"))),
            _ => {
                let said = wire.query(if what == 8 { "select lastval()" } else { CURRVAL });
                if said.contains("E(55000)") {
                    if *in_transaction {
                        wire.query("rollback");
                        *in_transaction = false;
                    }
                    continue;
                }
                told += 1;
                let own = wire.value(&format!("select max(id) from item where name = '{name}' and id > 1"));
                assert!(said.starts_with(&format!("T D({own}) C(SELECT 1)")), "round {round}: {said} for {own}");
            }
        }
    }
    assert!(told > 8, "{told}");
}
