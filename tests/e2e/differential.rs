//! The same messages sent to Postgres and through the proxy give the same transcript.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{
    Wire, bind, close, describe, execute, extended, flush, frame, function_call, parse, query, sync,
};

/// Scripts of messages, and how many ReadyForQuery they bring.
fn scripts() -> Vec<(&'static str, Vec<u8>, usize)> {
    let s = |parts: &[Vec<u8>]| parts.concat();
    vec![
        ("simple", query("select 1; select 'a', null"), 1),
        ("empty", query(""), 1),
        ("error in a string of statements", query("select 1; select 1/0; select 2"), 1),
        (
            "a transaction",
            s(&[
                query("begin"),
                query("select 1"),
                query("savepoint a"),
                query("select 1/0"),
                query("select 1"),
                query("rollback to a"),
                query("commit"),
            ]),
            7,
        ),
        ("commit of a failed transaction", s(&[query("begin"), query("select 1/0"), query("commit")]), 3),
        (
            "begin with an isolation level",
            s(&[query("begin isolation level repeatable read"), query("show transaction_isolation"), query("commit")]),
            3,
        ),
        ("extended", extended("select $1::int + 1", &["41"]), 1),
        (
            "describe",
            s(&[
                parse("d", "select $1::int as x"),
                describe(b'S', "d"),
                bind("", "d", &["1"]),
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ]),
            1,
        ),
        ("many syncs", s(&[extended("select 1", &[]), extended("select 1/0", &[]), extended("select 2", &[])]), 3),
        (
            "an error skips to the sync",
            s(&[
                parse("", "select 1/0"),
                bind("", "", &[]),
                execute("", 0),
                extended("select 1", &[]),
                extended("select 2", &[]),
            ]),
            2,
        ),
        ("flush", s(&[parse("", "select 1"), flush(), bind("", "", &[]), flush(), execute("", 0), sync()]), 1),
        (
            "a portal with a row limit",
            s(&[
                query("begin"),
                parse("", "select generate_series(1, 5)"),
                bind("p", "", &[]),
                execute("p", 2),
                execute("p", 2),
                execute("p", 0),
                sync(),
                query("commit"),
            ]),
            3,
        ),
        (
            "a statement twice",
            s(&[
                parse("twice", "select 1"),
                sync(),
                parse("twice", "select 2"),
                sync(),
                close(b'S', "twice"),
                parse("twice", "select 3"),
                bind("", "twice", &[]),
                execute("", 0),
                sync(),
            ]),
            3,
        ),
        (
            "an unknown statement",
            s(&[
                bind("", "unheard_of", &[]),
                sync(),
                describe(b'S', "unheard_of"),
                sync(),
                execute("unheard_of", 0),
                sync(),
                close(b'S', "unheard_of"),
                sync(),
            ]),
            4,
        ),
        ("a query inside a cycle", s(&[parse("", "select 1"), query("select 2")]), 1),
        ("function call", function_call(1598, &[]), 1),
        ("a function call that fails", function_call(99_999_999, &[]), 1),
        ("copy out", query("copy (select generate_series(1, 3)) to stdout"), 1),
        ("copy out, extended", extended("copy (select generate_series(1, 3)) to stdout", &[]), 1),
        ("copy data without a copy", s(&[frame(b'd', b"x"), frame(b'c', b""), query("select 1")]), 1),
        ("a malformed parse", s(&[frame(b'P', b"no end"), sync()]), 1),
        ("a malformed bind", s(&[frame(b'B', b"\0\0\0\x07"), sync()]), 1),
        ("a malformed query", frame(b'Q', b"select 1\0trailing"), 1),
        ("a malformed describe", s(&[frame(b'D', b"Xa\0"), sync()]), 1),
        ("text that isn't valid", query("select '\u{0}'"), 1),
        (
            "set and show",
            s(&[
                query("set extra_float_digits = 2"),
                query("show extra_float_digits"),
                query("set local work_mem = '2MB'"),
                query("begin; set local work_mem = '3MB'; show work_mem; rollback; reset extra_float_digits"),
            ]),
            4,
        ),
        (
            "a reported parameter",
            s(&[
                query("set application_name = 'x'"),
                query("begin; set application_name = 'y'"),
                query("rollback"),
                query("reset application_name"),
            ]),
            4,
        ),
        ("discard all", s(&[query("set work_mem = '2MB'"), query("discard all"), query("show work_mem")]), 3),
        ("reset all", s(&[query("set work_mem = '2MB'"), query("reset all"), query("show work_mem")]), 3),
        (
            "deallocate",
            s(&[parse("gone", "select 1"), sync(), query("deallocate gone"), bind("", "gone", &[]), sync()]),
            3,
        ),
        (
            "deallocate all",
            s(&[parse("gone", "select 1"), sync(), query("deallocate all"), bind("", "gone", &[]), sync()]),
            3,
        ),
        ("sql prepare", s(&[query("prepare p as select 5"), query("execute p"), query("deallocate p")]), 3),
    ]
}

#[test]
fn every_script_gives_what_it_gives_on_postgres_itself() {
    let dev = Dev::start(&["--pool-size", "1"]);
    // The system key's role and the superuser differ in nothing that these scripts show.
    for (name, bytes, cycles) in scripts() {
        let answer = |mut wire: Wire| {
            wire.send(&bytes);
            let first = wire.cycles(cycles);
            // Whatever it was, the session goes on.
            (first, wire.query("select 'still there'"))
        };
        let (direct, through) = (answer(dev.admin()), answer(Wire::open(dev.acme())));
        // random() is what it says.
        let steady = |(first, last): (String, String)| {
            (if name == "function call" { first.len().min(2).to_string() } else { first }, last)
        };
        assert_eq!(steady(through), steady(direct), "{name}");
    }
}

#[test]
fn every_script_gives_the_same_when_it_comes_byte_by_byte() {
    let dev = Dev::start(&["--pool-size", "1"]);
    for (name, bytes, cycles) in scripts().into_iter().filter(|(name, ..)| *name != "function call") {
        let mut whole = Wire::open(dev.acme());
        whole.send(&bytes);
        let expected = whole.cycles(cycles);
        // It may be pinned to the only connection there is.
        drop(whole);
        let mut split = Wire::open(dev.acme());
        for byte in &bytes {
            split.send(&[*byte]);
        }
        assert_eq!(split.cycles(cycles), expected, "{name}");
    }
}

#[test]
fn large_messages_and_large_results_pass() {
    let dev = Dev::shared(1);
    let mut wire = Wire::open(dev.acme());
    let text = "x".repeat(3 << 20);
    assert_eq!(wire.value(&format!("select length('{text}')")), (3 << 20).to_string());
    wire.send(&extended("select length($1)", &[&text]));
    assert_eq!(wire.cycles(1), format!("1 2 D({}) C(SELECT 1) Z(I)", 3 << 20));
    assert_eq!(wire.value("select repeat('y', 5000000)").len(), 5_000_000);
    assert_eq!(wire.rows("select generate_series(1, 100000)").len(), 100_000);
}
