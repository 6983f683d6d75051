//! Lies to the proxy itself: half messages, messages in the wrong place, others' cancel keys.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{
    Wire, bind, cancel, close, describe, execute, extended, flush, frame, function_call, parse, query, sync,
};

use crate::stage::on_one_and_on_many;

const ALL: &str = "select * from \"Secret\"";

/// Conversations that break the rules, each in its own way. None is read to its end by anybody who believes them.
fn lies() -> Vec<Vec<u8>> {
    let s = |parts: &[Vec<u8>]| parts.concat();
    vec![
        s(&[bind("", "", &[]), execute("", 0), sync(), query(ALL)]),
        s(&[execute("", 0), execute("", 0), flush(), flush(), query(ALL)]),
        s(&[parse("", ALL), query("rollback"), bind("", "", &[]), execute("", 0), sync()]),
        s(&[query("copy \"Secret\" (name, value) from stdin"), query(ALL), sync(), frame(b'c', b""), query(ALL)]),
        s(&[
            query("copy \"Secret\" (name, value) from stdin"),
            function_call(2078, &["app.workspace_id", "", "f"]),
            frame(b'f', b"no\0"),
            query(ALL),
        ]),
        s(&[
            extended("copy \"Secret\" (name, value) from stdin", &[]),
            frame(b'd', b"x\ty\n"),
            extended(ALL, &[]),
            frame(b'f', b"no\0"),
            sync(),
        ]),
        s(&[frame(b'd', &[b'x'; 70_000]), frame(b'c', b""), query(ALL)]),
        s(&[
            parse("a", ALL),
            parse("a", ALL),
            sync(),
            close(b'S', "a"),
            close(b'S', "a"),
            describe(b'S', "a"),
            sync(),
            query(ALL),
        ]),
        s(&[parse("", "discard all"), bind("", "", &[]), execute("", 0), extended(ALL, &[])]),
        s(&[
            parse("", "reset all"),
            bind("", "", &[]),
            execute("", 0),
            parse("", ALL),
            bind("", "", &[]),
            execute("", 0),
            sync(),
        ]),
        s(&[query("begin"), query("discard all"), query(ALL), query("rollback"), query(ALL)]),
        s(&[query("deallocate all"), bind("", "pgcordon:1", &[]), execute("", 0), sync()]),
        s(&[query("prepare x as select 1"), query("deallocate x"), extended("deallocate all", &[]), query(ALL)]),
        s(&[query("select 1\0; select 2"), frame(b'Q', b"no terminator"), frame(b'Q', b""), query(ALL)]),
        s(&[query("set client_encoding = 'SJIS'"), query("select '\u{fc}'"), query(ALL)]),
        s(&[query("set statement_timeout = 1"), query("select pg_sleep(1)"), query(ALL)]),
        s(&[query("listen x"), query("notify x"), query(ALL)]),
        s(&[sync(), sync(), flush(), sync(), frame(b'X', b"")]),
        s(&[parse("", ALL), frame(b'B', b"\0\0\xff\xff"), execute("", 0), sync(), query(ALL)]),
        s(&[frame(b'P', b"\0select 1\0\xff\xff"), sync(), frame(b'F', b""), query(ALL)]),
    ]
}

#[test]
fn lies_about_the_protocol_show_nothing_and_leave_the_pool_whole() {
    on_one_and_on_many(|stage| {
        for (number, lie) in lies().into_iter().enumerate() {
            stage.attacker.send(&lie);
            // A last word that is answered whatever came before, or the end.
            stage.attacker.send(&[sync(), query("select 'the end'")].concat());
            let mut said = String::new();
            while !said.contains("D(the end)") && !said.ends_with("EOF") && !said.contains("E(08P01) EOF") {
                said = stage.attacker.cycles(1);
            }
            // Its session may hold the only connection: it is the end of it that must leave nothing.
            stage.attacker.hang_up();
            assert_eq!(stage.victim().query("select 1"), "T D(1) C(SELECT 1) Z(I)", "after lie {number}");
            stage.renew();
        }
    });
}

#[test]
fn lies_that_break_off_leave_the_pool_whole() {
    on_one_and_on_many(|stage| {
        for (number, lie) in lies().into_iter().enumerate() {
            for cut in [lie.len() / 3, lie.len() / 2, lie.len() - 1] {
                let mut wire = Wire::open(stage.dev.acme());
                wire.send(&lie[..cut]);
                wire.hang_up();
            }
            assert_eq!(stage.victim().query("select 1"), "T D(1) C(SELECT 1) Z(I)", "after lie {number}");
        }
    });
}

#[test]
fn nobody_cancels_what_isnt_his() {
    on_one_and_on_many(|stage| {
        let (host, port) = stage.dev.address();
        let (pid, _) = stage.attacker.key;
        stage.victim().send(&query("select pg_sleep(1), 'unharmed'"));
        for guess in 0..200_u32 {
            let mut wire = Wire::raw((&host, port));
            let near = pid.wrapping_add(i32::try_from(guess % 20).unwrap() - 10);
            wire.send(&cancel(near, &guess.wrapping_mul(2_654_435_761).to_be_bytes()));
        }
        // The pid of the server process is no key either.
        assert_eq!(stage.victim().cycles(1), "T D(|unharmed) C(SELECT 1) Z(I)");
    });
}

#[test]
fn a_tenant_that_wants_everything_leaves_others_their_turn() {
    on_one_and_on_many(|stage| {
        let greedy: Vec<Wire> = (0..40)
            .map(|_| {
                let mut wire = Wire::open(stage.dev.acme());
                wire.send(&[query("select pg_sleep(0.05)"), query("select pg_sleep(0.05)")].concat());
                wire
            })
            .collect();
        for _ in 0..5 {
            assert_eq!(stage.victim().query("select 1"), "T D(1) C(SELECT 1) Z(I)");
        }
        drop(greedy);
    });
}

/// A copy that has failed leaves a server that does whatever comes next: what is sent behind bad data must wait, or its
/// answers are taken for those to the clearing, the victim's bind and the victim's statement.
#[test]
fn what_follows_a_failed_copy_answers_for_nobody_else() {
    on_one_and_on_many(|stage| {
        let mut admin = stage.dev.admin();
        admin.query("create table if not exists public.event_log (a int)");
        admin.query("grant select, insert on public.event_log to pgcordon_app");
        let slow = "select query_to_xml('select count(pg_adv'||'isory_lock(g)) from generate_series(1, 3000) g', false, false, '')";
        for _ in 0..5 {
            stage.attacker.query(slow);
            stage.attacker.send(&query("copy public.event_log from stdin"));
            assert_eq!(stage.attacker.until(b'G'), "G");
            let victim = stage.victim();
            victim.send(&query("select current_setting('app.workspace_id'), 'mine'"));
            let forged = [
                frame(b'd', b"not a number\n"),
                frame(b'd', b"").repeat(11_000),
                query("discard all"),
                function_call(2626, &["0.1"]),
                function_call(2626, &["0"]),
                function_call(2626, &["0"]),
                query("select 'forged', 'forged'"),
            ];
            stage.attacker.send(&forged.concat());
            let theirs = stage.dev.text("/workspaces/1/id").to_owned();
            assert_eq!(stage.victim().cycles(1), format!("T D({theirs}|mine) C(SELECT 1) Z(I)"));
            assert_eq!(stage.attacker.cycles(1), "E(22P02) Z(I)");
            stage.attacker.cycles(5);
        }
    });
}

/// EXPLAIN EXECUTE of a statement that executes itself recurses in Postgres 15 until the process is gone, and all others with it.
#[test]
fn a_statement_that_executes_itself_takes_nobody_down() {
    on_one_and_on_many(|stage| {
        for keep in ["", "prepare x as select 1"] {
            stage.attempt(keep);
            stage.attacker.send(&[parse("a", "execute a"), sync(), query("explain (costs off) execute a")].concat());
            let answer = stage.attacker.cycles(2);
            assert!(answer.ends_with("E(26000) Z(I)"), "{answer}");
            for number in 1..20 {
                let ours = format!("pgcordon:{number}");
                let recursive = parse(&format!("b{number}"), &format!("execute \"{ours}\""));
                stage
                    .attacker
                    .send(&[recursive, sync(), query(&format!("explain (costs off) execute \"{ours}\""))].concat());
                assert_eq!(stage.attacker.cycles(2), "E(26000) Z(I) E(26000) Z(I)");
                assert_eq!(stage.attacker.query(&format!("deallocate \"{ours}\"")), "E(26000) Z(I)");
            }
            // One that was prepared before is no more the server's.
            stage.attacker.query("discard all");
        }
        assert_eq!(stage.victim().query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    });
}

/// The same by texts that the proxy can't read: too long to be parsed, too long to be opened, or in an encoding or notation of
/// their own.
#[test]
fn nor_does_one_that_nobody_can_read() {
    on_one_and_on_many(|stage| {
        let pad = |bytes: usize| format!("/*{}*/", "x".repeat(bytes));
        let (long, longer) = (pad(70 << 10), pad((1 << 20) + 100));
        for keep in ["", "prepare x as select 1"] {
            let texts = [
                format!("{long} execute a"),
                format!("execute a {long}"),
                format!("{longer} execute a"),
                format!("execute a {longer}"),
                format!("; create table t as {longer} execute a"),
                format!("create table t as execute a {long}"),
            ];
            for text in &texts {
                stage.attempt(keep);
                stage.attacker.send(&[parse("a", text), sync(), query("explain (costs off) execute a")].concat());
                assert_eq!(stage.attacker.cycles(2), "E(0A000) Z(I) E(26000) Z(I)", "{}", &text[..20]);
                stage.attacker.query("discard all");
            }
            stage.attempt(keep);
            let ours = (1..20).map(|number| format!("pgcordon:{number}"));
            for text in ours.map(|ours| format!("execute \"{ours}\" {long}")) {
                let explain = format!("explain (costs off) {text}");
                stage.attacker.send(&[parse("", "select 1"), parse("b", &text), sync(), query(&explain)].concat());
                assert_eq!(stage.attacker.cycles(2), "1 E(0A000) Z(I) E(26000) Z(I)");
            }
            stage.attacker.query("discard all");
            stage.attempt(keep);
            for setting in ["standard_conforming_strings = off", "client_encoding = latin1"] {
                stage.attacker.query(&format!("set {setting}"));
            }
            for text in [&b"execute a('\\'')"[..], b"execute a /* \xe9 */"] {
                let parse = [&b"P\0\0\0\0a\0"[..], text, b"\0\0\0"].concat();
                let length = u32::try_from(parse.len() - 1).unwrap();
                let parse = [&parse[..1], &length.to_be_bytes()[..], &parse[5..]].concat();
                stage.attacker.send(
                    &[
                        parse,
                        sync(),
                        query("explain (costs off) execute a('x')"),
                        query("explain (costs off) execute a"),
                    ]
                    .concat(),
                );
                let answer = stage.attacker.cycles(3);
                assert_eq!(answer, "E(0A000) Z(I) E(26000) Z(I) E(26000) Z(I)", "{}", text.escape_ascii());
            }
            stage.attacker.query("discard all");
        }
        // Others of that length are prepared as ever.
        let text = format!("select 1 {longer}");
        stage.attacker.send(&[parse("a", &text), sync(), query("explain (costs off) execute a")].concat());
        assert!(stage.attacker.cycles(2).starts_with("1 Z(I) T D(Result"));
        stage.attacker.query("discard all");
        assert_eq!(stage.victim().query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    });
}

/// Postgres bounds how deep a text may nest; the parser in the proxy doesn't, and runs where every tenant's sessions do.
#[test]
fn a_text_without_a_bottom_ends_nobody_elses_session() {
    on_one_and_on_many(|stage| {
        let deep = |before: &str, open: &str, close: &str, count: usize| {
            format!("reset x.y; select {before}{}1{}", open.repeat(count), close.repeat(count))
        };
        for text in [
            deep("", "(", ")", 30_000),
            deep("", "(select ", ")", 7_000),
            deep("", "- ", "", 30_000),
            deep("", "not ", "", 16_000),
            deep("", "", "+1", 30_000),
            deep("", "", "::int", 12_000),
            deep("", "", " union select 1", 4_000),
            deep("", "", " from a cross join b", 3_000),
            deep("", "array[", "]", 9_000),
            deep("", "case when ", " then 1 end", 3_000),
            deep("", "(", ")", 400_000),
        ] {
            stage.attempt(&text);
            // A text that isn't understood keeps its connection, which may be the only one.
            stage.attacker.hang_up();
            assert_eq!(stage.victim().query("select 1"), "T D(1) C(SELECT 1) Z(I)", "{}", &text[..60]);
            stage.renew();
        }
    });
}

#[test]
fn what_was_taken_in_of_a_client_that_is_then_ended_reaches_nobody_elses_server_connection() {
    // One core, for what clients share is a core's.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pgcordon.toml");
    std::fs::write(&file, "[server]\ncores = 1\n").unwrap();
    let dev = Dev::start(&["--pool-size", "2", "--config", file.to_str().unwrap()]);
    let plant = "insert into \"Segment\" (name) values ('planted')";
    let mut victim = Wire::open(dev.globex());
    let cycle = |name: &str| [parse(name, plant), bind("", name, &[]), execute("", 0), sync()].concat();
    for cycle in [query(plant), cycle(""), cycle("named"), function_call(2078, &["work_mem", "7MB", "f"]), sync()] {
        for end in [frame(b'y', b""), b"Q\0\0\0\x01".to_vec()] {
            let mut attacker = Wire::open(dev.acme());
            // Both are bound to their workspaces: nothing needs be set in front of what comes now.
            attacker.query("select 1");
            victim.query("select 1");
            attacker.send(&[&cycle[..], &end].concat());
            assert!(attacker.until(b'E').ends_with("E(08P01)"));
            assert_eq!(victim.query("select 40 + 2"), "T D(42) C(SELECT 1) Z(I)");
        }
    }
    assert_eq!(victim.value("select count(*) from \"Segment\" where name = 'planted'"), "0");
    assert_eq!(victim.value("show work_mem"), "4MB");
}
