//! Hearing what another workspace notifies, or speaking in its name. Without the guard Postgres has one name space of channels,
//! and these attacks succeed: that is on the list of what only the guard stops.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, bind, execute, extended, frame, function_call, parse, query, sync};
use sha2::{Digest, Sha256};

/// What only the victim says.
const CANARY: &str = "canary-of-globex";
/// What the attacker says in the victim's name.
const FAKE: &str = "fake-of-acme";

/// Every way to send a statement that names a channel.
fn ways(statement: &str, set: &str) -> Vec<Vec<u8>> {
    let in_string = statement.replace('\'', "''");
    let long = format!("/* {} */ {statement}", "x".repeat(70_000));
    vec![
        query(statement),
        extended(statement, &[]),
        [parse("a", statement), bind("", "a", &[]), execute("", 0), sync()].concat(),
        query(&format!("select 1; {statement}")),
        query(&format!("begin; {statement}; commit")),
        query(&long),
        query(&format!("{statement}; selec 1")),
        query(&format!("do $$ begin {statement}; end $$")),
        query(&format!("do $$ begin execute '{in_string}'; end $$")),
        query(&format!("select query_to_xml('{in_string}', true, true, '')")),
        query(&format!(
            "create function f() returns void language plpgsql as $$ begin {statement}; end $$; select f()"
        )),
        query(&format!("prepare p as {statement}; execute p")),
        query(&format!("explain analyze {statement}")),
        query(&format!("create rule r as on insert to \"Segment\" do also {statement}")),
        // A string that ends elsewhere than it seems to.
        [query("set standard_conforming_strings = off"), query(&format!("select 'a\\''; {statement}; --'"))].concat(),
        [query("set client_encoding = sjis"), query(&format!("select E'Ã\\'; {statement}; --'"))].concat(),
        [query(set), query(statement)].concat(),
        frame(b'Q', &[statement.as_bytes(), b" -- \xe9\0"].concat()),
    ]
}

/// Sends it, and waits until all of it is answered, whatever the answers are.
fn attempt(attacker: &mut Wire, bytes: &[u8]) {
    attacker.send(bytes);
    attacker.send(&query("select 'that was it'"));
    while attacker.until(b'C') != "EOF" {
        let text =
            String::from_utf8_lossy(&attacker.received[attacker.received.len().saturating_sub(80)..]).into_owned();
        if text.contains("that was it") {
            attacker.until(b'Z');
            break;
        }
    }
    attacker.query("rollback");
}

/// What the victim hears up to a word of its own.
fn heard(victim: &mut Wire) -> Vec<String> {
    victim.send(&query("notify gossip, 'that was it'"));
    let mut all = Vec::new();
    while let Some(message) = victim.read() {
        if message.tag == b'A' {
            let payload =
                message.body[4..].split(|byte| *byte == 0).nth(1).map(String::from_utf8_lossy).unwrap().into_owned();
            if payload == "that was it" {
                victim.until(b'Z');
                return all;
            }
            all.push(payload);
        }
    }
    panic!("the victim's session ended");
}

/// What somebody might guess of how a channel is called.
fn guesses(workspace: &str) -> Vec<String> {
    let plain = workspace.replace('-', "");
    let of = |bytes: &[u8]| {
        format!("cordon_{}", &Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..48])
    };
    vec![
        "gossip".to_owned(),
        format!("{workspace}.gossip"),
        of(b"gossip"),
        of(format!("{workspace}gossip").as_bytes()),
        of(format!("{plain}gossip").as_bytes()),
    ]
}

#[test]
fn nobody_hears_another_workspace() {
    for pool_size in ["3", "8"] {
        let dev = Dev::start(&["--pool-size", pool_size]);
        let theirs = dev.text("/workspaces/1/id").to_owned();
        let mut victim = Wire::open(dev.globex());
        victim.query("listen gossip");
        let known = victim.value("select pg_listening_channels()");
        for channel in guesses(&theirs).iter().chain([&known]) {
            for bytes in ways(&format!("listen \"{channel}\""), "set role none") {
                let mut attacker = Wire::open(dev.acme());
                attempt(&mut attacker, &bytes);
                victim.query(&format!("notify gossip, '{CANARY}'; select pg_notify('gossip', '{CANARY}2')"));
                // Postgres tells in order: what came before this would be there.
                attacker.query("listen done");
                attacker.send(&query("notify done, 'that was it'"));
                let answer = attacker.until(b'Z');
                assert!(answer.contains('A') || answer.contains("E("), "{channel}: {answer}");
                let seen = attacker.received.windows(CANARY.len()).any(|part| part == CANARY.as_bytes());
                assert!(!seen, "{channel}: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)]));
                attacker.hang_up();
            }
        }
    }
}

#[test]
fn nobody_speaks_in_another_workspaces_name() {
    for pool_size in ["3", "8"] {
        let dev = Dev::start(&["--pool-size", pool_size]);
        let theirs = dev.text("/workspaces/1/id").to_owned();
        let (mut victim, mut system) = (Wire::open(dev.globex()), Wire::open(dev.system()));
        victim.query("listen gossip");
        system.query("listen gossip");
        // Even who knew how the channel is called would not get there.
        let known = victim.value("select pg_listening_channels()");
        for channel in guesses(&theirs).iter().chain([&known]) {
            let call = format!("select pg_notify('{channel}', '{FAKE}')");
            let ways = [
                ways(&format!("notify \"{channel}\", '{FAKE}'"), "set role none"),
                ways(&call, "set search_path = public"),
                vec![
                    function_call(3036, &[channel, FAKE]),
                    extended("select pg_notify($1, $2)", &[channel, FAKE]),
                    query(&format!("select cordon.pg_notify('{channel}', '{FAKE}')")),
                    query(&format!("select cordon.notify_workspace('{theirs}', '{channel}', '{FAKE}')")),
                    query(&format!("set app.workspace_id = ''; {call}")),
                    query(&format!(
                        "select set_config('app.workspace_id', '{theirs}', false); select cordon.pg_notify('gossip', '{FAKE}')"
                    )),
                ],
            ];
            for bytes in ways.into_iter().flatten() {
                let mut attacker = Wire::open(dev.acme());
                attempt(&mut attacker, &bytes);
                attacker.hang_up();
                let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
                assert_eq!(heard(&mut victim), [""; 0], "{channel}: {shown}");
            }
        }
        assert_eq!(heard(&mut system), [""; 0], "a plain channel was notified");
    }
}
