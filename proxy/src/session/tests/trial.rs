//! Whether a workspace asks for numbers is tried out: what is discarded for that, and who stays.

use super::*;
use crate::backend::{Sequences, Stay};
use crate::domain::limits::{TRIAL_LOOKS_MAX, TRIAL_STAYS_MAX, YIELD_TRIAL_GRACE};
use crate::sql::{CatalogFunction, CatalogRelation, Known};
use std::time::Duration;

const INSERT: &str = "Q(insert into item default values)";
const DISCARDED: &str = "C(DISCARD SEQUENCES) Z(I)";

/// A client of a workspace of which nothing is known, on a server connection that others have used.
fn behind_others() -> Stage {
    let mut stage = Stage::attached();
    let mut catalog = Catalog::new(["pg_catalog".into(), "public".into()]);
    let numbered = CatalogRelation { takes_numbers: true, ..CatalogRelation::default() };
    catalog.relation("public", "item", numbered);
    catalog.relation("public", "plain", CatalogRelation::default());
    let known = |known| CatalogFunction { builtin: Some(known), ..CatalogFunction::default() };
    catalog.function("nextval", known(Known::KeepsRows));
    catalog.function("now", known(Known::Harmless));
    stage.catalog = Some(Arc::new(catalog));
    stage.others_used_it();
    stage
}

impl Stage {
    fn others_used_it(&mut self) {
        self.session.make_way();
        self.session.detached();
        self.backend.set_sequences(Sequences::Mixed(Stay { session: 99, number: 1 }));
        self.lent(|session, backend, core, lanes| session.attach(backend, false, core, lanes));
        assert_eq!(self.sent_to_server(&[]), "");
    }

    /// The client sends this, and Postgres answers it. Whether the numbers of others are discarded first.
    fn discards(&mut self, script: &str, answer: &str) -> bool {
        let sent = self.client(script);
        let discards = sent.starts_with("Q(DISCARD SEQUENCES)");
        assert!(sent.ends_with(&script.replace("P(,", "P(|").replace("B(,)", "B").replace("E()", "E")), "{sent}");
        if discards {
            self.server(DISCARDED);
        }
        self.server(answer);
        discards
    }
}

#[test]
fn in_front_of_the_first_number_those_of_others_are_discarded_and_the_client_stays() {
    let mut stage = behind_others();
    assert!(stage.discards(INSERT, "C(INSERT 0 1) Z(I)"));
    assert_eq!(stage.session.pinned(), Some(PinReason::Sequence));
    assert_eq!(stage.session.grace(Duration::ZERO), YIELD_TRIAL_GRACE);
    assert_eq!(stage.client("Q(select lastval())"), "Q(select lastval())");
}

#[test]
fn what_takes_none_or_tells_it_is_left_alone() {
    for script in [
        "Q(insert into item default values returning id)",
        "Q(insert into plain default values)",
        "Q(select now())",
        "Q(update item set a = 1)",
        "Q(set a.b = 1)",
        "Q(begin)",
    ] {
        let mut stage = behind_others();
        assert!(!stage.discards(script, "C(SELECT 1) Z(I)"), "{script}");
        assert_eq!(stage.session.pinned(), None, "{script}");
    }
}

#[test]
fn in_a_transaction_they_are_discarded_before_it_takes_its_first() {
    let mut stage = behind_others();
    for (script, answer) in [
        ("Q(begin isolation level serializable)", "C(BEGIN) Z(T)"),
        ("Q(set transaction read write)", "C(SET) Z(T)"),
        ("Q(select * from item)", "T C(SELECT 0) Z(T)"),
        ("Q(savepoint s)", "C(SAVEPOINT) Z(T)"),
    ] {
        assert!(!stage.discards(script, answer), "{script}");
        assert!(stage.session.lodging.is_blank, "{script}");
    }
    assert!(stage.discards(INSERT, "C(INSERT 0 1) Z(T)"));
    assert!(!stage.discards(INSERT, "C(INSERT 0 1) Z(T)"), "it would be its own");
}

#[test]
fn what_may_be_the_clients_own_is_never_discarded() {
    for (script, answer) in [
        ("Q(select f())", "T C(SELECT 1) Z(I)"),
        ("Q(call p())", "C(CALL) Z(I)"),
        ("P(,select f()) B(,) E() S", "1 2 C(SELECT 1) Z(I)"),
    ] {
        let mut stage = behind_others();
        assert!(!stage.discards(script, answer), "{script}");
        assert!(!stage.discards(INSERT, "C(INSERT 0 1) Z(I)"), "{script}");
        // Nor may it be told what could be another's.
        let (sent, _) = stage.held("Q(select lastval())");
        assert_eq!(sent, "Q(DISCARD SEQUENCES) H", "{script}");
    }
    // By the function itself, which no text shows.
    let mut stage = behind_others();
    let mut call = BytesMut::new();
    inject::function_call(&mut call, 1574, &[]);
    assert_eq!(stage.raw_client(&call).0, call.len());
    stage.lanes.server.clear();
    stage.server("V Z(I)");
    assert!(!stage.discards(INSERT, "C(INSERT 0 1) Z(I)"));
}

#[test]
fn a_stay_goes_on_when_the_client_comes_back_before_others() {
    let mut stage = behind_others();
    assert!(!stage.discards("Q(select f())", "T C(SELECT 1) Z(I)"));
    stage.session.detached();
    stage.lent(|session, backend, core, lanes| session.attach(backend, false, core, lanes));
    stage.sent_to_server(&[]);
    assert!(!stage.discards(INSERT, "C(INSERT 0 1) Z(I)"));
    stage.others_used_it();
    assert!(stage.discards(INSERT, "C(INSERT 0 1) Z(I)"));
}

#[test]
fn what_was_sent_ahead_is_answered_first() {
    let mut stage = behind_others();
    let (sent, waits) = stage.held(&format!("Q(begin) {INSERT}"));
    assert_eq!((sent.as_str(), waits.as_str()), ("Q(begin) H", INSERT));
    stage.server("C(BEGIN) Z(T)");
    assert!(stage.discards(INSERT, "C(INSERT 0 1) Z(T)"));
    // In a cycle nothing can be put in between: before it, then.
    let mut stage = behind_others();
    let sent = stage.client("P(,begin) B(,) E() P(,insert into item default values) B(,) E() S");
    assert!(sent.starts_with("Q(DISCARD SEQUENCES) P(|begin)") && !sent[9..].contains("DISCARD"), "{sent}");
}

#[test]
fn a_trial_has_an_end() {
    let mut stage = behind_others();
    for _ in 0..TRIAL_STAYS_MAX {
        stage.discards(INSERT, "C(INSERT 0 1) Z(I)");
        assert_eq!(stage.session.pinned(), Some(PinReason::Sequence));
        stage.others_used_it();
    }
    assert!(stage.discards(INSERT, "C(INSERT 0 1) Z(I)"));
    assert_eq!(stage.session.pinned(), None);
    for _ in 0..TRIAL_LOOKS_MAX {
        stage.others_used_it();
        stage.discards("Q(select now())", "T C(SELECT 1) Z(I)");
    }
    stage.others_used_it();
    assert!(!stage.discards(INSERT, "C(INSERT 0 1) Z(I)"));
    assert!(!stage.session.is_bind_looked_into());
    // Who asks then is told nothing, and is known from then on.
    let (sent, _) = stage.held("Q(select lastval())");
    assert_eq!(sent, "Q(DISCARD SEQUENCES) H");
    assert!(stage.habits.asks(stage.session.workspace));
}
