//! A random walk around the mark: statements that set, mark, roll back, prepare and reset in an order that nobody chose, with the
//! victim on the same server connection in between. Whatever the order, the attacker is in its own workspace or in none.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, extended, query};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const CANARY: &str = "canary-of-globex";

/// `{own}` and `{theirs}` are workspaces, `{seal}` is the seal that the attacker was given last.
const STEPS: [&str; 55] = [
    "set app.workspace_id = '{theirs}'",
    "set local app.workspace_id = '{theirs}'",
    "select set_config('app.workspace_id', '{theirs}', false)",
    "select set_config('app.workspace_id', '{theirs}', true)",
    "set app.workspace_id = '{own}'",
    "set local app.workspace_id = '{own}'",
    "set app.workspace_id = ''",
    "set local app.workspace_id = ''",
    "reset app.workspace_id",
    "reset app.workspace_seal",
    "set app.workspace_seal = ''",
    "set local app.workspace_seal = ''",
    "select set_config('app.workspace_seal', '{seal}', false)",
    "select set_config('app.workspace_seal', '{seal}', true)",
    "reset backtrace_functions",
    "set local backtrace_functions to default",
    "reset all",
    "discard all",
    "discard plans",
    "begin",
    "begin",
    "begin isolation level serializable",
    "commit",
    "rollback",
    "commit and chain",
    "rollback and chain",
    "savepoint a",
    "savepoint b",
    "rollback to a",
    "rollback to b",
    "release a",
    "select cordon.mark()",
    "select cordon.mark()",
    "select cordon.mark() from \"Secret\"",
    "select cordon.bind('{theirs}|' || current_setting('app.workspace_seal') || '|0.1')",
    "select cordon.bind('{own}|' || current_setting('app.workspace_seal') || '|0.1')",
    "select cordon.bind('|' || current_setting('app.workspace_seal') || '|0'), set_config('app.workspace_id', '{theirs}', false)",
    "select cordon.sealed_workspace_id()",
    "select set_config('app.workspace_id', '', true), cordon.mark(), set_config('app.workspace_id', '{theirs}', true)",
    "select set_config('app.workspace_id', '{own}', false), cordon.mark(), set_config('app.workspace_id', '{theirs}', false)",
    "prepare asks as select 'in ' || cordon.workspace_id()",
    "execute asks",
    "execute asks",
    "prepare looks as select * from \"Secret\"",
    "execute looks",
    "deallocate all",
    "set plan_cache_mode = force_generic_plan",
    "set plan_cache_mode = force_custom_plan",
    "declare c cursor with hold for select * from \"Secret\"",
    "declare d cursor for select 'in ' || cordon.workspace_id() from generate_series(1, 3)",
    "fetch all from c",
    "fetch 1 from d",
    "close all",
    "set session authorization default; set role none",
    "insert into \"Secret\" (\"workspaceId\", name, value) values ('{theirs}', 'planted', 'x')",
];

fn walk(seed: u64, pool_size: &str) {
    let dev = Dev::start(&["--pool-size", pool_size, "--no-guard"]);
    let (own, theirs) = (dev.text("/workspaces/0/id").to_owned(), dev.text("/workspaces/1/id").to_owned());
    let mut random = StdRng::seed_from_u64(seed);
    let mut victim = Wire::open(dev.globex());
    victim.query(&format!("insert into \"Secret\" (name, value) values ('{CANARY}', '{CANARY}')"));
    let count = victim.value("select count(*) from \"Secret\"");
    let (mut attacker, mut seal, mut path) = (Wire::open(dev.acme()), String::new(), Vec::new());
    for step in 0..1_000 {
        if step % 50 == 0 {
            // A session that is pinned keeps the only connection.
            attacker.hang_up();
            assert_eq!(victim.value("select count(*) from \"Secret\""), count, "{path:?}");
            attacker = Wire::open(dev.acme());
            seal = attacker.value("select current_setting('app.workspace_seal', true)");
            path.clear();
        }
        let text = STEPS[random.random_range(0..STEPS.len())];
        path.push(text);
        let text = text.replace("{own}", &own).replace("{theirs}", &theirs).replace("{seal}", &seal);
        let ask = "select 'in ' || cordon.workspace_id(); select * from \"Secret\"";
        attacker.received.clear();
        attacker.send(&if random.random() { query(&text) } else { extended(&text, &[]) });
        attacker.cycles(1);
        attacker.send(&if random.random() { query(ask) } else { extended("select * from \"Secret\"", &[]) });
        attacker.cycles(1);
        let seen = String::from_utf8_lossy(&attacker.received).into_owned();
        assert!(!seen.contains(CANARY) && !seen.contains(&format!("in {theirs}")), "seed {seed}: {path:?}");
    }
    attacker.hang_up();
    assert_eq!(victim.value("select count(*) from \"Secret\""), count);
}

#[test]
fn no_order_of_statements_leads_into_another_workspace() {
    for (seed, pool_size) in [(1, "1"), (2, "4")] {
        walk(seed, pool_size);
    }
}
