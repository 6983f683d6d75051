//! Making, renaming and dropping databases while the proxy keeps connections to them.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, extended};

#[test]
fn idle_server_connections_of_the_proxy_hinder_no_one_who_wants_a_database_for_himself() {
    let dev = Dev::start(&["--pool-size", "2", "--superuser-key"]);
    let superuser = dev.text("/superuser/dsn");
    let elsewhere = |name: &str| format!("{}/{name}", superuser.rsplit_once('/').unwrap().0);
    let mut admin = Wire::open(superuser);
    let visit = |name: &str| {
        let mut visitor = Wire::open(&elsewhere(name));
        assert_eq!(visitor.value("select current_database()"), name);
        visitor
    };
    assert_eq!(admin.query("create database one"), "C(CREATE DATABASE) Z(I)");
    // The client of the first is still there, but holds no server connection.
    let _first = visit("one");
    drop(visit("one"));
    assert_eq!(admin.query("create database two template one"), "C(CREATE DATABASE) Z(I)");
    visit("one");
    visit("two");
    assert_eq!(admin.query("alter database two rename to three"), "C(ALTER DATABASE) Z(I)");
    visit("three");
    admin.send(&extended("drop database one", &[]));
    assert_eq!(admin.cycles(1), "1 2 C(DROP DATABASE) Z(I)");
    assert_eq!(admin.query("drop database three"), "C(DROP DATABASE) Z(I)");
    let refused = Wire::try_open(&elsewhere("three"), &[]).err().expect("it is gone");
    assert_eq!(refused.field(b'C').as_deref(), Some("3D000"));
}

#[test]
fn a_transaction_under_way_hinders_as_on_postgres() {
    let dev = Dev::start(&["--pool-size", "2", "--superuser-key"]);
    let superuser = dev.text("/superuser/dsn");
    let mut admin = Wire::open(superuser);
    admin.query("create database busy");
    let mut working = Wire::open(&format!("{}/busy", superuser.rsplit_once('/').unwrap().0));
    assert_eq!(working.query("begin; create table t ()"), "C(BEGIN) C(CREATE TABLE) Z(T)");
    assert_eq!(admin.query("drop database busy"), "E(55006) Z(I)");
    assert_eq!(working.query("commit"), "C(COMMIT) Z(I)");
    // It is closed when it comes back, and the next one finds the database as it was left.
    assert_eq!(working.query("drop table t"), "C(DROP TABLE) Z(I)");
}
