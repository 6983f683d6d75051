//! Quotas on INSERT as a client meets them. acme's `Segment` has 24 rows to begin with, `Journey` has its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, bind, execute, extended, flush, parse, query, sync};

const ONE: &str = "insert into \"Segment\" (name) values ('one more ' || gen_random_uuid())";
const COUNT: &str = "select count(*) from \"Segment\"";

/// A proxy with room for `room` more segments of acme's.
fn with_room(room: usize, pool_size: usize) -> Dev {
    let quota = format!("segments=Segment:{}", 24 + room);
    Dev::start(&["--pool-size", &pool_size.to_string(), "--quota", &quota])
}

fn many(count: usize) -> String {
    format!(
        "insert into \"Segment\" (name) select 'one of many ' || gen_random_uuid() from generate_series(1, {count})"
    )
}

#[test]
fn racing_inserters_of_every_kind_end_exactly_at_the_limit() {
    let dev = Arc::new(with_room(40, 8));
    let (added, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let racers: Vec<_> = (0..16)
        .map(|number| {
            let (dev, added, refused) = (dev.clone(), added.clone(), refused.clone());
            thread::spawn(move || {
                let mut wire = Wire::open(dev.acme());
                for _ in 0..12 {
                    let (said, rows) = match number % 4 {
                        0 => (wire.query(ONE), 1),
                        1 => {
                            wire.send(&extended(ONE, &[]));
                            (wire.cycles(1), 1)
                        }
                        2 => (wire.query(&many(2)), 2),
                        _ => {
                            wire.query("begin isolation level repeatable read");
                            let said = wire.query(&many(1));
                            (format!("{said} {}", wire.query("commit")), 1)
                        }
                    };
                    if said.contains("E(53400)") {
                        refused.fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert!(!said.contains("E("), "{said}");
                        added.fetch_add(rows, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    racers.into_iter().for_each(|racer| racer.join().unwrap());
    let mut wire = Wire::open(dev.acme());
    let count: usize = wire.value(COUNT).parse().unwrap();
    assert_eq!(count, 24 + added.load(Ordering::Relaxed));
    // Those that add two may leave one place.
    assert!((63..=64).contains(&count), "{count}");
    assert!(refused.load(Ordering::Relaxed) > 0);
    assert!(wire.query(&many(2)).starts_with("E(53400)"));
}

#[test]
fn a_granted_statement_looks_as_it_does_without_a_proxy() {
    let dev = with_room(100, 2);
    let mut wire = Wire::open(dev.acme());
    assert_eq!(wire.query(ONE), "C(INSERT 0 1) Z(I)");
    assert_eq!(wire.query(&many(2)), "C(INSERT 0 2) Z(I)");
    assert_eq!(wire.query(&format!("{} returning 7", many(2))), "T D(7) D(7) C(INSERT 0 2) Z(I)");
    assert_eq!(wire.query(&many(0)), "C(INSERT 0 0) Z(I)");
    let unread = "with a as (insert into \"Segment\" (name) values ('cte') returning 7 as b) select b from a";
    assert_eq!(wire.query(unread), "T D(7) C(SELECT 1) Z(I)");
    assert_eq!(wire.query("insert into \"Segment\" (name) select 1/0"), "E(22012) Z(I)");
    assert_eq!(wire.query("insert into \"Segment\" (nome) select 'x'"), "E(42703) Z(I)");
    assert_eq!(wire.query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    wire.send(&[parse("", &many(1)), bind("", "", &[]), execute("", 0), flush()].concat());
    assert_eq!(wire.until(b'C'), "1 2 C(INSERT 0 1)");
    wire.send(&sync());
    assert_eq!(wire.cycles(1), "Z(I)");
    wire.send(&[extended(&many(1), &[]), query("select 2"), extended(ONE, &[])].concat());
    assert_eq!(wire.cycles(3), "1 2 C(INSERT 0 1) Z(I) T D(2) C(SELECT 1) Z(I) 1 2 C(INSERT 0 1) Z(I)");
    let returning = format!("{} returning 7", many(3));
    wire.send(&[parse("", &returning), bind("", "", &[]), execute("", 2), execute("", 0), sync()].concat());
    assert_eq!(wire.cycles(1), "1 2 D(7) D(7) s D(7) C(INSERT 0 1) Z(I)");
    assert_eq!(wire.query("begin"), "C(BEGIN) Z(T)");
    assert_eq!(wire.query(&many(1)), "C(INSERT 0 1) Z(T)");
    assert_eq!(wire.query("insert into \"Segment\" (name) select 1/0"), "E(22012) Z(E)");
    assert_eq!(wire.query(&many(1)), "E(25P02) Z(E)");
    assert_eq!(wire.query("commit"), "C(ROLLBACK) Z(I)");
    assert_eq!(wire.value(COUNT), "36");
}

#[test]
fn a_refusal_fails_the_transaction_at_both_ends_and_tells_what_is_used() {
    let dev = with_room(2, 2);
    let mut wire = Wire::open(dev.acme());
    wire.query("begin");
    assert_eq!(wire.query(ONE), "C(INSERT 0 1) Z(T)");
    assert_eq!(wire.query(&many(2)), "E(53400) Z(E)");
    assert_eq!(wire.query("select 1"), "E(25P02) Z(E)");
    assert_eq!(wire.query("rollback"), "C(ROLLBACK) Z(I)");
    wire.query("begin");
    assert_eq!(wire.query("savepoint a"), "C(SAVEPOINT) Z(T)");
    assert_eq!(wire.query(&many(3)), "E(53400) Z(E)");
    assert_eq!(wire.query("rollback to a"), "C(ROLLBACK) Z(T)");
    assert_eq!(wire.query(&many(2)), "C(INSERT 0 2) Z(T)");
    assert_eq!(wire.query("commit"), "C(COMMIT) Z(I)");
    assert_eq!(wire.value(COUNT), "26");
    wire.send(&query(ONE));
    let error = wire.read().unwrap();
    assert_eq!(error.field(b'C').as_deref(), Some("53400"));
    assert!(error.field(b'M').unwrap().starts_with("pgcordon: quota exceeded: 26 of 26 segments"), "{error:?}");
    let detail: serde_json::Value = serde_json::from_str(&error.field(b'D').unwrap()).unwrap();
    assert_eq!(
        detail,
        serde_json::json!({"kind": "quota", "resourceType": "segments", "currentUsage": 26, "limit": 26,
            "requested": 1, "remaining": 0, "resetsAt": null})
    );
    assert!(error.field(b'H').is_some() && error.field(b'W').is_none());
}

#[test]
fn a_pipeline_that_doesnt_fit_is_undone_as_a_whole() {
    let dev = with_room(2, 2);
    let mut wire = Wire::open(dev.acme());
    let one = [parse("", ONE), bind("", "", &[]), execute("", 0)].concat();
    wire.send(&[one.repeat(3), sync(), query("select 1")].concat());
    assert_eq!(wire.cycles(2), "1 2 C(INSERT 0 1) 1 2 C(INSERT 0 1) 1 2 E(53400) Z(I) T D(1) C(SELECT 1) Z(I)");
    assert_eq!(wire.value(COUNT), "24");
    wire.send(&[one.repeat(2), sync()].concat());
    assert_eq!(wire.cycles(1), "1 2 C(INSERT 0 1) 1 2 C(INSERT 0 1) Z(I)");
    assert_eq!(wire.query(&format!("{ONE}; select 1")), "E(53400) Z(I)");
    assert_eq!(wire.value(COUNT), "26");
}

#[test]
fn what_is_deleted_or_rolled_back_or_left_behind_makes_room() {
    let dev = with_room(1, 3);
    let mut wire = Wire::open(dev.acme());
    let mut other = Wire::open(dev.acme());
    assert_eq!(wire.query(ONE), "C(INSERT 0 1) Z(I)");
    assert_eq!(other.query(ONE), "E(53400) Z(I)");
    wire.query("delete from \"Segment\" where name like 'one more%'");
    other.query("begin");
    assert_eq!(other.query(ONE), "C(INSERT 0 1) Z(T)");
    other.query("rollback");
    other.query("begin");
    assert_eq!(other.query(ONE), "C(INSERT 0 1) Z(T)");
    other.hang_up();
    assert_eq!(wire.query(ONE), "C(INSERT 0 1) Z(I)");
    // In one transaction the one makes room for the other.
    assert_eq!(wire.query("begin"), "C(BEGIN) Z(T)");
    wire.query("delete from \"Segment\" where name like 'one more%'");
    assert_eq!(wire.query(ONE), "C(INSERT 0 1) Z(T)");
    assert_eq!(wire.query("commit"), "C(COMMIT) Z(I)");
    assert_eq!(wire.value(COUNT), "25");
}

#[test]
fn an_upsert_that_updates_needs_no_room() {
    let dev = with_room(1, 2);
    let mut wire = Wire::open(dev.acme());
    let upsert = |name: &str| {
        format!(
            "insert into \"Segment\" (name) values ('{name}') on conflict (\"workspaceId\", name) do update set status = 'Paused'"
        )
    };
    assert_eq!(wire.query(&upsert("a")), "C(INSERT 0 1) Z(I)");
    assert_eq!(wire.query(&upsert("a")), "C(INSERT 0 1) Z(I)");
    assert_eq!(wire.query(&upsert("b")), "E(53400) Z(I)");
    wire.send(&[extended(&upsert("a"), &[]), extended(&upsert("b"), &[]), extended(&upsert("a"), &[])].concat());
    assert_eq!(wire.cycles(3), "1 2 C(INSERT 0 1) Z(I) 1 2 E(53400) Z(I) 1 2 C(INSERT 0 1) Z(I)");
    assert_eq!(wire.value(COUNT), "25");
}

/// What a counter row in Postgres, moved by triggers, does to an application that hadn't asked for it.
#[test]
fn none_of_the_three_traps_of_a_counter_row_is_here() {
    let dev = Dev::start(&["--pool-size", "4", "--quota", "segments=Segment:1000", "--quota", "journeys=Journey:1000"]);
    let (mut one, mut two) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    let journey = "insert into \"Journey\" (name) values ('j ' || gen_random_uuid())";
    // Two serializable-like transactions that insert side by side: no 40001.
    for wire in [&mut one, &mut two] {
        wire.query("begin isolation level repeatable read");
        wire.query("select 1");
    }
    for sql in [ONE, "commit"] {
        for wire in [&mut one, &mut two] {
            assert!(!wire.query(sql).contains("E("), "{sql}");
        }
    }
    // Two resources in opposite order: no 40P01, and nobody waits.
    one.query("begin");
    two.query("begin");
    assert_eq!(one.query(ONE), "C(INSERT 0 1) Z(T)");
    assert_eq!(two.query(journey), "C(INSERT 0 1) Z(T)");
    assert_eq!(one.query(journey), "C(INSERT 0 1) Z(T)");
    assert_eq!(two.query(ONE), "C(INSERT 0 1) Z(T)");
    // And one request that inserts on two connections doesn't wait for itself.
    assert_eq!(two.query("commit"), "C(COMMIT) Z(I)");
    assert_eq!(one.query("commit"), "C(COMMIT) Z(I)");
}

#[test]
fn what_nobody_can_stop_is_a_debt_that_is_told_and_closes_the_door() {
    let dev = with_room(2, 2);
    let mut admin = dev.admin();
    for sql in [
        "create function public.add(n int) returns int language sql as 'insert into public.\"Segment\" (name) select ''hidden '' || gen_random_uuid() from generate_series(1, n); select n'",
        "create function public.later() returns trigger language plpgsql as 'begin perform public.add(2); return null; end'",
        "create constraint trigger later after insert on public.\"Journey\" deferrable initially deferred for each row execute function public.later()",
        "create function public.forgiving() returns void language plpgsql as 'begin begin delete from public.\"Segment\"; raise exception ''no''; exception when others then null; end; end'",
        "grant execute on function public.add(int), public.later(), public.forgiving() to pgcordon_app",
    ] {
        let said = admin.query(sql);
        assert!(!said.contains("E("), "{sql}: {said}");
    }
    let mut wire = Wire::open(dev.acme());
    // A DELETE that an exception handler swallows makes no room.
    assert_eq!(wire.query("select 1 from public.forgiving()"), "T D(1) C(SELECT 1) Z(I)");
    assert_eq!(wire.query(&many(3)), "E(53400) Z(I)");
    // A function fills what is left, and a deferred trigger goes beyond it inside COMMIT.
    assert_eq!(wire.query("select public.add(2)"), "T D(2) C(SELECT 1) Z(I)");
    assert_eq!(wire.query(ONE), "E(53400) Z(I)");
    wire.query("begin");
    assert_eq!(wire.query("insert into \"Journey\" (name) values ('deferring')"), "C(INSERT 0 1) Z(T)");
    assert_eq!(wire.query("commit"), "C(COMMIT) Z(I)");
    assert_eq!(wire.value(COUNT), "28");
    assert_eq!(wire.query(ONE), "E(53400) Z(I)");
    let debts = "select count(*) from cordon.audit_event where event_type = 'QUOTA_EXCEEDED' and severity = 'high' and detail ? 'debt'";
    while admin.value(debts) == "0" {}
}

#[test]
fn a_limit_that_is_changed_holds_at_once_and_others_are_not_touched() {
    let dev = with_room(0, 2);
    let (mut acme, mut globex, mut admin) = (Wire::open(dev.acme()), Wire::open(dev.globex()), dev.admin());
    assert_eq!(acme.query(ONE), "E(53400) Z(I)");
    assert_eq!(globex.query(ONE), "C(INSERT 0 1) Z(I)");
    admin.query(&format!(
        "insert into cordon.quota (workspace_id, resource_id, \"limit\") select '{}', id, 25 from cordon.resource",
        dev.text("/workspaces/0/id")
    ));
    while acme.query(ONE) != "C(INSERT 0 1) Z(I)" {}
    assert_eq!(acme.query(ONE), "E(53400) Z(I)");
}
