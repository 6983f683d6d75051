//! Nothing runs before the context, and nothing is told when the context failed.

use super::*;
use crate::tenant::BindBy;

#[test]
fn the_bind_goes_out_in_front_of_the_first_message_and_its_answers_stay_here() {
    let mut stage = Stage::new();
    assert_eq!(stage.attach(), "bind seal seed");
    assert_eq!(stage.client("Q(select 1)"), "Q(select 1)");
    assert_eq!(stage.server("V Z(I) V(seal) Z(I) V Z(I) T D C(SELECT 1) Z(I)"), "T D C(SELECT 1) Z(I)");
}

#[test]
fn a_database_is_bound_by_what_it_has() {
    let cycles = |echoed: &str| format!("V Z(I) {echoed} Z(I) V Z(I)");
    for (by, given, answers) in [
        (BindBy::Settings, "bind seal seed", cycles("V(seal)")),
        (BindBy::Mark(5000), "bind seal mark seed", cycles("V(seal) Z(I) V")),
        (BindBy::Call(5001), "whole", "V(seal) Z(I)".to_owned()),
    ] {
        let mut stage = Stage::new();
        stage.backend = BackendState::new(7, 0).bound_by(by);
        assert_eq!(stage.attach(), given);
        stage.client("Q(select 1)");
        assert_eq!(stage.server(&format!("{answers} T D C(SELECT 1) Z(I)")), "T D C(SELECT 1) Z(I)", "{given}");
    }
}

#[test]
fn a_bind_in_one_call_that_fails_or_is_answered_by_somebody_else_is_none() {
    let called = || BackendState::new(7, 0).bound_by(BindBy::Call(5001));
    for (answer, code) in [("E(SQLSTATE42501) Z(I)", "C08006"), ("E(SQLSTATE57014) Z(I)", "C57014")] {
        withholds_of(called(), &format!("{answer} T D C(SELECT 1) Z(I)"), code);
    }
    for forged in ["V", "V(t)", "V(forged)"] {
        let mut stage = Stage::new();
        stage.backend = called();
        stage.attach();
        assert_eq!(stage.broken_by(&format!("{forged} Z(I)")).origin, Origin::Upstream, "{forged}");
    }
}

#[test]
fn a_failed_bind_withholds_every_answer() {
    withholds("E(SQLSTATE42501) Z(I) V Z(I) V Z(I) T D C(SELECT 1) Z(I)", "C08006");
    // The client's own cancel request may have hit it, and does what it is for.
    withholds("V Z(I) E(SQLSTATE57014) Z(I) V Z(I) T D C(SELECT 1) Z(I)", "C57014");
}

fn withholds(answers: &str, code: &str) {
    withholds_of(BackendState::new(7, 0), answers, code);
}

fn withholds_of(backend: BackendState, answers: &str, code: &str) {
    let mut stage = Stage::new();
    stage.backend = backend;
    stage.attach();
    stage.client("Q(select 1) P(,select 2) B(,) E() S P(,select 3)");
    let bytes = script_bytes(answers);
    let (_, progress) =
        stage.lent(|session, backend, core, lanes| session.on_server(&bytes, backend, core, lanes)).expect("no fault");
    let Progress::Unbound(fault) = progress else { panic!("a failed bind must be seen") };
    assert_eq!(stage.sent_to_client(&bytes), "");
    stage.session.detach_failed(&fault, &mut stage.lanes);
    assert_eq!(stage.sent_to_client(&[]), format!("E({code}) Z(I) E({code}) Z(I) E({code})"));
    let rest = script_bytes("B(,) S");
    assert_eq!(stage.session.on_idle_client(&rest, &mut stage.lanes).expect("no fault"), (rest.len(), Idle::More));
    assert_eq!(stage.sent_to_client(&[]), "Z(I)");
}

#[test]
fn a_bound_server_connection_needs_nothing() {
    let mut stage = Stage::attached();
    stage.session.detached();
    stage.lent(|session, backend, core, lanes| session.attach(backend, false, core, lanes));
    assert_eq!(stage.sent_to_server(&[]), "");
}

#[test]
fn an_old_seal_is_renewed_with_the_next_statement_and_not_in_a_transaction() {
    let mut stage = Stage::attached();
    stage.client("Q(begin)");
    stage.server("C(BEGIN) Z(T)");
    stage.now += 1801;
    assert_eq!(stage.client("Q(select 1)"), "Q(select 1)");
    stage.server("T D C(SELECT 1) Z(T)");
    stage.client("Q(commit)");
    stage.server("C(COMMIT) Z(I)");
    assert_eq!(stage.client("Q(select 1)"), "bind seal seed Q(select 1)");
}

#[test]
fn settings_are_given_behind_the_bind_and_only_the_difference() {
    let wanted = Settings::of([("application_name".to_owned(), "psql")]);
    let mut stage = Stage::with(wanted);
    stage.backend.given(Settings::of([("work_mem".to_owned(), "1MB")]));
    assert_eq!(stage.attach(), "bind seal seed set(work_mem=) set(application_name=psql)");
}

#[test]
fn notices_of_our_own_messages_stay_here() {
    let mut stage = Stage::new();
    stage.attach();
    stage.client("Q(select 1)");
    assert_eq!(stage.server("N V Z(I) V(seal) Z(I) V Z(I) N T D C(SELECT 1) Z(I)"), "N T D C(SELECT 1) Z(I)");
}

#[test]
fn a_client_is_told_of_a_parameter_when_it_has_another_value_than_the_client_knows() {
    let mut stage = Stage::new();
    let known = Arc::new(Parameters::of([("application_name", "mine"), ("TimeZone", "UTC")]));
    stage.session = Session::new(1, stage.session.workspace, Settings::none()).greeted(known.clone(), 4711);
    stage.backend = BackendState::new(7, 0).reporting(known);
    stage.attach();
    stage.client("Q(select 1)");
    // What others had, and what becomes of that by our own messages, is nothing to the client.
    assert_eq!(stage.server("S(application_name,theirs) V Z(I) V(seal) Z(I) S(application_name,mine) V Z(I)"), "");
    assert_eq!(stage.server("T D C(SELECT 1) S(TimeZone,CET) Z(I)"), "T D C(SELECT 1) S(TimeZone|CET) Z(I)");
    // On another server connection it is still what it was.
    stage.session.detached();
    stage.backend =
        BackendState::new(8, 0).reporting(Arc::new(Parameters::of([("TimeZone", "UTC"), ("application_name", "x")])));
    stage.attach();
    stage.client("Q(select 1)");
    stage.server("V Z(I) V(seal) Z(I) S(TimeZone,CET) V Z(I)");
    assert_eq!(stage.server("T C(SELECT 1) Z(I)"), "T C(SELECT 1) S(application_name|x) Z(I)");
    stage.client("Q(select 1)");
    assert_eq!(stage.server("T C(SELECT 1) Z(I)"), "T C(SELECT 1) Z(I)");
}

#[test]
fn a_notification_of_the_clients_own_has_the_process_id_that_it_knows() {
    let mut stage = Stage::attached();
    stage.session = Session::new(1, stage.session.workspace, Settings::none()).greeted(Arc::default(), 4711);
    stage.guard = Guard::off();
    let notified = |pid: i32| [&b"A\0\0\0\x0c"[..], &pid.to_be_bytes(), b"a\0b\0"].concat();
    for (sent, got) in [(7, 4711), (8, 8)] {
        let bytes = notified(sent);
        stage.lent(|session, backend, core, lanes| session.on_server(&bytes, backend, core, lanes)).expect("no fault");
        assert_eq!(stage.lanes.client.bytes(&bytes), notified(got));
        stage.lanes.client.clear();
    }
}

#[test]
fn a_tenant_that_touches_its_context_is_bound_anew() {
    let mut stage = Stage::attached();
    stage.guard = Guard::off();
    stage.client("Q(set app.workspace_id = 'x')");
    stage.server("C(SET) Z(I)");
    assert_eq!(stage.client("Q(select 1)"), "bind seal seed Q(select 1)");
}

#[test]
fn a_system_session_is_never_bound() {
    let mut stage = Stage::new();
    stage.session = Session::new(1, None, Settings::none());
    assert_eq!(stage.attach(), "");
}

#[test]
fn a_bind_is_believed_only_when_it_echoes_the_seal() {
    let mut stage = Stage::new();
    stage.attach();
    assert_eq!(stage.broken_by("V Z(I) V(forged) Z(I)").origin, Origin::Upstream);
    assert_eq!(stage.session.leaving(&stage.backend), Leaving::Busy);
}
