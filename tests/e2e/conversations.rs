//! Random conversations on server connections that others use in between: what a client prepared, set and bound follows
//! it, and every message is what Postgres itself sends. The one side talks to Postgres directly, the other through the
//! proxy, with the same words; tables are altered beside the proxy. `CONVERSATIONS` and `CONVERSATION_SEED` in the
//! environment make it longer or another one.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{
    Message, Wire, bind_as, close, describe, execute, flush, frame, function_call, parse, parse_typed, query, sync,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const NAMES: [&str; 4] = ["", "a", "b", "c"];
const PORTALS: [&str; 3] = ["", "p", "q"];
const STARTUP: [(&str, &str); 2] =
    [("application_name", "talk"), ("options", "-c work_mem=5MB -c datestyle=German -c my.own=begin")];

/// What is said, with the number of parameters it takes.
const TEXTS: [(&str, usize); 46] = [
    ("select 1", 0),
    ("select 2, 'two', null", 0),
    ("select $1::int + 1", 1),
    ("select $1::text, $2::int", 2),
    ("select * from talk order by 1", 0),
    ("select * from talk where id = $1", 1),
    ("insert into talk values ($1, $2)", 2),
    ("insert into talk values (9, 'nine')", 0),
    ("update talk set note = note || '!' returning *", 0),
    ("delete from talk where id = $1", 1),
    ("select 1/0", 0),
    ("selec", 0),
    ("", 0),
    ("select generate_series(1, 5)", 0),
    ("select 1; select 2", 0),
    ("insert into talk values (7, 'seven'); select 1/0", 0),
    ("begin", 0),
    ("begin isolation level repeatable read", 0),
    ("commit", 0),
    ("rollback", 0),
    ("commit and chain", 0),
    ("savepoint s", 0),
    ("rollback to s", 0),
    ("release s", 0),
    ("set work_mem = '1MB'", 0),
    ("set local work_mem = '2MB'", 0),
    ("reset work_mem", 0),
    ("set work_mem to default", 0),
    ("select set_config('my.own', 'said', false)", 0),
    ("reset my.own", 0),
    ("select set_config('work_mem', '3MB', true)", 0),
    ("set application_name = 'other'", 0),
    ("set datestyle = 'ISO, DMY'", 0),
    ("reset application_name; select 1", 0),
    ("reset all", 0),
    ("select current_setting('work_mem'), current_setting('my.own', true), current_setting('datestyle')", 0),
    ("show application_name", 0),
    ("select date '2026-11-28'", 0),
    ("copy talk from stdin", 0),
    ("copy (select * from talk order by 1) to stdout", 0),
    ("declare k cursor for select generate_series(1, 9)", 0),
    ("fetch 2 from k", 0),
    ("deallocate a", 0),
    ("deallocate all", 0),
    ("discard all", 0),
    ("values (1), (2)", 0),
];

/// What keeps a client on its server connection.
const PINNING: [(&str, usize); 9] = [
    ("execute a", 0),
    ("execute b(1)", 0),
    ("execute b(1, 2)", 0),
    ("prepare c as select 'sql'", 0),
    ("prepare a as select 'sql'", 0),
    ("explain (costs off) execute a", 0),
    ("declare h cursor with hold for select generate_series(1, 9)", 0),
    ("fetch 2 from h", 0),
    ("listen x; notify x, 'heard'", 0),
];

/// One thing after the other, and what happens in between.
enum Step {
    /// The client sends all of this at once.
    Say(Vec<(String, Vec<u8>)>),
    /// The table is altered.
    Alter(&'static str),
}

const ALTERATIONS: [&str; 4] = [
    "alter table talk add column more int default 5",
    "alter table talk alter column note type varchar(40)",
    "drop table talk; create table talk (id int primary key, note text, last text); grant all on talk to public",
    "create index on talk (note)",
];

const FRESH: &str = "drop table if exists talk; create table talk (id int primary key, note text); \
                     insert into talk values (1, 'one'), (2, 'two'); grant all on talk to public";

fn pick<'a, T>(random: &mut StdRng, all: &'a [T]) -> &'a T {
    &all[random.random_range(0..all.len())]
}

/// One message, or the few that belong together.
fn exchange(random: &mut StdRng, pinning: bool) -> Vec<(String, Vec<u8>)> {
    let name = *pick(random, &NAMES);
    let portal = *pick(random, &PORTALS);
    let texts: &[(&str, usize)] = if pinning && random.random_range(0..8) == 0 { &PINNING } else { &TEXTS };
    let (text, takes) = *pick(random, texts);
    // A statement that executes itself takes Postgres down, and all its connections, when it is explained.
    let name = if text.starts_with("ex") { "" } else { name };
    let rows = random.random_range(0..3);
    let formats = [&[][..], &[0], &[1]][random.random_range(0..3)];
    let takes = if random.random_range(0..12) == 0 { random.random_range(0..3) } else { takes };
    let values = &["3", "4"][..takes];
    let say = |word: String, bytes: Vec<u8>| (word, bytes);
    let p = say(format!("P({name},{text})"), parse(name, text));
    let b = say(format!("B({portal},{name},{takes},{formats:?})"), bind_as(portal, name, values, formats));
    let e = say(format!("E({portal},{rows})"), execute(portal, rows));
    let all = say(format!("E({portal},0)"), execute(portal, 0));
    let ds = say(format!("D(S{name})"), describe(b'S', name));
    let dp = say(format!("D(P{portal})"), describe(b'P', portal));
    let cs = say(format!("C(S{name})"), close(b'S', name));
    let cp = say(format!("C(P{portal})"), close(b'P', portal));
    let h = say("H".to_owned(), flush());
    let s = say("S".to_owned(), sync());
    let q = say(format!("Q({text})"), query(text));
    match random.random_range(0..40) {
        0..8 => vec![q],
        8..13 => vec![p, b, dp, all, s],
        13..16 => vec![cs, p, s],
        16..20 => vec![b, e, s],
        20..22 => vec![p, ds, s],
        22 => vec![p, ds, h, b, all, s],
        23..25 => vec![p],
        25..28 => vec![b, all],
        28 => vec![e],
        29 => vec![ds],
        30 => vec![dp],
        31 => vec![cs],
        32 => vec![cp],
        33 => vec![h],
        34 => {
            let data = frame(b'd', b"5\tfive\n");
            vec![say("d".to_owned(), data), say("c".to_owned(), frame(b'c', b""))]
        }
        35 => vec![say("d".to_owned(), frame(b'd', b"nonsense\n"))],
        36 => vec![say("f".to_owned(), frame(b'f', b"never mind\0"))],
        37 => {
            let value = *pick(random, &["6MB", "7MB", "none"]);
            let call = function_call(2078, &["work_mem", value, *pick(random, &["t", "f"])]);
            vec![say(format!("F(set_config {value})"), call)]
        }
        _ => vec![s],
    }
}

fn conversation(random: &mut StdRng, pinning: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..random.random_range(2..9) {
        if random.random_range(0..7) == 0 {
            steps.push(Step::Alter(ALTERATIONS[random.random_range(0..ALTERATIONS.len())]));
        }
        let count = random.random_range(1..6);
        steps.push(Step::Say((0..count).flat_map(|_| exchange(random, pinning)).collect()));
    }
    steps
}

/// A message as it must be the same: all of it but the object ids of tables, the process ids of backends, and where in
/// Postgres' code an error was raised.
fn told(message: &Message) -> String {
    match message.tag {
        b'T' => format!("T({})", message.fields().join(",")),
        b'A' => "A".to_owned(),
        b'E' | b'N' => {
            let is_told = |field: &&[u8]| !field.is_empty() && !b"FLR".contains(&field[0]);
            let fields = message.body.split(|byte| *byte == 0).filter(is_told);
            let text: Vec<_> = fields.map(|field| String::from_utf8_lossy(field).into_owned()).collect();
            format!("{}({})", message.tag as char, text.join(" "))
        }
        _ => message.word(),
    }
}

/// In a failed transaction a statement can't be prepared again: that is what a Bind of one that isn't on the server connection
/// is told, before anything else is wrong with it.
fn in_failed(word: &str) -> &str {
    if word.starts_with("E(SERROR VERROR C08P01 Mbind message supplies") {
        "E(SERROR VERROR C25P02 Mcurrent transaction is aborted, commands ignored until end of transaction block)"
    } else {
        word
    }
}

/// The answers to all that was said. What the client says last is answered in every state, once a copy that it may be in
/// has been ended: the types of the parameters of an empty statement.
fn answers(wire: &mut Wire, said: &[(String, Vec<u8>)]) -> (Vec<String>, u8) {
    const LAST: u32 = 0x00c0_ffee;
    let last = |types: u32| {
        [parse_typed("the end", "", &[types]), describe(b'S', "the end"), close(b'S', "the end"), sync()].concat()
    };
    let mut bytes: Vec<u8> = said.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    bytes.extend([sync(), last(1), last(LAST)].concat());
    wire.send(&bytes);
    let (mut all, mut ended) = (Vec::new(), false);
    loop {
        let Some(message) = wire.read() else {
            all.push("EOF".to_owned());
            return (all, b'I');
        };
        ended |= message.tag == b't' && message.body.ends_with(&LAST.to_be_bytes());
        all.push(told(&message));
        if ended && message.tag == b'Z' {
            return (all, message.body[0]);
        }
    }
}

/// Others who use the same server connections, now and then.
struct Others<'a> {
    dev: &'a Dev,
    same: Wire,
    foreign: Wire,
    /// Whether they hold a transaction open.
    holding: [bool; 2],
}

impl<'a> Others<'a> {
    fn new(dev: &'a Dev) -> Self {
        let same = Wire::open_with(dev.acme(), &[("application_name", "mover"), ("options", "-c work_mem=9MB")]);
        Self { dev, same, foreign: Wire::open(dev.globex()), holding: [false; 2] }
    }

    /// They leave other settings and statements behind, and with `may_hold` keep a server connection for a while.
    fn act(&mut self, random: &mut StdRng, may_hold: bool) {
        for (at, wire) in [&mut self.same, &mut self.foreign].into_iter().enumerate() {
            if std::mem::take(&mut self.holding[at]) {
                wire.query("commit");
            }
            match random.random_range(0..5) {
                0 => drop(wire.query("set datestyle = 'SQL, DMY'; set my.own = 'theirs'")),
                1 => {
                    let (name, (text, _)) = (*pick(random, &NAMES), *pick(random, &TEXTS[..10]));
                    wire.send(&[close(b'S', name), parse(name, text), sync()].concat());
                    wire.cycles(1);
                }
                2 if may_hold => {
                    wire.query("begin");
                    self.holding[at] = true;
                }
                3 => drop(wire.query("reset all")),
                _ => drop(wire.query("select 1")),
            }
        }
    }
}

/// What was said up to where the answers part, if they do.
fn difference(dev: &Dev, others: &mut Others<'_>, seed: u64, pool: usize) -> Option<String> {
    let steps = conversation(&mut StdRng::seed_from_u64(seed), pool > 1);
    let mut admin = dev.admin();
    admin.query(FRESH);
    let mut direct = Vec::new();
    let mut wire = Wire::open_with(dev.text("/upstream/admin_dsn"), &STARTUP);
    for step in &steps {
        match step {
            Step::Say(said) => direct.push(answers(&mut wire, said)),
            Step::Alter(sql) if direct.last().is_none_or(|(_, status)| *status == b'I') => drop(admin.query(sql)),
            Step::Alter(_) => {}
        }
    }
    drop(wire);
    admin.query(FRESH);
    let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
    let mut wire = Wire::open_with(dev.acme(), &STARTUP);
    let (mut status, mut said_before, mut at) = (b'I', String::new(), 0);
    for step in &steps {
        match step {
            Step::Alter(sql) if status == b'I' => {
                said_before.push_str(&format!("\n    {sql}"));
                drop(admin.query(sql));
            }
            Step::Alter(_) => {}
            Step::Say(said) => {
                let words: Vec<_> = said.iter().map(|(word, _)| word.as_str()).collect();
                said_before.push_str(&format!("\n  {}", words.join(" ")));
                let (expected, next) = &direct[at];
                let (got, _) = answers(&mut wire, said);
                // Postgres gives such a client up; the proxy fails the copy by CopyFail and goes on.
                if expected.iter().any(|word| word.contains("protocol synchronization was lost")) {
                    return None;
                }
                // A statement from before the alteration may have been prepared again meanwhile, on another connection.
                if got != *expected
                    && expected.iter().any(|word| word.contains("cached plan must not change result type"))
                {
                    return None;
                }
                if got.iter().map(|word| in_failed(word)).ne(expected.iter().map(|word| in_failed(word))) {
                    return Some(format!("seed {seed}, pool of {pool}:{said_before}\n  {expected:?}\n  {got:?}"));
                }
                (status, at) = (*next, at + 1);
            }
        }
        if status == b'I' {
            others.act(&mut random, pool > 1);
        }
    }
    None
}

fn run(pool: usize, usual: u64) {
    let number = |name: &str, usual: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (count, first) = (number("CONVERSATIONS", usual), number("CONVERSATION_SEED", 1));
    let dev = Dev::start(&["--pool-size", &pool.to_string()]);
    let mut others = Others::new(&dev);
    let mut differences = Vec::new();
    for seed in first..first + count {
        differences.extend(difference(&dev, &mut others, seed, pool));
        assert!(differences.len() < 5, "{}", differences.join("\n"));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(Wire::open(others.dev.globex()).query("select 1"), "T D(1) C(SELECT 1) Z(I)");
}

#[test]
fn a_client_among_others_on_one_server_connection_is_answered_as_by_postgres() {
    run(1, 150);
}

#[test]
fn a_client_among_others_that_moves_between_three_is_answered_as_by_postgres() {
    run(3, 150);
}
