//! Prepared statements on connections that others use as well.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, bind, describe, execute, parse, sync};

fn run(wire: &mut Wire, name: &str) -> String {
    wire.send(&[bind("", name, &[]), execute("", 0), sync()].concat());
    wire.cycles(1)
}

#[test]
fn two_clients_with_one_name_for_two_statements_each_get_their_own() {
    let dev = Dev::shared(1);
    let (mut acme, mut globex, mut other) = (Wire::open(dev.acme()), Wire::open(dev.globex()), Wire::open(dev.acme()));
    for (wire, sql) in [(&mut acme, "select 'acme'"), (&mut globex, "select 'globex'"), (&mut other, "select 'other'")]
    {
        wire.send(&[parse("s", sql), sync()].concat());
        assert_eq!(wire.cycles(1), "1 Z(I)");
    }
    for _ in 0..3 {
        assert_eq!(run(&mut acme, "s"), "2 D(acme) C(SELECT 1) Z(I)");
        assert_eq!(run(&mut globex, "s"), "2 D(globex) C(SELECT 1) Z(I)");
        assert_eq!(run(&mut other, "s"), "2 D(other) C(SELECT 1) Z(I)");
    }
}

#[test]
fn an_unnamed_statement_follows_its_client_over_the_connections_of_others() {
    let dev = Dev::shared(1);
    let (mut acme, mut globex) = (Wire::open(dev.acme()), Wire::open(dev.globex()));
    acme.send(&[parse("", "select 'mine'"), describe(b'S', ""), sync()].concat());
    assert_eq!(acme.cycles(1), "1 t T Z(I)");
    globex.send(&[parse("", "select 'theirs'"), sync()].concat());
    globex.cycles(1);
    for _ in 0..3 {
        assert_eq!(run(&mut acme, ""), "2 D(mine) C(SELECT 1) Z(I)");
        assert_eq!(run(&mut globex, ""), "2 D(theirs) C(SELECT 1) Z(I)");
    }
    // One that never had any doesn't find somebody else's.
    assert_eq!(run(&mut Wire::open(dev.acme()), ""), "E(26000) Z(I)");
}

#[test]
fn more_statements_than_a_connection_keeps_all_work() {
    let dev = Dev::shared(1);
    let mut wire = Wire::open(dev.acme());
    for number in 0..600 {
        wire.send(&[parse(&format!("s{number}"), &format!("select {number}")), sync()].concat());
        assert_eq!(wire.cycles(1), "1 Z(I)");
    }
    for number in (0..600).rev().step_by(7) {
        assert_eq!(run(&mut wire, &format!("s{number}")), format!("2 D({number}) C(SELECT 1) Z(I)"));
    }
}

#[test]
fn a_name_of_ours_is_no_way_to_the_statement_of_another_workspace() {
    let dev = Dev::shared(1);
    let (mut acme, mut globex) = (Wire::open(dev.acme()), Wire::open(dev.globex()));
    globex.send(&[parse("s", "select 'secret of globex'"), sync()].concat());
    globex.cycles(1);
    for number in 0..5 {
        assert_eq!(run(&mut acme, &format!("pgcordon:{number}")), "E(26000) Z(I)");
    }
}
