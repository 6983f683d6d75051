//! Looking up what is known: of a text, of a statement that many clients prepare, of what a server connection has prepared.

use std::hint::black_box;

use criterion::Criterion;
use pgcordon::backend::{BackendState, Bodies, Parsing};
use pgcordon::sql::Analysis;

/// How many other texts and statements are known beside the one that is looked for.
const OTHERS: usize = 200;

pub(super) fn all(criterion: &mut Criterion) {
    facts(criterion);
    statements(criterion);
}

fn facts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("facts");
    let write = b"INSERT INTO task (title, done) VALUES ($1, $2) RETURNING id";
    let mut analysis = Analysis::default();
    for number in 0..OTHERS {
        analysis.facts(format!("INSERT INTO task (title) VALUES ('{number}')").as_bytes());
    }
    analysis.facts(write);
    group.bench_function("a write that is known", |bench| bench.iter(|| analysis.facts(black_box(write))));
    let read = b"SELECT abalance FROM bench_account WHERE aid = $1;";
    group.bench_function("a read that is never parsed", |bench| bench.iter(|| analysis.facts(black_box(read))));
    group.bench_function("a write that is new", |bench| bench.iter(|| Analysis::default().facts(black_box(write))));
    group.finish();
}

fn statements(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("statements");
    let bodies = Bodies::default();
    let text = |number: usize| format!("SELECT abalance FROM bench_account_{number} WHERE aid = $1;\0\0\0");
    let mut backend = BackendState::new(7, 0);
    let mut kept = Vec::new();
    for number in 0..OTHERS {
        let body = bodies.intern(0, text(number).as_bytes(), None);
        backend.prepare(&body, bodies.moment());
        kept.push(body);
    }
    let wanted = text(OTHERS / 2);
    group.bench_function("the body of a text that others have prepared", |bench| {
        bench.iter(|| bodies.intern(0, black_box(wanted.as_bytes()), None));
    });
    let body = bodies.intern(0, wanted.as_bytes(), None);
    // A client's Parse that was answered after the server connection's own may be met by what is prepared there.
    let then = Parsing::sent(bodies.moment());
    backend.prepare(&body, bodies.moment());
    assert!(backend.statement(&body, then).is_some(), "it would be prepared again each time");
    group.bench_function("its name on a server connection", |bench| {
        bench.iter(|| backend.statement(black_box(&body), then));
    });
    group.finish();
}
