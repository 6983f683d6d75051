//! Somebody with every right in the database, or on the proxy's disk, tries to change the past.

use pgcordon::audit::Settings;

use crate::scratch::{Database, event};

/// A trail of two streams and of control, shipped, and its proxies gone.
async fn recorded() -> Database {
    let database = Database::migrated().await;
    for _ in 0..2 {
        let trail = database.trail(&Settings::default());
        trail.recorder().record_durably((0..20).map(event).collect()).await.unwrap();
        trail.stop(std::time::Duration::from_secs(20));
    }
    let (code, said) = database.pgcordon(&["workspace", "create", "acme"]);
    assert_eq!(code, 0, "{said}");
    database.has(40).await;
    database.is_whole();
    database
}

const FIRST: &str = "stream = (select min(stream) from cordon.audit_stream where stream <> 'control')";

#[tokio::test]
async fn whatever_is_done_to_the_rows_is_found_and_placed() {
    let database = recorded().await;
    let admin = database.admin().await;
    for (tampering, told) in [
        ("update cordon.audit_event set rows = 1 + rows where FIRST and seq = 5", "record 5: was changed"),
        ("update cordon.audit_event set detail = '{\"a\": 1}' where FIRST and seq = 5", "record 5: was changed"),
        ("update cordon.audit_event set at = at - interval '1 us' where FIRST and seq = 5", "record 5: was changed"),
        ("update cordon.audit_event set at = 'infinity' where FIRST and seq = 5", "record 5: was changed"),
        ("update cordon.audit_event set client_addr = '10.0.0.0/8' where FIRST and seq = 5", "record 5: was changed"),
        ("update cordon.audit_event set application_name = '' where FIRST and seq = 5", "record 5: was changed"),
        ("update cordon.audit_event set hash = '\\x00' where FIRST and seq = 5", "record 5: was changed"),
        ("update cordon.audit_event set rows = -1 where FIRST and seq = 5", "record 5: was changed"),
        ("delete from cordon.audit_event where FIRST and seq between 5 and 7", "records 5 to 7 are missing"),
        ("delete from cordon.audit_event where FIRST and seq < 5", "records 1 to 4 are missing"),
        ("delete from cordon.audit_event where FIRST and seq > 20", "at its end: records 21 to 22 are missing"),
        ("delete from cordon.audit_event where FIRST", "at its end: records 1 to 22 are missing"),
        (
            "delete from cordon.audit_event where FIRST; delete from cordon.audit_stream where FIRST",
            "it was registered and is gone",
        ),
        ("delete from cordon.audit_stream where FIRST", "the head in cordon.audit_stream isn't record 22"),
        (
            "delete from cordon.audit_event where stream = 'control' and seq = 3",
            "stream control, at its end: record 3 is missing",
        ),
        (
            "insert into cordon.audit_event select 'forged', 1, at, workspace_id, key_id, event_type, severity, relation, resource, \
             statement, rows, outcome, sqlstate, duration_us, client_addr, client_user, application_name, detail, prev_hash, hash \
             from cordon.audit_event where FIRST and seq = 1",
            "stream forged, the whole: it was never registered",
        ),
        (
            "update cordon.audit_event set at = at + interval '1 s' where FIRST and seq = 5; \
             insert into cordon.audit_event select stream, 5, at - interval '1 s', workspace_id, key_id, event_type, severity, relation, \
             resource, statement, rows, outcome, sqlstate, duration_us, client_addr, client_user, application_name, detail, \
             prev_hash, hash from cordon.audit_event where FIRST and seq = 5",
            "record 5: there is another of this number",
        ),
        (
            "update cordon.audit_event set seq = 100 where FIRST and seq = 5; update cordon.audit_event set seq = 5 where FIRST and seq = 6; \
             update cordon.audit_event set seq = 6 where FIRST and seq = 100",
            "record 5: was changed",
        ),
    ] {
        admin.batch_execute("begin; create table saved_e as table cordon.audit_event; create table saved_s as table cordon.audit_stream").await.unwrap();
        admin.batch_execute(&tampering.replace("FIRST", FIRST)).await.unwrap();
        admin.batch_execute("commit").await.unwrap();
        // The spool's copies are another witness; here the database's own must do.
        std::fs::rename(database.spool(), database.place.path().join("aside")).unwrap();
        let (code, said) = database.pgcordon(&["audit", "verify"]);
        assert!(code == 1 && said.contains(told), "{tampering}\n{said}");
        std::fs::rename(database.place.path().join("aside"), database.spool()).unwrap();
        admin
            .batch_execute(
                "begin; delete from cordon.audit_event; delete from cordon.audit_stream; insert into cordon.audit_event table saved_e; \
                 insert into cordon.audit_stream table saved_s; drop table saved_e, saved_s; commit",
            )
            .await
            .unwrap();
        database.is_whole();
    }
}

#[tokio::test]
async fn a_chain_that_was_written_anew_is_found_by_the_spool_or_by_a_head_that_was_kept() {
    let database = recorded().await;
    let (_, said) = database.pgcordon(&["audit", "verify"]);
    let heads: Vec<&str> = said.lines().filter(|line| line.contains(":22:")).collect();
    assert_eq!(heads.len(), 2, "{said}");
    // The end is cut off, and the head with it: the chain is whole.
    let admin = database.admin().await;
    let cut = format!(
        "delete from cordon.audit_event where {FIRST} and seq > 20; update cordon.audit_stream set seq = 20, hash = \
         (select hash from cordon.audit_event where {FIRST} and seq = 20) where {FIRST}"
    );
    admin.batch_execute(&cut).await.unwrap();
    let (code, said) = database.pgcordon(&["audit", "verify"]);
    assert_eq!(code, 0, "the spool still has them, as when they were never shipped: {said}");
    std::fs::rename(database.spool(), database.place.path().join("aside")).unwrap();
    database.is_whole();
    let (code, said) = database.pgcordon(&["audit", "verify", "--head", heads[0]]);
    assert!(code == 1 && said.contains("record 22 is missing"), "{said}");
    let other = heads[1].replace(":22:", ":21:");
    let (code, said) = database.pgcordon(&["audit", "verify", "--head", &other]);
    assert!(code == 1 && said.contains("record 21"), "{said}");
    assert_eq!(database.pgcordon(&["audit", "verify", "--head", heads[1]]).0, 0);
    assert_eq!(database.pgcordon(&["audit", "verify", "--head", "nonsense"]).0, 2);
}

#[tokio::test]
async fn what_is_done_to_the_spool_is_found_too() {
    let database = Database::migrated().await;
    let trail =
        pgcordon::audit::recorder::Trail::start(&Settings::default(), database.spool(), serde_json::json!({})).unwrap();
    trail.recorder().record_durably((0..20).map(event).collect()).await.unwrap();
    let segment = database.spool().join(&**trail.stream()).join(format!("{:020}.jsonl", 1));
    drop(trail);
    let whole = std::fs::read_to_string(&segment).unwrap();
    let (code, said) = database.pgcordon(&["audit", "verify", "--spool-only"]);
    assert!(code == 0 && said.starts_with("whole: 21 records"), "{said}");
    database.is_whole();
    let lines: Vec<&str> = whole.lines().collect();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let without = |from: usize, to: usize| joined(&[&lines[..from], &lines[to..]].concat());
    for (text, told) in [
        (whole.replacen("\"rows\":7", "\"rows\":8", 1), "record 9: was changed"),
        (without(4, 6), "records 5 to 6 are missing"),
        (without(0, 3), "records 1 to 3 are missing"),
        (joined(&[&lines[..5], &lines[4..]].concat()), "record 5: there is another"),
        (whole.replacen("\"rows\":7", "\"rows\": 7", 1), "a line that is no record"),
    ] {
        std::fs::write(&segment, text).unwrap();
        let (code, said) = database.pgcordon(&["audit", "verify"]);
        assert!(code == 1 && said.contains(told), "{told}\n{said}");
    }
    // What a crash tears off was never acknowledged.
    std::fs::write(&segment, format!("{}{{\"stream\":\"x", joined(&lines[..15]))).unwrap();
    database.is_whole();
}

#[tokio::test]
async fn an_export_is_verified_and_one_that_was_changed_is_found() {
    let database = recorded().await;
    let (code, text) = database.pgcordon(&["audit", "export"]);
    assert_eq!(code, 0, "{text}");
    let file = database.place.path().join("export.jsonl");
    let verify = |text: &str| {
        std::fs::write(&file, text).unwrap();
        database.pgcordon(&["audit", "verify", "--export", file.to_str().unwrap()])
    };
    let (code, said) = verify(&text);
    assert!(code == 0 && said.starts_with("whole: 47 records in 3 streams"), "{said}");
    assert_eq!(verify(&text.replacen("\"rows\":7", "\"rows\":8", 1)).0, 1);
    assert_eq!(verify(text.trim_end().rsplit_once('\n').unwrap().0).0, 1, "its end is missing");
    assert_eq!(verify("{}").0, 2);
    let (code, some) = database.pgcordon(&["audit", "export", "--type", "WORKSPACE_CREATED"]);
    assert_eq!((code, some.lines().count()), (0, 3));
    assert_eq!(verify(&some).0, 0);
    let (code, csv) = database.pgcordon(&["audit", "export", "--format", "csv"]);
    assert_eq!((code, csv.lines().count()), (0, 48));
    assert_eq!(verify(&csv).0, 2, "csv is for people");
}
