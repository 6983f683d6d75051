//! Who gets which server connection: without waiting, and out of the queue.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use pgcordon::domain::clock::{self, Instant};
use pgcordon::domain::{KeyKind, WorkspaceId};
use pgcordon::pool::Outcome;
use pgcordon::pool::roster::{BackendId, Bounds, Command, Roster, WaiterId};
use pgcordon::tenant::Tenant;
use uuid::Uuid;

const POOL: u64 = 20;
const WAITING: u64 = 44;

pub(super) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("roster");
    let now = clock::now();

    let mut roster = opened(now);
    group.bench_function("a connection is taken and comes back", |bench| {
        bench.iter(|| {
            let granted = roster.try_take(black_box(tenant(0)), 0, None, now).expect("an idle one");
            roster.released(granted.backend, Outcome::Clean, 0, now)
        });
    });
    for (name, workspaces) in [("one workspace's queue", 1), ("the queues of 64 workspaces", 64)] {
        let mut crowd = Crowd::new(workspaces, now);
        group.bench_function(format!("a connection goes to the next in {name}"), |bench| bench.iter(|| crowd.turn()));
    }
    group.finish();
}

fn tenant(number: u64) -> Tenant {
    let workspace = WorkspaceId::new(Uuid::from_u128(u128::from(number) + 1));
    Tenant { workspace: Some(workspace), kind: KeyKind::Workspace }
}

fn opened(now: Instant) -> Roster {
    let size = usize::try_from(POOL).expect("a small number");
    let mut roster = Roster::new(Bounds {
        size,
        workspace_max: size,
        quantum: Duration::from_millis(2),
        idle_timeout: Duration::from_secs(600),
        back_off: Duration::from_millis(250),
    });
    for id in 0..POOL {
        roster.opened(id, i32::try_from(id).expect("a small number") + 100, 0, now);
    }
    roster
}

/// More clients than connections: who gives one back waits for the next at once.
struct Crowd {
    roster: Roster,
    now: Instant,
    workspaces: u64,
    /// Whose turn it is to give back: connections that are held.
    held: VecDeque<BackendId>,
    next: WaiterId,
}

impl Crowd {
    fn new(workspaces: u64, now: Instant) -> Self {
        let mut crowd = Self { roster: opened(now), now, workspaces, held: VecDeque::new(), next: 0 };
        for _ in 0..POOL + WAITING {
            crowd.wait();
        }
        assert_eq!(crowd.held.len(), usize::try_from(POOL).expect("a small number"), "all of them are held");
        crowd
    }

    /// Somebody waits.
    fn wait(&mut self) {
        let waiter = self.next;
        self.next += 1;
        let commands = self.roster.waits(waiter, tenant(waiter % self.workspaces), 0, None, self.now);
        self.perform(commands);
    }

    /// A connection comes back after a while and goes on, over a clearing if another workspace is next.
    fn turn(&mut self) {
        self.now += Duration::from_micros(500);
        let backend = self.held.pop_front().expect("one that is held");
        let commands = self.roster.released(backend, Outcome::Clean, 0, self.now);
        self.perform(commands);
        self.wait();
    }

    fn perform(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Grant { backend, .. } => self.held.push_back(backend),
                Command::Clear(backend) => {
                    let commands = self.roster.cleared(backend, 0, self.now);
                    self.perform(commands);
                }
                _ => {}
            }
        }
    }
}
