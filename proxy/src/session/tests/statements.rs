//! Prepared statements: one name space per client, shared bodies on the server connections.

use super::*;
use crate::sql::Rule;

#[test]
fn a_named_statement_gets_a_name_of_ours_and_a_bind_is_led_to_it() {
    let mut stage = Stage::attached();
    assert_eq!(
        stage.client("P(a,select 1) D(S:a) B(,a) E() S"),
        "P(pgcordon:1|select 1) D(Spgcordon:1) B(|pgcordon:1) E S"
    );
    assert_eq!(stage.server("1 t T 2 D C(SELECT 1) Z(I)"), "1 t T 2 D C(SELECT 1) Z(I)");
}

#[test]
fn the_second_client_with_the_same_text_gets_postgres_own_answer_and_the_first_shares_it() {
    let mut stage = Stage::attached();
    stage.client("P(a,select * from t) S");
    stage.server("1 Z(I)");
    let second = Session::new(2, stage.session.workspace, Settings::none());
    let first = std::mem::replace(&mut stage.session, second);
    // The table may be another one by now.
    assert_eq!(
        stage.client("P(b,select * from t) B(,b) E() S"),
        "C(Spgcordon:1) P(pgcordon:2|select * from t) B(|pgcordon:2) E S"
    );
    assert_eq!(stage.server("3 1 2 D C(SELECT 1) Z(I)"), "1 2 D C(SELECT 1) Z(I)");
    stage.session = first;
    assert_eq!(stage.client("B(,a) E() S"), "B(|pgcordon:2) E S");
}

#[test]
fn what_another_server_connection_prepared_before_isnt_taken_for_what_was_prepared_later() {
    let mut stage = Stage::attached();
    stage.client("P(a,select * from t) S");
    stage.server("1 Z(I)");
    let second = Session::new(2, stage.session.workspace, Settings::none());
    stage.session = second;
    let old = std::mem::replace(&mut stage.backend, BackendState::new(8, 0));
    stage.attach();
    stage.server("V Z(I) V(seal) Z(I) V Z(I)");
    stage.client("P(b,select * from t) S");
    stage.server("1 Z(I)");
    assert_eq!(stage.client("B(,b) S"), "B(|pgcordon:1) S", "its own is always good");
    stage.server("2 Z(I)");
    stage.session.detached();
    stage.backend = old;
    stage.attach();
    stage.server("V Z(I) V(seal) Z(I) V Z(I)");
    assert_eq!(stage.client("B(,b) S"), "C(Spgcordon:1) P(pgcordon:2|select * from t) B(|pgcordon:2) S");
    assert_eq!(stage.server("3 1 2 Z(I)"), "2 Z(I)");
}

#[test]
fn a_statement_follows_its_client_to_another_server_connection() {
    let mut stage = Stage::attached();
    stage.client("P(a,select 1) S");
    stage.server("1 Z(I)");
    stage.move_to_another(8);
    assert_eq!(stage.client("B(,a) E() S"), "P(pgcordon:1|select 1) B(|pgcordon:1) E S");
    assert_eq!(stage.server("1 2 D C(SELECT 1) Z(I)"), "2 D C(SELECT 1) Z(I)");
}

#[test]
fn the_unnamed_statement_follows_too() {
    let mut stage = Stage::attached();
    stage.client("P(,select 1) S");
    stage.server("1 Z(I)");
    assert_eq!(stage.client("B(,) E() S"), "B E S");
    stage.server("2 D C(SELECT 1) Z(I)");
    stage.move_to_another(8);
    assert_eq!(stage.client("B(,) E() S"), "P(|select 1) B E S");
    assert_eq!(stage.server("1 2 D C(SELECT 1) Z(I)"), "2 D C(SELECT 1) Z(I)");
}

#[test]
fn nobody_binds_the_unnamed_statement_of_another() {
    let mut stage = Stage::attached();
    stage.backend.set_unnamed(crate::backend::Unnamed::Of(99, 1));
    assert_eq!(stage.client("B(,) S"), "C(S) B S");
    assert_eq!(stage.server("3 E(SQLSTATE26000) Z(I)"), "E(C26000) Z(I)");
}

#[test]
fn a_query_destroys_the_unnamed_statement() {
    let mut stage = Stage::attached();
    stage.client("P(,select 1) S");
    stage.server("1 Z(I)");
    stage.client("Q(select 2)");
    stage.server("T D C(SELECT 1) Z(I)");
    stage.move_to_another(8);
    assert_eq!(stage.client("B(,) S"), "B S");
}

#[test]
fn a_failed_parse_is_forgotten_and_so_is_one_that_was_skipped() {
    let mut stage = Stage::attached();
    stage.client("P(a,selec 1) P(b,select 1) S");
    assert_eq!(stage.server("E(SQLSTATE42601) Z(I)"), "E(C42601) Z(I)");
    assert_eq!(stage.client("P(b,select 1) B(,a) S"), "P(pgcordon:3|select 1) B(|a) S");
}

#[test]
fn a_name_in_use_is_refused_by_postgres_itself() {
    let mut stage = Stage::attached();
    stage.client("P(a,select 1) S");
    stage.server("1 Z(I)");
    assert_eq!(stage.client("P(a,select 2) S"), "C(Sa) P(a) P(a|select 2) S");
    assert_eq!(stage.server("3 1 E(SQLSTATE42P05) Z(I)"), "E(C42P05) Z(I)");
    assert_eq!(stage.session.leaving(&stage.backend), Leaving::Soiled);
}

#[test]
fn a_closed_statement_is_gone_for_its_client_only() {
    let mut stage = Stage::attached();
    stage.client("P(a,select 1) S");
    stage.server("1 Z(I)");
    assert_eq!(stage.client("C(S:a) S"), "S");
    assert_eq!(stage.server("Z(I)"), "3 Z(I)");
    assert_eq!(stage.client("B(,a) S"), "B(|a) S");
}

#[test]
fn a_deallocate_finds_the_statement_under_the_clients_name() {
    let mut stage = Stage::attached();
    stage.client("P(a,select 1) S");
    stage.server("1 Z(I)");
    assert_eq!(stage.client("Q(deallocate a)"), "C(Sa) P(a) S Q(deallocate a)");
    assert_eq!(stage.server("3 1 Z(I) C(DEALLOCATE) Z(I)"), "C(DEALLOCATE) Z(I)");
    assert_eq!(stage.client("B(,a) S"), "B(|a) S");
}

#[test]
fn a_deallocate_in_a_pipeline_frees_the_name_for_what_follows_it() {
    let mut stage = Stage::attached();
    stage.client("P(a,select 1) S");
    stage.server("1 Z(I)");
    let (sent, waiting) = stage.held("P(,deallocate a) B(,) E() P(a,select 2) S");
    assert_eq!((sent.as_str(), waiting.as_str()), ("P(|deallocate a) B C(Sa) P(a) E H", "P(a|select 2) S"));
    assert_eq!(stage.server("1 2 3 1 C(DEALLOCATE)"), "1 2 C(DEALLOCATE)");
    assert_eq!(stage.client("P(a,select 2) S"), "P(pgcordon:2|select 2) S");
    assert_eq!(stage.server("1 Z(I)"), "1 Z(I)");
}

#[test]
fn a_deallocate_that_failed_took_nothing_away() {
    let mut stage = Stage::attached();
    stage.client("P(a,select 1) S");
    stage.server("1 Z(I)");
    stage.client("Q(select 1/0; deallocate a)");
    stage.server("3 1 Z(I) E(SQLSTATE22012) Z(I)");
    assert_eq!(stage.client("B(,a) S"), "B(|pgcordon:1) S");
    assert!(stage.backend.is_soiled(), "the name is left there");
    stage.server("2 Z(I)");
    // And one in front of an error took it away all the same.
    stage.client("Q(deallocate a; select 1/0)");
    stage.server("3 1 Z(I) C(DEALLOCATE) E(SQLSTATE22012) Z(I)");
    assert_eq!(stage.client("B(,a) S"), "B(|a) S");
}

#[test]
fn an_execute_finds_the_statement_under_the_clients_name_and_pins() {
    let mut stage = Stage::attached();
    stage.client("P(a,select 1) S");
    stage.server("1 Z(I)");
    assert_eq!(stage.client("Q(execute a)"), "C(Sa) P(a|select 1) S Q(execute a)");
    assert_eq!(stage.server("3 1 Z(I) T D C(SELECT 1) Z(I)"), "T D C(SELECT 1) Z(I)");
    assert_eq!(stage.session.pinned(), Some(PinReason::Prepare));
    stage.allowed = Rules::from_iter([Rule::Explain]);
    assert_eq!(stage.client("P(,explain execute a) B(,) E() S"), "P(|explain execute a) B E S");
    stage.server("1 2 D C(EXPLAIN) Z(I)");
    assert_eq!(stage.client("C(S:a) S"), "C(Sa) S");
    assert_eq!(stage.server("3 Z(I)"), "3 Z(I)");
    // One that isn't the client's is Postgres' to find.
    assert_eq!(stage.client("Q(execute b)"), "Q(execute b)");
}

#[test]
fn a_prepare_of_a_name_that_is_taken_finds_it_taken() {
    let mut stage = Stage::attached();
    stage.client("P(a,select 1) S");
    stage.server("1 Z(I)");
    assert_eq!(stage.client("P(,prepare a as select 2) S"), "C(Sa) P(a|select 1) P(|prepare a as select 2) S");
    stage.server("3 1 1 Z(I)");
    assert_eq!(stage.client("Q(prepare a as select 2)"), "Q(prepare a as select 2)");
}

#[test]
fn more_than_a_client_may_have_is_refused_and_nothing_is_lost() {
    use crate::domain::limits::{CLIENT_STATEMENT_BYTES_MAX, CLIENT_STATEMENTS_MAX};
    let refused = |stage: &mut Stage| {
        let sent = stage.client(&format!("P(more,{}) S", "x".repeat(3000)));
        assert!(sent.starts_with("P(|select cordon.deny('53400')"), "{sent}");
        stage.server("1 E(SQLSTATE53400) Z(I)");
    };
    let mut stage = Stage::attached();
    for number in 0..CLIENT_STATEMENTS_MAX {
        stage.client(&format!("P({number},select 1) S"));
        stage.server(if number == 0 { "1 Z(I)" } else { "3 1 Z(I)" });
    }
    refused(&mut stage);
    assert_eq!(stage.client("B(,7) S"), format!("B(|pgcordon:{CLIENT_STATEMENTS_MAX}) S"));
    let mut stage = Stage::attached();
    let long = "x".repeat(CLIENT_STATEMENT_BYTES_MAX / 20);
    for number in 0..19 {
        let sent = stage.client(&format!("P({number},{long}{number}) S"));
        stage.server(if sent.starts_with('C') { "3 1 Z(I)" } else { "1 Z(I)" });
    }
    // Names count as well.
    stage.client(&format!("P({},select 1) S", "n".repeat(long.len() - 2000)));
    stage.server("1 Z(I)");
    let bytes = stage.bodies.bytes();
    assert!((20 * (long.len() - 2000)..21 * long.len()).contains(&bytes), "{bytes}");
    refused(&mut stage);
    let Stage { session, backend, bodies, .. } = stage;
    drop((session, backend));
    assert_eq!(bodies.bytes(), 0);
}

#[test]
fn after_deallocate_all_nothing_is_taken_for_prepared() {
    let mut stage = Stage::attached();
    stage.client("P(a,select 1) S");
    stage.server("1 Z(I)");
    let bytes = script_bytes("Q(deallocate all) P(a,select 1) S");
    let (taken, state) = stage.raw_client(&bytes);
    assert_eq!(state, Taken::Held);
    stage.lanes.server.clear();
    stage.server("C(DEALLOCATE ALL) Z(I)");
    stage.raw_client(&bytes[taken..]);
    assert_eq!(stage.sent_to_server(&bytes[taken..]), "P(pgcordon:2|select 1) S");
}

#[test]
fn a_pinned_clients_statements_have_their_own_names() {
    let mut stage = Stage::attached();
    stage.client("Q(prepare a as select 1)");
    stage.server("C(PREPARE) Z(I)");
    // Postgres knows that the name is taken.
    assert_eq!(stage.client("P(a,select 2) S"), "P(a|select 2) S");
    assert_eq!(stage.server("E(SQLSTATE42P05) Z(I)"), "E(C42P05) Z(I)");
    assert_eq!(stage.client("B(,a) E() S"), "B(|a) E S");
    stage.server("2 D C(SELECT 1) Z(I)");
    assert_eq!(stage.client("P(b,select 2) D(S:b) B(,b) E() S"), "P(b|select 2) D(Sb) B(|b) E S");
    stage.server("1 t T 2 D C(SELECT 1) Z(I)");
    assert_eq!(stage.client("Q(execute b)"), "Q(execute b)");
    stage.server("T D C(SELECT 1) Z(I)");
    assert_eq!(stage.client("C(S:b) S"), "C(Sb) S");
    assert_eq!(stage.server("3 Z(I)"), "3 Z(I)");
}

#[test]
fn a_deallocate_of_a_name_that_an_error_may_free_waits_for_it() {
    let mut stage = Stage::attached();
    let (sent, waiting) = stage.held("E() P(a,select 1) S Q(deallocate a)");
    assert_eq!((sent.as_str(), waiting.as_str()), ("E P(pgcordon:1|select 1) S H", "Q(deallocate a)"));
    stage.server("E(SQLSTATE34000) Z(I)");
    assert_eq!(stage.client("Q(deallocate a)"), "Q(deallocate a)");
}

#[test]
fn in_a_failed_transaction_a_name_that_was_closed_and_not_prepared_again_is_free() {
    let mut stage = Stage::attached();
    stage.client("P(b,select 1) S");
    stage.server("1 Z(I)");
    stage.client("Q(begin; select 1/0)");
    stage.server("C(BEGIN) E(SQLSTATE22012) Z(E)");
    assert_eq!(stage.client("C(S:b) P(b,select 2) S"), "P(pgcordon:2|select 2) S");
    assert_eq!(stage.server("E(SQLSTATE25P02) Z(E)"), "3 E(C25P02) Z(E)");
    assert_eq!(stage.client("B(,b) S"), "B(|b) S");
}

#[test]
fn a_text_of_ours_that_was_left_under_a_name_is_nothing_to_its_client() {
    let mut stage = Stage::attached();
    stage.client("P(b,select 1) S");
    stage.server("1 Z(I)");
    stage.client("Q(begin)");
    stage.server("C(BEGIN) Z(T)");
    assert_eq!(stage.client("P(b,select 2) S"), "C(Sb) P(b) P(b|select 2) S");
    stage.server("3 1 E(SQLSTATE42P05) Z(E)");
    stage.client("C(S:b) S");
    stage.server("Z(E)");
    assert_eq!(stage.client("B(,b) S"), "C(Sb) B(|b) S");
    assert_eq!(stage.server("3 E(SQLSTATE26000) Z(E)"), "E(C26000) Z(E)");
    assert_eq!(stage.client("D(S:b) S"), "D(Sb) S");
}

#[test]
fn an_unnamed_statement_that_an_error_may_keep_away_is_waited_for() {
    let mut stage = Stage::attached();
    stage.client("P(,select 1) S");
    stage.server("1 Z(I)");
    stage.move_to_another(8);
    let (sent, waiting) = stage.held("D(S:x) B(,) S B(,) E() S");
    assert_eq!((sent.as_str(), waiting.as_str()), ("D(Sx) P(|select 1) B S H", "B E S"));
    stage.server("E(SQLSTATE26000) Z(I)");
    assert_eq!(stage.client("B(,) E() S"), "P(|select 1) B E S");
}

#[test]
fn a_portal_is_not_forgotten_by_the_end_of_a_cycle_before_it() {
    let mut stage = Stage::attached();
    stage.client("P(s,insert into t values (1)) S");
    stage.server("1 Z(I)");
    stage.client("P(,update t set a = 1) B(,) E() S B(,s)");
    stage.server("1 2 C(UPDATE 1) Z(I) 2");
    assert!(stage.session.portals.get(b"").is_some(), "its Execute is asked for");
    stage.client("E() S");
    stage.server("C(INSERT 0 1) Z(I)");
    assert!(stage.session.portals.get(b"").is_none());
}

#[test]
fn what_executes_others_is_never_known_to_sql() {
    let mut stage = Stage::attached();
    stage.client("P(a,execute a) S");
    stage.server("1 Z(I)");
    assert!(stage.client("Q(explain execute a)").contains("cordon.deny('42501')"));
    stage.server("1 2 E(SQLSTATE42501) Z(I)");
    stage.allowed = Rules::from_iter([Rule::Explain]);
    assert_eq!(stage.client("Q(explain execute a)"), "Q(explain execute a)");
    stage.server("E(SQLSTATE26000) Z(I)");
    assert!(stage.client("Q(execute \"pgcordon:1\")").contains("cordon.deny('26000')"));
}
