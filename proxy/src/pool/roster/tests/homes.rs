//! Who is at home where, and who comes home when.

use super::*;

/// A roster with so many open connections, which nobody has used.
fn opened(size: usize, workspace_max: usize) -> World {
    let mut world = World::new(bounds(size, workspace_max));
    for _ in 0..size {
        assert!(world.roster.opens_for_home(world.now));
        world.opening += 1;
        world.open_one(true);
    }
    world
}

fn settled(world: &mut World, number: u8) -> BackendId {
    match world.roster.settle(tenant(number)) {
        Settled::At(id, pid) => {
            assert_eq!(id as i32, pid);
            world.roster.moved_in(id);
            id
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_home_of_its_own_is_opened_for_each_client_as_long_as_there_is_room() {
    let mut world = World::new(bounds(2, 2));
    assert_eq!(world.roster.settle(tenant(1)), Settled::Nowhere);
    for _ in 0..2 {
        assert!(!matches!(world.roster.settle(tenant(1)), Settled::At(..)));
        assert!(world.roster.opens_for_home(world.now));
        world.opening += 1;
        world.open_one(true);
        settled(&mut world, 1);
    }
    // From now on homes are shared, evenly.
    let mut homes = [0; 2];
    for _ in 0..6 {
        let home = settled(&mut world, 1);
        homes[world.last.keys().filter(|each| **each < home).count()] += 1;
    }
    assert_eq!(homes, [3, 3]);
    assert!(!world.roster.opens_for_home(world.now), "there is no room");
}

#[test]
fn a_connection_that_is_on_its_way_already_may_be_a_home() {
    let mut world = World::new(bounds(2, 2));
    world.want(tenant(1), 0);
    world.settle();
    let first = settled(&mut world, 1);
    // Somebody waits for one, so the last there is room for is being opened.
    world.want(tenant(1), 0);
    assert!(world.roster.is_opening() && !world.roster.opens_for_home(world.now));
    assert!(matches!(world.roster.settle(tenant(1)), Settled::Crowded(id, _) if id == first));
    world.settle();
    assert_ne!(settled(&mut world, 1), first);
}

#[test]
fn no_home_is_opened_where_none_could_be_a_moment_ago() {
    let mut world = World::new(bounds(2, 2));
    assert!(world.roster.opens_for_home(world.now));
    world.opening += 1;
    world.open_one(false);
    assert!(!world.roster.opens_for_home(world.now));
    world.now += Duration::from_millis(251);
    assert!(world.roster.opens_for_home(world.now));
}

#[test]
fn who_leaves_makes_room_at_its_home() {
    let mut world = opened(2, 2);
    let (first, second) = (settled(&mut world, 1), settled(&mut world, 1));
    assert_ne!(first, second);
    world.roster.moved_out(second);
    assert_eq!(settled(&mut world, 1), second);
    // One that was closed is nobody's home any more, and forgotten.
    let commands = world.roster.ended(first, world.now);
    world.last.remove(&first);
    world.perform(commands);
    world.roster.moved_out(first);
    assert!(matches!(world.roster.settle(tenant(1)), Settled::Crowded(id, _) if id == second));
}

#[test]
fn a_client_gets_its_home_of_several_that_are_as_good_and_nobodys_before_anothers() {
    let mut world = opened(3, 3);
    let homes: Vec<_> = (0..3).map(|_| settled(&mut world, 1)).collect();
    // All are bound to the workspace, for that counts more.
    for _ in &homes {
        world.want(tenant(1), 0);
    }
    homes.iter().for_each(|home| world.release(*home, Outcome::Clean));
    for home in &homes {
        let granted = world.roster.try_take(tenant(1), 0, Some(*home), world.now).expect("one");
        assert_eq!(granted, Granted { backend: *home, bound: true });
        world.hand_out(granted.backend, tenant(1), 0, granted.bound);
        world.release(*home, Outcome::Clean);
    }
    world.roster.moved_out(homes[1]);
    let granted = world.roster.try_take(tenant(1), 0, None, world.now).expect("one");
    assert_eq!(granted.backend, homes[1]);
}

#[test]
fn a_home_that_is_bound_to_another_workspace_is_cleared_first() {
    let mut world = opened(1, 1);
    let home = settled(&mut world, 1);
    world.want(tenant(2), 0);
    world.release(home, Outcome::Clean);
    assert_eq!(world.roster.try_take_home(home, tenant(1), world.now), None);
    let waiter = world.want_home(tenant(1), 0, home);
    assert!(world.clearing.contains(&home) && world.waiting.contains_key(&waiter));
    world.settle();
    assert_eq!(world.held[&home].0, tenant(1));
}

#[test]
fn whoever_waits_for_its_home_gets_it_when_it_comes_back_but_not_before_another_workspace() {
    let mut world = opened(2, 2);
    let home = settled(&mut world, 1);
    world.want(tenant(1), 0);
    world.want(tenant(1), 0);
    let waiter = world.want_home(tenant(1), 0, home);
    assert_eq!((world.roster.needs_attention(), world.roster.wanted()), (1, 0), "nobody makes way for it");
    world.release(home, Outcome::Clean);
    assert!(world.held.contains_key(&home) && !world.waiting.contains_key(&waiter));
    let again = world.want_home(tenant(1), 0, home);
    let stranger = world.want(tenant(2), 0);
    world.release(home, Outcome::Clean);
    world.settle();
    assert_eq!(world.held[&home].0, tenant(2), "it waited for any connection");
    assert!(world.waiting.contains_key(&again) && !world.waiting.contains_key(&stranger));
    world.give_up(again);
    assert_eq!(world.roster.needs_attention(), 0);
}

#[test]
fn the_ceiling_of_a_workspace_holds_at_home_too() {
    let mut world = opened(3, 2);
    let home = settled(&mut world, 1);
    for _ in 0..2 {
        let other = *world.last.keys().filter(|id| **id != home && !world.held.contains_key(id)).min().expect("one");
        let granted = world.roster.try_take_home(other, tenant(1), world.now).expect("it is free");
        world.hand_out(granted.backend, tenant(1), 0, granted.bound);
    }
    assert_eq!(world.roster.try_take_home(home, tenant(1), world.now), None);
    let waiter = world.want_home(tenant(1), 0, home);
    assert!(world.waiting.contains_key(&waiter));
}

#[test]
fn for_whom_a_connection_is_on_its_way_nobody_makes_way() {
    let mut world = World::new(bounds(2, 2));
    world.want(tenant(1), 0);
    assert_eq!(world.roster.wanted(), 0, "one is being opened");
    world.settle();
    world.want(tenant(1), 0);
    world.settle();
    world.want(tenant(2), 0);
    assert_eq!(world.roster.wanted(), 1);
    let held = world.one_held();
    world.release(held, Outcome::Clean);
    assert_eq!(world.roster.wanted(), 0, "one is being cleared");
}
