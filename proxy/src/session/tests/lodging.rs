//! Where a client lives: what is sent home, what stays, and whose numbers a server connection gives.

use super::*;
use crate::session::Wish;

const HOME: i32 = 7;
const DISCARDED: &str = "C(DISCARD SEQUENCES) Z(I)";

/// A client that was told the process id of the stage's server connection, which is bound.
fn at_home() -> Stage {
    let mut stage = Stage::new();
    let session = std::mem::replace(&mut stage.session, Session::new(2, None, Settings::none()));
    stage.session = session.greeted(Arc::default(), HOME);
    stage.attach();
    stage.server("V Z(I) V(seal) Z(I) V Z(I)");
    stage
}

impl Stage {
    /// The client gives the server connection back, and others of its workspace use it.
    fn others_come(&mut self) {
        assert!(self.session.may_leave());
        self.session.detached();
        self.backend.set_sequences(crate::backend::Sequences::Mixed(crate::backend::Stay::default()));
        self.come_back();
    }

    /// It takes one again that is bound already.
    fn come_back(&mut self) {
        self.lent(|session, backend, core, lanes| session.attach(backend, false, core, lanes));
        assert_eq!(self.sent_to_server(&[]), "");
    }

    /// Whether a message is for another server connection.
    fn moves(&mut self, script: &str) -> Option<Wish> {
        let bytes = script_bytes(script);
        match self.raw_client(&bytes) {
            (0, Taken::Move(wish)) => Some(wish),
            (_, Taken::Move(_)) => panic!("{script}: in part"),
            (_, _) => None,
        }
    }
}

#[test]
fn what_asks_for_the_process_id_stays_at_home() {
    let mut stage = at_home();
    assert_eq!(stage.client("Q(select pg_backend_pid())"), "Q(select pg_backend_pid())");
    stage.server("T D C(SELECT 1) Z(I)");
    assert!(!stage.session.may_leave() && stage.session.may_make_way());
    assert_eq!(stage.session.pinned(), Some(PinReason::BackendPid));
    assert_eq!(stage.session.leaving(&stage.backend), Leaving::Clean);
    stage.session.make_way();
    assert!(stage.session.may_leave());
}

#[test]
fn what_asks_elsewhere_is_brought_home_once_and_stays_where_it_then_is() {
    for script in ["Q(select pg_backend_pid())", "P(,select pg_backend_pid()) B(,) E() S", "Q(listen a)"] {
        let mut stage = at_home();
        stage.move_to_another(8);
        assert_eq!(stage.moves(script), Some(Wish { is_patient: true }), "{script}");
        assert!(stage.session.may_leave(), "nothing was sent");
        // It can't be had: another one must do.
        stage.session.detached();
        stage.backend = BackendState::new(9, 0);
        stage.attach();
        assert_eq!(stage.moves(script), None, "{script}");
        assert!(!stage.session.may_leave());
        assert_eq!(stage.session.home(), if script.contains("listen") { HOME } else { 9 });
    }
}

#[test]
fn nobody_is_moved_in_the_middle_of_anything() {
    let mut stage = at_home();
    stage.move_to_another(8);
    stage.client("Q(begin)");
    stage.server("C(BEGIN) Z(T)");
    assert_eq!(stage.moves("Q(select pg_backend_pid())"), None);
    assert_eq!((stage.session.home(), stage.session.pinned()), (8, Some(PinReason::BackendPid)));
}

#[test]
fn a_client_that_comes_home_for_the_first_time_finds_nobodys_numbers_there() {
    let mut stage = at_home();
    stage.backend.set_sequences(crate::backend::Sequences::Mixed(crate::backend::Stay::default()));
    assert_eq!(stage.client("Q(insert)"), "Q(DISCARD SEQUENCES) Q(insert)");
    assert_eq!(stage.server(&format!("{DISCARDED} C(INSERT 0 1) Z(I)")), "C(INSERT 0 1) Z(I)");
    // Its own are told at once, and it stays for them.
    assert_eq!(stage.client("Q(select lastval())"), "Q(select lastval())");
    stage.server("T D C(SELECT 1) Z(I)");
    assert_eq!(stage.session.pinned(), Some(PinReason::Sequence));
    assert!(stage.habits.asks(stage.session.workspace));
}

#[test]
fn numbers_of_others_are_forgotten_before_the_client_is_told_any() {
    let mut stage = at_home();
    stage.client("Q(insert)");
    stage.server("C(INSERT 0 1) Z(I)");
    stage.others_come();
    let (sent, waits) = stage.held("Q(select lastval())");
    assert_eq!((sent.as_str(), waits.as_str()), ("Q(DISCARD SEQUENCES) H", "Q(select lastval())"));
    assert_eq!(stage.server(DISCARDED), "");
    assert!(!stage.session.may_leave(), "it would have to begin again");
    assert_eq!(stage.client("Q(select lastval())"), "Q(select lastval())");
}

#[test]
fn who_is_known_to_ask_stays_where_it_writes() {
    let mut stage = at_home();
    stage.habits.learn(stage.session.workspace);
    stage.others_come();
    assert_eq!(stage.client("Q(insert)"), "Q(DISCARD SEQUENCES) Q(insert)");
    stage.server(&format!("{DISCARDED} C(INSERT 0 1) Z(I)"));
    assert_eq!(stage.session.pinned(), Some(PinReason::Sequence));
    assert_eq!(stage.client("Q(select lastval())"), "Q(select lastval())");
    stage.server("T D C(SELECT 1) Z(I)");
    assert_eq!(stage.client("Q(discard sequences)"), "Q(discard sequences)");
    stage.server("C(DISCARD SEQUENCES) Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn a_number_that_was_taken_before_others_came_isnt_told_for_one_taken_elsewhere_since() {
    let mut stage = at_home();
    stage.client("Q(insert)");
    stage.server("C(INSERT 0 1) Z(I)");
    // Another insert is done elsewhere, and nobody has been here meanwhile.
    let home = std::mem::replace(&mut stage.backend, BackendState::new(8, 0));
    stage.session.detached();
    stage.attach();
    stage.server("V Z(I) V(seal) Z(I) V Z(I)");
    stage.client("Q(insert)");
    stage.server("C(INSERT 0 1) Z(I)");
    stage.session.detached();
    stage.backend = home;
    stage.come_back();
    let (sent, _) = stage.held("Q(select lastval())");
    assert_eq!(sent, "Q(DISCARD SEQUENCES) H");
}

#[test]
fn what_cant_be_forgotten_isnt_told() {
    // Within a cycle nothing can be put in between.
    let mut stage = at_home();
    stage.client("Q(insert)");
    stage.server("C(INSERT 0 1) Z(I)");
    stage.others_come();
    let sent = stage.client("P(,select 1) B(,) E() P(,select lastval()) B(,) E() S");
    assert!(sent.contains("cordon.deny('55000')") && !sent.contains("lastval"), "{sent}");
    // Postgres refuses to forget.
    let mut stage = at_home();
    stage.client("Q(insert)");
    stage.server("C(INSERT 0 1) Z(I)");
    stage.others_come();
    stage.held("Q(select lastval())");
    stage.server("E(57014) Z(I)");
    let sent = stage.client("Q(select lastval())");
    assert!(sent.contains("cordon.deny('55000')") && !sent.contains("lastval"), "{sent}");
}

#[test]
fn a_call_of_the_function_is_seen_too() {
    let mut stage = at_home();
    stage.client("Q(insert)");
    stage.server("C(INSERT 0 1) Z(I)");
    stage.others_come();
    let mut call = BytesMut::new();
    inject::function_call(&mut call, 2559, &[]);
    let (taken, state) = stage.raw_client(&call);
    assert_eq!((taken, state), (0, Taken::Held));
    assert_eq!(stage.sent_to_server(&call), "Q(DISCARD SEQUENCES) H");
}

#[test]
fn who_was_told_another_process_id_is_told_whose_a_notification_is() {
    let mut stage = at_home();
    stage.guard = Guard::off();
    stage.client("Q(select 1)");
    stage.server("T D C(SELECT 1) Z(I)");
    stage.move_to_another(8);
    let heard = |stage: &mut Stage, pid: i32| {
        let mut message = vec![b'A', 0, 0, 0, 12];
        message.extend_from_slice(&pid.to_be_bytes());
        message.extend_from_slice(b"ch\0\0");
        stage
            .lent(|session, backend, core, lanes| session.on_server(&message, backend, core, lanes))
            .expect("no fault");
        let told = stage.lanes.client.bytes(&message)[5..9].to_vec();
        stage.lanes.client.clear();
        i32::from_be_bytes(told.try_into().expect("four bytes"))
    };
    assert_eq!((heard(&mut stage, 8), heard(&mut stage, HOME), heard(&mut stage, 99)), (HOME, 8, 99));
}

#[test]
fn who_has_just_written_is_given_time_to_ask_and_who_never_asks_is_not() {
    use crate::domain::limits::{YIELD_GRACE, YIELD_SEQUENCE_GRACE, YIELD_TURN};
    use std::time::Duration;
    let mut stage = at_home();
    stage.habits.learn(stage.session.workspace);
    stage.others_come();
    stage.held("Q(select lastval())");
    stage.server(DISCARDED);
    stage.client("Q(select lastval())");
    stage.server("T E(SQLSTATE55000) Z(I)");
    let graces = |stage: &Stage| (stage.session.grace(Duration::ZERO), stage.session.grace(YIELD_TURN));
    let none = (YIELD_GRACE, Duration::ZERO);
    let some = (YIELD_SEQUENCE_GRACE, YIELD_SEQUENCE_GRACE);
    assert_eq!(graces(&stage), none);
    for expected in [some, some, none, none] {
        stage.client("Q(insert)");
        stage.server("C(INSERT 0 1) Z(I)");
        assert_eq!(graces(&stage), expected);
    }
    stage.client("Q(select lastval())");
    stage.server("T D C(SELECT 1) Z(I)");
    stage.client("Q(insert)");
    stage.server("C(INSERT 0 1) Z(I)");
    assert_eq!(graces(&stage), some);
}
