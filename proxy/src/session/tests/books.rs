//! The books after every way in which a client can drive the protocol: what is committed is counted, and nothing stays
//! reserved.

use super::*;
use crate::quota::{Definitions, Resource, ResourceId};
use crate::session::Request;
use crate::sql::catalog::CatalogRelation;

pub(super) const SEGMENTS: ResourceId = ResourceId(7);
const ONE: &str = "insert into segment values (1)";

impl Stage {
    /// A stage on which `segment` is metered, attached. Without a limit everything is granted at once; with one nothing is known
    /// of what is used, and everything must be asked for.
    pub(super) fn metered(limit: Option<u64>) -> Self {
        let mut stage = Self::attached();
        let segments =
            Resource { id: SEGMENTS, name: "segments".into(), per: None, default_limit: limit, meters: Vec::new() };
        let definitions = Definitions::new(vec![segments], []);
        stage.accounts = Accounts::new(crate::quota::Settings::default(), Arc::new(definitions));
        let mut catalog = Catalog::new(["pg_catalog".into(), "public".into()]);
        let segment = CatalogRelation { counts: vec![SEGMENTS.0], ..CatalogRelation::default() };
        catalog.relation("public", "segment", segment);
        catalog.relation("public", "other", CatalogRelation::default());
        stage.catalog = Some(Arc::new(catalog));
        stage
    }

    /// Rows that are used and reserved.
    pub(super) fn books(&self) -> (u64, u64) {
        let workspace = self.session.workspace.expect("a workspace");
        let usage = &self.accounts.usage(workspace)[0];
        (usage.used, usage.reserved)
    }

    /// The server sends, and whatever must be recorded is; what goes to the client is returned.
    pub(super) fn served(&mut self, script: &str) -> String {
        let bytes = script_bytes(script);
        let (mut at, mut told) = (0, Vec::new());
        loop {
            let rest = bytes[at..].to_vec();
            let (taken, progress) = self
                .lent(|session, backend, core, lanes| session.on_server(&rest, backend, core, lanes))
                .expect("no fault");
            told.push(self.sent_to_client(&rest));
            at += taken;
            match progress {
                Progress::Going => break,
                Progress::Withheld => {
                    let _ = self.session.take_owed();
                    self.session.release_withheld(&mut self.lanes);
                    told.push(self.sent_to_client(&[]));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(at, bytes.len(), "{script}");
        told.retain(|words| !words.is_empty());
        told.join(" ")
    }

    /// The client sends a message whose rows must be asked for; what went out before is returned, and what is asked.
    fn asks(&mut self, script: &str) -> (String, Request) {
        let bytes = script_bytes(script);
        let (taken, state) = self.raw_client(&bytes);
        let Taken::Ask(request) = state else { panic!("{script}: {state:?} at {taken}") };
        (self.sent_to_server(&bytes), request)
    }

    /// What was asked for is granted or refused, as the books would have done it.
    fn answer(&mut self, request: Request, grant: bool) {
        let workspace = self.session.workspace.expect("a workspace");
        let refusal = Fault::new(Origin::Client, SqlState::CONFIGURATION_LIMIT_EXCEEDED, "full");
        if grant {
            let _ = self.accounts.adjust(workspace, request.resource, 0, request.rows);
        }
        let answer = if grant { Ok(()) } else { Err(refusal) };
        self.lent(|session, _, core, _| session.answered(request, answer, core));
    }

    fn begun() -> Self {
        let mut stage = Self::metered(None);
        stage.client("Q(begin)");
        stage.server("C(BEGIN) Z(T)");
        stage
    }
}

#[test]
fn an_insert_sent_right_behind_a_rollback_to_a_savepoint_is_counted() {
    let mut stage = Stage::begun();
    stage.client("Q(savepoint s)");
    stage.server("C(SAVEPOINT) Z(T)");
    stage.client(&format!("Q(rollback to s) Q({ONE}) Q(commit)"));
    assert_eq!(stage.books(), (0, 1));
    stage.server("C(ROLLBACK) Z(T) N(report,7:+1) C(INSERT 0 1) Z(T) C(COMMIT) Z(I)");
    assert_eq!(stage.books(), (1, 0));
}

#[test]
fn what_is_undone_and_done_again_in_one_string_is_counted_once() {
    let mut stage = Stage::begun();
    stage.client(&format!("Q({ONE}; rollback; {ONE})"));
    stage.server("N(report,7:+1) C(INSERT 0 1) C(ROLLBACK)");
    assert_eq!(stage.books(), (0, 1), "what the second one adds is reserved still");
    stage.server("N(report,7:+1) C(INSERT 0 1) Z(I)");
    assert_eq!(stage.books(), (1, 0));
    stage.client(&format!("Q({ONE}; commit; {ONE})"));
    stage.server("N(report,7:+1) C(INSERT 0 1) C(COMMIT) E(SQLSTATE23505) Z(I)");
    assert_eq!(stage.books(), (2, 0), "the second one failed");
}

#[test]
fn a_pipeline_of_transactions_settles_each_by_itself() {
    let mut stage = Stage::begun();
    stage.client(&format!("P(,{ONE}) B(,) E() S Q(rollback) P(,{ONE}) B(,) E() S P(,{ONE}) B(,) E() S"));
    assert_eq!(stage.books(), (0, 3));
    stage.server("1 2 N(report,7:+1) C(INSERT 0 1) Z(T) C(ROLLBACK) Z(I)");
    assert_eq!(stage.books(), (0, 2));
    stage.server("1 2 N(report,7:+1) C(INSERT 0 1) Z(I) 1 E(SQLSTATE22012) Z(I)");
    assert_eq!(stage.books(), (1, 0));
}

#[test]
fn a_savepoint_sent_with_what_follows_it_gives_back_what_it_undoes() {
    let mut stage = Stage::begun();
    stage.client(&format!("Q(savepoint s) Q({ONE}) Q(rollback to s)"));
    stage.server("C(SAVEPOINT) Z(T) N(report,7:+1) C(INSERT 0 1) Z(T) C(ROLLBACK) Z(T)");
    assert_eq!(stage.books(), (0, 0));
}

#[test]
fn what_postgres_skips_and_what_fails_gives_back_its_rows_at_once() {
    let mut stage = Stage::begun();
    stage.client(&format!("P(,select 1/0) B(,) E() P(,{ONE}) B(,) E() S P(,{ONE}) B(,) E() S"));
    assert_eq!(stage.books(), (0, 2));
    stage.server("1 2 E(SQLSTATE22012) Z(E)");
    assert_eq!(stage.books(), (0, 1));
    stage.server("E(SQLSTATE25P02) Z(E)");
    assert_eq!(stage.books(), (0, 0));
    // A message that a copy took for its data doesn't run.
    stage.client("Q(rollback)");
    stage.server("C(ROLLBACK) Z(I)");
    stage.client(&format!("Q(copy other from stdin) Q({ONE})"));
    stage.server("G E(SQLSTATE08P01) Z(I)");
    assert_eq!(stage.books(), (0, 0));
}

#[test]
fn fewer_rows_than_were_reserved_give_back_the_rest() {
    let mut stage = Stage::metered(None);
    stage.client("Q(insert into segment values (1),(2),(3)on conflict do nothing)");
    assert_eq!(stage.books(), (0, 3));
    stage.server("N(report,7:+1) C(INSERT 0 1) Z(I)");
    assert_eq!(stage.books(), (1, 0));
}

#[test]
fn what_follows_a_rollback_of_a_failed_transaction_is_asked_for() {
    let mut stage = Stage::begun();
    stage.client("Q(select 1/0)");
    stage.server("E(SQLSTATE22012) Z(E)");
    stage.client(&format!("Q({ONE})"));
    assert_eq!(stage.books(), (0, 0), "it does nothing");
    stage.server("E(SQLSTATE25P02) Z(E)");
    stage.client(&format!("Q(rollback) Q({ONE})"));
    assert_eq!(stage.books(), (0, 1));
    stage.server("C(ROLLBACK) Z(I) N(report,7:+1) C(INSERT 0 1) Z(I)");
    assert_eq!(stage.books(), (1, 0));
}

#[test]
fn room_that_the_transaction_made_isnt_counted_on_where_it_may_be_another_one() {
    let mut stage = Stage::begun();
    stage.client("Q(delete from segment where a = 1)");
    stage.server("N(report,7:-1) C(DELETE 1) Z(T)");
    stage.client(&format!("Q({ONE})"));
    assert_eq!(stage.books(), (0, 0), "it takes the other's place");
    stage.server("N(report,7:+1) C(INSERT 0 1) Z(T)");
    stage.client("Q(delete from segment where a = 1)");
    stage.server("N(report,7:-1) C(DELETE 1) Z(T)");
    stage.client(&format!("Q(rollback; {ONE})"));
    assert_eq!(stage.books(), (0, 1));
    stage.server("C(ROLLBACK) N(report,7:+1) C(INSERT 0 1) Z(I)");
    assert_eq!(stage.books(), (1, 0));
}

#[test]
fn nobody_is_asked_for_before_those_ahead_are_answered() {
    let mut stage = Stage::metered(Some(1));
    let (sent, request) = stage.asks(&format!("P(,{ONE}) B(,) E() S"));
    assert_eq!((sent.as_str(), request.rows), ("P(|insert into segment values (1)) B", 1));
    stage.answer(request, true);
    let (sent, waits) = stage.held(&format!("E() S P(,{ONE}) B(,) E() S"));
    assert_eq!(sent, "E S P(|insert into segment values (1)) B H");
    stage.server("1 2 E(SQLSTATE23505) Z(I) 1 2");
    assert_eq!(stage.books(), (0, 0));
    let (sent, request) = stage.asks(&waits);
    assert_eq!((sent.as_str(), request.own), ("", 0));
    stage.answer(request, false);
    stage.client(&waits);
    assert_eq!(stage.server("1 2 E(SQLSTATE25P02) Z(I)"), "E(C25P02) Z(I)");
    assert_eq!(stage.books(), (0, 0));
}

#[test]
fn a_savepoint_that_nobody_saw_makes_going_back_to_one_uncertain() {
    let mut stage = Stage::begun();
    stage.client("Q(savepoint s)");
    stage.server("C(SAVEPOINT) Z(T)");
    stage.client(&format!("Q({ONE})"));
    stage.server("N(report,7:+1) C(INSERT 0 1) Z(T)");
    let hidden = format!("Q(savepoint s /*{}*/)", "x".repeat(crate::domain::limits::PARSED_BYTES_MAX));
    stage.client(&hidden);
    stage.server("C(SAVEPOINT) Z(T)");
    stage.client("Q(rollback to s)");
    stage.server("C(ROLLBACK) Z(T)");
    assert_eq!(stage.books(), (0, 1), "it may be the other one: the row may be there");
    stage.client("Q(delete from segment where a = 1)");
    stage.server("N(report,7:-1) C(DELETE 1) Z(T)");
    stage.client("Q(rollback to s)");
    stage.server("C(ROLLBACK) Z(T)");
    stage.client("Q(commit)");
    stage.server("C(COMMIT) Z(I)");
    assert_eq!(stage.books(), (1, 0), "the row may be there, and what was deleted too");
    let workspace = stage.session.workspace.expect("a workspace");
    assert!(!stage.accounts.usage(workspace)[0].exact);
}

#[test]
fn a_client_that_hangs_up_leaves_nothing_reserved_that_cant_be_committed() {
    let left = |sent: &str, answered: &str| {
        let mut stage = Stage::begun();
        stage.client(sent);
        stage.server(answered);
        let may_commit = stage.session.may_yet_commit();
        stage.lent(|session, _, core, _| session.abandon(core));
        (stage.books(), may_commit)
    };
    assert_eq!(left(&format!("Q({ONE})"), "N(report,7:+1) C(INSERT 0 1) Z(T)"), ((0, 0), false));
    assert_eq!(left(&format!("Q({ONE})"), ""), ((0, 0), false));
    assert_eq!(left(&format!("P(,{ONE}) B(,) E() S"), "1 2 N(report,7:+1)"), ((0, 0), false));
    assert_eq!(left(&format!("Q({ONE}) Q(commit)"), "N(report,7:+1) C(INSERT 0 1) Z(T)"), ((0, 1), true));
    assert_eq!(left(&format!("Q(commit) Q({ONE})"), ""), ((0, 1), true));
    assert_eq!(left(&format!("Q(commit) P(,{ONE}) B(,) E()"), "C(COMMIT) Z(I)"), ((0, 0), false));
    assert_eq!(left(&format!("Q(commit) P(,{ONE}) B(,) E() S"), "C(COMMIT) Z(I) 1"), ((0, 1), true));
    assert_eq!(left(&format!("Q(commit) Q({ONE}; copy other from stdin)"), "C(COMMIT) Z(I)"), ((0, 1), true));
    let copying = "C(COMMIT) Z(I) N(report,7:+1) C(INSERT 0 1) G";
    assert_eq!(left(&format!("Q(commit) Q({ONE}; copy other from stdin)"), copying), ((0, 0), false));
}

#[test]
fn a_delete_behind_another_transaction_is_as_old_as_its_message() {
    let mut stage = Stage::metered(None);
    let delete = "delete from segment where a = 1";
    stage.client(&format!("P(,{delete}) B(,) E() S P(,{delete}) B(,) E() S"));
    let sent = stage.accounts.moment();
    stage.accounts.pass_moment();
    stage.server("1 2 N(report,7:-1) C(DELETE 1) Z(I) 1 2");
    stage.accounts.pass_moment();
    stage.server("N(report,7:-1) C(DELETE 1)");
    let ledger = stage.session.transaction.begun().cloned().expect("it has begun");
    assert_eq!(ledger.commit()[0].1.since, sent);
}

#[test]
fn a_refused_statement_leaves_the_clients_unnamed_statement_its_own() {
    let mut stage = Stage::metered(Some(10));
    stage.held("P(,insert into segment select a from other) B(,) E() S");
    let bytes = script_bytes("1 2 N(report,7:+2) C(INSERT 0 2)");
    let (_, progress) =
        stage.lent(|session, backend, core, lanes| session.on_server(&bytes, backend, core, lanes)).expect("fine");
    let Progress::Ask(request) = progress else { panic!("{progress:?}") };
    stage.sent_to_client(&bytes);
    stage.answer(request, false);
    stage.lent(|session, backend, core, lanes| assert!(session.proceed(&[], backend, core, lanes).is_none()));
    stage.sent_to_server(&[]);
    assert_eq!(stage.server("1 2 E(DENIED)"), "E(C53400)");
    stage.client("S");
    stage.server("Z(I)");
    assert_eq!(stage.held("B(,) E() S").0, "P(|insert into segment select a from other) B E H");
    assert_eq!(stage.books(), (0, 0));
}

#[test]
fn what_a_statement_deletes_makes_room_for_what_it_adds() {
    let mut stage = Stage::metered(Some(10));
    stage.held("Q(with d as (delete from segment returning a)insert into segment select a from d) Q(select 1)");
    stage.server("1 2 n N(report,7:-2) N(report,7:+2) C(INSERT 0 2)");
    assert_eq!(stage.sent_to_server(&[]), "S");
    assert_eq!(stage.books(), (0, 0));
}

#[test]
fn reports_without_end_are_one_sum() {
    let mut stage = Stage::metered(None);
    stage.client("Q(select f())");
    for _ in 0..1000 {
        stage.server("N(report,7:+1) N(report,7:~1)");
    }
    assert_eq!(stage.session.metered.len(), 2);
    stage.server("T D C(SELECT 1) Z(I)");
    assert_eq!(stage.books(), (1000, 0));
}
