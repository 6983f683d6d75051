#!/usr/bin/env bash
# Measures pgcordon against PgBouncer and a direct connection, in interleaved rounds, on a scratch Postgres.
# Options are those of bench.py: `tests/bench/run.sh --help`. `tests/bench/run.sh fair` measures a quiet tenant beside a flood.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"

say() { printf 'bench: %s\n' "$*" >&2; }

install_missing() {
    local packages=()
    command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || packages+=(pgbouncer)
    command -v pgbench >/dev/null || ls /usr/lib/postgresql/*/bin/pgbench >/dev/null 2>&1 || packages+=(postgresql)
    command -v psql >/dev/null || packages+=(postgresql-client)
    command -v strace >/dev/null || packages+=(strace)
    command -v openssl >/dev/null || packages+=(openssl)
    command -v python3 >/dev/null || packages+=(python3)
    [ ${#packages[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        say "missing: ${packages[*]}; install them and run again"
        exit 3
    fi
    say "installing ${packages[*]}"
    # A fresh package must not start its own service: the bench starts what it measures.
    local policy=/usr/sbin/policy-rc.d made=0
    if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; made=1; fi
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    [ $made -eq 1 ] && rm -f "$policy"
    return 0
}

wants() { local option; for option in "${@:2}"; do [ "$option" = "$1" ] && return 0; done; return 1; }

main() {
    local measure=bench
    if [ "${1:-}" = fair ]; then
        measure=fair
        shift
    fi
    if ! wants --help "$@" && ! wants -h "$@"; then
        install_missing
        if ! wants --without-pgcordon "$@" && ! wants --binary "$@" && [ ! -x "$root/target/release/pgcordon" ]; then
            say "building target/release/pgcordon"
            (cd "$root" && cargo build --release --bin pgcordon)
        fi
    fi
    PATH="$PATH:/usr/sbin" PYTHONDONTWRITEBYTECODE=1 exec python3 "$here/$measure.py" --binary "$root/target/release/pgcordon" "$@"
}

main "$@"
