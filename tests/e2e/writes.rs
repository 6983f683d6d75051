//! What the trail says of writes: by relation, with their real row counts and how they ended.

use std::process::Command;

use pgcordon_tests::dev::{Dev, binary};
use pgcordon_tests::wire::{Wire, bind, execute, extended, parse, query, sync};
use rustix::process::{Pid, Signal, kill_process};

/// The trail's writes, denials and quotas as lines, once there are `count` of them.
fn trail(admin: &mut Wire, count: usize) -> Vec<String> {
    let sql = "select concat_ws(' ', event_type, severity, outcome, relation, resource, rows, sqlstate, detail ->> 'statements', detail ->> 'rule') \
        from cordon.audit_event where event_type not like 'AUDIT%' and event_type not in ('API_KEY_ACCESS', 'API_KEY_CREATED', 'WORKSPACE_CREATED') order by stream, seq";
    for _ in 0..200 {
        let rows = admin.rows(sql);
        if rows.len() >= count {
            return rows;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    panic!("fewer than {count}: {:#?}", admin.rows(sql));
}

#[test]
fn writes_are_recorded_with_relation_rows_and_outcome() {
    let dev = Dev::start(&["--pool-size", "2", "--quota", "segments=Segment:30"]);
    let (mut wire, mut admin) = (Wire::open(dev.acme()), dev.admin());
    wire.query("insert into \"Segment\" (name) values ('a'), ('b')");
    wire.send(&extended("update \"Segment\" set status = $1 where name in ('a', 'b')", &["Paused"]));
    wire.cycles(1);
    wire.query("update \"Segment\" set status = 'Paused' where false");
    wire.query("begin; delete from \"Segment\" where name = 'a'; rollback");
    wire.query("begin");
    wire.query("insert into \"Journey\" (name) values ('kept')");
    wire.query("savepoint s");
    wire.query("insert into \"Journey\" (name) values ('undone')");
    wire.query("rollback to s");
    wire.query("insert into public.\"Journey\" (name) values ('c')");
    wire.query("commit");
    wire.query("insert into \"Segment\" (name) values ('a')");
    wire.query("insert into \"Segment\" (name, \"workspaceId\") values ('theirs', gen_random_uuid())");
    wire.query("set app.workspace_id = 'x'");
    wire.query("insert into \"Segment\" (name) select 'q' || g from generate_series(1, 9) g");
    wire.query("with d as (delete from \"Segment\" where name = 'b' returning 1) select * from d");
    assert_eq!(
        trail(&mut admin, 11),
        [
            "RESOURCE_CREATED low ok public.Segment 2",
            "RESOURCE_UPDATED low ok public.Segment 2",
            "RESOURCE_DELETED low rolled_back public.Segment 1",
            "RESOURCE_CREATED low ok public.Journey 1",
            "RESOURCE_CREATED low rolled_back public.Journey 1",
            "RESOURCE_CREATED low ok public.Journey 1",
            "RESOURCE_CREATED low failed public.Segment 23505",
            "RESOURCE_ACCESS_DENIED medium denied public.Segment 42501",
            "UNAUTHORIZED_ACCESS_ATTEMPT critical denied 42501 context",
            "QUOTA_EXCEEDED medium denied segments 53400",
            "RESOURCE_DELETED low ok public.Segment",
        ]
    );
    let texts = admin.rows("select distinct statement from cordon.audit_event where statement is not null");
    assert!(texts.iter().all(|text| !text.contains("kept") && !text.contains("Paused")), "{texts:#?}");
}

#[test]
fn a_write_that_was_acknowledged_is_in_the_trail_although_the_proxy_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let options = ["--pool-size", "2", "--data-dir", data.to_str().unwrap()];
    let mut acknowledged = 0;
    for round in 0..3 {
        let dev = Dev::start(&options);
        let mut wire = Wire::open(dev.acme());
        for number in 0..20 {
            assert_eq!(
                wire.query(&format!("insert into \"Segment\" (name) values ('{round} {number}')")),
                "C(INSERT 0 1) Z(I)"
            );
            acknowledged += 1;
        }
        // One more that nobody waits for.
        wire.send(&query("insert into \"Segment\" (name) values ('unacknowledged')"));
        kill_process(Pid::from_raw(i32::try_from(dev.pid()).unwrap()).unwrap(), Signal::KILL).unwrap();
    }
    let dev = Dev::start(&options);
    let mut admin = dev.admin();
    let recorded = "select coalesce(sum(rows), 0) from cordon.audit_event where event_type = 'RESOURCE_CREATED' and outcome = 'ok'";
    let found = (0..400).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(25));
        admin.value(recorded).parse::<usize>().unwrap()
    });
    let found = found.take_while(|found| *found < acknowledged).count();
    assert!(found < 400, "{acknowledged} were acknowledged, and the trail has {}", admin.value(recorded));
    let verified =
        Command::new(binary()).args(["audit", "verify", "--config"]).arg(data.join("pgcordon.toml")).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// What is withheld until the record is on disk goes out then, although what the client sent behind it must wait for a server
/// connection: the one it had is another's by now.
#[test]
fn a_write_is_told_although_the_clients_next_cycle_waits() {
    let dev = Dev::start(&["--pool-size", "1"]);
    let (mut writer, mut other, mut admin) = (Wire::open(dev.acme()), Wire::open(dev.globex()), dev.admin());
    let cycle = |sql| [parse("s", sql), bind("", "s", &[]), execute("", 0), sync()].concat();
    let slow = "insert into \"Segment\" (name) select 'slow' from pg_sleep(0.5)";
    // The name is taken already if the first cycle succeeds: so the second one is held until that is known.
    writer.send(&[cycle(slow), cycle("select 1")].concat());
    let runs = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    while admin.value(runs) == "0" {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    other.send(&query("begin"));
    assert_eq!(writer.until(b'Z'), "1 2 C(INSERT 0 1) Z(I)");
    // The other one wasn't made to give way for it.
    assert_eq!(other.until(b'Z'), "C(BEGIN) Z(T)");
    assert_eq!(other.query("commit"), "C(COMMIT) Z(I)");
    assert_eq!(writer.until(b'Z'), "E(42P05) Z(I)");
}
