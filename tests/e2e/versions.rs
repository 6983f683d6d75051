//! What newer versions of Postgres brought. Each part runs where the server has it.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::Wire;

fn version(dev: &Dev) -> u32 {
    dev.admin().value("select current_setting('server_version_num')::int / 10000").parse().unwrap()
}

#[test]
fn a_setting_that_only_newer_servers_have_follows_its_client() {
    let dev = Dev::start(&["--pool-size", "1"]);
    if version(&dev) < 17 {
        return;
    }
    let (mut one, mut other) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    one.query("set transaction_timeout = '300ms'");
    for _ in 0..2 {
        assert_eq!(other.value("show transaction_timeout"), "0");
        assert_eq!(one.value("show transaction_timeout"), "300ms");
    }
    // Postgres ends the session; nobody else notices.
    one.query("begin");
    one.send(&pgcordon_tests::wire::query("select pg_sleep(60)"));
    assert!(one.until(b'E').ends_with("E(25P04)"));
    assert!(one.read().is_none(), "the connection is closed");
    assert_eq!(other.value("select 1"), "1");
    let mut through_options = Wire::open_with(dev.globex(), &[("options", "-c transaction_timeout=1234")]);
    assert_eq!(through_options.value("show transaction_timeout"), "1234ms");
}

#[test]
fn newer_statements_are_confined_counted_and_answered() {
    let dev = Dev::start(&["--pool-size", "2", "--quota", "segments=Segment:30"]);
    let version = version(&dev);
    let mut acme = Wire::open(dev.acme());
    let mut used: usize = acme.value("select count(*) from \"Segment\"").parse().unwrap();
    if version >= 17 {
        let merge = "merge into \"Segment\" s using (select 'merged' as name) n on s.name = n.name \
                     when matched then update set status = 'Paused' when not matched then insert (name) values (n.name) \
                     returning merge_action(), s.name";
        assert_eq!(acme.rows(merge), ["INSERT|merged"]);
        assert_eq!(acme.rows(merge), ["UPDATE|merged"]);
        used += 1;
        let table = "select * from json_table('[{\"a\": 1}, {\"a\": 2}]', '$[*]' columns (a int path '$.a'))";
        assert_eq!(acme.rows(table), ["1", "2"]);
    }
    if version >= 18 {
        let both = "update \"Segment\" set status = 'Running' where name = 'merged' returning old.status, new.status";
        assert_eq!(acme.rows(both), ["Paused|Running"]);
        let renamed =
            "insert into \"Segment\" (name) values ('newest') returning with (old as o, new as n) o.name, n.name";
        assert_eq!(acme.rows(renamed), ["NULL|newest"]);
        used += 1;
        assert_eq!(acme.value("select uuid_extract_version(uuidv7())"), "7");
        // A text that only the newest server understands passes no quota unnoticed.
        let many = "insert into \"Segment\" (name) select 'many ' || n from generate_series(1, 20) n returning with (new as n) n.name";
        let said = acme.query(many);
        assert!(said.contains("E(53400)"), "{said}");
    }
    assert_eq!(acme.value("select count(*) from \"Segment\""), used.to_string());
}

#[test]
fn virtual_columns_and_named_not_null_constraints_come_with_a_migration() {
    let dev = Dev::start(&["--pool-size", "2"]);
    if version(&dev) < 18 {
        return;
    }
    let mut tenant = Wire::open(dev.acme());
    tenant.query("select * from \"Segment\" limit 1");
    let mut system = Wire::open(dev.system());
    let column = "alter table \"Segment\" add column loud text generated always as (upper(name)) virtual";
    assert_eq!(system.query(column), "C(ALTER TABLE) Z(I)");
    assert_eq!(system.query("alter table \"Segment\" add constraint is_loud not null loud"), "C(ALTER TABLE) Z(I)");
    tenant.query("insert into \"Segment\" (name) values ('quiet')");
    assert_eq!(tenant.value("select loud from \"Segment\" where name = 'quiet'"), "QUIET");
    assert_eq!(Wire::open(dev.globex()).rows("select loud from \"Segment\" where name = 'quiet'").len(), 0);
}
