//! What is executed by a portal is known for what it is, whenever and however often that happens.

use super::*;

const ONE: &str = "insert into segment values (1)";

impl Stage {
    fn begin(&mut self) {
        self.client("Q(begin)");
        self.server("C(BEGIN) Z(T)");
    }

    /// What the trail was told: kind, rows and outcome.
    pub(super) fn told(&mut self) -> Vec<String> {
        let tell = |each: crate::session::Happened| {
            let rows = each.rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string());
            let relation = each.relation.as_deref().unwrap_or("-").to_owned();
            format!("{} {relation} {rows} {}", each.kind.as_str(), each.outcome.as_str())
        };
        self.session.take_owed().into_iter().map(tell).collect()
    }
}

#[test]
fn a_portal_bound_before_an_earlier_cycle_is_answered_is_known_still() {
    let mut stage = Stage::metered(None);
    stage.client(&format!("P(a,{ONE}) S"));
    stage.server("1 Z(I)");
    stage.client("Q(select 1) B(,a)");
    stage.server("T D C(SELECT 1) Z(I)");
    stage.client("E() S");
    assert_eq!(stage.books(), (0, 1));
    stage.server("2 N(report,7:+1) C(INSERT 0 1) Z(I)");
    assert_eq!(stage.books(), (1, 0));
    assert_eq!(stage.told(), ["RESOURCE_CREATED public.segment 1 ok"]);
}

#[test]
fn a_named_portal_lasts_beyond_a_query_in_its_transaction_and_not_beyond_that() {
    let mut stage = Stage::metered(None);
    stage.begin();
    stage.client(&format!("P(a,{ONE}) B(p,a) S Q(select 1)"));
    stage.server("1 2 Z(T) T D C(SELECT 1) Z(T)");
    stage.client("E(p) S");
    assert_eq!(stage.books(), (0, 1));
    stage.server("N(report,7:+1) C(INSERT 0 1) Z(T)");
    stage.client("Q(commit)");
    stage.server("C(COMMIT) Z(I)");
    stage.client("E(p) S");
    assert_eq!(stage.books(), (1, 0), "there is no such portal");
}

#[test]
fn a_bind_that_fails_leaves_the_portal_that_was_there() {
    let mut stage = Stage::metered(None);
    stage.begin();
    stage.client(&format!("P(a,{ONE}) B(p,a) S Q(savepoint s)"));
    stage.server("1 2 Z(T) C(SAVEPOINT) Z(T)");
    // While it isn't known which of the two it is, nothing is executed.
    let (sent, waits) = stage.held("P(,select 1) B(p,) S Q(rollback to s) E(p) S");
    assert_eq!((sent.as_str(), waits.as_str()), ("P(|select 1) B(p) S Q(rollback to s) H", "E(p) S"));
    stage.server("1 E(SQLSTATE42P03) Z(E) C(ROLLBACK) Z(T)");
    stage.client("E(p) S");
    assert_eq!(stage.books(), (0, 1));
}

#[test]
fn a_portal_that_is_closed_is_forgotten_and_one_whose_close_is_skipped_is_not() {
    let mut stage = Stage::metered(None);
    stage.begin();
    stage.client(&format!("P(a,{ONE}) B(p,a) S"));
    stage.server("1 2 Z(T)");
    stage.client("E(nothing) C(P:p) S");
    stage.server("E(SQLSTATE34000) Z(E)");
    assert!(stage.session.portals.knows(b"p"));
    stage.client("C(P:p) S");
    stage.server("3 Z(E)");
    assert!(stage.session.portals.is_empty());
}

#[test]
fn a_statement_that_sql_prepared_may_do_everything() {
    let mut stage = Stage::metered(None);
    stage.client(&format!("Q(prepare a as {ONE})"));
    stage.server("C(PREPARE) Z(I)");
    stage.client("B(,a) E() S");
    stage.server("2 N(report,7:+1) C(INSERT 0 1) Z(I)");
    assert_eq!(stage.told(), ["RESOURCE_CREATED - 1 ok"]);
    assert_eq!(stage.books(), (1, 0));
}

#[test]
fn a_portal_executed_in_parts_is_asked_for_once_and_told_once() {
    let mut stage = Stage::metered(None);
    stage.client("P(a,insert into segment values (1),(2),(3)returning a) B(p,a) E(p,1) E(p) S");
    stage.server("1 2 N(report,7:+3) D s");
    assert_eq!(stage.books(), (0, 6), "the second one isn't answered yet");
    stage.server("D D C(INSERT 0 2) Z(I)");
    assert_eq!(stage.books(), (3, 0));
    assert_eq!(stage.told(), ["RESOURCE_CREATED public.segment 3 ok"]);
}

#[test]
fn a_portal_that_is_left_in_the_middle_has_written_all_the_same() {
    let mut stage = Stage::metered(None);
    stage.client("P(a,insert into segment values (1),(2)returning a) B(p,a) E(p,1) C(P:p) S");
    stage.server("1 2 N(report,7:+2) D s 3 Z(I)");
    assert_eq!(stage.books(), (2, 0));
    assert_eq!(stage.told(), ["RESOURCE_CREATED public.segment ? ok"]);
}

#[test]
fn a_portal_that_was_executed_isnt_asked_for_again() {
    let mut stage = Stage::metered(None);
    stage.begin();
    stage.client("P(a,insert into segment values (1),(2)returning a) B(p,a) E(p,1) S");
    stage.server("1 2 N(report,7:+2) D s Z(T)");
    for (says, reserved) in [("D C(INSERT 0 1) Z(T)", 2), ("C(INSERT 0 0) Z(T)", 2)] {
        stage.client("E(p) S");
        assert_eq!(stage.books(), (0, reserved));
        stage.server(says);
    }
    stage.client("Q(commit)");
    stage.server("C(COMMIT) Z(I)");
    assert_eq!(stage.told(), ["RESOURCE_CREATED public.segment 2 ok"]);
}

#[test]
fn a_portal_whose_execution_was_skipped_has_not_run() {
    let mut stage = Stage::metered(None);
    stage.begin();
    stage.client(&format!("P(a,{ONE}) B(p,a) S"));
    stage.server("1 2 Z(T)");
    stage.client("Q(savepoint s) E(nothing) E(p) S Q(rollback to s)");
    stage.server("C(SAVEPOINT) Z(T) E(SQLSTATE34000) Z(E) C(ROLLBACK) Z(T)");
    assert_eq!(stage.books(), (0, 0));
    stage.client("E(p) S");
    assert_eq!(stage.books(), (0, 1));
}

#[test]
fn a_parse_too_long_to_be_opened_may_do_everything() {
    let mut stage = Stage::metered(None);
    let long = format!("{ONE}/*{}*/", "x".repeat(crate::domain::limits::OPENED_MESSAGE_BYTES_MAX));
    for name in ["", "a"] {
        stage.client(&format!("P({name},{long}) S"));
        stage.server("1 Z(I)");
        stage.client(&format!("B(,{name}) E() S"));
        stage.server("2 N(report,7:+1) C(INSERT 0 1) Z(I)");
        assert_eq!(stage.told(), ["RESOURCE_CREATED - 1 ok"], "{name:?}");
    }
}
