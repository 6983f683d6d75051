//! The whole corpus against pgcordon, on one server connection and on many, with the statement guard and without it; and,
//! when asked for, against the usual way, to see that it bites.

use std::collections::BTreeMap;

use crate::corpus::{FAMILIES, Open};
use crate::ledger::Effect;
use crate::range::{Manner, Range};
use crate::target::Target;

type Results = BTreeMap<(&'static str, &'static str), Vec<Effect>>;

/// Everything. `CORDON_ATTACK` is a word of the names that are wanted, or a family.
fn fire_all(range: &mut Range, manners: &[Manner]) -> Results {
    let wanted = std::env::var("CORDON_ATTACK").unwrap_or_default();
    let mut results = Results::new();
    for family in FAMILIES {
        for attack in family.attacks.iter().filter(|attack| attack.name.contains(&wanted) || family.name == wanted) {
            let mut effects = Vec::new();
            for manner in manners.iter().filter(|manner| **manner == Manner::Simple || attack.has_texts()) {
                effects.extend(range.fire(attack, *manner));
            }
            effects.sort();
            effects.dedup();
            results.insert((family.name, attack.name), effects);
        }
    }
    results
}

fn nothing_is_got(pool_size: usize, guard: bool) {
    let mut range = Range::new(Target::pgcordon(pool_size, guard), pool_size == 1);
    // The protocol's two ways of sending a text are told apart by the proxy alone, so once with the guard and once without will do.
    let both = [Manner::Simple, Manner::Extended];
    let results = fire_all(&mut range, if guard == (pool_size == 1) { &both } else { &both[..1] });
    let mut wrong = Vec::new();
    for family in FAMILIES {
        for attack in family.attacks {
            let Some(effects) = results.get(&(family.name, attack.name)) else { continue };
            let may = match attack.open {
                Open::No => false,
                Open::WithoutGuard => !guard,
                Open::Always => true,
            };
            if effects.iter().any(Effect::is_a_breach) || (!may && !effects.is_empty()) {
                wrong.push(format!("{}: {}: {effects:?}", family.name, attack.name));
            }
            // What the documents admit is true, no more and no less.
            if may && effects.is_empty() && pool_size > 1 {
                wrong.push(format!("{}: {} gets nowhere, but is listed as open", family.name, attack.name));
            }
        }
    }
    for (used, there) in range.books() {
        if used != there {
            wrong.push(format!("the books say {used} where {there} rows are"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} attacks:\n{}", wrong.len(), results.len(), wrong.join("\n"));
}

#[test]
fn the_corpus_gets_nothing_on_one_server_connection() {
    nothing_is_got(1, true);
}

#[test]
fn the_corpus_gets_nothing_on_many_server_connections() {
    nothing_is_got(8, true);
}

#[test]
fn the_corpus_gets_nothing_on_one_server_connection_without_the_guard() {
    nothing_is_got(1, false);
}

#[test]
fn the_corpus_gets_nothing_on_many_server_connections_without_the_guard() {
    nothing_is_got(8, false);
}

/// What succeeds on one connection or on many.
fn either(make: impl Fn(usize) -> Target) -> Results {
    let mut all = Results::new();
    for pool_size in [1, 8] {
        let mut range = Range::new(make(pool_size), pool_size == 1);
        for (attack, effects) in fire_all(&mut range, &[Manner::Simple]) {
            all.entry(attack).or_default().extend(effects);
        }
    }
    all
}

/// Prints the table of tests/hostile/README.md.
#[test]
#[ignore = "takes minutes, and needs PgBouncer: tests/hostile/README.md says how and what for"]
#[allow(clippy::print_stdout, reason = "what it prints is what it is for")]
fn side_by_side() {
    let plain: fn(usize) -> Target = Target::plain;
    let arms = [
        ("PgBouncer", plain),
        ("pgcordon", |size| Target::pgcordon(size, true)),
        ("without guard", |size| Target::pgcordon(size, false)),
    ];
    let arms = arms.map(|(name, make)| {
        let arm = either(make);
        for ((family, attack), effects) in arm.iter().filter(|(_, effects)| !effects.is_empty()) {
            println!("{name}: {family}: {attack}: {effects:?}");
        }
        let breaches = arm.values().filter(|effects| effects.iter().any(Effect::is_a_breach)).count();
        println!("{name}: {breaches} read, changed or impersonated");
        arm
    });
    println!("| family | attacks | PgBouncer | pgcordon | without guard |\n| --- | --- | --- | --- | --- |");
    let mut totals = [0; 4];
    for family in FAMILIES {
        let mut row = vec![family.attacks.len()];
        row.extend(
            arms.iter()
                .map(|arm| arm.iter().filter(|((of, _), effects)| *of == family.name && !effects.is_empty()).count()),
        );
        println!("| {} | {} | {} | {} | {} |", family.name, row[0], row[1], row[2], row[3]);
        totals.iter_mut().zip(&row).for_each(|(total, count)| *total += count);
    }
    println!("| **all** | {} | {} | {} | {} |", totals[0], totals[1], totals[2], totals[3]);
}
