//! The arithmetic's scripts. What must hold in whatever order is in `model_tests`.

use super::*;
use crate::domain::clock;

/// 2026-01-31T23:59:59Z.
const LAST_OF_JANUARY: i64 = 1_769_903_999;

/// Books that were counted.
fn counted(limit: u64, rows: u64) -> Account {
    let mut account = Account::new(Some(limit), None, 0);
    count(&mut account, rows);
    account
}

fn count(account: &mut Account, rows: u64) -> Option<Warning> {
    let number = account.count_begins(clock::now());
    account.count_arrives(number, rows, account.window(), Moment(account.counted_at.0 + 1))
}

fn ask(account: &Account, rows: u64) -> Ask {
    Ask { rows, own: 0, need: account.next_count() }
}

fn exceeded(used: u64, reserved: u64, limit: u64) -> Verdict {
    Verdict::Exceeded { used, reserved, limit }
}

#[test]
fn nothing_is_granted_before_the_truth_was_counted() {
    let mut account = Account::new(Some(5), None, 0);
    assert_eq!(account.try_reserve(1), Answer::Unsure);
    count(&mut account, 4);
    assert_eq!(account.try_reserve(1), Answer::Granted);
    assert_eq!(account.try_reserve(1), Answer::Unsure);
}

#[test]
fn nobody_is_refused_on_a_count_that_began_before_the_question() {
    let mut account = counted(5, 5);
    let early = account.count_begins(clock::now());
    let ask = ask(&account, 1);
    account.count_arrives(early, 5, None, Moment(2));
    assert_eq!(account.decide(ask, false), Verdict::Count { need: early + 1 });
    count(&mut account, 5);
    assert_eq!(account.decide(ask, false), exceeded(5, 0, 5));
}

#[test]
fn a_count_that_began_before_the_question_is_good_enough_to_grant_it() {
    let mut account = Account::new(Some(5), None, 0);
    let early = account.count_begins(clock::now());
    let ask = ask(&account, 1);
    account.count_arrives(early, 0, None, Moment(1));
    assert_eq!(account.decide(ask, false), Verdict::Granted);
}

#[test]
fn what_is_settled_while_the_truth_is_counted_isnt_lost() {
    let mut account = counted(5, 0);
    assert_eq!(account.try_reserve(3), Answer::Granted);
    let number = account.count_begins(clock::now());
    // The count's snapshot is taken here: it sees nothing.
    account.settle(3, 0, Moment(1));
    account.count_arrives(number, 0, None, Moment(2));
    assert_eq!(account.used(), 3);
    assert_eq!(account.try_reserve(3), Answer::Unsure);
}

#[test]
fn a_delete_that_the_count_knows_already_isnt_credited_again() {
    let mut account = counted(5, 5);
    let since = account.counted_at;
    // The delete is committed here, the count sees it, and its outcome is told here afterwards.
    count(&mut account, 3);
    account.settle(0, 2, since);
    assert_eq!(account.used(), 3);
    account.settle(0, 1, account.counted_at);
    assert_eq!(account.used(), 2);
}

#[test]
fn rows_that_were_counted_and_are_settled_later_refuse_nobody() {
    let mut account = counted(5, 0);
    let since = account.counted_at;
    account.try_reserve(3);
    // Committed in Postgres, counted, and settled here only then: 6 on the books, 3 in truth.
    count(&mut account, 3);
    account.settle(3, 0, since);
    assert_eq!((account.used(), account.is_exact()), (6, false));
    let ask = ask(&account, 2);
    assert!(matches!(account.decide(ask, false), Verdict::Count { .. }));
    count(&mut account, 3);
    assert_eq!(account.decide(ask, false), Verdict::Granted);
}

#[test]
fn a_limit_below_usage_refuses_until_enough_is_deleted() {
    let mut account = counted(9, 9);
    account.define(Some(5), None, 0);
    let asked = ask(&account, 1);
    count(&mut account, 9);
    assert_eq!(account.decide(asked, false), exceeded(9, 0, 5));
    account.settle(0, 4, account.counted_at);
    assert_eq!(account.try_reserve(1), Answer::Unsure);
    account.settle(0, 1, account.counted_at);
    assert_eq!(account.try_reserve(1), Answer::Granted);
}

#[test]
fn what_was_reserved_without_a_limit_counts_when_one_is_set() {
    let mut account = Account::new(None, None, 0);
    assert_eq!(account.try_reserve(4), Answer::Unlimited);
    account.define(Some(5), None, 0);
    assert_eq!(account.try_reserve(1), Answer::Unsure);
    count(&mut account, 0);
    assert_eq!(account.try_reserve(2), Answer::Unsure);
    assert_eq!(account.try_reserve(1), Answer::Granted);
    account.settle(4, 0, Moment(0));
    assert_eq!(account.used(), 4);
}

#[test]
fn no_number_overflows() {
    let mut account = Account::new(None, None, 0);
    for _ in 0..3 {
        assert_eq!(account.try_reserve(u64::MAX), Answer::Unlimited);
    }
    account.settle(u64::MAX, 0, Moment(0));
    account.release(u64::MAX);
    account.release(u64::MAX);
    assert_eq!((account.used(), account.reserved()), (u64::MAX, 0));
    let mut account = counted(u64::MAX, 1);
    assert_eq!(account.try_reserve(u64::MAX), Answer::Unsure);
    assert_eq!(account.try_reserve(u64::MAX - 1), Answer::Granted);
    assert_eq!(account.force(u64::MAX), Some(u64::MAX));
}

#[test]
fn more_released_than_was_reserved_grants_nothing_before_a_count() {
    let mut account = counted(5, 4);
    account.release(1);
    assert_eq!((account.reserved(), account.try_reserve(1)), (0, Answer::Unsure));
    count(&mut account, 4);
    assert_eq!(account.try_reserve(1), Answer::Granted);
}

#[test]
fn no_rows_fit_into_every_limit() {
    let mut account = Account::new(Some(0), None, 0);
    assert_eq!(account.try_reserve(0), Answer::Granted);
    let asked = ask(&account, 1);
    count(&mut account, 0);
    assert_eq!(account.decide(asked, false), exceeded(0, 0, 0));
}

#[test]
fn what_nobody_could_stop_is_booked_and_told_as_debt() {
    let mut account = counted(5, 4);
    assert_eq!(account.force(3), Some(2));
    assert_eq!(account.force(3), Some(3));
    assert_eq!(account.settle(6, 0, account.counted_at), Some(Warning { percent: 100, used: 10, limit: 5 }));
    assert_eq!(account.try_reserve(1), Answer::Unsure);
    assert_eq!(Account::new(Some(5), None, 0).force(9), None, "nobody knows whether it is one");
}

#[test]
fn others_in_flight_are_waited_for_until_it_is_late() {
    let mut account = counted(5, 3);
    account.try_reserve(2);
    let ask = ask(&account, 1);
    count(&mut account, 3);
    assert_eq!(account.decide(ask, false), Verdict::Wait);
    assert_eq!(account.decide(ask, true), exceeded(5, 2, 5));
    account.release(2);
    assert_eq!(account.decide(ask, false), Verdict::Granted);
}

#[test]
fn a_transaction_doesnt_wait_for_itself() {
    let mut account = counted(5, 3);
    account.try_reserve(2);
    let ask = Ask { own: 2, ..ask(&account, 1) };
    count(&mut account, 3);
    assert_eq!(account.decide(ask, false), exceeded(5, 2, 5));
}

#[test]
fn of_two_that_wait_for_each_other_the_second_is_refused_at_once() {
    let mut account = counted(5, 0);
    account.try_reserve(3);
    account.try_reserve(2);
    let first = Ask { own: 3, ..ask(&account, 2) };
    let second = Ask { own: 2, ..first };
    count(&mut account, 0);
    assert_eq!(account.decide(first, false), Verdict::Wait);
    account.wait_begins(first.own);
    assert_eq!(account.decide(second, false), exceeded(5, 5, 5));
    account.release(2);
    account.wait_ends(first.own);
    assert_eq!(account.decide(first, false), Verdict::Granted);
}

#[test]
fn what_was_counted_and_what_is_held_must_have_been_there_together() {
    let mut account = counted(5, 4);
    let asked = ask(&account, 1);
    count(&mut account, 4);
    // Two rows are deleted here, which isn't settled yet; then somebody reserves one, and waits for something.
    assert_eq!(account.try_reserve(1), Answer::Granted);
    account.wait_begins(1);
    assert!(matches!(account.decide(asked, false), Verdict::Count { .. }));
    count(&mut account, 2);
    assert_eq!(account.decide(asked, false), Verdict::Granted);
}

#[test]
fn rows_of_unknown_outcome_keep_their_place_until_a_count_can_know_them() {
    let mut account = counted(5, 4);
    account.try_reserve(1);
    let lost = clock::now();
    account.doubt(Doubt::Outcome { reserved: 1 }, lost);
    assert_eq!((account.reserved(), account.try_reserve(1)), (1, Answer::Unsure));
    let asked = ask(&account, 1);
    let early = account.count_begins(lost);
    account.count_arrives(early, 4, None, Moment(2));
    // It isn't refused, for it may fit; and not granted, for the row may still come.
    assert_eq!(account.decide(asked, false), Verdict::Wait);
    assert!(matches!(account.decide(asked, true), Verdict::Undecided(_)));
    let late = account.count_begins(lost + DOUBT_LINGERS);
    account.count_arrives(late, 4, None, Moment(3));
    assert_eq!(account.decide(asked, false), Verdict::Granted);
}

#[test]
fn losing_connections_without_end_costs_no_memory() {
    let (mut account, mut without) = (counted(1_000_000, 0), Account::new(None, None, 0));
    let mut now = clock::now();
    for _ in 0..1000 {
        for account in [&mut account, &mut without] {
            account.force(1);
            account.doubt(Doubt::Outcome { reserved: 1 }, now);
        }
        now += DOUBT_LINGERS / 10;
    }
    assert_eq!((account.doubtful.len(), account.reserved()), (DOUBTFUL_MAX, 1000));
    assert_eq!(without.reserved(), 10, "those that are over don't matter");
    let number = account.count_begins(now + DOUBT_LINGERS);
    account.count_arrives(number, 3, None, Moment(9));
    assert_eq!((account.used(), account.reserved()), (3, 0));
}

#[test]
fn a_doubt_is_dispelled_only_by_a_count_that_began_after_it() {
    let mut account = counted(5, 0);
    let number = account.count_begins(clock::now());
    account.doubt(Doubt::More, clock::now());
    account.count_arrives(number, 0, None, Moment(2));
    assert_eq!(account.try_reserve(1), Answer::Unsure);
    count(&mut account, 0);
    assert_eq!(account.try_reserve(1), Answer::Granted);
}

#[test]
fn fewer_rows_than_the_books_say_stop_nobody() {
    let mut account = counted(5, 3);
    account.doubt(Doubt::Fewer, clock::now());
    assert_eq!((account.is_exact(), account.try_reserve(2)), (false, Answer::Granted));
}

#[test]
fn a_failed_count_decides_nothing_and_forgets_nothing() {
    let mut account = counted(5, 5);
    let ask = ask(&account, 1);
    let number = account.count_begins(clock::now());
    account.count_fails(number, "gone".to_owned());
    assert_eq!(account.decide(ask, false), Verdict::Undecided("gone".to_owned()));
    assert_eq!(account.used(), 5);
    count(&mut account, 4);
    assert_eq!(account.decide(ask, false), Verdict::Granted);
}

#[test]
fn an_answer_that_nobody_waits_for_any_more_is_ignored() {
    let mut account = counted(5, 2);
    let old = account.count_begins(clock::now());
    let new = account.count_begins(clock::now());
    account.count_arrives(old, 0, None, Moment(9));
    assert_eq!(account.used(), 2);
    account.count_arrives(new, 3, None, Moment(9));
    assert_eq!(account.used(), 3);
}

#[test]
fn thresholds_are_told_once_each_time_they_are_crossed_upwards() {
    let mut account = counted(10, 7);
    let grow = |account: &mut Account, rows| {
        account.force(rows);
        account.settle(rows, 0, account.counted_at).map(|warning| warning.percent)
    };
    assert_eq!(grow(&mut account, 1), Some(80));
    assert_eq!(grow(&mut account, 0), None);
    assert_eq!(grow(&mut account, 2), Some(100));
    assert_eq!(grow(&mut account, 1), Some(100), "beyond the limit");
    assert_eq!(grow(&mut account, 1), None);
    account.settle(0, 4, account.counted_at);
    assert_eq!(grow(&mut account, 1), Some(90));
    assert_eq!(count(&mut account, 10).map(|warning| warning.percent), Some(100), "found by a count");
}

#[test]
fn a_flow_is_lowered_by_nothing_but_the_end_of_its_window() {
    let mut account = Account::new(Some(5), Some(Per::Month), LAST_OF_JANUARY);
    count(&mut account, 0);
    account.try_reserve(5);
    account.settle(5, 0, account.counted_at);
    account.settle(0, 5, account.counted_at);
    account.doubt(Doubt::Fewer, clock::now());
    assert_eq!((account.used(), account.try_reserve(1)), (5, Answer::Unsure));
    // Read before it was recorded: what is recorded and what isn't are one.
    count(&mut account, 0);
    assert_eq!(account.used(), 5);
    account.turn(LAST_OF_JANUARY + 1);
    assert_eq!((account.used(), account.try_reserve(1)), (0, Answer::Unsure));
    count(&mut account, 0);
    assert_eq!(account.try_reserve(5), Answer::Granted);
}

#[test]
fn rows_count_in_the_window_in_which_they_are_committed() {
    let mut account = Account::new(Some(5), Some(Per::Month), LAST_OF_JANUARY);
    let january = account.window().expect("a flow");
    count(&mut account, 0);
    account.try_reserve(2);
    account.settle(2, 0, account.counted_at);
    account.try_reserve(3);
    account.turn(LAST_OF_JANUARY + 1);
    let february = account.window().expect("a flow");
    assert_eq!((account.used(), account.reserved()), (0, 3));
    account.settle(3, 0, account.counted_at);
    assert_eq!(account.take_unsaved(), [(january, 2), (february, 3)]);
    assert_eq!(account.take_unsaved(), [(february, 0)]);
}

#[test]
fn a_total_of_a_window_that_is_over_is_nothing_in_the_next() {
    let mut account = Account::new(Some(5), Some(Per::Day), LAST_OF_JANUARY);
    let (before, asked) = (account.window(), ask(&account, 1));
    let number = account.count_begins(clock::now());
    account.turn(LAST_OF_JANUARY + 1);
    account.count_arrives(number, 5, before, Moment(1));
    assert_eq!(account.decide(asked, false), Verdict::Count { need: number + 1 });
    count(&mut account, 1);
    assert_eq!((account.decide(asked, false), account.used()), (Verdict::Granted, 1));
}

#[test]
fn a_clock_that_is_set_back_goes_back_to_the_window_before() {
    let mut account = Account::new(Some(5), Some(Per::Day), LAST_OF_JANUARY);
    let january = account.window();
    account.turn(LAST_OF_JANUARY + 1);
    account.turn(LAST_OF_JANUARY);
    assert_eq!((account.window(), account.try_reserve(1)), (january, Answer::Unsure));
}

#[test]
fn a_flow_of_unknown_outcome_is_counted_as_if_it_had_been_inserted() {
    let mut account = Account::new(Some(5), Some(Per::Day), 0);
    count(&mut account, 0);
    account.try_reserve(3);
    account.doubt(Doubt::Outcome { reserved: 3 }, clock::now());
    assert_eq!((account.used(), account.reserved(), account.has_unsaved()), (3, 0, true));
}

#[test]
fn what_a_flow_hasnt_recorded_survives_another_definition() {
    let mut account = Account::new(Some(5), Some(Per::Month), LAST_OF_JANUARY);
    account.force(2);
    account.settle(2, 0, account.counted_at);
    account.define(Some(5), Some(Per::Day), LAST_OF_JANUARY);
    assert_eq!(account.take_unsaved().iter().map(|(_, rows)| rows).sum::<u64>(), 2);
}
