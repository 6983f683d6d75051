#!/usr/bin/env bash
# Messages nearly as long as Postgres takes, through a release build: tests/large.sh [MEGABYTES]. It needs about six times as much
# memory, nearly all of it for Postgres. tests/run.sh does the same with short ones.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --workspace --bins --locked --release
export CORDON_TEST_LARGE_MB=${1:-900} PGCORDON_BIN=${CARGO_TARGET_DIR:-$PWD/target}/release/pgcordon
cargo test --workspace --locked --test e2e -- large:: --test-threads 1 --nocapture
