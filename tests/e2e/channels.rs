//! Channels of a workspace's own: LISTEN and NOTIFY are as on Postgres within a workspace, and reach nobody else.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, bind, execute, extended, flush, function_call, parse, query, sync};

/// Number of `pg_notify` in `pg_proc`.
const PG_NOTIFY: u32 = 3036;

/// The next notification: channel and payload.
fn heard(wire: &mut Wire) -> (String, String) {
    loop {
        let message = wire.read().expect("a message");
        assert_ne!(message.tag, b'E', "{:?}", message.field(b'M'));
        if message.tag == b'A' {
            let mut fields = message.body[4..].split(|byte| *byte == 0).map(String::from_utf8_lossy);
            let mut next = || fields.next().unwrap().into_owned();
            return (next(), next());
        }
    }
}

fn told(channel: &str, payload: &str) -> (String, String) {
    (channel.to_owned(), payload.to_owned())
}

#[test]
fn a_workspace_hears_itself_as_on_postgres_and_nobody_else() {
    let dev = Dev::start(&["--pool-size", "5"]);
    let (mut listener, mut mate) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    let (mut stranger, mut plain) = (Wire::open(dev.globex()), dev.admin());
    assert_eq!(listener.query("listen News"), "C(LISTEN) Z(I)");
    stranger.query("listen news");
    plain.query("listen news");
    for notify in [
        "notify news, 'one'",
        "NOTIFY \"news\" , E'\\x6fne'",
        "notify U&\"n!0065ws\" uescape '!', 'one'",
        "begin; select 1; notify news, 'one'; commit",
        "select pg_notify('news', 'one')",
        "select * from pg_catalog.\"pg_notify\"('ne' || 'ws', 'one')",
        "with x as (select pg_notify('news', 'one')) select count(*) from x",
        "prepare n as select pg_notify($1, $2); execute n('news', 'one'); deallocate n",
        "select cordon.pg_notify('news', 'one')",
    ] {
        assert!(!mate.query(notify).contains("E("), "{notify}");
        assert_eq!(heard(&mut listener), told("news", "one"), "{notify}");
    }
    mate.send(&extended("notify news, 'one'", &[]));
    assert_eq!(mate.cycles(1), "1 2 C(NOTIFY) Z(I)");
    assert_eq!(heard(&mut listener), told("news", "one"));
    mate.send(&extended("select pg_notify($1, $2)", &["news", "one"]));
    assert_eq!(mate.cycles(1), "1 2 D() C(SELECT 1) Z(I)");
    assert_eq!(heard(&mut listener), told("news", "one"));
    // Each hears what it sends itself, and of what was sent before nothing but its own.
    for wire in [&mut stranger, &mut plain] {
        wire.send(&query("notify news, 'own'"));
        assert_eq!(heard(wire), told("news", "own"));
    }
    mate.query("notify news, 'last'");
    assert_eq!(heard(&mut listener), told("news", "last"));
}

#[test]
fn a_listener_hears_in_every_protocol_and_stops_as_it_says() {
    let dev = Dev::start(&["--pool-size", "3"]);
    let (mut listener, mut mate) = (Wire::open(dev.acme()), Wire::open(dev.acme()));
    listener.send(&[parse("l", "listen \"A b\""), bind("", "l", &[]), execute("", 0), sync()].concat());
    assert_eq!(listener.cycles(1), "1 2 C(LISTEN) Z(I)");
    listener.send(&extended("listen c", &[]));
    assert_eq!(listener.cycles(1), "1 2 C(LISTEN) Z(I)");
    mate.query("notify \"A b\"; notify c, 'x'");
    assert_eq!((heard(&mut listener), heard(&mut listener)), (told("A b", ""), told("c", "x")));
    // What is rolled back was neither said nor asked for.
    listener.query("begin; listen d; notify c, 'undone'; rollback");
    mate.query("notify d, 'unheard'; notify c, 'x'");
    assert_eq!(heard(&mut listener), told("c", "x"));
    listener.query("unlisten c");
    mate.query("notify c, 'unheard'; notify \"A b\", 'y'");
    assert_eq!(heard(&mut listener), told("A b", "y"));
    listener.query("begin; unlisten *; rollback");
    mate.query("notify \"A b\", 'z'");
    assert_eq!(heard(&mut listener), told("A b", "z"));
    for end in ["unlisten *", "discard all"] {
        assert!(!listener.query(end).contains("E("), "{end}");
        mate.query("notify \"A b\", 'unheard'; notify e");
        assert_eq!(listener.query("listen e; unlisten *; listen f"), "C(LISTEN) C(UNLISTEN) C(LISTEN) Z(I)");
        mate.query("notify f, 'y'");
        assert_eq!(heard(&mut listener), told("f", "y"));
    }
}

#[test]
fn a_prepared_statement_is_about_the_same_channel_wherever_it_runs() {
    let dev = Dev::start(&["--pool-size", "3"]);
    let (mut listener, mut mate, mut other) =
        (Wire::open(dev.acme()), Wire::open(dev.acme()), Wire::open(dev.globex()));
    listener.query("listen jobs");
    mate.send(&[parse("n", "notify jobs, 'x'"), parse("p", "select pg_notify($1, 'y')"), sync()].concat());
    assert_eq!(mate.cycles(1), "1 1 Z(I)");
    let mut admin = dev.admin();
    for _ in 0..3 {
        mate.send(&[bind("", "n", &[]), execute("", 0), bind("", "p", &["jobs"]), execute("", 0), sync()].concat());
        assert_eq!(mate.cycles(1), "2 C(NOTIFY) 2 D() C(SELECT 1) Z(I)");
        assert_eq!((heard(&mut listener), heard(&mut listener)), (told("jobs", "x"), told("jobs", "y")));
        // The connection that the mate had is gone, or another workspace's: only the listener's is left as it was.
        let others = "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where usename = 'pgcordon_app' and query not ilike 'listen%'";
        admin.value(others);
        assert_eq!(other.query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    }
}

#[test]
fn names_that_are_no_names_get_postgres_own_errors_and_long_ones_are_cut_as_there() {
    let dev = Dev::shared(4);
    let (mut wire, mut direct) = (Wire::open(dev.acme()), dev.admin());
    let (fits, long) = ("x".repeat(63), "é".repeat(40));
    let payload = "y".repeat(8000);
    for text in [
        "listen \"\"".to_owned(),
        "notify".to_owned(),
        "listen a b".to_owned(),
        "select pg_notify('', 'x')".to_owned(),
        "select pg_notify(null, 'x')".to_owned(),
        format!("select pg_notify('{fits}x', 'x')"),
        format!("notify a, '{payload}'"),
        format!("select pg_notify('a', '{payload}')"),
        "select pg_notify(1, 2, 3)".to_owned(),
        "select pg_notify(channel => 'a', payload => 'b')".to_owned(),
    ] {
        let answer = |wire: &mut Wire| {
            wire.send(&query(&text));
            let message = wire.read().unwrap();
            wire.until(b'Z');
            // Ours is in another schema.
            let told = message.field(b'M').unwrap_or_default().replace("cordon.", "");
            (message.field(b'C'), told)
        };
        assert_eq!(answer(&mut wire), answer(&mut direct), "{text}");
    }
    for name in [&fits, &long] {
        wire.query(&format!("listen \"{name}\""));
        let cut: String = direct.value(&format!("select '{name}'::name"));
        wire.send(&query(&format!("notify \"{name}\", 'x'")));
        assert_eq!(heard(&mut wire), told(&cut, "x"));
        wire.until(b'Z');
        wire.send(&query(&format!("select pg_notify('{cut}', 'y')")));
        assert_eq!(heard(&mut wire), told(&cut, "y"));
        wire.until(b'Z');
    }
    assert_eq!(wire.rows("select pg_notify('a', null)"), [""]);
}

#[test]
fn errors_point_at_what_the_client_wrote() {
    let dev = Dev::shared(4);
    let (mut wire, mut direct) = (Wire::open(dev.acme()), dev.admin());
    for text in [
        "listen a; select nope from pg_class",
        "notify \"é\", 'x'; select pg_notify('a', 'b'); select 1, nope",
        "select pg_notify('a', 'b'), nope",
        "select nope, pg_catalog.pg_notify('a', 'b')",
        "select pg_notify('a', 'b'), pg_notify(1, 2, 3)",
    ] {
        for extended in [false, true] {
            let position = |wire: &mut Wire| {
                wire.send(&if extended { [parse("", text), sync()].concat() } else { query(text) });
                let error = std::iter::from_fn(|| wire.read()).find(|message| message.tag == b'E').unwrap();
                wire.until(b'Z');
                (error.field(b'C'), error.field(b'P'))
            };
            let there = position(&mut direct);
            assert_eq!(position(&mut wire), there, "{text}");
        }
    }
    // In the text that is held until its rows are counted, and in what a later message fails on.
    wire.send(&[parse("", "select pg_notify('a', '')"), sync(), parse("", "select nope"), sync()].concat());
    let errors: Vec<_> = std::iter::from_fn(|| wire.read()).skip_while(|message| message.tag != b'E').take(1).collect();
    assert_eq!(errors[0].field(b'P').as_deref(), Some("8"));
    wire.until(b'Z');
}

#[test]
fn the_column_of_a_call_keeps_its_name() {
    let dev = Dev::shared(4);
    let mut wire = Wire::open(dev.acme());
    wire.send(&query("select pg_notify('a', 'b')"));
    assert!(wire.read().unwrap().fields()[0].starts_with("pg_notify:"));
    wire.until(b'Z');
}

#[test]
fn a_text_in_which_a_channel_could_hide_is_refused() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let (mut wire, mut plain) = (Wire::open(dev.acme()), dev.admin());
    plain.query("listen evil");
    let long = format!("select '{}'; notify evil", "x".repeat(100_000));
    // In one encoding, or with one setting, a string ends where it doesn't in another.
    let backslash = "select 'a\\''; notify evil; --'";
    let sjis = "select E'Ã\\'; notify evil; --'";
    for (before, text) in [
        ("select 1", long.as_str()),
        ("select 1", "selec 1; notify evil"),
        ("set standard_conforming_strings = off", backslash),
        ("set client_encoding = sjis", sjis),
    ] {
        // Sent ahead of the answer, too.
        wire.send(&[query(before), query(text)].concat());
        assert!(wire.cycles(2).ends_with("E(42501) Z(I)"), "{text:.40}");
        assert_eq!(wire.query(text), "E(42501) Z(I)", "{text:.40}");
        wire.query("discard all");
        assert!(wire.query(backslash).ends_with("C(SELECT 1) Z(I)"));
    }
    let mut latin = Wire::open_with(dev.acme(), &[("client_encoding", "latin1")]);
    latin.send(&pgcordon_tests::wire::frame(b'Q', b"notify evil, '\xe9'\0"));
    assert_eq!(latin.cycles(1), "E(42501) Z(I)");
    assert_eq!(latin.query("notify evil, 'x'"), "C(NOTIFY) Z(I)");
    wire.send(&function_call(PG_NOTIFY, &["evil", "x"]));
    assert_eq!(wire.cycles(1), "E(42501) Z(I)");
    wire.send(&[parse("", "select 1"), function_call(PG_NOTIFY, &["evil", "x"]), sync(), flush()].concat());
    assert_eq!(wire.cycles(2), "1 E(42501) Z(I) Z(I)");
    assert_eq!(wire.query("begin; select 1/0"), "C(BEGIN) T E(22012) Z(E)".replace(" T", ""));
    wire.send(&function_call(PG_NOTIFY, &["evil", "x"]));
    assert_eq!(wire.cycles(1), "E(25P02) Z(E)");
    plain.send(&query("notify evil, 'own'"));
    assert_eq!(heard(&mut plain), told("evil", "own"));
}

#[test]
fn system_keys_have_the_plain_channels_and_reach_a_workspaces_by_name() {
    let dev = Dev::start(&["--pool-size", "4"]);
    let (mut system, mut plain, mut wire) = (Wire::open(dev.system()), dev.admin(), Wire::open(dev.acme()));
    let (acme, globex) = (dev.text("/workspaces/0/id").to_owned(), dev.text("/workspaces/1/id").to_owned());
    plain.query("listen news");
    system.query("listen news");
    wire.query("listen news");
    plain.query("notify news, 'plain'");
    assert_eq!(heard(&mut system), told("news", "plain"));
    system.query(&format!("select cordon.notify_workspace('{globex}', 'news', 'theirs')"));
    system.query(&format!("select cordon.notify_workspace('{acme}', 'news', 'yours')"));
    assert_eq!(heard(&mut wire), told("news", "yours"));
    // Without a workspace it is the plain channel.
    system.send(&query("select cordon.pg_notify('news', 'x')"));
    assert_eq!(heard(&mut system), told("news", "x"));
    system.until(b'Z');
    assert!(wire.query(&format!("select cordon.notify_workspace('{globex}', 'news', 'x')")).starts_with("E(42501)"));
}

#[test]
fn without_the_rule_channels_are_everybodys() {
    let dev = Dev::start(&["--pool-size", "3", "--no-guard"]);
    let (mut listener, mut stranger) = (Wire::open(dev.acme()), Wire::open(dev.globex()));
    listener.query("listen news");
    assert_eq!(listener.value("select pg_listening_channels()"), "news");
    stranger.query("notify news, 'x'");
    assert_eq!(heard(&mut listener), told("news", "x"));
}
