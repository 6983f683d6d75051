//! After an error the server skips to the next Sync, and so does the account of what it owes.

use super::*;
use crate::domain::limits::PENDING_MESSAGES_MAX;

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
    // Whether the Query runs isn't known before the Execute is answered, and what it means depends on that.
    assert_eq!(stage.held("E() Q(deallocate all)"), ("E H".to_owned(), "Q(deallocate all)".to_owned()));
    assert_eq!(stage.server("E(SQLSTATE34000)"), "E(C34000)");
    assert_eq!(stage.client("Q(deallocate all)"), "Q(deallocate all)");
    assert!(!stage.session.may_leave(), "the server skips all up to a Sync");
    assert_eq!(stage.session.leaving(&stage.backend), Leaving::Busy);
    stage.client("S Q(select 2)");
    assert_eq!(stage.server("Z(I) T D C(SELECT 1) Z(I)"), "Z(I) T D C(SELECT 1) Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn a_statement_whose_parse_another_cycles_error_may_skip_is_waited_for() {
    let mut stage = Stage::attached();
    let sent = stage.held("E() P(a,select 1) S B(,a) S");
    assert_eq!(sent, ("E P(pgcordon:1|select 1) S H".to_owned(), "B(|a) S".to_owned()));
    assert_eq!(stage.server("E(SQLSTATE34000) Z(I)"), "E(C34000) Z(I)");
    assert_eq!(stage.client("B(,a) S"), "B(|a) S");
    stage.server("E(SQLSTATE26000) Z(I)");
    // Within one cycle nothing has to wait: what skips the one skips the other.
    assert_eq!(stage.client("P(a,select 1) B(,a) E() S"), "P(pgcordon:2|select 1) B(|pgcordon:2) E S");
}

#[test]
fn an_unnamed_statement_whose_parse_another_cycles_error_may_skip_is_waited_for() {
    let mut stage = Stage::attached();
    stage.client("P(,select 0) S");
    stage.server("1 Z(I)");
    let sent = stage.held("P(,select 1) B(,) E() S E() P(,select 2) S P(,select 3) B(,) S B(,) S");
    assert_eq!(sent.0, "P(|select 1) B E S E P(|select 2) S P(|select 3) B S H");
    assert_eq!(sent.1, "B S");
    stage.server("1 2 C(SELECT 1) Z(I) E(SQLSTATE34000) Z(I) E(SQLSTATE42601) Z(I)");
    // The third destroyed the first and failed itself.
    assert_eq!(stage.client("B(,) S"), "C(S) B S");
    stage.server("3 E(SQLSTATE26000) Z(I)");
    assert_eq!(stage.held("P(,select 4) S E() P(,select 5) S B(,) S").1, "B S");
    stage.server("1 Z(I) E(SQLSTATE34000) Z(I)");
    assert_eq!(stage.client("B(,) S"), "P(|select 4) B S", "the second was skipped");
}

#[test]
fn copy_data_is_not_held() {
    let mut stage = Stage::attached();
    let sent = stage.held("P(a,copy t from stdin) B(,a) E() S B(,a)");
    assert_eq!(sent.1, "B(|a)");
    stage.server("1 2 G");
    assert_eq!(stage.client("d(x) c S"), "d(x) c S");
    assert_eq!(stage.server("C(COPY 1) Z(I)"), "C(COPY 1) Z(I)");
    stage.client("P(,reset all) B(,) E() P(,copy t from stdin) B(,) E() S");
    stage.server("1 2 C(RESET) 1 2 G");
    assert_eq!(stage.client("d(x) c S"), "d(x) c S");
    assert_eq!(stage.server("C(COPY 1) Z(I)"), "C(COPY 1)");
    assert_eq!(stage.sent_to_server(&[]), "bind seal seed");
    assert_eq!(stage.server("V Z(I) V(seal) Z(I) V Z(I)"), "Z(I)");
    stage.client("Q(reset all; copy t from stdin)");
    stage.server("C(RESET) G");
    assert_eq!(stage.held("d(x) c Q(select 1)"), ("d(x) c".to_owned(), "Q(select 1)".to_owned()));
    assert_eq!(stage.server("C(COPY 1) Z(I)"), "C(COPY 1)");
    assert_eq!(stage.server("V Z(I) V(seal) Z(I) V Z(I)"), "Z(I)");
}

#[test]
fn names_of_statements_whose_parse_was_skipped_are_free_again() {
    let mut stage = Stage::attached();
    stage.client("P(b,select 1) S");
    stage.server("1 Z(I)");
    stage.client("C(S:b) S");
    stage.server("Z(I)");
    assert_eq!(
        stage.client("P(,select 1/0) B(,) P(b,select 1) C(S:b) P(b,select 1) S"),
        "P(|select 1/0) B C(Spgcordon:1) P(pgcordon:2|select 1) C(Spgcordon:2) P(pgcordon:3|select 1) S"
    );
    stage.server("1 E(SQLSTATE22012) Z(I)");
    assert_eq!(stage.client("B(,b) S"), "B(|b) S");
    stage.server("E(SQLSTATE26000) Z(I)");
    // What the server didn't get to close is closed now.
    assert_eq!(stage.client("P(b,select 1) S"), "C(Spgcordon:2) C(Spgcordon:1) P(pgcordon:4|select 1) S");
    assert_eq!(stage.server("3 3 1 Z(I)"), "1 Z(I)");
    // And what was closed in vain is there still.
    stage.client("P(,select 1/0) B(,) C(S:b) S");
    stage.server("1 E(SQLSTATE22012) Z(I)");
    assert_eq!(stage.client("B(,b) S"), "B(|pgcordon:4) S");
}

#[test]
fn the_unnamed_statement_before_one_that_was_skipped_is_there_still() {
    let mut stage = Stage::attached();
    stage.client("P(,select 1) S");
    stage.server("1 Z(I)");
    stage.client("P(a,select 1/0) B(,a) P(,select 2) S");
    stage.server("1 E(SQLSTATE22012) Z(I)");
    assert_eq!(stage.client("B(,) S"), "P(|select 1) B S");
    stage.server("1 2 Z(I)");
    stage.client("E() C(S:) S E() P(,select 3) C(S:) S");
    stage.server("E(SQLSTATE34000) Z(I) E(SQLSTATE34000) Z(I)");
    assert_eq!(stage.client("B(,) S"), "P(|select 1) B S");
}

#[test]
fn a_pipeline_without_end_waits_for_answers_now_and_then() {
    let mut stage = Stage::attached();
    let endless = "S ".repeat(PENDING_MESSAGES_MAX + 5);
    let (sent, waiting) = stage.held(&endless);
    assert_eq!((sent.split(' ').count(), sent.ends_with(" S H")), (PENDING_MESSAGES_MAX + 1, true));
    assert_eq!(waiting, "S S S S S");
    stage.server(&"Z(I) ".repeat(PENDING_MESSAGES_MAX));
    assert_eq!(stage.client(&waiting), waiting);
    stage.server(&"Z(I) ".repeat(5));
    assert!(stage.session.may_leave());
}

#[test]
fn a_flush_with_a_body_fails_its_cycle() {
    let mut stage = Stage::attached();
    let bytes = [&script_bytes("Q(select 1)")[..], b"H\0\0\0\x05x"].concat();
    stage.raw_client(&bytes);
    stage.sent_to_server(&bytes);
    assert_eq!(stage.server("T D C(SELECT 1) Z(I)"), "T D C(SELECT 1) Z(I)");
    assert!(!stage.session.may_leave());
    assert_eq!(stage.server("E(SQLSTATE08P01)"), "E(C08P01)");
    assert!(!stage.session.may_leave(), "the server skips to a Sync");
    stage.client("S");
    stage.server("Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn an_error_that_nothing_was_asked_for_breaks_the_connection() {
    let mut stage = Stage::attached();
    assert_eq!(stage.broken_by("E(SQLSTATE22000)").origin, Origin::Upstream);
    assert_eq!(stage.session.leaving(&stage.backend), Leaving::Busy);
}
