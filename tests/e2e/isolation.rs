//! Two tenants at once, on one connection and on many, see their own rows and nothing else.

use std::thread;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, extended};

#[test]
fn tenants_that_work_at_the_same_time_see_only_their_own_rows() {
    for pool_size in [1, 8] {
        let dev = Dev::shared(pool_size);
        let ids = [dev.text("/workspaces/0/id").to_owned(), dev.text("/workspaces/1/id").to_owned()];
        let urls = [dev.acme().to_owned(), dev.globex().to_owned()];
        let workers: Vec<_> = (0..12)
            .map(|number: usize| {
                let (url, own) = (urls[number % 2].clone(), ids[number % 2].clone());
                thread::spawn(move || {
                    let mut wire = Wire::open(&url);
                    for round in 0..60 {
                        let sql = "select distinct \"workspaceId\" from \"Segment\"";
                        if round % 2 == 0 {
                            assert_eq!(wire.rows(sql), [own.as_str()]);
                        } else {
                            wire.send(&extended(sql, &[]));
                            assert_eq!(wire.cycles(1), format!("1 2 D({own}) C(SELECT 1) Z(I)"));
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }
}

#[test]
fn an_insert_that_names_no_workspace_lands_in_its_own() {
    let dev = Dev::shared(1);
    let (mut acme, mut globex) = (Wire::open(dev.acme()), Wire::open(dev.globex()));
    let name = format!("landed {}", std::process::id());
    assert_eq!(acme.query(&format!("insert into \"Segment\" (name) values ('{name}')")), "C(INSERT 0 1) Z(I)");
    assert_eq!(acme.value(&format!("select count(*) from \"Segment\" where name = '{name}'")), "1");
    assert_eq!(globex.value(&format!("select count(*) from \"Segment\" where name = '{name}'")), "0");
    assert_eq!(
        globex.query(&format!("update \"Segment\" set name = 'stolen' where name = '{name}'")),
        "C(UPDATE 0) Z(I)"
    );
    assert_eq!(globex.query(&format!("delete from \"Segment\" where name = '{name}'")), "C(DELETE 0) Z(I)");
    let theirs = dev.text("/workspaces/1/id");
    assert_eq!(
        acme.query(&format!("insert into \"Segment\" (\"workspaceId\", name) values ('{theirs}', 'x')")),
        "E(42501) Z(I)"
    );
    assert_eq!(acme.query(&format!("update \"Segment\" set \"workspaceId\" = '{theirs}'")), "E(42501) Z(I)");
    assert_eq!(acme.query(&format!("delete from \"Segment\" where name = '{name}'")), "C(DELETE 1) Z(I)");
}

#[test]
fn a_system_key_sees_all_and_what_it_creates_belongs_to_the_owner() {
    let dev = Dev::shared(1);
    let mut system = Wire::open(dev.system());
    assert_eq!(system.value("select count(distinct \"workspaceId\") from \"Segment\""), "2");
    let table = format!("made_{}", std::process::id());
    assert_eq!(system.query(&format!("create table {table} (id serial primary key)")), "C(CREATE TABLE) Z(I)");
    assert_eq!(
        system.value(&format!("select tableowner from pg_tables where tablename = '{table}'")),
        "pgcordon_owner"
    );
    assert_eq!(Wire::open(dev.acme()).query(&format!("select * from {table}")), "E(42501) Z(I)");
    assert_eq!(system.query(&format!("drop table {table}")), "C(DROP TABLE) Z(I)");
}
