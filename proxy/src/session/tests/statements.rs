//! Prepared statements: one name space per client, shared bodies on the server connections.

use super::*;

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
fn the_second_client_with_the_same_text_finds_it_prepared() {
    let mut stage = Stage::attached();
    stage.client("P(a,select 1) S");
    stage.server("1 Z(I)");
    stage.session.detached();
    stage.session = Session::new(2, stage.session.workspace, Settings::none());
    assert_eq!(stage.client("P(b,select 1) B(,b) E() S"), "B(|pgcordon:1) E S");
    assert_eq!(stage.server("2 D C(SELECT 1) Z(I)"), "1 2 D C(SELECT 1) Z(I)");
}

#[test]
fn our_parse_complete_keeps_its_place() {
    let mut stage = Stage::attached();
    stage.client("P(a,select 1) S");
    stage.server("1 Z(I)");
    stage.session.statements.remove(b"a");
    stage.client("P(,select 2) B(,) E() P(a,select 1) B(,a) E() S");
    assert_eq!(stage.server("1 2 D C(SELECT 1) 2 D C(SELECT 1) Z(I)"), "1 2 D C(SELECT 1) 1 2 D C(SELECT 1) Z(I)");
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
    assert_eq!(stage.client("P(a,select 1) S"), "S");
}

#[test]
fn a_deallocate_finds_the_statement_under_the_clients_name() {
    let mut stage = Stage::attached();
    stage.client("P(a,select 1) S");
    stage.server("1 Z(I)");
    assert_eq!(stage.client("Q(deallocate a)"), "P(a|select 1) S Q(deallocate a)");
    assert_eq!(stage.server("1 Z(I) C(DEALLOCATE) Z(I)"), "C(DEALLOCATE) Z(I)");
    assert_eq!(stage.client("B(,a) S"), "B(|a) S");
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
