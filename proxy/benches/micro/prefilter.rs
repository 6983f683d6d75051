//! Whether a text has a word that makes it worth parsing.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use pgcordon::sql::prefilter::may_have_facts;

pub(super) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prefilter");
    let short = "SELECT abalance FROM bench_account WHERE aid = 4711;".to_owned();
    let long = format!(
        "SELECT {} FROM bench_account a JOIN bench_account b ON a.aid = b.aid WHERE a.aid IN ({}) ORDER BY a.aid LIMIT 50",
        (0..60).map(|each| format!("a.column_{each} AS alias_{each}")).collect::<Vec<_>>().join(", "),
        (0..200).map(|each| each.to_string()).collect::<Vec<_>>().join(", "),
    );
    let literal = format!("SELECT '{}'", "some words of a document ".repeat(2600));
    let texts = [("a point select", &short), ("a long select", &long), ("a literal of 64 KiB", &literal)];
    for (name, text) in texts {
        assert!(!may_have_facts(text.as_bytes()), "{name} stops at a word, which measures less");
        group.throughput(Throughput::Bytes(u64::try_from(text.len()).expect("a small number")));
        group.bench_function(name, |bench| bench.iter(|| may_have_facts(black_box(text.as_bytes()))));
    }
    let write = "INSERT INTO task (title) VALUES ('a')";
    assert!(may_have_facts(write.as_bytes()));
    group.throughput(Throughput::Bytes(u64::try_from(write.len()).expect("a small number")));
    group.bench_function("a write", |bench| bench.iter(|| may_have_facts(black_box(write.as_bytes()))));
    group.finish();
}
