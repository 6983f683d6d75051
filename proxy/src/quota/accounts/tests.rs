//! The books as many cores use them, kept by a bookkeeper whose truth is a number in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::quota::bookkeeper;
use crate::quota::resource::Resource;
use crate::quota::truth::{FlowRows, Later, Truth, Uncounted};
use crate::quota::verdict::Refusal;
use crate::quota::window::Per;

const STOCK: ResourceId = ResourceId(1);
const FLOW: ResourceId = ResourceId(2);

fn workspace(number: u128) -> WorkspaceId {
    WorkspaceId::new(Uuid::from_u128(number))
}

fn acme() -> WorkspaceId {
    workspace(1)
}

fn definitions(limit: Limit) -> Arc<Definitions> {
    let resource = |id: ResourceId, name: &str, per| Resource {
        id,
        name: name.into(),
        per,
        default_limit: limit,
        meters: Vec::new(),
    };
    let resources = vec![resource(STOCK, "segments", None), resource(FLOW, "messages", Some(Per::Month))];
    Arc::new(Definitions::new(resources, []))
}

/// A table, and what is recorded of flows.
struct Table {
    rows: AtomicU64,
    counts: AtomicUsize,
    fails: AtomicBool,
    /// How many may look at the table.
    gate: Semaphore,
    flows: Mutex<HashMap<(ResourceId, i64), u64>>,
    batches: Mutex<Vec<Vec<FlowRows>>>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            rows: AtomicU64::new(0),
            counts: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
            gate: Semaphore::new(1 << 20),
            flows: Mutex::default(),
            batches: Mutex::default(),
        }
    }
}

impl Table {
    fn answer<T>(&self, answer: impl FnOnce() -> T) -> Result<T, Uncounted> {
        if self.fails.load(Ordering::SeqCst) { Err(Uncounted("it is down".to_owned())) } else { Ok(answer()) }
    }
}

impl Truth for Table {
    fn count(&self, _: WorkspaceId, _: ResourceId) -> Later<'_, u64> {
        Box::pin(async {
            self.counts.fetch_add(1, Ordering::SeqCst);
            let _looking = self.gate.acquire().await;
            self.answer(|| self.rows.load(Ordering::SeqCst))
        })
    }

    fn add<'a>(&'a self, batch: &'a [FlowRows]) -> Later<'a, Vec<u64>> {
        Box::pin(async {
            self.batches.lock().push(batch.to_vec());
            self.answer(|| {
                let mut flows = self.flows.lock();
                let mut add = |flow: &FlowRows| {
                    let total = flows.entry((flow.resource, flow.window.start)).or_default();
                    *total += flow.rows;
                    *total
                };
                batch.iter().map(&mut add).collect()
            })
        })
    }
}

/// Books that are kept.
struct Office {
    accounts: Arc<Accounts>,
    table: Arc<Table>,
    now: Arc<AtomicI64>,
    stopping: tokio::sync::watch::Sender<bool>,
    keeping: JoinHandle<()>,
}

impl Office {
    fn with(limit: Limit, rows: u64, wait_timeout_ms: u64) -> Self {
        Self::with_settings(limit, rows, Settings { wait_timeout_ms, ..Settings::default() })
    }

    fn with_settings(limit: Limit, rows: u64, settings: Settings) -> Self {
        let (table, now) = (Arc::new(Table::default()), Arc::new(AtomicI64::new(0)));
        table.rows.store(rows, Ordering::SeqCst);
        let clock = now.clone();
        let accounts = Accounts::with_clock(settings, definitions(limit), move || clock.load(Ordering::SeqCst));
        let (accounts, (stopping, stopped)) = (Arc::new(accounts), tokio::sync::watch::channel(false));
        let keeping = tokio::spawn(bookkeeper::keep(accounts.clone(), table.clone(), Box::new(|_, _| ()), stopped));
        Self { accounts, table, now, stopping, keeping }
    }

    fn of(limit: u64, rows: u64) -> Self {
        // Nobody waits so long: these tests hang if somebody does.
        Self::with(Some(limit), rows, 60_000)
    }

    async fn reserve(&self, rows: u64) -> Result<(), Refusal> {
        self.accounts.reserve(acme(), STOCK, rows, 0).await
    }

    fn reserving(&self, rows: u64, own: u64) -> JoinHandle<Result<(), Refusal>> {
        let accounts = self.accounts.clone();
        tokio::spawn(async move { accounts.reserve(acme(), STOCK, rows, own).await })
    }

    /// What a transaction does at its end, in the order in which it happens.
    fn commit(&self, inserted: u64) {
        self.table.rows.fetch_add(inserted, Ordering::SeqCst);
        let since = Moment(0);
        self.accounts.commit(acme(), STOCK, Settlement { reserved: inserted, credited: 0, since });
    }

    fn numbers(&self, resource: ResourceId) -> (u64, u64) {
        let usage = self.accounts.usage(acme());
        let usage = usage.iter().find(|usage| usage.resource == resource).expect("a resource");
        (usage.used, usage.reserved)
    }

    /// What those have reserved who wait for others.
    fn waiting(&self) -> u128 {
        self.accounts.with((acme(), STOCK), |slot| slot.account.waiting())
    }

    fn listeners(&self) -> usize {
        self.accounts.with((acme(), STOCK), |slot| slot.listeners)
    }

    async fn stop(self) -> Arc<Table> {
        self.stopping.send_replace(true);
        self.keeping.await.expect("the bookkeeper ends");
        self.table
    }
}

/// Waits until something is so.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::task::yield_now().await;
    }
}

fn exceeded(result: Result<(), Refusal>) -> (u64, u64, u64) {
    match result {
        Err(Refusal::Exceeded(exceeded)) => (exceeded.used, exceeded.reserved, exceeded.limit),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_first_touch_counts_the_truth_and_the_next_ones_dont() {
    let office = Office::of(5, 3);
    assert_eq!(office.accounts.try_reserve(acme(), STOCK, 1), Answer::Unsure);
    assert_eq!(office.reserve(1).await, Ok(()));
    assert_eq!(office.accounts.try_reserve(acme(), STOCK, 1), Answer::Granted);
    assert_eq!(office.table.counts.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn many_who_ask_at_once_share_the_counts() {
    let office = Office::of(5, 5);
    office.table.gate.forget_permits(1 << 20);
    let asking: Vec<_> = (0..40).map(|_| office.reserving(1, 0)).collect();
    until(|| office.table.counts.load(Ordering::SeqCst) == 1).await;
    office.table.gate.add_permits(1 << 20);
    for asked in asking {
        assert_eq!(exceeded(asked.await.expect("no panic")), (5, 0, 5));
    }
    // Those who came while the first was being made need another one.
    assert!(office.table.counts.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn who_deleted_beside_the_proxy_isnt_refused() {
    let office = Office::of(5, 5);
    assert_eq!(exceeded(office.reserve(1).await), (5, 0, 5));
    office.table.rows.store(4, Ordering::SeqCst);
    assert_eq!(office.reserve(1).await, Ok(()));
}

/// Books with 3 rows of 5, a transaction that holds the fourth, and one that holds the fifth and waits for a sixth.
async fn one_waits_for_another() -> (Office, JoinHandle<Result<(), Refusal>>) {
    let office = Office::of(5, 3);
    office.reserve(1).await.expect("it fits");
    office.reserve(1).await.expect("it fits");
    let asked = office.reserving(1, 1);
    until(|| office.waiting() == 1).await;
    (office, asked)
}

#[tokio::test]
async fn a_transaction_in_flight_is_waited_for_and_what_it_gives_back_is_granted() {
    let (office, asked) = one_waits_for_another().await;
    office.accounts.release(acme(), STOCK, 1);
    assert_eq!(asked.await.expect("no panic"), Ok(()));
    assert_eq!(office.numbers(STOCK), (3, 2));
}

#[tokio::test]
async fn a_transaction_in_flight_that_commits_leaves_nothing() {
    let (office, asked) = one_waits_for_another().await;
    office.commit(1);
    assert_eq!(exceeded(asked.await.expect("no panic")), (5, 1, 5));
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let office = Office::with(Some(5), 4, 1);
    office.reserve(1).await.expect("it fits");
    assert_eq!(exceeded(office.reserve(1).await), (5, 1, 5));
}

#[tokio::test]
async fn two_that_wait_for_each_other_dont_both_wait() {
    let office = Office::of(5, 0);
    office.reserve(3).await.expect("it fits");
    office.reserve(2).await.expect("it fits");
    let first = office.reserving(2, 3);
    until(|| office.waiting() == 3).await;
    let second = office.reserving(1, 2);
    // The first to wait goes on as soon as the other one is rolled back.
    let refused = second.await.expect("no panic");
    assert_eq!(exceeded(refused), (5, 5, 5));
    office.accounts.release(acme(), STOCK, 2);
    assert_eq!(first.await.expect("no panic"), Ok(()));
}

#[tokio::test]
async fn a_transaction_that_fills_the_limit_itself_is_refused_at_once() {
    let office = Office::of(5, 0);
    office.reserve(5).await.expect("it fits");
    let refused = office.accounts.reserve(acme(), STOCK, 1, 5).await;
    assert_eq!(exceeded(refused), (5, 5, 5));
}

#[tokio::test]
async fn who_goes_away_while_waiting_leaves_nothing_behind() {
    let (office, asked) = one_waits_for_another().await;
    asked.abort();
    assert!(asked.await.expect_err("aborted").is_cancelled());
    assert_eq!((office.waiting(), office.listeners()), (0, 0));
    assert_eq!(office.numbers(STOCK), (3, 2));
}

#[tokio::test]
async fn a_higher_limit_is_heard_by_those_who_wait() {
    let (office, asked) = one_waits_for_another().await;
    office.accounts.define(definitions(Some(6)), |_| true);
    assert_eq!(asked.await.expect("no panic"), Ok(()));
}

#[tokio::test]
async fn without_the_truth_nothing_is_granted_and_nobody_is_told_that_it_is_full() {
    let office = Office::of(5, 0);
    office.table.fails.store(true, Ordering::SeqCst);
    let refused = office.reserve(1).await;
    assert!(matches!(&refused, Err(Refusal::Undecided { why, .. }) if why == "it is down"), "{refused:?}");
    office.table.fails.store(false, Ordering::SeqCst);
    assert_eq!(office.reserve(1).await, Ok(()));
    let tally = office.accounts.tallies().all()[0].1;
    assert_eq!((tally.undecided, tally.failed_counts, tally.refusals), (1, 1, 0));
}

#[tokio::test]
async fn what_the_meter_says_is_booked_and_told_as_debt() {
    let office = Office::of(5, 4);
    office.reserve(1).await.expect("it fits");
    assert_eq!(office.accounts.adjust(acme(), STOCK, 1, 4), Adjusted::Debt(3));
    assert_eq!(office.accounts.adjust(acme(), STOCK, 4, 0), Adjusted::Fits);
    assert_eq!(office.numbers(STOCK), (4, 0));
    assert_eq!(office.accounts.adjust(workspace(2), STOCK, 0, 1), Adjusted::Unsure);
    assert_eq!(office.accounts.tallies().all()[0].1.debt_rows, 3);
}

#[tokio::test]
async fn an_old_count_is_made_anew_while_it_is_used_and_forgotten_when_it_isnt() {
    let office = Office::with_settings(Some(5), 0, Settings { recount_interval_ms: 20, ..Settings::default() });
    office.reserve(1).await.expect("it fits");
    office.table.rows.store(3, Ordering::SeqCst);
    office.commit(1);
    until(|| office.numbers(STOCK) == (4, 0)).await;
    // Nobody has used it since: who does next has it counted.
    until(|| !office.accounts.with((acme(), STOCK), |slot| slot.account.is_exact())).await;
    assert_eq!(office.accounts.try_reserve(acme(), STOCK, 1), Answer::Unsure);
}

#[tokio::test]
async fn a_delete_is_credited_once_though_a_count_came_between() {
    let office = Office::of(5, 5);
    office.accounts.recount(acme(), STOCK).await.expect("it is there");
    let credit = |since| {
        office.accounts.commit(acme(), STOCK, Settlement { reserved: 0, credited: 2, since });
        office.numbers(STOCK).0
    };
    let since = office.accounts.moment();
    office.table.rows.store(3, Ordering::SeqCst);
    office.accounts.recount(acme(), STOCK).await.expect("it is there");
    assert_eq!(credit(since), 3, "the count knew it");
    assert_eq!(credit(office.accounts.moment()), 1);
}

#[tokio::test]
async fn asking_whether_it_fits_reserves_nothing() {
    let office = Office::of(5, 3);
    assert_eq!(office.accounts.validate(acme(), STOCK, 2).await, Ok(()));
    assert_eq!(exceeded(office.accounts.validate(acme(), STOCK, 3).await), (3, 0, 5));
    assert_eq!(office.numbers(STOCK), (3, 0));
}

#[tokio::test]
async fn what_isnt_metered_yet_is_remembered_until_it_is() {
    let office = Office::of(5, 0);
    office.accounts.define(Arc::default(), |_| true);
    assert_eq!(office.accounts.try_reserve(acme(), STOCK, 4), Answer::Unlimited);
    office.accounts.define(definitions(Some(5)), |_| true);
    office.table.rows.store(1, Ordering::SeqCst);
    let refused = office.accounts.reserve(acme(), STOCK, 1, 4).await;
    assert_eq!(exceeded(refused), (5, 4, 5));
}

#[tokio::test]
async fn a_workspace_that_is_gone_is_forgotten_when_its_last_transaction_ends() {
    let office = Office::of(5, 0);
    office.reserve(1).await.expect("it fits");
    office.accounts.define(definitions(Some(5)), |_| false);
    assert!(office.accounts.is_known(acme(), STOCK));
    office.accounts.release(acme(), STOCK, 1);
    office.accounts.define(definitions(Some(5)), |_| false);
    assert!(!office.accounts.is_known(acme(), STOCK));
}

#[tokio::test]
async fn a_flow_is_recorded_by_window_and_read_again_by_the_next_proxy() {
    let office = Office::of(5, 0);
    let insert = async |rows| {
        let granted = office.accounts.reserve(acme(), FLOW, rows, 0).await;
        let settlement = Settlement { reserved: rows, credited: 3, since: office.accounts.moment() };
        granted.map(|()| office.accounts.commit(acme(), FLOW, settlement))
    };
    insert(4).await.expect("it fits");
    assert!(matches!(insert(2).await, Err(Refusal::Exceeded(exceeded))
        if exceeded.used == 4 && exceeded.resets_at.as_deref() == Some("1970-02-01T00:00:00Z")));
    office.now.store(31 * 86_400, Ordering::SeqCst);
    insert(5).await.expect("it is another window");
    let flows = office.stop().await.flows.lock().clone();
    assert_eq!(flows, HashMap::from([((FLOW, 0), 4), ((FLOW, 31 * 86_400), 5)]));
}

#[tokio::test]
async fn a_batch_of_flows_that_failed_is_given_again_as_it_was() {
    let office = Office::of(5, 0);
    office.accounts.reserve(acme(), FLOW, 2, 0).await.expect("it fits");
    office.table.batches.lock().clear();
    office.table.fails.store(true, Ordering::SeqCst);
    let settle = |rows| {
        let settlement = Settlement { reserved: rows, credited: 0, since: office.accounts.moment() };
        office.accounts.commit(acme(), FLOW, settlement);
    };
    settle(1);
    let refused = office.accounts.recount(acme(), FLOW).await;
    assert!(matches!(refused, Err(Refusal::Undecided { .. })));
    settle(1);
    let tries = office.table.batches.lock().len();
    until(|| office.table.batches.lock().len() > tries + 1).await;
    office.table.fails.store(false, Ordering::SeqCst);
    // It is read twice, for the first to arrive is of the batch that failed.
    office.accounts.recount(acme(), FLOW).await.expect("it is back");
    assert_eq!(office.numbers(FLOW), (2, 0));
    let table = office.stop().await;
    let batches = table.batches.lock();
    let rows: Vec<u64> = batches.iter().map(|batch| batch.iter().map(|flow| flow.rows).sum()).collect();
    assert!(rows[0] == 1 && rows.iter().all(|rows| *rows <= 1), "what came later is a batch of its own: {rows:?}");
    assert_eq!(table.flows.lock()[&(FLOW, 0)], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_clients_end_exactly_at_the_limit() {
    let office = Arc::new(Office::of(100, 10));
    let clients = (0..40).map(|client| {
        let office = office.clone();
        tokio::spawn(async move {
            let (mut inserted, mut refused) = (0, 0);
            for round in 0..20 {
                let since = office.accounts.moment();
                if office.accounts.try_reserve(acme(), STOCK, 1) == Answer::Unsure && office.reserve(1).await.is_err() {
                    refused += 1;
                    continue;
                }
                assert!(office.table.rows.load(Ordering::SeqCst) < 100, "there is room for what was granted");
                if (client + round) % 3 == 0 {
                    office.accounts.release(acme(), STOCK, 1);
                    continue;
                }
                office.table.rows.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                office.accounts.commit(acme(), STOCK, Settlement { reserved: 1, credited: 0, since });
                inserted += 1;
            }
            (inserted, refused)
        })
    });
    let (mut inserted, mut refused) = (0, 0);
    for client in clients.collect::<Vec<_>>() {
        let (more, less) = client.await.expect("no panic");
        inserted += more;
        refused += less;
    }
    assert_eq!((inserted, office.table.rows.load(Ordering::SeqCst)), (90, 100));
    assert!(refused > 0);
}

#[test]
fn shards_are_used_alike_whatever_the_ids() {
    let accounts = Accounts::new(Settings::default(), definitions(Some(1)));
    for number in 0..6400_u128 {
        accounts.try_reserve(workspace(number), STOCK, 1);
    }
    let sizes = accounts.shards.iter().map(|shard| shard.0.lock().len());
    assert!(sizes.clone().max() < Some(200) && sizes.min() > Some(20));
}
