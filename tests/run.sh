#!/usr/bin/env bash
# Runs every test; installs what is missing for that first.
#
#   tests/run.sh                 everything
#   tests/run.sh SECTION         one of: format, lint, shell, unit, e2e, hostile, or one in proxy/tests
#   tests/run.sh WORD            the tests, of any section, that have this word in their name
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/prerequisites.sh
. deploy/prerequisites.sh

target=${CARGO_TARGET_DIR:-$PWD/target}
tools=$target/test-tools
sections=(format lint shell unit)
for file in proxy/tests/*.rs proxy/tests/*/main.rs; do
    file=${file%/main.rs}
    sections+=("$(basename "$file" .rs)")
done
sections+=(e2e hostile)

# Clients that only the tests need, kept under target/.
install_clients() {
    local python=$tools/venv/bin/python
    mkdir -p "$tools"
    if ! "$python" -c 'import psycopg, asyncpg, django' 2>/dev/null; then
        say "installing the Python drivers and Django into $tools/venv"
        if [ ! -x "$python" ]; then python3 -m venv "$tools/venv"; fi
        "$python" -m pip install --quiet --disable-pip-version-check 'psycopg[binary]' asyncpg django \
            || die "pip could not install psycopg, asyncpg and Django: is the network reachable?"
    fi
    if [ ! -d "$tools/node_modules/drizzle-orm" ]; then
        say "installing the Node driver and ORM into $tools"
        npm install --silent --no-audit --no-fund --no-save --prefix "$tools" pg drizzle-orm \
            || die "npm could not install pg and drizzle-orm: is the network reachable?"
    fi
    export CORDON_TEST_PYTHON=$python NODE_PATH=$tools/node_modules
}

# Every cargo call selects the whole workspace, so that dependencies are built once, with one set of features.
tests() { cargo test --workspace --locked --no-fail-fast "$@"; }

run_section() {
    case $1 in
        format) cargo fmt --all --check ;;
        lint) cargo clippy --workspace --all-targets --locked -- -D warnings ;;
        shell) git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck -x ;;
        unit) tests --lib --bins ;;
        *) tests --test "$1" ;;
    esac
}

prepare() {
    require_rust
    install_missing postgres build pgbench pgbouncer shellcheck venv node
    install_clients
    say "building"
    cargo build --workspace --bins --locked
    tests --no-run
}

main() {
    local section failed=()
    prepare
    if [ $# -gt 0 ] && ! printf '%s\n' "${sections[@]}" | grep -qx -- "$1"; then
        say "the tests named *$1*"
        tests -- "$@"
        return
    fi
    for section in "${@:-${sections[@]}}"; do
        say "$section"
        run_section "$section" || failed+=("$section")
    done
    if [ "${#failed[@]}" -gt 0 ]; then
        say "FAILED: ${failed[*]}"
        return 1
    fi
    say "everything passed (${*:-${sections[*]}}) in $((SECONDS / 60)) min $((SECONDS % 60)) s"
}

main "$@"
