//! Texts that come again and again without a name.

use super::*;
use crate::domain::limits::REPEAT_LIFE;
use crate::sql::CatalogRelation;

const ONCE: &str = "P(,select * from t) B(,) D(P:) E() S";
const ANSWER: &str = "1 2 T D C(SELECT 1) Z(I)";

/// A client whose database has a table `t`, and a view that calls what nobody knows.
fn stage() -> Stage {
    let mut stage = Stage::attached();
    let mut catalog = Catalog::new(["public".into(), "pg_catalog".into()]);
    catalog.relation("public", "t", CatalogRelation::default());
    catalog.relation("public", "v", CatalogRelation { hides_reads: true, ..CatalogRelation::default() });
    catalog.relation("pg_catalog", "pg_prepared_statements", CatalogRelation::default());
    stage.catalog = Some(Arc::new(catalog));
    stage
}

/// The same, when `ONCE` was prepared under the name `pgcordon:1`.
fn prepared() -> Stage {
    let mut stage = stage();
    for _ in 0..2 {
        stage.client(ONCE);
        stage.server(ANSWER);
    }
    stage
}

fn goes_out(stage: &mut Stage, script: &str) -> String {
    let sent = stage.client(script);
    let answers = if sent.contains("C(S") { format!("3 {ANSWER}") } else { ANSWER.to_owned() };
    let answers = if sent.contains("P(") { answers } else { answers.replace("1 2", "2") };
    assert_eq!(stage.server(&answers), ANSWER, "{sent}");
    sent
}

#[test]
fn what_comes_again_is_prepared_under_a_name_and_goes_out_by_it() {
    let mut stage = stage();
    assert_eq!(goes_out(&mut stage, ONCE), "P(|select * from t) B D(P) E S");
    assert_eq!(goes_out(&mut stage, ONCE), "P(pgcordon:1|select * from t) B(|pgcordon:1) D(P) E S");
    for _ in 0..3 {
        assert_eq!(goes_out(&mut stage, ONCE), "B(|pgcordon:1) D(P) E S");
    }
    assert_eq!(stage.client("P(,select * from t) B(,) E() S"), "B(|pgcordon:1) E S");
    assert_eq!(stage.server("2 D C(SELECT 1) Z(I)"), "1 2 D C(SELECT 1) Z(I)");
}

#[test]
fn an_error_before_it_ran_is_never_seen_and_the_cycle_goes_out_as_it_came() {
    let mut stage = prepared();
    assert_eq!(stage.client(ONCE), "B(|pgcordon:1) D(P) E S");
    assert_eq!(stage.server("E(SQLSTATE0A000)"), "");
    assert_eq!(stage.server("Z(I)"), "");
    assert_eq!(stage.sent_to_server(&[]), "P(|select * from t) B D(P) E S");
    assert!(!stage.session.may_leave());
    assert_eq!(stage.server(ANSWER), ANSWER);
    assert!(stage.session.may_leave());
    // It was prepared for something else than what is there now.
    assert_eq!(goes_out(&mut stage, ONCE), "C(Spgcordon:1) P(pgcordon:2|select * from t) B(|pgcordon:2) D(P) E S");
}

#[test]
fn an_error_that_stands_is_the_one_of_the_cycle_as_it_came() {
    let mut stage = prepared();
    stage.client(ONCE);
    stage.server("E(SQLSTATE22P02) Z(I)");
    stage.sent_to_server(&[]);
    assert_eq!(stage.server("1 E(SQLSTATE22P02) Z(I)"), "1 E(C22P02) Z(I)");
    assert!(stage.session.may_leave());
}

#[test]
fn what_failed_for_another_reason_isnt_sent_again() {
    for state in ["57014", "55P03", "40P01", "53200"] {
        let mut stage = prepared();
        stage.client(ONCE);
        assert_eq!(stage.server(&format!("E(SQLSTATE{state}) Z(I)")), format!("1 E(C{state}) Z(I)"));
        assert_eq!(stage.sent_to_server(&[]), "");
        assert!(stage.session.may_leave());
        assert_eq!(goes_out(&mut stage, ONCE), "B(|pgcordon:1) D(P) E S");
    }
}

#[test]
fn an_error_behind_its_bind_is_the_clients() {
    let mut stage = prepared();
    stage.client(ONCE);
    assert_eq!(stage.server("2 T E(SQLSTATE22012) Z(I)"), "1 2 T E(C22012) Z(I)");
    assert_eq!(stage.sent_to_server(&[]), "");
}

#[test]
fn nothing_follows_a_cycle_that_may_have_to_go_out_again() {
    let mut stage = prepared();
    stage.client(ONCE);
    let (sent, waits) = stage.held("Q(select 2)");
    assert_eq!((sent.as_str(), waits.as_str()), ("", "Q(select 2)"));
    stage.server("2 T D C(SELECT 1) Z(I)");
    assert_eq!(stage.client("Q(select 2)"), "Q(select 2)");
}

#[test]
fn what_comes_with_more_behind_it_or_in_a_transaction_goes_out_as_it_came() {
    let mut stage = prepared();
    let twice = stage.client(&format!("{ONCE} {ONCE}"));
    assert_eq!(twice, "P(|select * from t) B D(P) E S P(|select * from t) B D(P) E S");
    stage.server(&format!("{ANSWER} {ANSWER}"));
    stage.client("Q(begin)");
    stage.server("C(BEGIN) Z(T)");
    assert_eq!(stage.client(ONCE), "P(|select * from t) B D(P) E S");
    stage.server("1 2 T D C(SELECT 1) Z(T)");
    stage.client("Q(commit)");
    stage.server("C(COMMIT) Z(I)");
    for script in
        ["P(,select * from t) B(p,) E(p) S", "P(,select * from t) D(S:) B(,) E() S", "P(a,select * from t) B(,a) E() S"]
    {
        assert!(!stage.client(script).contains("pgcordon:1"), "{script}");
        stage.server(if script.contains("D(S:)") { "1 t T 2 D C(SELECT 1) Z(I)" } else { "1 2 D C(SELECT 1) Z(I)" });
    }
}

#[test]
fn what_is_altered_by_the_proxys_clients_is_forgotten_before_and_behind_it() {
    let mut stage = prepared();
    let before = stage.bodies.alterations().heard();
    stage.client("Q(alter table other add x int)");
    let sent = stage.bodies.alterations().heard();
    stage.server("C(ALTER TABLE) Z(I)");
    let done = stage.bodies.alterations().heard();
    assert!(before < sent && sent < done);
    assert_eq!(goes_out(&mut stage, ONCE), "C(Spgcordon:1) P(pgcordon:2|select * from t) B(|pgcordon:2) D(P) E S");
    stage.client("Q(begin)");
    stage.server("C(BEGIN) Z(T)");
    stage.client("Q(alter table other add y int)");
    stage.server("C(ALTER TABLE) Z(T)");
    let open = stage.bodies.alterations().heard();
    stage.client("Q(commit)");
    stage.server("C(COMMIT) Z(I)");
    assert!(open < stage.bodies.alterations().heard());
}

#[test]
fn nothing_stands_for_longer_than_a_moment_nor_under_other_settings() {
    let mut stage = prepared();
    stage.now += i64::try_from(REPEAT_LIFE.as_secs()).expect("short");
    assert_eq!(goes_out(&mut stage, ONCE), "C(Spgcordon:1) P(pgcordon:2|select * from t) B(|pgcordon:2) D(P) E S");
    stage.server("S(TimeZone,Asia/Tokyo)");
    assert_eq!(
        goes_out_after(&mut stage, "S(TimeZone,Asia/Tokyo)"),
        "C(Spgcordon:2) P(pgcordon:3|select * from t) B(|pgcordon:3) D(P) E S"
    );
}

/// The same; the client is told of a setting with its answer.
fn goes_out_after(stage: &mut Stage, told: &str) -> String {
    let sent = stage.client(ONCE);
    let heard = stage.server(&format!("3 {ANSWER}"));
    assert!(heard.contains(&told.replace(',', "|")), "{heard}");
    sent
}

#[test]
fn only_what_reads_and_means_the_same_at_any_time_is_prepared() {
    for text in [
        "select * from v",
        "select * from unknown",
        "select f(1)",
        "select * from t where a = 'now'",
        "select * from t where a = '{n\\ow}'",
        "select '12:00'::timetz",
        "select 't'::regclass",
        "select * from pg_prepared_statements",
        "select * from t for update",
        "insert into t values (1)",
        "explain select * from t",
        "show search_path",
        "begin",
        "select 1; select 2",
        "",
    ] {
        let mut stage = stage();
        for _ in 0..3 {
            let script = format!("P(,{text}) B(,) E() S");
            let sent = stage.client(&script);
            assert!(sent.starts_with("P(|") || sent.starts_with("P B"), "{text}: {sent}");
            stage.session.detached();
            stage.session = Session::new(1, stage.session.workspace, Settings::none());
        }
    }
}

#[test]
fn a_text_that_postgres_has_something_to_say_about_is_read_every_time() {
    let mut stage = stage();
    goes_out(&mut stage, ONCE);
    stage.client(ONCE);
    assert_eq!(stage.server("N(x) 1 2 T D C(SELECT 1) Z(I)"), "N(x) 1 2 T D C(SELECT 1) Z(I)");
    assert_eq!(goes_out(&mut stage, ONCE), "P(|select * from t) B D(P) E S");
}

#[test]
fn the_clients_unnamed_statement_is_there_behind_it() {
    let mut stage = stage();
    stage.client("P(,select 7) B(,) E() S");
    stage.server("1 2 D C(SELECT 1) Z(I)");
    for _ in 0..3 {
        goes_out(&mut stage, ONCE);
    }
    assert_eq!(stage.client("B(,) E() S"), "P(|select * from t) B E S");
    assert_eq!(stage.server("1 2 D C(SELECT 1) Z(I)"), "2 D C(SELECT 1) Z(I)");
    stage.client("Q(select 1)");
    stage.server("T D C(SELECT 1) Z(I)");
    assert_eq!(goes_out(&mut stage, ONCE), "B(|pgcordon:1) D(P) E S");
}

#[test]
fn a_parse_that_fails_is_no_statement() {
    let mut stage = stage();
    goes_out(&mut stage, ONCE);
    stage.client(ONCE);
    assert_eq!(stage.server("E(SQLSTATE42P01) Z(I)"), "E(C42P01) Z(I)");
    assert_eq!(stage.client("P(,select * from t) B(,) E() S"), "P(pgcordon:2|select * from t) B(|pgcordon:2) E S");
    assert_eq!(stage.server("1 E(SQLSTATE08P01) Z(I)"), "1 E(C08P01) Z(I)");
}

#[test]
fn it_may_be_turned_off_and_is_while_alterations_arent_heard_of() {
    let mut stage = prepared();
    stage.repeats = false;
    assert_eq!(goes_out(&mut stage, ONCE), "P(|select * from t) B D(P) E S");
    let mut deaf = stage_that_hears_nothing();
    for _ in 0..3 {
        assert_eq!(goes_out(&mut deaf, ONCE), "P(|select * from t) B D(P) E S");
    }
}

fn stage_that_hears_nothing() -> Stage {
    let mut stage = stage();
    stage.bodies = Bodies::hearing(Arc::new(crate::backend::Alterations::with_ears(1)));
    stage
}
