//! Finding where messages end.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use pgcordon::wire::Frame;

use crate::messages;

/// As many bytes as a core reads at once.
const READ_BYTES: usize = 64 << 10;

pub(super) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framer");
    let cycle = messages::unnamed_cycle();
    group.bench_function("one extended cycle of a client", |bench| bench.iter(|| from_client(black_box(&cycle))));
    for row_bytes in [16, 1000] {
        let row = messages::message(b'D', &vec![0; row_bytes]);
        let rows = READ_BYTES / row.len();
        let read = row.repeat(rows);
        group.throughput(Throughput::Elements(u64::try_from(rows).expect("a small number")));
        group.bench_function(format!("a read full of rows of {row_bytes} bytes"), |bench| {
            bench.iter(|| from_server(black_box(&read)));
        });
    }
    group.finish();
}

fn from_client(mut input: &[u8]) -> usize {
    let mut messages = 0;
    while let Some(frame) = Frame::from_client(input).expect("well-formed messages") {
        input = &input[frame.total..];
        messages += 1;
    }
    messages
}

fn from_server(mut input: &[u8]) -> usize {
    let mut messages = 0;
    while let Some(frame) = Frame::from_server(input).expect("well-formed messages") {
        input = &input[frame.total..];
        messages += 1;
    }
    messages
}
