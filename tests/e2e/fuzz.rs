//! Random conversations: whatever order the messages come in, Postgres and the proxy give the same transcript, and the
//! pool is whole afterwards. `FUZZ_ROUNDS` and `FUZZ_SEED` in the environment make it longer or another one.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, bind, close, describe, execute, extended, flush, frame, parse, query, sync};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const NAMES: [&str; 3] = ["", "a", "b"];
const TEXTS: [&str; 12] = [
    "select 1",
    "select 2, 'two'",
    "select 1/0",
    "selec",
    "",
    "select generate_series(1, 3)",
    "begin",
    "commit",
    "rollback",
    "savepoint s",
    "rollback to s",
    "set local work_mem = '1MB'",
];

fn message(random: &mut StdRng) -> (String, Vec<u8>) {
    let name = NAMES[random.random_range(0..NAMES.len())];
    let text = TEXTS[random.random_range(0..TEXTS.len())];
    let portal = ["", "p"][random.random_range(0..2)];
    match random.random_range(0..24) {
        0..4 => (format!("Q({text})"), query(text)),
        4..8 => (format!("P({name},{text})"), parse(name, text)),
        8..12 => (format!("B({portal},{name})"), bind(portal, name, &[])),
        12..15 => (format!("E({portal})"), execute(portal, random.random_range(0..3))),
        15 => (format!("D(S{name})"), describe(b'S', name)),
        16 => (format!("D(P{portal})"), describe(b'P', portal)),
        17 => (format!("C(P{portal})"), close(b'P', portal)),
        18 => ("H".to_owned(), flush()),
        19 => ("d".to_owned(), frame(b'd', b"data")),
        20 => (format!("X({text})"), extended(text, &[])),
        _ => ("S".to_owned(), sync()),
    }
}

/// Everything up to the answer to the last word.
fn transcript(wire: &mut Wire, bytes: &[u8]) -> String {
    wire.send(bytes);
    wire.send(&[sync(), query("rollback"), query("select 'the end'")].concat());
    let mut all = String::new();
    while !all.contains("D(the end)") && !all.ends_with("EOF") {
        all.push_str(&wire.cycles(1));
        all.push(' ');
    }
    // A portal left by a Query that failed points to memory that Postgres has freed: either of these may come.
    all.replace("E(55000)", "E(25P02)")
}

#[test]
fn random_conversations_go_as_they_go_on_postgres_itself() {
    let number = |name: &str, usual: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (rounds, seed) = (number("FUZZ_ROUNDS", 400), number("FUZZ_SEED", 1));
    let dev = Dev::start(&["--pool-size", "2"]);
    for round in 0..rounds {
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(round));
        let messages: Vec<_> = (0..random.random_range(1..14)).map(|_| message(&mut random)).collect();
        let script: Vec<&str> = messages.iter().map(|(word, _)| word.as_str()).collect();
        let bytes = messages.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect::<Vec<u8>>();
        let direct = transcript(&mut dev.admin(), &bytes);
        let mut wire = Wire::open(dev.acme());
        assert_eq!(transcript(&mut wire, &bytes), direct, "round {round}, seed {seed}: {}", script.join(" "));
        assert_eq!(
            Wire::open(dev.globex()).query("select 1"),
            "T D(1) C(SELECT 1) Z(I)",
            "after round {round}: {}",
            script.join(" ")
        );
    }
}
