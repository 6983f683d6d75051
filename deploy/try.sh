#!/usr/bin/env bash
# Tries pgcordon on this machine: installs what is missing, builds, and runs `pgcordon dev` with the arguments given
# here (see `pgcordon dev --help`). Running it again is quick.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/prerequisites.sh
. deploy/prerequisites.sh

require_rust
install_missing postgres build
say "building (the first time about ten minutes on two processors)"
cargo build --release --locked --package pgcordon >&2
say "starting: pgcordon dev $*"
exec "${CARGO_TARGET_DIR:-target}/release/pgcordon" dev "$@"
