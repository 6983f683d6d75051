//! The roster's scripts, and what must hold whatever happens in whatever order.

mod anticipation;
mod homes;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::{KeyKind, Origin, SqlState, WorkspaceId, clock};

fn tenant(number: u8) -> Tenant {
    let workspace = WorkspaceId::new(Uuid::from_u128(u128::from(number) + 1));
    Tenant { workspace: Some(workspace), kind: KeyKind::Workspace }
}

fn bounds(size: usize, workspace_max: usize) -> Bounds {
    Bounds {
        size,
        workspace_max,
        quantum: Duration::from_millis(2),
        idle_timeout: Duration::from_secs(60),
        back_off: Duration::from_millis(250),
    }
}

fn down() -> Fault {
    Fault::new(Origin::Upstream, SqlState::CANNOT_CONNECT_NOW, "down")
}

/// A roster as it looks, whatever the order of its maps.
fn shown(roster: &Roster) -> Vec<String> {
    let mut shown: Vec<String> = roster.backends.iter().map(|each| format!("{each:?}")).collect();
    shown.extend(roster.held.iter().map(|each| format!("{each:?}")));
    shown.extend(roster.queue.shown());
    shown.sort();
    shown.push(format!("{:?}", (roster.opening, roster.opening_unwanted, &roster.homecomers, roster.doomed_held)));
    shown
}

/// A world around a roster: connections that exist, clients that hold or wait, and a clock that is moved by hand.
struct World {
    roster: Roster,
    now: Instant,
    next: u64,
    /// Connections by number: whom they were last granted to since they were cleared.
    last: HashMap<BackendId, Option<Tenant>>,
    /// Who holds what.
    held: HashMap<BackendId, (Tenant, CoreId)>,
    waiting: HashMap<WaiterId, Tenant>,
    opening: usize,
    clearing: HashSet<BackendId>,
    /// Connections whose processes are awaited to be gone.
    ending: HashSet<BackendId>,
    refused: usize,
    recalls: usize,
    homecomers: Vec<WaiterId>,
    granted: Vec<(WaiterId, Tenant)>,
    handed_over: usize,
    /// What a core keeps for a workspace, and until when.
    kept: HashMap<BackendId, (Tenant, CoreId, Instant)>,
}

impl World {
    fn new(bounds: Bounds) -> Self {
        Self {
            roster: Roster::new(bounds),
            now: clock::now(),
            next: 0,
            last: HashMap::new(),
            held: HashMap::new(),
            waiting: HashMap::new(),
            opening: 0,
            clearing: HashSet::new(),
            ending: HashSet::new(),
            refused: 0,
            recalls: 0,
            homecomers: Vec::new(),
            granted: Vec::new(),
            handed_over: 0,
            kept: HashMap::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn perform(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Grant { waiter, core, backend, bound } => {
                    let tenant = self.waiting.remove(&waiter).expect("only one that waits is granted something");
                    self.granted.push((waiter, tenant));
                    self.hand_out(backend, tenant, core, bound);
                }
                Command::Refuse { waiter, .. } => {
                    self.waiting.remove(&waiter).expect("only one that waits is refused");
                    self.refused += 1;
                }
                Command::Open => self.opening += 1,
                Command::Clear(id) => {
                    assert!(!self.held.contains_key(&id), "what somebody holds is never cleared");
                    assert!(!self.kept.contains_key(&id), "nor what is kept for somebody");
                    assert!(self.clearing.insert(id), "it is cleared already");
                }
                Command::Close(id) => {
                    self.last.remove(&id).expect("what is closed exists");
                    assert!(!self.held.contains_key(&id), "what somebody holds is never closed");
                    self.clearing.remove(&id);
                }
                Command::End(id) => {
                    assert!(!self.held.contains_key(&id) && !self.clearing.contains(&id), "it is let go of first");
                    assert!(self.ending.insert(id), "it is ended already");
                }
                Command::Recall => self.recalls += 1,
                Command::Bring(id, core) => {
                    if self.kept.get(&id).is_some_and(|(_, on, _)| *on == core) {
                        self.lapse(id);
                    }
                }
            }
        }
        assert!(self.last.len() + self.opening <= self.roster.bounds.size, "more connections than the pool has");
        let all = &self.roster.backends;
        assert_eq!((all.idle(), all.clearing(), all.kept()), all.counted(), "idle, cleared and kept ones");
    }

    fn hand_out(&mut self, backend: BackendId, tenant: Tenant, core: CoreId, bound: bool) {
        assert!(!self.clearing.contains(&backend), "what is being cleared is nobody's");
        assert!(!self.ending.contains(&backend), "what is being ended is nobody's");
        assert!(!self.kept.contains_key(&backend), "what is kept is for who finds it there");
        let last = self.last.get_mut(&backend).expect("what is granted exists");
        match *last {
            // The one thing this file is about.
            Some(before) => assert!(before == tenant && bound, "granted to another tenant without having been cleared"),
            None => assert!(!bound, "nobody has bound it"),
        }
        *last = Some(tenant);
        assert!(self.held.insert(backend, (tenant, core)).is_none(), "two hold one connection");
    }

    fn want(&mut self, tenant: Tenant, core: CoreId) -> WaiterId {
        let waiter = self.number();
        if let Some(granted) = self.roster.try_take(tenant, core, None, self.now) {
            self.hand_out(granted.backend, tenant, core, granted.bound);
            return waiter;
        }
        self.waiting.insert(waiter, tenant);
        let commands = self.roster.waits(waiter, tenant, core, None, self.now);
        self.perform(commands);
        waiter
    }

    /// A session waits for this connection and no other.
    fn want_home(&mut self, tenant: Tenant, core: CoreId, home: BackendId) -> WaiterId {
        let waiter = self.number();
        if let Some(granted) = self.roster.try_take_home(home, tenant, self.now) {
            self.hand_out(granted.backend, tenant, core, granted.bound);
            return waiter;
        }
        self.waiting.insert(waiter, tenant);
        let commands = self.roster.waits_for_home(waiter, tenant, core, home, self.now);
        self.perform(commands);
        waiter
    }

    fn give_up(&mut self, waiter: WaiterId) {
        assert!(self.roster.gave_up(waiter));
        self.waiting.remove(&waiter);
    }

    fn release(&mut self, backend: BackendId, outcome: Outcome) {
        let (_, core) = self.held.remove(&backend).expect("it is held");
        let mut ahead = self.roster.clone();
        let before = shown(&self.roster);
        let handed = ahead.hand_over(backend, core, self.now);
        let commands = self.roster.released(backend, outcome, core, self.now);
        match handed.filter(|_| outcome == Outcome::Clean) {
            Some(waiter) => {
                assert_eq!(commands, [Command::Grant { waiter, core, backend, bound: true }]);
                assert_eq!(shown(&ahead), shown(&self.roster));
                self.handed_over += 1;
            }
            None if outcome == Outcome::Clean => assert_eq!(shown(&ahead), before, "nothing is changed"),
            None => {}
        }
        self.perform(commands);
    }

    /// A connection comes back clean to its core, which keeps it if the roster lets it.
    fn leave(&mut self, backend: BackendId, gap: Option<Duration>) {
        let (tenant, core) = self.held[&backend];
        if let Some(waiter) = self.roster.hand_over(backend, core, self.now) {
            self.held.remove(&backend);
            let waiting = self.waiting.remove(&waiter).expect("only one that waits is handed something");
            self.hand_out(backend, waiting, core, true);
        } else if let Some(until) = self.roster.keep(backend, core, gap, self.now) {
            assert!(until > self.now, "it would be given up at once");
            assert!(!self.roster.queue.is_empty() && !self.roster.queue.waits(tenant));
            self.held.remove(&backend);
            self.kept.insert(backend, (tenant, core, until));
        } else {
            self.release(backend, Outcome::Clean);
        }
    }

    /// Whoever comes back takes what its core keeps for it, without asking the roster.
    fn take_kept(&mut self, backend: BackendId) {
        let (tenant, core, _) = self.kept.remove(&backend).expect("it is kept");
        self.hand_out(backend, tenant, core, true);
    }

    /// Nobody came back.
    fn lapse(&mut self, backend: BackendId) {
        let (tenant, core, _) = self.kept.remove(&backend).expect("it is kept");
        self.held.insert(backend, (tenant, core));
        self.release(backend, Outcome::Clean);
    }

    fn open_one(&mut self, works: bool) {
        if self.opening == 0 {
            return;
        }
        self.opening -= 1;
        let commands = if works {
            let id = self.number();
            self.last.insert(id, None);
            self.roster.opened(id, id as i32, 0, self.now)
        } else {
            self.roster.open_failed(down(), self.now)
        };
        self.perform(commands);
    }

    fn clear_one(&mut self, works: bool) {
        let Some(id) = self.clearing.iter().min().copied() else { return };
        self.clearing.remove(&id);
        let commands = if works {
            self.last.insert(id, None);
            self.roster.cleared(id, 0, self.now)
        } else {
            self.roster.not_cleared(id, self.now)
        };
        self.perform(commands);
    }

    /// The process of one that is being ended is gone.
    fn end_one(&mut self) {
        let Some(id) = self.ending.iter().min().copied() else { return };
        self.ending.remove(&id);
        self.last.remove(&id);
        let commands = self.roster.ended(id, self.now);
        self.perform(commands);
    }

    /// Everything that was begun comes to its end.
    fn settle(&mut self) {
        while self.opening > 0 || !self.clearing.is_empty() || !self.ending.is_empty() {
            self.open_one(true);
            self.clear_one(true);
            self.end_one();
        }
    }

    fn one_held(&self) -> BackendId {
        self.held.keys().min().copied().expect("one is held")
    }
}

#[test]
fn the_first_client_has_a_connection_opened_and_the_next_one_of_its_workspace_finds_it_bound() {
    let mut world = World::new(bounds(1, 1));
    world.want(tenant(1), 0);
    world.settle();
    let backend = world.one_held();
    world.release(backend, Outcome::Clean);
    assert_eq!(world.roster.try_take(tenant(1), 0, None, world.now), Some(Granted { backend, bound: true }));
}

#[test]
fn another_workspace_gets_it_only_after_it_was_cleared() {
    let mut world = World::new(bounds(1, 1));
    world.want(tenant(1), 0);
    world.settle();
    let backend = world.one_held();
    world.release(backend, Outcome::Clean);
    assert_eq!(world.roster.try_take(tenant(2), 0, None, world.now), None);
    let waiter = world.want(tenant(2), 0);
    assert!(world.clearing.contains(&backend) && world.waiting.contains_key(&waiter));
    world.settle();
    assert_eq!(world.held[&backend].0, tenant(2));
}

#[test]
fn what_comes_back_dirty_is_cleared_even_for_its_own_workspace() {
    let mut world = World::new(bounds(1, 1));
    world.want(tenant(1), 0);
    world.settle();
    let backend = world.one_held();
    world.want(tenant(1), 0);
    world.release(backend, Outcome::Dirty);
    assert!(world.clearing.contains(&backend) && world.held.is_empty());
    world.settle();
    assert_eq!(world.held[&backend].0, tenant(1));
}

#[test]
fn what_is_left_running_counts_for_the_pool_and_its_workspace_until_its_process_is_gone() {
    let mut world = World::new(bounds(3, 2));
    for _ in 0..2 {
        world.want(tenant(1), 0);
    }
    world.settle();
    for backend in world.held.keys().copied().collect::<Vec<_>>() {
        world.release(backend, Outcome::Broken);
    }
    assert_eq!(world.roster.counts().ending, 2);
    let third = world.want(tenant(1), 0);
    assert!(world.waiting.contains_key(&third) && world.opening == 0, "its workspace is at its ceiling");
    world.want(tenant(2), 0);
    world.open_one(true);
    assert_eq!(world.held.values().map(|(tenant, _)| *tenant).collect::<Vec<_>>(), [tenant(2)]);
    let fourth = world.want(tenant(2), 0);
    assert!(world.waiting.contains_key(&fourth) && world.opening == 0, "the pool is full");
    world.end_one();
    assert_eq!(world.opening, 1);
    world.settle();
    assert_eq!(world.held.len(), 3);
}

#[test]
fn what_could_not_be_cleared_is_ended_and_those_who_wait_get_another_one() {
    let mut world = World::new(bounds(2, 2));
    world.want(tenant(1), 0);
    world.settle();
    let backend = world.one_held();
    world.want(tenant(1), 0);
    world.open_one(true);
    world.want(tenant(2), 0);
    world.release(backend, Outcome::Clean);
    world.clear_one(false);
    assert!(world.ending.contains(&backend) && world.waiting.len() == 1, "its process is there still");
    world.settle();
    assert!(world.waiting.is_empty());
}

#[test]
fn who_has_more_than_its_share_is_told_when_another_one_has_waited_for_its_own() {
    let patience = Duration::from_secs(1);
    let mut world = World::new(bounds(8, 7));
    for _ in 0..7 {
        world.want(tenant(1), 0);
    }
    world.want(tenant(2), 0);
    world.settle();
    world.now += 9 * patience;
    assert_eq!(world.roster.overdrawn(patience, world.now), Overdrawn::default(), "nobody waits");
    world.want(tenant(1), 0);
    world.now += 9 * patience;
    assert_eq!(world.roster.overdrawn(patience, world.now), Overdrawn::default(), "it waits for more than its share");
    world.want(tenant(2), 0);
    assert_eq!(world.roster.overdrawn(patience, world.now), Overdrawn::default());
    world.now += 9 * patience;
    let idle = Overdrawn { idle: vec![tenant(1)], busy: vec![] };
    assert_eq!(world.roster.overdrawn(patience, world.now), idle);
}

/// One workspace has three of four connections, another one the last, and a third has waited for so long.
fn destitute(waited: Duration) -> World {
    let mut world = World::new(bounds(4, 3));
    for number in [1, 1, 1, 2] {
        world.want(tenant(number), 0);
    }
    world.settle();
    world.want(tenant(3), 0);
    world.now += waited;
    world
}

#[test]
fn for_a_workspace_that_has_nothing_the_busy_give_way_who_have_more_than_one_and_their_share() {
    let patience = Duration::from_secs(1);
    let mut world = destitute(2 * patience);
    let patient = Overdrawn { idle: vec![tenant(1)], busy: vec![] };
    assert_eq!(world.roster.overdrawn(patience, world.now), patient);
    world.now += patience;
    let everybody = Overdrawn { idle: vec![tenant(1), tenant(2)], busy: vec![tenant(1)] };
    assert_eq!(world.roster.overdrawn(patience, world.now), everybody);
}

#[test]
fn nobody_gives_way_for_who_has_a_connection_on_its_way_already() {
    let patience = Duration::from_secs(1);
    let mut world = destitute(2 * patience);
    let backend = world.one_held();
    let overdrawn = Overdrawn { idle: vec![tenant(1)], busy: vec![] };
    assert_eq!(world.roster.overdrawn(patience, world.now), overdrawn);
    world.release(backend, Outcome::Broken);
    assert_eq!(
        world.roster.overdrawn(patience, world.now),
        Overdrawn::default(),
        "its process will be gone in a moment"
    );
    world.now += patience;
    assert_ne!(world.roster.overdrawn(patience, world.now), Overdrawn::default(), "it can't be ended");
}

#[test]
fn a_workspace_keeps_its_turn_for_the_quantum_and_no_longer() {
    let mut world = World::new(bounds(1, 1));
    world.want(tenant(1), 0);
    world.settle();
    let backend = world.one_held();
    world.want(tenant(2), 0);
    world.want(tenant(1), 0);
    world.want(tenant(1), 0);
    world.release(backend, Outcome::Clean);
    assert_eq!(world.held[&backend].0, tenant(1), "within its quantum");
    world.now += Duration::from_millis(3);
    world.release(backend, Outcome::Clean);
    world.settle();
    assert_eq!(world.held[&backend].0, tenant(2), "after it");
}

#[test]
fn a_connection_stays_on_its_core_unless_another_ones_waiter_came_much_earlier() {
    let mut world = World::new(bounds(1, 1));
    world.want(tenant(1), 0);
    world.settle();
    let backend = world.one_held();
    world.want(tenant(1), 1);
    world.now += Duration::from_millis(1);
    world.want(tenant(1), 0);
    // However long both have waited.
    world.now += Duration::from_millis(50);
    world.release(backend, Outcome::Clean);
    assert_eq!(world.held[&backend].1, 0, "it was there a millisecond later");
    world.want(tenant(1), 0);
    world.release(backend, Outcome::Clean);
    assert_eq!(world.held[&backend].1, 1, "it has waited for fifty milliseconds more");
}

#[test]
fn five_hundred_clients_of_one_workspace_dont_starve_one_of_another() {
    let mut world = World::new(bounds(2, 2));
    for _ in 0..500 {
        world.want(tenant(1), 0);
    }
    world.settle();
    let waiter = world.want(tenant(2), 1);
    let mut releases = 0;
    while world.waiting.contains_key(&waiter) {
        world.now += Duration::from_millis(1);
        let backend = world.one_held();
        world.release(backend, Outcome::Clean);
        world.settle();
        releases += 1;
    }
    assert!(releases <= 4, "it waited for {releases} transactions of the other");
}

#[test]
fn a_workspace_at_its_ceiling_leaves_the_rest_to_others() {
    let mut world = World::new(bounds(3, 2));
    for _ in 0..3 {
        world.want(tenant(1), 0);
    }
    world.settle();
    assert_eq!(world.held.len(), 2);
    world.want(tenant(2), 0);
    world.settle();
    assert_eq!(world.held.values().filter(|(holder, _)| *holder == tenant(2)).count(), 1);
}

#[test]
fn a_ceiling_is_a_workspaces_and_a_system_key_has_its_pool_to_itself() {
    let mut world = World::new(bounds(4, 3));
    let system = Tenant { workspace: None, kind: KeyKind::System };
    for _ in 0..4 {
        world.want(system, 0);
    }
    world.settle();
    assert_eq!(world.held.len(), 4);
}

#[test]
fn when_nothing_can_be_opened_everybody_is_told_and_soon_after_it_is_tried_again() {
    let mut world = World::new(bounds(2, 2));
    world.want(tenant(1), 0);
    world.want(tenant(2), 0);
    while world.opening > 0 {
        world.open_one(false);
    }
    assert_eq!((world.refused, world.waiting.len()), (2, 0));
    world.want(tenant(1), 0);
    assert_eq!((world.refused, world.opening), (3, 0), "at once, during the back-off");
    world.now += Duration::from_millis(251);
    world.want(tenant(1), 0);
    assert_eq!(world.opening, 1);
}

#[test]
fn what_carried_a_revoked_workspace_is_closed_at_once_or_when_it_comes_back() {
    let mut world = World::new(bounds(2, 2));
    world.want(tenant(1), 0);
    world.settle();
    let idle = world.one_held();
    world.release(idle, Outcome::Clean);
    // Another workspace has it now: the seal of the first one is still good for its process.
    world.want(tenant(2), 0);
    world.settle();
    let busy = world.one_held();
    let commands = world.roster.revoked(tenant(1).workspace.expect("a workspace"));
    world.perform(commands);
    if world.last.contains_key(&busy)
        && world
            .roster
            .backends
            .get(busy)
            .expect("it is there")
            .carried
            .contains(&tenant(1).workspace.expect("a workspace"))
    {
        assert_eq!(world.roster.needs_attention(), 1);
        world.release(busy, Outcome::Clean);
        assert!(!world.last.contains_key(&busy));
    }
    assert!(
        world
            .roster
            .backends
            .iter()
            .all(|(_, each)| !each.carried.contains(&tenant(1).workspace.expect("a workspace")))
    );
    assert_eq!(world.roster.needs_attention(), 0);
}

#[test]
fn a_database_that_is_vacated_is_left_by_the_idle_at_once_and_by_others_when_they_come_back() {
    let mut world = World::new(bounds(2, 2));
    world.want(tenant(1), 0);
    world.settle();
    let idle = world.one_held();
    world.release(idle, Outcome::Clean);
    let commands = world.roster.vacated();
    assert_eq!(commands, [Command::Close(idle)]);
    world.perform(commands);
    world.want(tenant(1), 0);
    world.settle();
    let busy = world.one_held();
    let commands = world.roster.vacated();
    assert_eq!(commands, [Command::Recall]);
    world.perform(commands);
    assert_eq!(world.roster.needs_attention(), 1);
    world.release(busy, Outcome::Clean);
    assert_eq!((world.roster.counts().open, world.roster.needs_attention()), (0, 0));
    // Whoever comes later is served as ever.
    world.want(tenant(1), 0);
    world.settle();
    world.one_held();
}

#[test]
fn a_connection_that_was_being_opened_to_a_vacated_database_stays_for_whoever_waits_only() {
    let mut roster = Roster::new(bounds(2, 2));
    let now = clock::now();
    assert_eq!(roster.waits(1, tenant(1), 0, None, now), [Command::Open, Command::Recall]);
    roster.vacated();
    roster.gave_up(1);
    assert_eq!(roster.opened(10, 5, 0, now), [Command::Close(10)]);
    assert_eq!(roster.counts(), Counts::default());
    roster.waits(2, tenant(1), 0, None, now);
    roster.vacated();
    assert_eq!(roster.opened(11, 5, 0, now), [Command::Grant { waiter: 2, core: 0, backend: 11, bound: false }]);
}

#[test]
fn when_all_are_bound_one_is_cleared_ahead_and_what_is_unused_is_closed() {
    let mut world = World::new(bounds(1, 1));
    world.want(tenant(1), 0);
    world.settle();
    let backend = world.one_held();
    world.release(backend, Outcome::Clean);
    let commands = world.roster.ticked(world.now);
    world.perform(commands);
    assert!(world.clearing.contains(&backend));
    world.settle();
    world.now += Duration::from_secs(61);
    let commands = world.roster.ticked(world.now);
    world.perform(commands);
    assert!(world.last.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Want(u8, usize),
    WantHome(u8, usize, usize),
    Settle(u8),
    Release(usize, Outcome),
    Leave(usize, Option<u64>),
    TakeKept(usize),
    Lapse(usize),
    GiveUp(usize),
    Open(bool),
    Clear(bool),
    End,
    Revoke(u8),
    Tick,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![8 => Just(Outcome::Clean), 1 => Just(Outcome::Dirty), 1 => Just(Outcome::Broken)];
    prop_oneof![
        6 => (0_u8..5, 0_usize..3).prop_map(|(tenant, core)| Step::Want(tenant, core)),
        3 => (0_u8..5, 0_usize..3, any::<usize>()).prop_map(|(tenant, core, which)| Step::WantHome(tenant, core, which)),
        2 => (0_u8..5).prop_map(Step::Settle),
        6 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Step::Release(which, outcome)),
        4 => (any::<usize>(), proptest::option::of(0_u64..3)).prop_map(|(which, gap)| Step::Leave(which, gap)),
        3 => any::<usize>().prop_map(Step::TakeKept),
        1 => any::<usize>().prop_map(Step::Lapse),
        1 => any::<usize>().prop_map(Step::GiveUp),
        4 => prop::bool::weighted(0.9).prop_map(Step::Open),
        4 => prop::bool::weighted(0.9).prop_map(Step::Clear),
        1 => Just(Step::End),
        1 => (0_u8..5).prop_map(Step::Revoke),
        1 => Just(Step::Tick),
        2 => (0_u64..400).prop_map(Step::Wait),
    ]
}

fn pick<K: Copy + Ord, V>(map: &HashMap<K, V>, which: usize) -> Option<K> {
    let mut keys: Vec<K> = map.keys().copied().collect();
    keys.sort_unstable();
    (!keys.is_empty()).then(|| keys[which % keys.len()])
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Want(number, core) => {
            world.want(tenant(number), core);
        }
        Step::WantHome(number, core, which) => {
            // It may have been closed meanwhile.
            let home = pick(&world.last, which).unwrap_or(0);
            let waiter = world.want_home(tenant(number), core, home);
            world.homecomers.push(waiter);
        }
        Step::Settle(number) => match world.roster.settle(tenant(number)) {
            Settled::At(id, _) => world.roster.moved_in(id),
            Settled::Crowded(..) | Settled::Nowhere => {
                world.opening += usize::from(world.roster.opens_for_home(world.now));
            }
        },
        Step::Release(which, outcome) => {
            if let Some(backend) = pick(&world.held, which) {
                // A broken one is dropped by its holder; the roster says so with Close.
                world.release(backend, outcome);
            }
        }
        Step::Leave(which, gap) => {
            if let Some(backend) = pick(&world.held, which) {
                world.leave(backend, gap.map(Duration::from_millis));
            }
        }
        Step::TakeKept(which) => {
            if let Some(backend) = pick(&world.kept, which) {
                world.take_kept(backend);
            }
        }
        Step::Lapse(which) => {
            if let Some(backend) = pick(&world.kept, which) {
                world.lapse(backend);
            }
        }
        Step::GiveUp(which) => {
            if let Some(waiter) = pick(&world.waiting, which) {
                world.give_up(waiter);
            }
        }
        Step::Open(works) => world.open_one(works),
        Step::Clear(works) => world.clear_one(works),
        Step::End => world.end_one(),
        Step::Revoke(number) => {
            let commands = world.roster.revoked(tenant(number).workspace.expect("a workspace"));
            world.perform(commands);
        }
        Step::Tick => {
            let commands = world.roster.ticked(world.now);
            world.perform(commands);
        }
        Step::Wait(milliseconds) => world.now += Duration::from_millis(milliseconds),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Isolation, permits and single holders are asserted at every step by the world; in the end nobody is left waiting.
    #[test]
    fn whatever_happens_nobody_gets_anothers_connection_and_everybody_is_answered(
        size in 1_usize..5,
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let mut world = World::new(bounds(size, size.max(2).min(size)));
        for step in steps {
            take(&mut world, step);
        }
        // Who waits for one connection alone gives up by itself.
        for waiter in std::mem::take(&mut world.homecomers) {
            if world.waiting.contains_key(&waiter) {
                world.give_up(waiter);
            }
        }
        let mut rounds = 0;
        while !world.waiting.is_empty() {
            rounds += 1;
            prop_assert!(rounds < 2000, "{} are never answered: {:?}", world.waiting.len(), world.roster);
            world.now += Duration::from_millis(300);
            let commands = world.roster.ticked(world.now);
            world.perform(commands);
            world.settle();
            while let Some(backend) = pick(&world.kept, 0) {
                world.lapse(backend);
            }
            if let Some(backend) = pick(&world.held, rounds) {
                world.release(backend, Outcome::Clean);
            }
            world.settle();
        }
        world.settle();
        prop_assert_eq!(world.roster.held.values().sum::<usize>(), world.held.len() + world.kept.len());
        prop_assert_eq!(world.roster.backends.len(), world.last.len());
    }
}

#[test]
fn what_comes_back_clean_goes_from_hand_to_hand_within_its_workspace() {
    let mut world = World::new(bounds(1, 1));
    world.want(tenant(1), 0);
    world.settle();
    world.want(tenant(1), 0);
    let backend = *world.held.keys().next().expect("one is held");
    world.release(backend, Outcome::Clean);
    assert_eq!(world.handed_over, 1);
    // Its turn is over, and another workspace waits.
    world.want(tenant(1), 0);
    world.want(tenant(2), 0);
    world.now += Duration::from_millis(3);
    world.release(backend, Outcome::Clean);
    assert_eq!(world.handed_over, 1);
}
