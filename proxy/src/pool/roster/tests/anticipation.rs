//! What is kept for who comes back at once, and what that may not cost the others.

use super::*;

const MOMENT: Duration = Duration::from_micros(100);

/// One connection, held by the first tenant, who is known to come back at once, while the second one waits.
fn contended() -> (World, BackendId, WaiterId) {
    let mut world = World::new(bounds(1, 1));
    world.want(tenant(1), 0);
    world.settle();
    let backend = world.one_held();
    let waiter = world.want(tenant(2), 0);
    (world, backend, waiter)
}

#[test]
fn who_comes_back_at_once_finds_its_connection_though_another_waits() {
    let (mut world, backend, waiter) = contended();
    world.leave(backend, Some(MOMENT));
    assert!(world.kept.contains_key(&backend) && world.clearing.is_empty());
    world.now += MOMENT;
    world.take_kept(backend);
    assert!(world.waiting.contains_key(&waiter));
}

#[test]
fn its_turn_doesnt_grow_by_coming_back() {
    let (mut world, backend, waiter) = contended();
    let mut transactions = 0;
    while world.waiting.contains_key(&waiter) {
        world.leave(backend, Some(MOMENT));
        world.now += MOMENT;
        if world.kept.contains_key(&backend) {
            let (.., until) = world.kept[&backend];
            assert!(until <= world.now + Duration::from_millis(2));
            world.take_kept(backend);
            transactions += 1;
        }
        world.settle();
    }
    assert!((15..=20).contains(&transactions), "{transactions} of a tenth of a millisecond, in a turn of two");
}

#[test]
fn who_isnt_known_or_is_slow_to_come_back_isnt_waited_for() {
    let (mut world, backend, _) = contended();
    world.leave(backend, None);
    assert!(world.clearing.contains(&backend), "nothing is known of it");
    let (mut world, backend, _) = contended();
    world.leave(backend, Some(Duration::from_millis(5)));
    assert!(world.clearing.contains(&backend), "a change is cheaper");
}

#[test]
fn the_habit_is_learned_from_who_had_to_wait_as_well() {
    let (mut world, backend, _) = contended();
    world.leave(backend, None);
    world.now += MOMENT;
    world.want(tenant(1), 0);
    world.settle();
    // The other one has it now, and goes; the first comes to it again, in a hurry as it is known to be.
    world.leave(backend, None);
    world.settle();
    world.want(tenant(2), 0);
    world.leave(backend, None);
    assert_eq!(world.kept.get(&backend).map(|(tenant, ..)| *tenant), Some(tenant(1)));
}

#[test]
fn what_is_worth_waiting_for_is_measured_by_what_clearing_takes() {
    let slow = Duration::from_micros(1500);
    let (mut world, backend, _) = contended();
    for _ in 0..20 {
        world.leave(backend, Some(Duration::from_millis(50)));
        world.now += slow;
        world.settle();
        let other = world.held[&backend].0;
        world.want(if other == tenant(1) { tenant(2) } else { tenant(1) }, 0);
    }
    for _ in 0..20 {
        let (of, ..) = world.held[&backend];
        world.roster.keep(backend, 0, Some(2 * slow), world.now);
        assert_eq!(world.held[&backend].0, of);
    }
    world.leave(backend, Some(2 * slow));
    assert!(world.kept.contains_key(&backend), "a change takes longer than that");
}

#[test]
fn one_clearing_that_a_tenant_made_slow_has_nobody_waited_for_much_longer() {
    let (mut world, backend, _) = contended();
    world.leave(backend, None);
    world.now += Duration::from_secs(5);
    world.settle();
    world.want(tenant(1), 0);
    world.leave(backend, Some(Duration::from_millis(7)));
    assert!(world.clearing.contains(&backend));
}

#[test]
fn a_turn_is_longer_where_changes_are_slow_but_not_without_bounds() {
    for (clearing, turn) in [(100, 2_000), (1_000, 8_000), (10_000, 16_000)] {
        let (mut world, backend, _) = contended();
        for _ in 0..2 {
            world.leave(backend, None);
            world.now += Duration::from_micros(clearing);
            world.settle();
            world.want(if world.held[&backend].0 == tenant(1) { tenant(2) } else { tenant(1) }, 0);
        }
        let other = world.want(world.held[&backend].0, 0);
        world.now += Duration::from_micros(turn - 1);
        world.leave(backend, None);
        assert!(!world.waiting.contains_key(&other), "{clearing} µs: it stays in the workspace");
        let last = world.want(world.held[&backend].0, 0);
        world.now += Duration::from_micros(1);
        world.leave(backend, None);
        assert!(
            world.waiting.contains_key(&last) && world.clearing.contains(&backend),
            "{clearing} µs: its turn is over"
        );
    }
}

#[test]
fn it_isnt_kept_from_its_own_workspace_on_another_core() {
    let (mut world, backend, _) = contended();
    world.leave(backend, Some(MOMENT));
    let elsewhere = world.want(tenant(1), 1);
    assert!(!world.waiting.contains_key(&elsewhere), "it is brought");
    assert_eq!(world.held[&backend], (tenant(1), 1));
}

#[test]
fn a_doomed_one_and_one_that_is_somebodys_home_arent_kept() {
    let (mut world, backend, _) = contended();
    let commands = world.roster.revoked(tenant(1).workspace.expect("a workspace"));
    world.perform(commands);
    world.leave(backend, Some(MOMENT));
    assert!(!world.last.contains_key(&backend), "closed");
    let (mut world, backend, waiter) = contended();
    world.give_up(waiter);
    world.want_home(tenant(2), 0, backend);
    world.leave(backend, Some(MOMENT));
    assert!(world.clearing.contains(&backend));
}

#[test]
fn nothing_is_remembered_of_who_is_gone() {
    let (mut world, backend, _) = contended();
    world.leave(backend, Some(MOMENT));
    assert_eq!(world.roster.habits.known(), 1);
    world.now += Duration::from_secs(3);
    let commands = world.roster.ticked(world.now);
    world.perform(commands);
    assert_eq!(world.roster.habits.known(), 0);
}
