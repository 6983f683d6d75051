"""Paired, interleaved rounds of pgbench: direct, through PgBouncer and through pgcordon.

Every cell is measured once in each round, arms back to back, and the median over the rounds is reported: on a noisy
machine compare the ratios and the proxy's CPU time, not the absolute throughput. Standard library only.
"""

import argparse
import dataclasses
import glob
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time

import idle
import scratch
from scratch import ROLE, BenchError, Scratch, say

MODES = ("simple", "extended", "prepared")
EARLIER = "pgcordon earlier (unix)"
WORKSPACE = "11111111-1111-4111-8111-111111111111"


@dataclasses.dataclass
class Arm:
    """One way to the same database."""

    name: str
    at: dict
    table: str = "bench_account"
    pid: int | None = None
    modes: tuple = MODES
    options: str = ""
    note: str = ""
    settle: float = 0  # seconds until what it held is free again for the other arms
    samples: dict = dataclasses.field(default_factory=dict)
    syscalls: dict = dataclasses.field(default_factory=dict)


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/run.sh", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("--clients", default="1,8,64")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--pool", type=int, default=20, help="server connections of each pooler")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="under three minutes: 2 rounds of 2 s, 8 and 64 clients")
    parser.add_argument("--only", default="", help="only arms whose name contains one of these, comma-separated")
    parser.add_argument("--without-pgcordon", action="store_true", help="own scratch Postgres, direct and PgBouncer only")
    parser.add_argument("--against", default="", metavar="FILE",
                        help="an earlier build of pgcordon, as an arm of its own with a Postgres of its own")
    parser.add_argument("--idle", type=int, default=0, metavar="N", help="also measure memory with N idle clients")
    parser.add_argument("--syscalls", action="store_true", help="also count system calls with strace, on short runs")
    parser.add_argument("--json", metavar="FILE", help="write every sample there")
    parser.add_argument("--binary", default="target/release/pgcordon", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.clients = 2, 2, "8,64"
    options.clients = [int(c) for c in options.clients.split(",")]
    options.modes = [m for m in options.modes.split(",") if m]
    unknown = [m for m in options.modes if m not in MODES]
    if unknown:
        parser.error(f"no such mode: {', '.join(unknown)} (there are {', '.join(MODES)})")
    return options


def prepare(admin, app_role, rows, password):
    """The tables, and the role that reaches them without pgcordon. The same rows three times: with no policy, with
    a plain `current_setting` policy, and with the sealed one (which only exists where pgcordon migrated)."""
    sealed = scratch.sql(admin, "select to_regprocedure('cordon.workspace_id()') is not null") == "t"
    grantees = ROLE + (f", {app_role}" if app_role else "")
    workspace = "(select nullif(current_setting('app.workspace_id', true), '')::uuid)"
    script = f"""
create role {ROLE} login password '{password}';
grant usage on schema public to {grantees};
create table bench_account (aid int primary key, workspace_id uuid not null, abalance int not null, filler char(84));
insert into bench_account select i, '{WORKSPACE}', i % 1000, '' from generate_series(1, {rows}) i;
create table bench_plain (like bench_account including all);
insert into bench_plain select * from bench_account;
alter table bench_plain enable row level security;
create policy bench on bench_plain using (workspace_id = {workspace});
grant select on bench_account, bench_plain to {grantees};
"""
    if sealed:
        script += f"""
create table bench_sealed (like bench_account including all);
insert into bench_sealed select * from bench_account;
alter table bench_sealed enable row level security;
alter table bench_sealed force row level security;
create policy bench on bench_sealed using (workspace_id = (select cordon.workspace_id()));
grant select on bench_sealed to {grantees};
"""
    scratch.sql(admin, "set client_min_messages = warning;" + script + "vacuum analyze;checkpoint;")
    return sealed


def open_the_door(admin, database):
    """Lets the bench role in by password, over TCP and the socket: a scratch cluster admits only whom it knows."""
    path, sockets = scratch.sql(
        admin, "select current_setting('hba_file'), split_part(current_setting('unix_socket_directories'), ',', 1)"
    ).split("|")
    with open(path, encoding="utf-8") as file:
        rules = file.read()
    lines = f"local {database} {ROLE} scram-sha-256\nhost {database} {ROLE} 127.0.0.1/32 scram-sha-256\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(lines + rules)
    scratch.sql(admin, "select pg_reload_conf()")
    return sockets.strip().strip('"')


def set_up(room, options):
    """Starts everything. Returns the arms, in the order in which a round goes through them."""
    app = None
    if options.without_pgcordon:
        admin, app_role = scratch.start_postgres(room), ""
    else:
        pgcordon, told = scratch.start_pgcordon(room, options.binary, options.pool)
        app = scratch.parts(told["workspaces"][0]["dsn"])
        admin = scratch.parts(told["upstream"]["admin_dsn"])
        admin["database"] = app["database"]
        app_role = scratch.sql(app, "select quote_ident(current_user)")
    places = int(scratch.sql(admin, "show max_connections"))
    if places < max(options.clients) + 3 * options.pool + 15:
        raise BenchError(f"max_connections = {places} is too small for {max(options.clients)} direct clients beside "
                         f"three pools of {options.pool}: fewer --clients, or a larger --pool for pgcordon dev")
    password = os.urandom(16).hex()
    sealed = prepare(admin, app_role, options.rows, password)
    sockets = open_the_door(admin, admin["database"])
    direct = {**admin, "user": ROLE, "password": password}
    arms = [Arm("direct", direct)]

    version = scratch.bouncer_version()
    label = "PgBouncer " + ".".join(map(str, version))
    transaction = MODES if version >= (1, 21) else ("simple", "extended")
    kinds = [("tcp", "127.0.0.1", "transaction", transaction), ("unix", sockets, "transaction", transaction)]
    if "prepared" not in transaction:
        kinds.append(("unix, session mode", sockets, "session", ("prepared",)))
    for kind, host, mode, modes in kinds:
        size = options.pool if mode == "transaction" else max(options.clients)
        name = "pgbouncer-" + re.sub(r"\W+", "-", kind)
        process, port = scratch.start_pgbouncer(room, name, direct, host, mode, size)
        arm = Arm(f"{label} ({kind})", {**direct, "port": port}, pid=process.pid, modes=modes)
        if mode == "session":
            arm.note, arm.settle = "holds a server connection for each client", 2.5
        arms.append(arm)
    if app:
        arms.append(Arm("pgcordon (unix)", app, pid=pgcordon.pid))
    if app and options.against:
        arms.append(earlier(room, options, password))
    arms.append(Arm("direct, plain policy", direct, "bench_plain", options=f"-c app.workspace_id={WORKSPACE}"))
    if app and sealed:
        # Their rows belong to the workspace that asks, or the policy would rightly show none.
        workspace = told["workspaces"][0]["id"]
        scratch.sql(admin, f"update bench_sealed set workspace_id = '{workspace}'; vacuum full analyze bench_sealed;")
        arms.append(Arm("pgcordon (unix), sealed policy", app, "bench_sealed", pgcordon.pid))
    if options.only:
        wanted = options.only.split(",")
        arms = [a for a in arms if any(w in a.name for w in wanted)]
    return arms


def earlier(room, options, password):
    """An earlier build beside today's. It migrates its own way, so it has a cluster of its own, which the same data is in."""
    process, told = scratch.start_pgcordon(room, options.against, options.pool, "earlier")
    app = scratch.parts(told["workspaces"][0]["dsn"])
    admin = {**scratch.parts(told["upstream"]["admin_dsn"]), "database": app["database"]}
    prepare(admin, scratch.sql(app, "select quote_ident(current_user)"), options.rows, password)
    return Arm(EARLIER, app, pid=process.pid)


def check_rows(arm, rows):
    """Each arm must really see its rows: throughput over nothing means nothing."""
    seen = scratch.sql(arm.at, f"select count(*) from {arm.table}", PGOPTIONS=arm.options)
    if seen != str(rows):
        raise BenchError(f"{arm.name}: {arm.table} shows {seen} rows instead of {rows}")


def pgbench(arm, mode, clients, seconds, script):
    done = subprocess.run(
        [scratch.find_tool("pgbench"), "-n", "-M", mode, "-c", str(clients), "-j", str(min(clients, os.cpu_count() or 1)),
         "-T", str(seconds), "-f", script], env=scratch.environment(arm.at, PGOPTIONS=arm.options),
        capture_output=True, text=True, check=False, timeout=seconds + 60,
    )
    text = done.stdout

    def number(pattern):
        found = re.search(pattern, text)
        return float(found.group(1)) if found else 0.0

    result = {
        "transactions": number(r"transactions actually processed: (\d+)"),
        "tps": number(r"tps = ([\d.]+)"),
        "latency_ms": number(r"latency average = ([\d.]+)"),
    }
    failed = number(r"failed transactions: (\d+)")
    if done.returncode or failed or not result["transactions"]:
        raise BenchError(f"{arm.name}, {mode}, {clients} clients: pgbench failed\n{text[-500:]}{done.stderr[-1500:]}")
    return result


def measure(room, arms, options):
    scripts = {}
    for arm in arms:
        check_rows(arm, options.rows)
        scripts[arm.table] = room.write(
            f"{arm.table}.sql",
            f"\\set aid random(1, {options.rows})\nselect abalance from {arm.table} where aid = :aid;\n",
        )
    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds}")
        for mode in options.modes:
            for clients in options.clients:
                # Every other round goes backwards, so that no arm always comes after the same neighbour.
                for arm in arms if number % 2 == 0 else reversed(arms):
                    if mode not in arm.modes:
                        continue
                    before = scratch.cpu_us(arm.pid) if arm.pid else 0
                    result = pgbench(arm, mode, clients, options.seconds, scripts[arm.table])
                    if arm.pid:
                        result["cpu_us"] = (scratch.cpu_us(arm.pid) - before) / result["transactions"]
                    arm.samples.setdefault((mode, clients), []).append(result)
                    time.sleep(arm.settle)
    if options.syscalls:
        for arm in arms:
            if arm.pid:
                count_syscalls(room, arm, max(options.clients), scripts[arm.table])


def count_syscalls(room, arm, clients, script):
    mode, output = arm.modes[0], room.path("strace")
    pids = [p for pid in scratch.processes_of(arm.pid) for p in ("-p", str(pid))]
    tracer = subprocess.Popen(["strace", "-f", "-c", "-q", "-o", output, *pids], stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        transactions = pgbench(arm, mode, clients, 2, script)["transactions"]
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
    with open(output, encoding="utf-8") as file:
        for line in file:
            field = line.split()
            if len(field) >= 5 and field[3].isdigit() and field[-1] != "total":
                errors = int(field[4]) if len(field) > 5 else 0
                arm.syscalls[field[-1]] = (int(field[3]) / transactions, errors / transactions)


def median(arm, cell, what):
    values = [s[what] for s in arm.samples.get(cell, []) if what in s]
    return statistics.median(values) if values else None


def shown(value, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}"


def ratio(arm, base, cell, what):
    """The median of the ratios round by round: what one round's noise does to both cancels out."""
    if base is None:
        return None
    ours, theirs = arm.samples.get(cell, []), base.samples.get(cell, [])
    pairs = [a[what] / b[what] for a, b in zip(ours, theirs) if b.get(what) and what in a]
    return statistics.median(pairs) if pairs else None


def base_of(arms, arm, cell):
    """The PgBouncer that an arm is held against: over the same kind of socket, else whichever ran the cell."""
    bouncers = [b for b in arms if b.name.startswith("PgBouncer") and cell in b.samples]
    if "tcp" in arm.name:
        return next((b for b in bouncers if "tcp" in b.name), None)
    return next((b for b in bouncers if "unix" in b.name), bouncers[0] if bouncers else None)


def table(arms, options):
    out = []
    for mode in options.modes:
        for clients in options.clients:
            cell = (mode, clients)
            out.append(f"\n**{mode}, {clients} client{'s' if clients > 1 else ''}**\n")
            out.append("| arm | tps | mean ms | proxy CPU µs/txn | tps / direct | tps / PgBouncer | CPU / PgBouncer |")
            out.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
            for arm in arms:
                if cell not in arm.samples:
                    if mode not in arm.modes and "session" not in arm.name:
                        out.append(f"| {arm.name} | n/a | | | | | |")
                    continue
                base = base_of(arms, arm, cell)
                direct = next((a for a in arms if a.name == "direct"), None)
                out.append(
                    f"| {arm.name} | {shown(median(arm, cell, 'tps'))} | {shown(median(arm, cell, 'latency_ms'), 3)} "
                    f"| {shown(median(arm, cell, 'cpu_us'), 1)} | {shown(ratio(arm, direct, cell, 'tps'), 2)} "
                    f"| {shown(ratio(arm, base, cell, 'tps'), 2)} | {shown(ratio(arm, base, cell, 'cpu_us'), 2)} |"
                )
    notes = [f"{a.name}: {a.note}" for a in arms if a.note]
    if any("prepared" not in a.modes for a in arms):
        notes.append("n/a: this PgBouncer keeps no prepared statements in transaction mode (1.21 and later do)")
    return out + ([""] + [f"- {n}" for n in notes] if notes else [])


def earlier_table(arms, options):
    """Today's build against the earlier one, round by round."""
    ours, before = (next((a for a in arms if a.name == name), None) for name in ("pgcordon (unix)", EARLIER))
    if ours is None or before is None:
        return []
    out = ["\n**Today's build against the earlier one**\n", "| work | CPU | tps |", "| --- | ---: | ---: |"]
    for mode in options.modes:
        for clients in options.clients:
            ratios = (shown(ratio(ours, before, (mode, clients), what), 2) for what in ("cpu_us", "tps"))
            out.append(f"| {mode}, {clients} | {' | '.join(ratios)} |")
    return out


def syscall_table(arms, clients):
    out = [f"\n**System calls per transaction, {clients} clients** (in brackets: failed, mostly EAGAIN)\n"]
    for arm in arms:
        calls = sorted(arm.syscalls.items(), key=lambda item: -item[1][0])
        text = ", ".join(f"{n} {c:.2f}" + (f" ({e:.2f})" if e > 0.005 else "") for n, (c, e) in calls if c >= 0.005)
        if calls:
            out.append(f"- {arm.name}, {arm.modes[0]}: {text}; in all {sum(c for _, (c, _) in calls):.2f}")
    return out


def main():
    options = arguments()
    room = Scratch()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        arms = set_up(room, options)
        measure(room, arms, options)
        cpus, commit = os.cpu_count(), ""
        git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False,
                             cwd=os.path.dirname(os.path.abspath(__file__)))
        commit = f", commit {git.stdout.strip()}" if git.returncode == 0 else ""
        print(f"{time.strftime('%Y-%m-%d')}, {cpus} CPUs, {platform.system()} {platform.release()}{commit}; "
              f"medians of {options.rounds} rounds of {options.seconds} s, pool {options.pool}")
        print("\n".join(table(arms, options) + earlier_table(arms, options)))
        if options.syscalls:
            print("\n".join(syscall_table(arms, max(options.clients))))
        if options.idle:
            print("\n".join(idle.report([a for a in arms if a.pid and a.table == "bench_account"], options.idle)))
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump({a.name: {f"{m},{c}": s for (m, c), s in a.samples.items()} for a in arms}, file, indent=1)
        return 0
    except BenchError as problem:
        say(str(problem))
        for log in glob.glob(room.path("*pgcordon.log")):
            with open(log, encoding="utf-8") as file:
                say("the end of pgcordon's log:\n" + file.read()[-1500:])
        return 3
    except KeyboardInterrupt:
        return 130
    finally:
        room.close()


if __name__ == "__main__":
    sys.exit(main())
