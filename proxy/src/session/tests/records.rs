//! What the audit trail must have before the client hears more, and what the client must never hear.

use super::*;
use crate::audit::Outcome;

const ONE: &str = "insert into segment values (1)";

fn strict() -> Stage {
    let mut stage = Stage::metered(None);
    stage.audit.strict = true;
    stage
}

#[test]
fn a_commit_that_the_client_saw_is_on_disk_before_its_cycle_ends() {
    let mut stage = strict();
    stage.client(&format!("P(a,{ONE}) P(b,commit) Q(begin)").replace(" Q(begin)", " S Q(begin)"));
    stage.served("1 1 Z(I) C(BEGIN) Z(T)");
    stage.client("B(,a) E() B(,b) E() H");
    assert_eq!(stage.served("2 N(report,7:+1) C(INSERT 0 1) 2 C(COMMIT)"), "2 C(INSERT 0 1) 2 C(COMMIT)");
    assert!(stage.session.take_happened().is_empty(), "nobody may hand it in without waiting for it");
    stage.client("S");
    let bytes = script_bytes("Z(I)");
    let (taken, progress) =
        stage.lent(|session, backend, core, lanes| session.on_server(&bytes, backend, core, lanes)).expect("no fault");
    assert_eq!((taken, progress), (bytes.len(), Progress::Withheld));
    assert_eq!(stage.sent_to_client(&bytes), "");
    assert_eq!(stage.session.take_owed()[0].outcome, Outcome::Ok);
    stage.session.release_withheld(&mut stage.lanes);
    assert_eq!(stage.sent_to_client(&[]), "Z(I)");
}

#[test]
fn a_sync_behind_a_copy_that_failed_is_answered_although_a_write_is_being_recorded() {
    let mut stage = strict();
    stage.client(&format!("Q({ONE}; commit; copy other from stdin)"));
    assert_eq!(stage.served("N(report,7:+1) C(INSERT 0 1) C(COMMIT) G"), "C(INSERT 0 1) C(COMMIT) G");
    stage.client("d(bad) S");
    let bytes = script_bytes("E(SQLSTATE22P02) Z(I)");
    let (taken, progress) =
        stage.lent(|session, backend, core, lanes| session.on_server(&bytes, backend, core, lanes)).expect("no fault");
    assert_eq!((taken, progress), (bytes.len(), Progress::Withheld));
    assert_eq!(stage.sent_to_client(&bytes), "E(C22P02)");
    assert!(!stage.session.may_leave(), "a Sync is owed");
    assert_eq!(stage.sent_to_server(&[]), "S");
    stage.session.release_withheld(&mut stage.lanes);
    assert_eq!(stage.sent_to_client(&[]), "Z(I)");
    let _ = stage.session.take_owed();
    assert_eq!(stage.served("Z(I)"), "Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn a_client_that_never_waits_has_its_records_written_now_and_then() {
    let mut stage = strict();
    let mut withheld = 0;
    for _ in 0..1200 {
        stage.client(&format!("P(,begin) B(,) E() P(,{ONE}) B(,) E() P(,commit) B(,) E()"));
        let bytes = script_bytes("1 2 C(BEGIN) 1 2 N(report,7:+1) C(INSERT 0 1) 1 2 C(COMMIT)");
        let (taken, progress) = stage
            .lent(|session, backend, core, lanes| session.on_server(&bytes, backend, core, lanes))
            .expect("no fault");
        assert_eq!(taken, bytes.len());
        if progress == Progress::Withheld {
            withheld += stage.session.take_owed().len();
            stage.session.release_withheld(&mut stage.lanes);
        }
        stage.lanes = Lanes::default();
    }
    assert!(withheld > 1000);
}

#[test]
fn a_report_with_a_long_context_stays_here_however_it_comes() {
    for context in [0, 100, 20_000, 200_000] {
        for cut in [1, 7, 100, 4_000, 1_000_000] {
            let mut stage = Stage::metered(None);
            stage.client("Q(select f())");
            let mut bytes = script_bytes("N(report,7:+1)");
            bytes.truncate(0);
            let body = notice(b"INFO", &report_detail("7:+1"), &"PL/pgSQL function f() ".repeat(context / 22));
            bytes::BufMut::put_u8(&mut bytes, b'N');
            bytes::BufMut::put_u32(&mut bytes, u32::try_from(body.len() + 4).expect("short"));
            bytes.extend_from_slice(&body);
            bytes.extend_from_slice(&script_bytes("T D C(SELECT 1) Z(I)"));
            let (mut kept, mut told) = (Vec::new(), Vec::new());
            for piece in bytes.chunks(cut) {
                kept.extend_from_slice(piece);
                let input = std::mem::take(&mut kept);
                let (taken, _) = stage
                    .lent(|session, backend, core, lanes| session.on_server(&input, backend, core, lanes))
                    .expect("no fault");
                told.extend_from_slice(stage.lanes.client.bytes(&input));
                stage.lanes.client.clear();
                kept = input[taken..].to_vec();
            }
            assert_eq!(words(&told), "T D C(SELECT 1) Z(I)", "{context} {cut}");
            assert_eq!(stage.books(), (1, 0), "{context} {cut}");
        }
    }
}

#[test]
fn a_long_notice_that_is_none_of_ours_flows_and_one_among_our_own_answers_is_dropped_whole() {
    let mut body = b"SNOTICE\0VNOTICE\0C00000\0M".to_vec();
    body.extend(std::iter::repeat_n(b'x', 100_000));
    body.extend_from_slice(b"\0\0");
    let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
    let long = [&b"N"[..], &length, &body].concat();
    let mut stage = Stage::attached();
    stage.client("Q(select 1)");
    let head = &long[..50];
    let (taken, _) =
        stage.lent(|session, backend, core, lanes| session.on_server(head, backend, core, lanes)).expect("no fault");
    assert_eq!(taken, 50, "it isn't gathered");
    let rest = [&long[50..], &script_bytes("C(SELECT 1) Z(I)")].concat();
    stage.lanes.client.clear();
    let (taken, _) =
        stage.lent(|session, backend, core, lanes| session.on_server(&rest, backend, core, lanes)).expect("no fault");
    assert_eq!(taken, rest.len());
    // While something of ours is answered nobody hears of it.
    let mut stage = Stage::new();
    stage.attach();
    stage.client("Q(select 1)");
    for piece in long.chunks(30_000) {
        let (taken, _) = stage
            .lent(|session, backend, core, lanes| session.on_server(piece, backend, core, lanes))
            .expect("no fault");
        assert_eq!((taken, stage.sent_to_client(piece)), (piece.len(), String::new()));
    }
    assert_eq!(stage.server("V Z(I) V(seal) Z(I) V Z(I) T D C(SELECT 1) Z(I)"), "T D C(SELECT 1) Z(I)");
}

#[test]
fn a_transaction_that_goes_back_without_end_is_told_in_bounded_memory() {
    let mut stage = Stage::metered(None);
    stage.client("Q(begin) Q(savepoint s)");
    stage.server("C(BEGIN) Z(T) C(SAVEPOINT) Z(T)");
    for number in 0..1000 {
        stage.client(&format!("Q(insert into other(a{number})values(1)) Q(rollback to s)"));
        stage.server("C(INSERT 0 1) Z(T) C(ROLLBACK) Z(T)");
    }
    stage.client("Q(commit)");
    stage.server("C(COMMIT) Z(I)");
    assert!(stage.told().len() <= 256);
}
