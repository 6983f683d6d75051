//! Events on their way into Postgres.

use std::sync::Arc;

use pgcordon::audit::{Client as Who, Event, EventType, Outcome, Settings};
use serde_json::json;

use crate::scratch::{Database, Scratch, event, until};

#[tokio::test]
async fn an_event_arrives_as_it_was_recorded_whatever_the_client_calls_itself() {
    for (scratch, options) in [
        (None, ""),
        (Some(()), "encoding 'LATIN1' locale 'C' template template0"),
        (Some(()), "encoding 'SQL_ASCII' locale 'C' template template0"),
    ] {
        let database = match scratch {
            None => Database::migrated().await,
            Some(()) => Database::of(Arc::new(Scratch::start()), options).await,
        };
        let trail = database.trail(&Settings::default());
        let hostile = "a\nb\0c\u{1b}[2J😀é\\u{e9}\\ 'x'";
        let who = Who { addr: "2001:db8::7".parse().ok(), user: "pk_x".into(), application_name: hostile.into() };
        let told = Event {
            workspace: "00000000-0000-0000-0000-00000000000a".parse().ok(),
            relation: Some("public.Sêgment".into()),
            statement: Some("insert into x values ($1)".into()),
            rows: Some(3),
            outcome: Outcome::RolledBack,
            sqlstate: Some(*b"23505"),
            duration_us: Some(1234),
            detail: Some(json!({"reason": hostile, "n": u64::MAX})),
            ..Event::new(EventType::ResourceCreated, Arc::new(who))
        };
        trail.recorder().record_durably(vec![told]).await.unwrap();
        database.has(1).await;
        let row = database
            .admin()
            .await
            .query_one(
                "select severity, outcome, rows, sqlstate, duration_us, client_addr::text, statement, application_name, \
                 workspace_id::text, at - now() < interval '1 minute' \
                 from cordon.audit_event where event_type = 'RESOURCE_CREATED'",
                &[],
            )
            .await
            .unwrap();
        let text = |at: usize| row.get::<_, String>(at);
        assert_eq!((text(0), text(1), text(3)), ("low".into(), "rolled_back".into(), "23505".into()));
        assert_eq!((row.get::<_, i64>(2), row.get::<_, i64>(4)), (3, 1234));
        assert_eq!((text(5), text(6)), ("2001:db8::7/128".into(), "insert into x values ($1)".into()));
        assert!(text(7).starts_with("a\nb") && row.get::<_, bool>(9), "{:?}", text(7));
        database.is_whole();
        let (code, said) = database.pgcordon(&["audit", "tail", "--type", "resource_created"]);
        assert!(code == 0 && said.lines().count() == 1, "{said}");
        assert!(said.contains(r"application="), "{said}");
        assert!(said.contains(r"a\nb") && said.contains("😀é") && said.contains(r"\u{1b}[2J"), "{said}");
        drop(trail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_under_load_gets_everything_when_it_is_back() {
    let scratch = Arc::new(Scratch::start());
    let database = Database::of(scratch.clone(), "").await;
    let trail = database.trail(&Settings { spool_keep_bytes: 0, ..Settings::default() });
    let mut tasks = Vec::new();
    for task in 0..8 {
        let recorder = trail.recorder();
        tasks.push(tokio::spawn(async move {
            for number in 0..500 {
                recorder.record_durably(vec![event(task * 1000 + number)]).await.unwrap();
            }
        }));
    }
    tokio::task::spawn_blocking({
        let scratch = scratch.clone();
        move || scratch.pg_ctl(&["-m", "immediate", "stop"])
    })
    .await
    .unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    until("it was tried", async || trail.recorder().report().unwrap().ship_failures > 0).await;
    assert!(!trail.recorder().is_failing(), "a dead database is no failing trail");
    scratch.pg_ctl(&["start"]);
    database.has(4000).await;
    assert_eq!(database.number("select count(distinct rows) from cordon.audit_event").await, 4000);
    database.is_whole();
}

#[tokio::test]
async fn a_database_that_was_restored_from_a_backup_is_healed_from_the_spool_or_the_loss_is_told() {
    let database = Database::migrated().await;
    let trail = database.trail(&Settings::default());
    trail.recorder().record_durably((0..100).map(event).collect()).await.unwrap();
    database.has(100).await;
    trail.stop(std::time::Duration::from_secs(10));
    database.is_whole();
    // What a restore does: the end of the table and of the head are as they were.
    let admin = database.admin().await;
    let back = "delete from cordon.audit_event where stream <> 'control' and seq > 50; \
        update cordon.audit_stream s set (seq, hash) = (select seq, hash from cordon.audit_event e where e.stream = s.stream and seq = 50) where seq > 50 and stream <> 'control'";
    admin.batch_execute(back).await.unwrap();
    let next = database.trail(&Settings::default());
    database.has(100).await;
    until("the end is there again", async || {
        database.number("select count(*) from cordon.audit_event where event_type = 'AUDIT_STOPPED'").await == 1
    })
    .await;
    database.is_whole();
    // And when the spool has given it back already.
    next.stop(std::time::Duration::from_secs(10));
    admin.batch_execute(back).await.unwrap();
    for stream in std::fs::read_dir(database.spool()).unwrap() {
        let stream = stream.unwrap().path();
        let segment = stream.join(format!("{:020}.jsonl", 1));
        let text = std::fs::read_to_string(&segment).unwrap();
        if text.contains("RESOURCE_CREATED") {
            let rest: String = text.lines().skip(80).map(|line| format!("{line}\n")).collect();
            std::fs::remove_file(segment).unwrap();
            std::fs::write(stream.join(format!("{:020}.jsonl", 81)), rest).unwrap();
        }
    }
    let last = database.trail(&Settings::default());
    until("the loss is told", async || {
        let sql = "select count(*) from cordon.audit_event where stream = 'control' and event_type = 'AUDIT_EVENTS_LOST' \
                   and severity = 'critical' and detail @> '{\"from\": 51, \"before\": 81}'";
        database.number(sql).await == 1
    })
    .await;
    let (code, said) = database.pgcordon(&["audit", "verify"]);
    assert!(code == 1 && said.contains("records 51 to 80 are missing"), "{said}");
    assert!(said.contains("AUDIT_EVENTS_LOST"), "{said}");
    drop(last);
}

#[tokio::test]
async fn a_clock_that_is_wrong_or_goes_back_costs_no_event_and_no_order() {
    let database = Database::migrated().await;
    let trail = database.trail(&Settings::default());
    let now = event(0).at_us;
    let year = 365 * 86_400_000_000;
    let clocks = [now, now - year / 12, 0, now + 10 * year, i64::MAX, i64::MIN, now - 1];
    let events = clocks
        .iter()
        .enumerate()
        .map(|(number, at_us)| pgcordon::audit::Event { at_us: *at_us, ..event(number as u64) });
    trail.recorder().record_durably(events.collect()).await.unwrap();
    database.has(7).await;
    let sql = "select count(*) from cordon.audit_event_rest";
    assert_eq!(database.number(sql).await, 4, "what is far off is in no month");
    let order = "select count(*) from (select rows, lag(rows) over (order by seq) as before from cordon.audit_event \
                 where event_type = 'RESOURCE_CREATED') o where rows <> coalesce(before + 1, 0)";
    assert_eq!(database.number(order).await, 0);
    database.is_whole();
}

#[tokio::test]
async fn the_next_months_partition_is_there_before_it_is_needed_and_a_long_read_holds_nobody_up() {
    let database = Database::migrated().await;
    let mut reader = database.admin().await;
    let reading = reader.transaction().await.unwrap();
    reading.query("select * from cordon.audit_event", &[]).await.unwrap();
    let trail = database.trail(&Settings::default());
    trail.recorder().record_durably(vec![event(1)]).await.unwrap();
    database.has(1).await;
    assert_eq!(database.number("select count(*) from cordon.audit_month").await, 0, "the read holds the table");
    reading.commit().await.unwrap();
    trail.recorder().record_durably(vec![event(2)]).await.unwrap();
    database.has(2).await;
    let next = "select count(*) from cordon.audit_month where month = (date_trunc('month', now() at time zone 'utc') + interval '1 month')::date";
    assert_eq!(database.number(next).await, 1);
    database.is_whole();
}

#[tokio::test]
async fn two_proxies_share_one_spool_and_one_database() {
    let database = Database::migrated().await;
    let (one, two) = (database.trail(&Settings::default()), database.trail(&Settings::default()));
    assert_ne!(one.stream(), two.stream());
    for number in 0..50 {
        one.recorder().record_durably(vec![event(number)]).await.unwrap();
        two.recorder().record_durably(vec![event(number)]).await.unwrap();
    }
    database.has(100).await;
    database.is_whole();
    one.stop(std::time::Duration::from_secs(10));
    two.recorder().record_durably(vec![event(50)]).await.unwrap();
    database.has(101).await;
    database.is_whole();
}
