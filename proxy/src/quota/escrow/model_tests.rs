//! The books against a model of Postgres: transactions, counts, crashes and writers beside the proxy in any order. Postgres
//! commits at one moment and the proxy hears of it at a later one; a count has a begin, a snapshot and an arrival.

use proptest::prelude::*;

use super::*;
use crate::domain::clock;

/// What can happen. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Event {
    Ask { rows: u64, of: Option<usize> },
    Poll(usize),
    GiveUp(usize),
    Delete { of: usize, rows: u64 },
    Commit(usize),
    Settle(usize),
    RollBack(usize),
    Shrink { of: usize, rows: u64 },
    Lose(usize),
    EndLost { which: usize, commits: bool },
    DeleteBeside(u64),
    CountBegins,
    CountLooks,
    CountArrives,
    CountFails,
    Doubt(bool),
    Limit(u64),
    Later,
}

fn event() -> impl Strategy<Value = Event> {
    let index = 0..6_usize;
    prop_oneof![
        6 => (0..4_u64, proptest::option::weighted(0.4, index.clone())).prop_map(|(rows, of)| Event::Ask { rows, of }),
        8 => index.clone().prop_map(Event::Poll),
        1 => index.clone().prop_map(Event::GiveUp),
        2 => (index.clone(), 1..4_u64).prop_map(|(of, rows)| Event::Delete { of, rows }),
        4 => index.clone().prop_map(Event::Commit),
        4 => index.clone().prop_map(Event::Settle),
        1 => index.clone().prop_map(Event::RollBack),
        1 => (index.clone(), 1..3_u64).prop_map(|(of, rows)| Event::Shrink { of, rows }),
        1 => index.clone().prop_map(Event::Lose),
        1 => (index, any::<bool>()).prop_map(|(which, commits)| Event::EndLost { which, commits }),
        1 => (1..3_u64).prop_map(Event::DeleteBeside),
        3 => Just(Event::CountBegins),
        4 => Just(Event::CountLooks),
        4 => Just(Event::CountArrives),
        1 => Just(Event::CountFails),
        1 => any::<bool>().prop_map(Event::Doubt),
        1 => (0..12_u64).prop_map(Event::Limit),
        1 => Just(Event::Later),
    ]
}

/// A transaction as Postgres and its client know it.
#[derive(Clone, Debug)]
struct Transaction {
    inserted: u64,
    deleted: u64,
    since: Moment,
    is_committed: bool,
}

/// A question that isn't decided, and the fullest that the table was since it was asked.
#[derive(Clone, Debug)]
struct Question {
    ask: Ask,
    of: Option<usize>,
    since: Moment,
    waits: bool,
    fullest: u64,
}

struct World {
    account: Account,
    moment: u64,
    now: Instant,
    limit: u64,
    /// Rows that are committed in Postgres.
    rows: u64,
    transactions: Vec<Option<Transaction>>,
    questions: Vec<Question>,
    /// Transactions whose connection was lost before they ended, and since when.
    lost: Vec<(Transaction, Instant)>,
    count: Option<(u64, Option<u64>)>,
}

impl World {
    fn new(limit: u64, rows: u64) -> Self {
        Self {
            account: Account::new(Some(limit), None, 0),
            moment: 0,
            now: clock::now(),
            limit,
            rows,
            transactions: Vec::new(),
            questions: Vec::new(),
            lost: Vec::new(),
            count: None,
        }
    }

    /// Transactions that Postgres hasn't ended.
    fn open(&self) -> impl Iterator<Item = &Transaction> {
        let ours = self.transactions.iter().flatten().filter(|each| !each.is_committed);
        ours.chain(self.lost.iter().map(|(lost, _)| lost))
    }

    /// What is there and what may still come.
    fn fullness(&self) -> u64 {
        self.rows + self.open().map(|each| each.inserted).sum::<u64>()
    }

    /// Rows that no transaction is about to delete.
    fn deletable(&self) -> u64 {
        self.rows - self.open().map(|each| each.deleted).sum::<u64>()
    }

    /// The n-th transaction whose client waits for nothing.
    fn free(&self, n: usize, committed: bool) -> Option<usize> {
        let busy = |at: usize| self.questions.iter().any(|question| question.of == Some(at));
        let all = self.transactions.iter().enumerate();
        let free: Vec<usize> = all
            .filter(|(at, each)| each.as_ref().is_some_and(|each| each.is_committed == committed) && !busy(*at))
            .map(|(at, _)| at)
            .collect();
        (!free.is_empty()).then(|| free[n % free.len()])
    }

    fn begin(&mut self, inserted: u64, deleted: u64, since: Moment) {
        self.transactions.push(Some(Transaction { inserted, deleted, since, is_committed: false }));
    }

    fn granted(&mut self, rows: u64, of: Option<usize>, since: Moment) {
        match of.and_then(|of| self.transactions[of].as_mut()) {
            Some(transaction) => transaction.inserted += rows,
            None => self.begin(rows, 0, since),
        }
        let (full, limit) = (self.fullness(), self.limit);
        assert!(rows == 0 || full <= limit, "granted beyond the limit: {full} of {limit}");
    }

    fn poll(&mut self, at: usize) {
        let Question { ask, of, since, waits, fullest } = self.questions[at].clone();
        if waits {
            self.account.wait_ends(ask.own);
        }
        let verdict = self.account.decide(ask, false);
        self.questions[at].waits = verdict == Verdict::Wait;
        match verdict {
            Verdict::Granted => {
                self.questions.remove(at);
                self.granted(ask.rows, of, since);
            }
            Verdict::Exceeded { .. } => {
                assert!(fullest + ask.rows > self.limit, "refused, and {fullest} + {} fitted all the time", ask.rows);
                self.questions.remove(at);
            }
            Verdict::Undecided(_) => {
                self.questions.remove(at);
            }
            Verdict::Wait => self.account.wait_begins(ask.own),
            Verdict::Count { need } => self.questions[at].ask.need = need,
            Verdict::Unlimited => panic!("there is a limit"),
        }
    }

    fn ask(&mut self, rows: u64, of: Option<usize>, since: Moment) {
        if self.account.try_reserve(rows) == Answer::Granted {
            return self.granted(rows, of, since);
        }
        let own = of.and_then(|of| self.transactions[of].as_ref()).map_or(0, |each| each.inserted);
        let ask = Ask { rows, own, need: self.account.next_count() };
        self.questions.push(Question { ask, of, since, waits: false, fullest: 0 });
    }

    fn give_up(&mut self, at: usize) {
        let question = self.questions.remove(at);
        if question.waits {
            self.account.wait_ends(question.ask.own);
        }
    }

    /// How it ended isn't known.
    fn lose(&mut self, at: Option<usize>) {
        if let Some(lost) = at.and_then(|at| self.transactions[at].take()) {
            self.account.doubt(Doubt::Outcome { reserved: lost.inserted }, self.now);
            if !lost.is_committed {
                self.lost.push((lost, self.now));
            }
        }
    }

    fn happens(&mut self, event: Event) {
        let since = Moment(self.moment);
        match event {
            Event::Ask { rows, of } => self.ask(rows, of.and_then(|of| self.free(of, false)), since),
            Event::Poll(at) if !self.questions.is_empty() => self.poll(at % self.questions.len()),
            Event::GiveUp(at) if !self.questions.is_empty() => self.give_up(at % self.questions.len()),
            Event::Delete { of, rows } => {
                let rows = rows.min(self.deletable());
                match self.free(of, false).and_then(|of| self.transactions[of].as_mut()) {
                    Some(transaction) => transaction.deleted += rows,
                    None => self.begin(0, rows, since),
                }
            }
            Event::Commit(of) => {
                if let Some(transaction) = self.free(of, false).and_then(|of| self.transactions[of].as_mut()) {
                    transaction.is_committed = true;
                    self.rows = self.rows + transaction.inserted - transaction.deleted;
                }
            }
            Event::Settle(of) => {
                if let Some(ended) = self.free(of, true).and_then(|of| self.transactions[of].take()) {
                    self.account.settle(ended.inserted, ended.deleted, ended.since);
                }
            }
            Event::RollBack(of) => {
                if let Some(ended) = self.free(of, false).and_then(|of| self.transactions[of].take()) {
                    self.account.release(ended.inserted);
                }
            }
            Event::Shrink { of, rows } => {
                if let Some(transaction) = self.free(of, false).and_then(|of| self.transactions[of].as_mut()) {
                    let rows = rows.min(transaction.inserted);
                    transaction.inserted -= rows;
                    self.account.release(rows);
                }
            }
            Event::Lose(of) => self.lose(self.free(of, false).or_else(|| self.free(of, true))),
            Event::EndLost { which, commits } if !self.lost.is_empty() => {
                self.end_lost(which % self.lost.len(), commits);
            }
            Event::DeleteBeside(rows) => self.rows -= rows.min(self.deletable()),
            Event::CountBegins if self.count.is_none() => {
                self.count = Some((self.account.count_begins(self.now), None));
            }
            Event::CountLooks => {
                if let Some((_, seen @ None)) = &mut self.count {
                    *seen = Some(self.rows);
                }
            }
            Event::CountArrives => {
                if let Some((number, Some(rows))) = self.count {
                    self.moment += 1;
                    self.account.count_arrives(number, rows, None, Moment(self.moment));
                    self.count = None;
                }
            }
            Event::CountFails => {
                if let Some((number, _)) = self.count.take() {
                    self.account.count_fails(number, String::new());
                }
            }
            Event::Doubt(more) => self.account.doubt(if more { Doubt::More } else { Doubt::Fewer }, self.now),
            Event::Limit(limit) => {
                self.limit = limit;
                self.account.define(Some(limit), None, 0);
            }
            Event::Later => {
                self.now += DOUBT_LINGERS / 2;
                while let Some(at) = self.lost.iter().position(|(_, since)| self.now - *since >= DOUBT_LINGERS) {
                    self.end_lost(at, at.is_multiple_of(2));
                }
            }
            _ => {}
        }
        let fullness = self.fullness();
        self.questions.iter_mut().for_each(|question| question.fullest = fullness.max(question.fullest));
    }

    fn end_lost(&mut self, at: usize, commits: bool) {
        let (transaction, _) = self.lost.remove(at);
        if commits {
            self.rows = self.rows + transaction.inserted - transaction.deleted;
        }
    }

    fn count(&mut self) {
        for event in [Event::CountBegins, Event::CountLooks, Event::CountArrives] {
            self.happens(event);
        }
    }

    /// Everybody ends, and the books must be those of Postgres.
    fn ends(mut self) {
        self.happens(Event::CountFails);
        while !self.questions.is_empty() {
            self.happens(Event::GiveUp(0));
        }
        for _ in 0..self.transactions.len() {
            self.happens(Event::Settle(0));
            self.happens(Event::RollBack(0));
        }
        self.happens(Event::Later);
        self.happens(Event::Later);
        self.count();
        assert_eq!((self.account.used(), self.account.reserved(), self.account.waiting), (self.rows, 0, 0));
        assert!(self.account.is_idle() && self.account.is_exact());
        // Who asks now is told the truth, after two counts at the most.
        let room = self.limit.saturating_sub(self.rows);
        for rows in [room, room + 1] {
            self.transactions.clear();
            self.happens(Event::Ask { rows, of: None });
            for _ in 0..2 {
                self.happens(Event::Poll(0));
                self.count();
            }
            self.happens(Event::Poll(0));
            let fits = rows == 0 || self.rows + rows <= self.limit;
            assert_eq!((self.questions.len(), self.account.reserved()), (0, if fits { rows } else { 0 }));
            self.account.release(self.account.reserved());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// No grant goes beyond the limit, nobody is refused who would have fitted all the time since he asked, and when all is
    /// quiet the books are exact.
    #[test]
    fn the_limit_holds_and_nobody_is_refused_wrongly(
        limit in 0..12_u64,
        rows in 0..12_u64,
        events in proptest::collection::vec(event(), 0..120),
    ) {
        let mut world = World::new(limit, rows);
        for event in events {
            world.happens(event);
        }
        world.ends();
    }
}
