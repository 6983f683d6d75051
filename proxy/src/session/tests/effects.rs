//! Settings are read back when their transaction is over, and a reset never loses the workspace.

use super::*;

#[test]
fn a_setting_is_read_back_and_given_to_the_next_server_connection() {
    let mut stage = Stage::attached();
    stage.client("Q(set work_mem = '1MB')");
    assert_eq!(stage.server("C(SET) Z(I)"), "C(SET) Z(I)");
    assert_eq!(stage.sent_to_server(&[]), "show(work_mem=)");
    assert!(!stage.session.may_leave());
    assert_eq!(stage.server("V(1MB) Z(I)"), "");
    assert!(stage.session.may_leave());
    stage.session.detached();
    stage.backend = BackendState::new(8, 0);
    assert_eq!(stage.attach(), "set(work_mem=1MB) bind seal seed");
}

#[test]
fn nothing_is_read_back_before_the_transaction_is_over() {
    let mut stage = Stage::attached();
    stage.client("Q(begin)");
    stage.server("C(BEGIN) Z(T)");
    stage.client("P(,set local x.y = 1) B(,) E() S");
    stage.server("1 2 C(SET) Z(T)");
    assert_eq!(stage.sent_to_server(&[]), "");
    stage.client("Q(rollback)");
    stage.server("C(ROLLBACK) Z(I)");
    assert_eq!(stage.sent_to_server(&[]), "show(x.y=)");
    stage.server("V Z(I)");
    assert_eq!(stage.session.settings.iter().count(), 0);
}

#[test]
fn behind_reset_all_the_context_comes_first() {
    let mut stage = Stage::with(Settings::of([("application_name".to_owned(), "psql")]));
    stage.attach();
    stage.server("V Z(I) V Z(I) V(seal) Z(I) V Z(I)");
    let bytes = script_bytes("Q(reset all) Q(select 1)");
    let (taken, state) = stage.raw_client(&bytes);
    assert_eq!(state, Taken::Held);
    assert_eq!(stage.sent_to_server(&bytes), "Q(reset all)");
    stage.server("C(RESET) Z(I)");
    stage.raw_client(&bytes[taken..]);
    assert_eq!(stage.sent_to_server(&bytes[taken..]), "set(application_name=psql) bind seal seed Q(select 1)");
}

#[test]
fn reset_all_in_a_transaction_is_bound_anew_at_once_and_cleared_in_the_end() {
    let mut stage = Stage::attached();
    stage.client("Q(begin)");
    stage.server("C(BEGIN) Z(T)");
    stage.client("Q(reset all)");
    stage.server("C(RESET) Z(T)");
    assert_eq!(stage.client("Q(select 1)"), "bind seal seed Q(select 1)");
    stage.server("V Z(T) V(seal) Z(T) V Z(T) T D C(SELECT 1) Z(T)");
    stage.client("Q(rollback)");
    stage.server("C(ROLLBACK) Z(I)");
    assert_eq!(stage.session.leaving(&stage.backend), Leaving::Soiled);
}

#[test]
fn discard_all_ends_a_pin() {
    let mut stage = Stage::attached();
    stage.client("Q(listen a)");
    stage.server("C(LISTEN) Z(I)");
    stage.client("Q(discard all)");
    stage.server("C(DISCARD ALL) Z(I)");
    assert!(stage.session.may_leave());
    assert_eq!(stage.client("Q(select 1)"), "bind seal seed Q(select 1)");
}

#[test]
fn a_discard_all_that_failed_changed_nothing() {
    let mut stage = Stage::attached();
    stage.client("Q(listen a)");
    stage.server("C(LISTEN) Z(I)");
    stage.client("Q(discard all)");
    stage.server("E(SQLSTATE25001) Z(I)");
    assert!(!stage.session.may_leave());
    assert_eq!(stage.session.leaving(&stage.backend), Leaving::Soiled);
}
