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
    assert_eq!(stage.attach(), "bind seal seed set(work_mem=1MB)");
}

#[test]
fn a_setting_that_the_client_was_refused_isnt_carried_along() {
    let mut stage = Stage::attached();
    stage.client("Q(set track_functions = 'all')");
    stage.server("E(SQLSTATE42501) Z(I)");
    assert_eq!(stage.sent_to_server(&[]), "set(track_functions=) show(track_functions=)");
    assert_eq!(stage.server("E(SQLSTATE42501) Z(I) V(none) Z(I)"), "");
    assert_eq!(stage.session.settings.iter().count(), 0);
    assert!(stage.session.may_leave() && stage.backend.is_soiled());
    // One that may be given is, although something else failed; and what is known to be the client's isn't asked about again.
    for asked in ["set(work_mem=) show(work_mem=)", "show(work_mem=)"] {
        stage.client("Q(set work_mem = '1MB'; commit; select 1/0)");
        stage.server("C(SET) C(COMMIT) E(SQLSTATE22012) Z(I)");
        assert_eq!(stage.sent_to_server(&[]), asked);
        stage.server(if asked.starts_with("show") { "V(1MB) Z(I)" } else { "V(4MB) Z(I) V(1MB) Z(I)" });
    }
    assert_eq!(stage.session.settings.get("work_mem"), Some(&b"1MB"[..]));
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
fn reset_all_goes_back_to_what_the_client_asked_for_when_it_connected() {
    let mut stage = Stage::with(Settings::of([("application_name".to_owned(), "psql")]));
    stage.attach();
    stage.server("V Z(I) V(seal) Z(I) V Z(I) V Z(I)");
    let (sent, waiting) = stage.held("Q(reset all) Q(select 1)");
    assert_eq!((sent.as_str(), waiting.as_str()), ("Q(reset all)", "Q(select 1)"));
    // The client hears of it when the settings and the context are there again.
    assert_eq!(stage.server("C(RESET) S(application_name,) Z(I)"), "C(RESET)");
    assert_eq!(stage.sent_to_server(&[]), "set(application_name=psql) bind seal seed");
    assert_eq!(
        stage.server("S(application_name,psql) V Z(I) V Z(I) V(seal) Z(I) V Z(I)"),
        "S(application_name|psql) Z(I)"
    );
    assert_eq!(stage.client("Q(select 1)"), "Q(select 1)");
}

#[test]
fn reset_goes_back_to_it_too_in_the_same_transaction() {
    let mut stage = Stage::with(Settings::of([("work_mem".to_owned(), "2MB")]));
    stage.attach();
    stage.server("V Z(I) V(seal) Z(I) V Z(I) V Z(I)");
    stage.client("Q(begin)");
    stage.server("C(BEGIN) Z(T)");
    for (text, tag) in [("reset work_mem", "RESET"), ("set work_mem to default", "SET")] {
        stage.client(&format!("Q({text})"));
        assert_eq!(stage.server(&format!("C({tag}) Z(T)")), format!("C({tag})"));
        assert_eq!(stage.sent_to_server(&[]), "set(work_mem=2MB)");
        assert_eq!(stage.server("V Z(T)"), "Z(T)");
    }
    stage.client("P(,reset work_mem) B(,) E() S");
    assert_eq!(stage.server("1 2 C(RESET) Z(T)"), "1 2 C(RESET)");
    assert_eq!(stage.sent_to_server(&[]), "set(work_mem=2MB)");
    assert_eq!(stage.server("V Z(T)"), "Z(T)");
    // Others, and what is set again behind it, aren't touched; nor is anything when it failed.
    for text in ["reset lock_timeout", "reset work_mem; set work_mem = '3MB'"] {
        stage.client(&format!("Q({text})"));
        assert_eq!(stage.server("C(RESET) Z(T)"), "C(RESET) Z(T)");
    }
    stage.client("Q(reset work_mem; select 1/0)");
    assert_eq!(stage.server("C(RESET) E(SQLSTATE22012) Z(E)"), "C(RESET) E(C22012) Z(E)");
    stage.client("Q(rollback)");
    stage.server("C(ROLLBACK) Z(I)");
    assert_eq!(stage.sent_to_server(&[]), "show(work_mem=) set(lock_timeout=) show(lock_timeout=)");
}

#[test]
fn a_setting_that_is_set_behind_reset_all_stays() {
    let mut stage = Stage::with(Settings::of(["a.b", "c.d"].map(|name| (name.to_owned(), "0"))));
    stage.attach();
    stage.server("V Z(I) V(seal) Z(I) V Z(I) V Z(I) V Z(I)");
    stage.client("Q(set e.f = 1; reset all; set a.b = 1)");
    assert_eq!(stage.server("C(SET) C(RESET) C(SET) Z(I)"), "C(SET) C(RESET) C(SET)");
    assert_eq!(stage.sent_to_server(&[]), "set(c.d=0) bind seal seed");
    assert_eq!(stage.server("V Z(I) V Z(I) V(seal) Z(I) V Z(I)"), "Z(I)");
    assert_eq!(stage.sent_to_server(&[]), "show(a.b=)");
}

#[test]
fn an_error_before_a_reset_is_none_of_it() {
    let mut stage = Stage::attached();
    stage.client("Q(select 1/0) Q(reset all)");
    assert_eq!(stage.server("E(SQLSTATE22012) Z(I) C(RESET) Z(I)"), "E(C22012) Z(I) C(RESET)");
    assert_eq!(stage.sent_to_server(&[]), "bind seal seed");
    assert_eq!(stage.server("V Z(I) V(seal) Z(I) V Z(I)"), "Z(I)");
    // One behind it may come after a commit.
    stage.client("Q(begin; reset all; commit; select 1/0)");
    let answer = "C(BEGIN) C(RESET) C(COMMIT) E(SQLSTATE22012) Z(I)";
    assert_eq!(stage.server(answer), answer.replace("SQLSTATE", "C"));
    assert_eq!(stage.client("Q(select 1)"), "bind seal seed Q(select 1)");
}

#[test]
fn reset_all_in_a_transaction_is_bound_anew_at_once_and_read_back_in_the_end() {
    let mut stage = Stage::attached();
    stage.client("Q(set a.b = 1)");
    stage.server("C(SET) Z(I)");
    stage.sent_to_server(&[]);
    stage.server("V(1) Z(I)");
    stage.client("Q(begin)");
    stage.server("C(BEGIN) Z(T)");
    stage.client("Q(reset all)");
    assert_eq!(stage.server("C(RESET) Z(T)"), "C(RESET)");
    assert_eq!(stage.sent_to_server(&[]), "bind seal seed");
    assert_eq!(stage.server("V Z(T) V(seal) Z(T) V Z(T)"), "Z(T)");
    assert_eq!(stage.client("Q(select 1)"), "Q(select 1)");
    stage.server("T D C(SELECT 1) Z(T)");
    stage.client("Q(rollback)");
    stage.server("C(ROLLBACK) Z(I)");
    assert_eq!(stage.sent_to_server(&[]), "show(a.b=)");
    stage.server("V(1) Z(I)");
    stage.move_to_another_with(8, "bind seal seed set(a.b=1)");
}

#[test]
fn discard_all_ends_a_pin() {
    let mut stage = Stage::attached();
    stage.client("Q(listen a)");
    stage.server("C(LISTEN) Z(I)");
    stage.client("Q(discard all)");
    assert_eq!(stage.server("C(DISCARD ALL) Z(I)"), "C(DISCARD ALL)");
    assert_eq!(stage.sent_to_server(&[]), "bind seal seed");
    assert_eq!(stage.server("V Z(I) V(seal) Z(I) V Z(I)"), "Z(I)");
    assert!(stage.session.may_leave());
    assert_eq!(stage.client("Q(select 1)"), "Q(select 1)");
}

#[test]
fn set_config_by_a_function_call_is_read_back_as_well() {
    let call = |arguments: &[Option<&[u8]>]| {
        let mut out = BytesMut::new();
        inject::function_call(&mut out, inject::SET_CONFIG_OID, arguments);
        out.to_vec()
    };
    let mut stage = Stage::with(Settings::of([("work_mem".to_owned(), "2MB")]));
    stage.attach();
    stage.server("V Z(I) V(seal) Z(I) V Z(I) V Z(I)");
    stage.raw_client(&call(&[Some(b"Work_Mem"), Some(b"1MB"), Some(b"f")]));
    stage.lanes.server.clear();
    assert!(stage.server("V(1MB) Z(I)").ends_with("1MB) Z(I)"));
    assert_eq!(stage.session.pinned(), None);
    assert_eq!(stage.sent_to_server(&[]), "show(work_mem=)");
    stage.server("V(1MB) Z(I)");
    // NULL resets.
    stage.raw_client(&call(&[Some(b"work_mem"), None, Some(b"f")]));
    stage.lanes.server.clear();
    assert!(stage.server("V(4MB) Z(I)").ends_with("4MB)"));
    assert_eq!(stage.sent_to_server(&[]), "set(work_mem=2MB)");
    assert_eq!(stage.server("V(2MB) Z(I)"), "Z(I)");
    let role = call(&[Some(b"role"), Some(b"x"), Some(b"f")]);
    stage.raw_client(&role);
    assert!(stage.sent_to_server(&role).contains("cordon.deny('42501')"));
    stage.server("E(SQLSTATE42501) Z(I)");
    stage.guard = Guard::off();
    stage.raw_client(&role);
    assert_eq!(stage.session.pinned(), Some(PinReason::Role));
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

#[test]
fn a_reset_that_was_skipped_reset_nothing() {
    let mut stage = Stage::with(Settings::of([("a.b".to_owned(), "0")]));
    stage.attach();
    stage.server("V Z(I) V(seal) Z(I) V Z(I) V Z(I)");
    stage.client("P(,reset all) B(,) E() S");
    assert_eq!(stage.server("1 E(SQLSTATE08P01) Z(I)"), "1 E(C08P01) Z(I)");
    assert_eq!(stage.sent_to_server(&[]), "show(a.b=)");
    stage.server("V(0) Z(I)");
    // One in a cycle behind the error isn't skipped.
    stage.client("P(,select) S P(,reset all) B(,) E() S");
    stage.server("V Z(I) V(seal) Z(I) V Z(I)");
    assert_eq!(stage.server("E(SQLSTATE42601) Z(I) 1 2 C(RESET) Z(I)"), "E(C42601) Z(I) 1 2 C(RESET)");
    assert_eq!(stage.sent_to_server(&[]), "set(a.b=0) bind seal seed");
}

#[test]
fn a_reset_that_the_same_string_rolls_back_reset_nothing() {
    let mut stage = Stage::with(Settings::of([("a.b".to_owned(), "0")]));
    stage.attach();
    stage.server("V Z(I) V(seal) Z(I) V Z(I) V Z(I)");
    for (text, answer) in [
        ("begin; reset a.b; rollback", "C(BEGIN) C(RESET) C(ROLLBACK) Z(I)"),
        (
            "begin; set a.b to default; savepoint s; reset a.b; rollback",
            "C(BEGIN) C(SET) C(SAVEPOINT) C(RESET) C(ROLLBACK) Z(I)",
        ),
    ] {
        stage.client(&format!("Q({text})"));
        assert_eq!(stage.server(answer), answer);
        assert_eq!(stage.sent_to_server(&[]), "show(a.b=)");
        stage.server("V(1) Z(I)");
    }
    stage.client("Q(rollback; reset a.b)");
    assert_eq!(stage.server("C(ROLLBACK) C(RESET) Z(I)"), "C(ROLLBACK) C(RESET)");
    assert_eq!(stage.sent_to_server(&[]), "set(a.b=0)");
    stage.server("V Z(I)");
    stage.sent_to_server(&[]);
    stage.server("V(0) Z(I)");
    stage.client("Q(begin; reset all; rollback)");
    stage.server("C(BEGIN) C(RESET) C(ROLLBACK) Z(I)");
    assert_eq!(stage.sent_to_server(&[]), "show(a.b=)");
    stage.server("V(0) Z(I)");
    assert_eq!(stage.client("Q(select 1)"), "bind seal seed Q(select 1)");
}

#[test]
fn what_fails_behind_a_discard_all_brings_nothing_back() {
    let mut stage = Stage::with(Settings::of([("a.b".to_owned(), "0")]));
    stage.attach();
    stage.server("V Z(I) V(seal) Z(I) V Z(I) V Z(I)");
    stage.client("P(,discard all) B(,) E() P(,selec) S");
    assert_eq!(stage.server("1 2 C(DISCARD ALL) E(SQLSTATE42601) Z(I)"), "1 2 C(DISCARD ALL) E(C42601)");
    assert_eq!(stage.sent_to_server(&[]), "set(a.b=0) bind seal seed");
}
