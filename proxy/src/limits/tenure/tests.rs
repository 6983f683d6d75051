//! What is noted and what is seen, with the clock moved by hand.

use super::*;

struct Client {
    beat: Beat,
    tenure: Tenure,
    noted: Noted,
    settings: Settings,
}

impl Client {
    fn new() -> Self {
        let settings = Settings {
            statement_timeout_ms: 100,
            transaction_timeout_ms: 300,
            idle_in_transaction_timeout_ms: 50,
            ..Settings::default()
        };
        Self { beat: Beat::default(), tenure: Tenure::default(), noted: Noted::default(), settings }
    }

    fn at(&mut self, ms: u64) -> &mut Self {
        self.beat.set(Duration::from_millis(ms));
        self
    }

    fn does(&mut self, phase: Phase, statement: u64, transaction: u64) {
        self.tenure.note(&mut self.noted, phase, (statement, transaction), &self.beat);
    }

    fn overstays(&self) -> Option<Overstay> {
        self.tenure.seen().overstay(&self.settings, self.beat.now())
    }
}

#[test]
fn a_statement_has_its_time_and_the_next_one_its_own() {
    let mut client = Client::new();
    assert_eq!(client.at(500).overstays(), None, "who has no server connection takes nothing");
    client.does(Phase::Running, 1, 0);
    client.at(599).does(Phase::Running, 1, 0);
    assert_eq!(client.overstays(), None);
    assert_eq!(client.at(600).overstays(), Some(Overstay::Statement));
    client.does(Phase::Running, 2, 1);
    assert_eq!(client.overstays(), None);
}

#[test]
fn a_transaction_has_its_time_however_busy_it_is() {
    let mut client = Client::new();
    client.at(1000).does(Phase::Running, 1, 0);
    for (at, statement) in [(1040, 2), (1080, 3), (1120, 4), (1160, 5), (1200, 6), (1240, 7), (1280, 8)] {
        client.at(at).does(Phase::InTransaction, statement, 0);
        assert_eq!(client.overstays(), None, "{at}");
        client.does(Phase::Running, statement + 1, 0);
        assert_eq!(client.overstays(), None, "{at}");
    }
    assert_eq!(client.at(1300).overstays(), Some(Overstay::Transaction));
    client.does(Phase::InTransaction, 9, 0);
    assert_eq!(client.overstays(), Some(Overstay::Transaction));
}

#[test]
fn transactions_that_follow_one_another_without_a_pause_are_each_their_own() {
    let mut client = Client::new();
    for number in 0..20 {
        client.at(number * 60).does(Phase::Running, number, number);
        assert_eq!(client.overstays(), None, "{number}");
    }
    client.at(1200).does(Phase::Kept, 20, 20);
    assert_eq!(client.at(9999).overstays(), None, "what is kept outside of a transaction has no bound of its own");
}

#[test]
fn a_client_that_does_nothing_in_a_transaction_is_ended_and_one_that_does_something_is_not() {
    let mut client = Client::new();
    client.at(10).does(Phase::Running, 1, 0);
    client.does(Phase::InTransaction, 2, 0);
    assert_eq!(client.at(59).overstays(), None);
    assert_eq!(client.at(60).overstays(), Some(Overstay::Idle));
    client.does(Phase::Away, 2, 1);
    assert_eq!(client.overstays(), None);
}

#[test]
fn bounds_of_zero_are_none() {
    let mut client = Client::new();
    client.settings = Settings {
        statement_timeout_ms: 0,
        transaction_timeout_ms: 0,
        idle_in_transaction_timeout_ms: 0,
        ..Settings::default()
    };
    for phase in [Phase::Running, Phase::InTransaction, Phase::Kept] {
        client.at(0).does(phase, 1, 0);
        assert_eq!(client.at(u64::MAX >> 3).overstays(), None);
    }
}

#[test]
fn a_cancel_that_is_not_heeded_ends_the_session() {
    let seen = Seen { phase: Phase::Running, ..Seen::default() };
    assert_eq!(Overstay::Statement.verdict(&seen, None, 5000), Verdict::Cancel);
    assert_eq!(Overstay::Statement.verdict(&seen, Some(5000), 6999), Verdict::Wait);
    assert_eq!(Overstay::Statement.verdict(&seen, Some(5000), 7000), Verdict::End);
    assert_eq!(Overstay::Transaction.verdict(&seen, None, 5000), Verdict::End);
    let idle = Seen { phase: Phase::InTransaction, ..Seen::default() };
    assert_eq!(Overstay::TableLock.verdict(&idle, None, 5000), Verdict::End);
}

#[test]
fn who_has_more_than_its_share_is_cancelled_if_its_statement_is_all_it_has_the_connection_for() {
    let mut client = Client::new();
    client.at(100).does(Phase::Running, 1, 0);
    assert_eq!(Overstay::Share.verdict(&client.tenure.seen(), None, 900), Verdict::Cancel);
    assert_eq!(client.tenure.seen().had(900), 800);
    // A second one, in a transaction or with a pin.
    client.at(200).does(Phase::Running, 2, 1);
    assert_eq!(Overstay::Share.verdict(&client.tenure.seen(), None, 900), Verdict::End);
    assert_eq!(client.tenure.seen().had(900), 800);
    client.at(300).does(Phase::Away, 2, 2);
    client.at(400).does(Phase::Kept, 2, 2);
    assert_eq!(client.tenure.seen().had(900), 500);
    assert_eq!(Overstay::Share.verdict(&client.tenure.seen(), None, 900), Verdict::End);
}

#[test]
fn what_was_seen_may_be_over_by_now() {
    let mut client = Client::new();
    client.at(100).does(Phase::Running, 1, 0);
    let then = client.tenure.seen();
    client.at(200).does(Phase::Running, 2, 0);
    let within = client.tenure.seen();
    assert!(!Overstay::Statement.is_still_so(&then, &within) && Overstay::Transaction.is_still_so(&then, &within));
    client.at(300).does(Phase::Running, 3, 1);
    let after = client.tenure.seen();
    assert!(!Overstay::Transaction.is_still_so(&then, &after) && Overstay::Share.is_still_so(&then, &after));
    client.does(Phase::Away, 3, 2);
    client.does(Phase::Running, 4, 2);
    assert!(!Overstay::Share.is_still_so(&then, &client.tenure.seen()));
}

#[test]
fn the_shortest_bound_says_how_often_somebody_looks() {
    assert_eq!(Settings::default().beat_ms(), 250);
    assert_eq!(Settings { statement_timeout_ms: 300, ..Settings::default() }.beat_ms(), 75);
    assert_eq!(Settings { statement_timeout_ms: 1, ..Settings::default() }.beat_ms(), 50);
}
