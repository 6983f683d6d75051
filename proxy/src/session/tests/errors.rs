//! After an error the server skips to the next Sync, and so does the account of what it owes.

use super::*;

#[test]
fn an_error_in_a_pipeline_skips_its_own_segment_only() {
    let mut stage = Stage::attached();
    stage.client("P(,a) B(,) E() S P(,b) B(,) E() S");
    assert_eq!(stage.server("E(SQLSTATE42601) Z(I) 1 2 C(x) Z(I)"), "E(C42601) Z(I) 1 2 C(x) Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn until_the_sync_comes_everything_is_skipped() {
    let mut stage = Stage::attached();
    stage.client("P(,a)");
    stage.server("E(SQLSTATE42601)");
    stage.client("B(,) E() Q(select 1)");
    assert!(!stage.session.may_leave());
    stage.client("S");
    assert_eq!(stage.server("Z(I)"), "Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn an_error_at_the_sync_itself_is_answered_with_ready() {
    let mut stage = Stage::attached();
    stage.client("P(,a) B(,) E() S");
    assert_eq!(stage.server("1 2 C(x) E(SQLSTATE23503) Z(I)"), "1 2 C(x) E(C23503) Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn a_fatal_error_leaves_the_server_connection_to_be_closed() {
    let mut stage = Stage::attached();
    stage.client("Q(select 1)");
    assert_eq!(stage.server("E(FATAL)"), "E(C57P01)");
    assert!(stage.session.was_told_the_end());
    assert_eq!(stage.session.leaving(&stage.backend), Leaving::Busy);
}

#[test]
fn a_suspended_portal_is_the_end_of_its_execute() {
    let mut stage = Stage::attached();
    stage.client("P(,select 1) B(,) E() H");
    assert_eq!(stage.server("1 2 D s"), "1 2 D s");
    assert!(!stage.session.may_leave());
    stage.client("E() S");
    stage.server("D C(SELECT 1) Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn a_query_that_is_skipped_with_its_cycle_doesnt_end_it() {
    let mut stage = Stage::attached();
    stage.client("E() H Q(select 1)");
    assert_eq!(stage.server("E(SQLSTATE34000)"), "E(C34000)");
    assert!(!stage.session.may_leave(), "the server skips all up to a Sync");
    assert_eq!(stage.session.leaving(&stage.backend), Leaving::Busy);
    stage.client("S Q(select 2)");
    assert_eq!(stage.server("Z(I) T D C(SELECT 1) Z(I)"), "Z(I) T D C(SELECT 1) Z(I)");
    assert!(stage.session.may_leave());
}
