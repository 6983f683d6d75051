//! Copy data flows unread, and Syncs that nobody answers aren't waited for.

use super::*;

#[test]
fn a_copy_out_is_relayed() {
    let mut stage = Stage::attached();
    stage.client("Q(copy t to stdout)");
    assert_eq!(stage.server("H d(x) d(y) c C(COPY 2) Z(I)"), "H d(x) d(y) c C(COPY 2) Z(I)");
}

#[test]
fn a_sync_in_front_of_the_copy_data_is_answered_by_nobody() {
    let mut stage = Stage::attached();
    stage.client("P(,copy t from stdin) B(,) E() S");
    stage.server("1 2 G");
    stage.client("d(x) c S");
    assert_eq!(stage.server("C(COPY 1) Z(I)"), "C(COPY 1) Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn a_copy_that_fails_in_mid_stream_ends_at_the_next_sync() {
    let mut stage = Stage::attached();
    stage.client("P(,copy t from stdin) B(,) E() S");
    stage.server("1 2 G");
    stage.client("d(x)");
    assert_eq!(stage.server("E(SQLSTATE22P04)"), "E(C22P04)");
    assert!(!stage.session.may_leave());
    stage.client("d(y) c S");
    assert_eq!(stage.server("Z(I)"), "Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn copy_data_sent_before_the_server_is_ready_for_it_needs_no_second_sync() {
    let mut stage = Stage::attached();
    stage.client("P(,copy t from stdin) B(,) E() d(x) c S");
    assert_eq!(stage.server("1 2 G C(COPY 1) Z(I)"), "1 2 G C(COPY 1) Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn a_row_in_two_reads_is_relayed_as_it_comes() {
    let mut stage = Stage::attached();
    stage.client("Q(select 1)");
    let bytes = script_bytes("T D(0123456789) C(SELECT 1) Z(I)");
    let mut told = Vec::new();
    let mut at = 0;
    for end in 1..=bytes.len() {
        let input = bytes[at..end].to_vec();
        let (taken, _) = stage
            .lent(|session, backend, core, lanes| session.on_server(&input, backend, core, lanes))
            .expect("no fault");
        told.extend_from_slice(stage.lanes.client.bytes(&input));
        stage.lanes.client.clear();
        at += taken;
    }
    assert_eq!(told, bytes);
    assert!(stage.session.may_leave());
}

#[test]
fn what_isnt_copy_data_reaches_no_server_that_may_have_failed_the_copy() {
    let mut stage = Stage::attached();
    stage.client("Q(copy t from stdin)");
    stage.server("G");
    let (sent, waits) = stage.held("d(bad) Q(discard all)");
    assert_eq!(waits, "Q(discard all)");
    assert_eq!(sent, "d(bad) f(unexpected message type 0x51 during COPY from stdin)");
    assert!(!stage.session.may_leave());
    assert_eq!(stage.server("E(SQLSTATE22P02) Z(I)"), "E(C22P02) Z(I)");
    assert!(stage.session.may_leave());
    assert_eq!(stage.client("Q(select 1)"), "Q(select 1)");
}

#[test]
fn a_sync_in_mid_copy_is_read_by_nobody_unless_the_copy_fails() {
    let mut stage = Stage::attached();
    stage.client("P(,copy t from stdin) B(,) E() S");
    stage.server("1 2 G");
    assert_eq!(stage.client("d(x) S d(y) c S"), "d(x) d(y) c S");
    assert_eq!(stage.server("C(COPY 2) Z(I)"), "C(COPY 2) Z(I)");
    stage.client("P(,copy t from stdin) B(,) E() S");
    stage.server("1 2 G");
    assert_eq!(stage.client("d(bad) S"), "d(bad)");
    assert_eq!(stage.server("E(SQLSTATE22P02)"), "E(C22P02)");
    assert_eq!(stage.sent_to_server(&[]), "S");
    assert_eq!(stage.server("Z(I)"), "Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn each_copy_of_a_string_uses_up_one_end_of_data() {
    let mut stage = Stage::attached();
    stage.client("Q(copy t from stdin; copy t from stdin) d(x) c");
    assert_eq!(stage.server("G C(COPY 1) G"), "G C(COPY 1) G");
    stage.client("d(y) c");
    assert_eq!(stage.server("C(COPY 1) Z(I)"), "C(COPY 1) Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn a_query_behind_an_unended_copy_is_used_up_by_it() {
    let mut stage = Stage::attached();
    stage.client("Q(copy t from stdin) Q(select 1) Q(select 2)");
    assert_eq!(stage.server("G E(SQLSTATE08P01) Z(I) T D C(SELECT 1) Z(I)"), "G E(C08P01) Z(I) T D C(SELECT 1) Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn what_follows_early_copy_data_waits_until_it_is_known_who_reads_it() {
    let mut stage = Stage::attached();
    let bytes = script_bytes("Q(copy t from stdin) d(bad) S P(,select 1) S");
    let (taken, state) = stage.raw_client(&bytes);
    assert_eq!(state, Taken::Held);
    assert_eq!(stage.sent_to_server(&bytes), "Q(copy t from stdin) d(bad) H");
    assert_eq!(stage.server("G E(SQLSTATE22P02) Z(I)"), "G E(C22P02) Z(I)");
    // The copy failed on its data: the Sync is one of its own.
    let rest = bytes[taken..].to_vec();
    stage.raw_client(&rest);
    assert_eq!(stage.sent_to_server(&rest), "S P(|select 1) S");
    assert_eq!(stage.server("Z(I) 1 Z(I)"), "Z(I) 1 Z(I)");
}
