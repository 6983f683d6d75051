# shellcheck shell=bash
# What the scripts of this repository need, and how to get it on Debian and its relatives. Sourced by deploy/try.sh and
# tests/run.sh; it defines functions and does nothing by itself.

say() { printf '\n== %s\n' "$*" >&2; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# True if there is a Postgres server to start, on PATH or where pgcordon looks for it.
have_postgres_server() {
    have initdb && return 0
    local initdb
    for initdb in /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb /usr/local/pgsql/bin/initdb \
        /opt/homebrew/opt/postgresql@*/bin/initdb /usr/local/opt/postgresql@*/bin/initdb; do
        [ -x "$initdb" ] && return 0
    done
    return 1
}

# True if bindgen finds libclang, which the build of pg_query needs.
have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    local library
    for library in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so* /usr/lib64/llvm*/lib/libclang*.so* \
        /opt/homebrew/opt/llvm*/lib/libclang.dylib /Library/Developer/CommandLineTools/usr/lib/libclang.dylib; do
        # libclang-cpp is another library, which bindgen passes over.
        [[ $library == */libclang-cpp* ]] && continue
        [ -e "$library" ] && return 0
    done
    return 1
}

# C headers, which libclang takes from a compiler's own directory.
have_c_compiler() { have cc && have make && { [ -e /usr/include/stdio.h ] || [ "$(uname -s)" != Linux ]; }; }

require_rust() {
    have cargo && return 0
    [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] && PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH" && return 0
    die "Rust is missing (cargo isn't on PATH); see the Rust project's site for rustup, then run this again"
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# Only where install_missing has seen that it can be.
as_root() { if is_root; then "$@"; else sudo "$@"; fi; }

# Debian's JDBC driver, and a JDK to run a program from its source with.
jdbc_archive=${CORDON_TEST_JDBC:-/usr/share/java/postgresql.jar}

# The Debian packages that are missing for a wish list: postgres, build, pgbench, pgbouncer, shellcheck, venv, node, jdbc.
missing_packages() {
    local wish
    for wish in "$@"; do
        case $wish in
            postgres)
                have_postgres_server || echo postgresql
                have psql || echo postgresql-client
                ;;
            build)
                have_c_compiler || echo build-essential
                have_libclang || echo libclang-dev
                ;;
            pgbench) have pgbench || [ -n "$(compgen -G '/usr/lib/postgresql/*/bin/pgbench')" ] || echo postgresql-contrib ;;
            pgbouncer) have pgbouncer || [ -x /usr/sbin/pgbouncer ] || echo pgbouncer ;;
            venv) python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv ;;
            shellcheck) have shellcheck || echo shellcheck ;;
            node) have node && have npm || echo nodejs npm ;;
            jdbc)
                [ -e "$jdbc_archive" ] || echo libpostgresql-jdbc-java
                have javac || echo default-jdk-headless
                ;;
        esac
    done
}

# Debian makes and starts a cluster on port 5432 with its server package, and a PgBouncer on 6432 with that one. Neither
# is needed here; the word holds for one installation only.
cluster_word=/etc/postgresql-common/createcluster.d/pgcordon.conf
service_word=/usr/sbin/policy-rc.d

keep_services_off() {
    trap let_services_start EXIT
    as_root mkdir -p "${cluster_word%/*}"
    echo 'create_main_cluster = false' | as_root tee "$cluster_word" >/dev/null
    if [ ! -e "$service_word" ]; then
        printf '#!/bin/sh\n# For the time of an installation by pgcordon.\nexit 101\n' | as_root tee "$service_word" >/dev/null
        as_root chmod 755 "$service_word"
    fi
}

let_services_start() {
    as_root rm -f "$cluster_word"
    if grep -qs pgcordon "$service_word"; then as_root rm -f "$service_word"; fi
    trap - EXIT
}

# Installs what is missing; without anything missing it is quick and asks for nothing.
install_missing() {
    local packages output installed=true
    mapfile -t packages < <(missing_packages "$@" | tr ' ' '\n')
    [ "${#packages[@]}" -eq 0 ] && return 0
    have apt-get || die "missing here: ${packages[*]} (these are Debian's names). Install them with this system's package manager, then run this again"
    is_root || have sudo || die "missing here: ${packages[*]}. Installing needs root, and there is no sudo. As root:

    apt-get update && apt-get install -y --no-install-recommends ${packages[*]}

Then run this again"
    say "installing with apt: ${packages[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq \
        || printf 'apt-get update failed; going on with the package lists that are here\n' >&2
    keep_services_off
    output=$(as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" 2>&1) \
        || installed=false
    let_services_start
    "$installed" && return 0
    printf '%s\n' "$output" | tail -n 20 >&2
    die "apt could not install ${packages[*]}: is the network reachable? Install them by hand, then run this again"
}
