"""Paired, interleaved rounds of work: direct, through PgBouncer, through pgcordon and through what else is given.

Every cell is measured once in each round, arms back to back, and the median over the rounds is reported: on a noisy
machine compare the ratios and the proxy's CPU time, not the absolute throughput. Standard library only.
"""

import argparse
import glob
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time

import arms
import bulk
import data
import growth
import idle
import procs
import report
import snapshot
import summary
import syscalls
import works
from scratch import BenchError, Scratch, say

# In the order in which a round goes through them.
WORKS = {
    "select": works.select, "workspaces": works.workspaces, "tpcb": works.tpcb, "bulk": bulk.bulk, "logins": works.logins,
    "literals": works.literals, "tls": works.tls,
}

# What is measured only when it is asked for, each on a Postgres of its own.
ASKED = {"growth": growth, "snapshot": snapshot}


def parser():
    made = argparse.ArgumentParser(prog="tests/bench/run.sh", description=__doc__)
    made.add_argument("--works", default="", help=f"of {','.join([*WORKS, 'idle', *ASKED])}: {','.join(WORKS)} by default")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--seconds", type=int, default=3, help="of each measurement")
    made.add_argument("--clients", default="1,8,64", help="of select")
    made.add_argument("--modes", default=",".join(arms.MODES), help="of select and workspaces")
    made.add_argument("--pool", type=int, default=20, help="server connections of each pooler")
    made.add_argument("--rows", type=int, default=100_000)
    made.add_argument("--workspaces", type=int, default=64, help="and as many clients, of the work workspaces")
    made.add_argument("--quick", action="store_true", help="under three minutes: 2 rounds of 2 s, 64 clients, fewer arms")
    made.add_argument("--large", action="store_true", help="COPY out of 1 GB instead of 100 MB")
    made.add_argument("--only", default="", help="only arms whose name contains one of these, comma-separated")
    made.add_argument("--no-policies", dest="policies", action="store_false",
                      help="leave out the arms with row-level security")
    made.add_argument("--without-pgcordon", action="store_true", help="own scratch Postgres, direct and PgBouncer only")
    made.add_argument("--against", default="", metavar="FILE",
                      help="an earlier build of pgcordon, as an arm of its own with a Postgres of its own")
    made.add_argument("--proxy", action="append", default=[], metavar="NAME=HOST:PORT:USER:PASSWORD:DATABASE[:PID]",
                      help="any other proxy, whose user may create tables behind it; may be given again")
    made.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                      help="something of pgcordon's configuration, as TOML has it; may be given again")
    made.add_argument("--idle", default="", metavar="N,…", help="memory with so many idle clients (default of --works idle: 1000)")
    made.add_argument("--syscalls", action="store_true", help="also count system calls with strace, on short runs")
    made.add_argument("--json", metavar="FILE", help="write every sample there")
    made.add_argument("--binary", default="target/release/pgcordon", help=argparse.SUPPRESS)
    return made


def arguments():
    made = parser()
    options = made.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.clients, options.policies = 2, 2, "64", False
    options.clients = [int(c) for c in options.clients.split(",")]
    options.works = [w for w in options.works.split(",") if w] or list(WORKS)
    options.modes = [m for m in options.modes.split(",") if m]
    options.idle = [int(n) for n in options.idle.split(",") if n] or ([1000] if "idle" in options.works else [])
    if options.idle and "idle" not in options.works:
        options.works.append("idle")
    for what, asked, known in (("work", options.works, [*WORKS, "idle", *ASKED]), ("mode", options.modes, arms.MODES)):
        unknown = [each for each in asked if each not in known]
        if unknown:
            made.error(f"no such {what}: {', '.join(unknown)} (there are {', '.join(known)})")
    options.set = [setting(made, text) for text in options.set]
    return options


def setting(made, text):
    """SECTION.KEY=VALUE taken apart."""
    name, equals, value = text.partition("=")
    section, _, key = name.rpartition(".")
    if not (equals and section and key):
        made.error(f"--set {text}: that isn't SECTION.KEY=VALUE")
    return section, key, value


def measure(cells, options):
    for number in range(options.rounds):
        for cell in cells:
            say(f"round {number + 1} of {options.rounds}: {cell.work}: {cell.name}")
            for arm in cell.arms:
                cell.samples.setdefault(arm.name, []).append(sample(cell, arm))
                time.sleep(arm.settle)


def sample(cell, arm):
    """One measurement, with the proxy's CPU time for each of what was done."""
    before = procs.cpu_us(arm.pid) if arm.pid else None
    result = cell.measure(arm)
    if before:
        user, system = (after - at for after, at in zip(procs.cpu_us(arm.pid), before))
        result.update({name: us / result["done"] for name, us in
                       (("user_us", user), ("system_us", system), ("cpu_us", user + system))})
    return result


def circumstances(options):
    """When and on what this was measured."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False,
                         cwd=os.path.dirname(os.path.abspath(__file__)))
    commit = f", commit {git.stdout.strip()}" if git.returncode == 0 else ""
    told = "".join(f", {section}.{key} = {value}" for section, key, value in options.set)
    return (f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}{commit}; "
            f"medians (least–most) of {options.rounds} rounds of {options.seconds} s, pool {options.pool}{told}")


def run(room, options):
    cells, memory, calls = [], {}, {}
    if {*WORKS, "idle"} & set(options.works) or options.syscalls:
        cells, memory, calls = beside_each_other(room, options)
    alone = {name: work.measure(room, options) for name, work in ASKED.items() if name in options.works}
    print(circumstances(options))
    lines = report.everything(cells)
    lines += idle.table(memory) if memory else []
    lines += syscalls.table(calls) if calls else []
    lines += [line for name, found in alone.items() for line in ASKED[name].table(found)]
    print("\n".join(lines + summary.table(cells, memory)))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"cells": {f"{cell.work}: {cell.name}": cell.samples for cell in cells}, "idle": memory,
                       "syscalls": calls, **{name: ASKED[name].samples(found) for name, found in alone.items()}}, file, indent=1)


def beside_each_other(room, options):
    """The works that hold arms against each other."""
    field = arms.set_up(room, options)
    try:
        for arm in field.plain + field.policies:
            data.check_rows(arm, options.rows)
        chosen = [work for name, work in WORKS.items() if name in options.works]
        cells = [cell for work in chosen for cell in work(room, field, options) if cell.arms]
        measure(cells, options)
        memory = idle.measure(room, field, options) if options.idle else {}
        calls = syscalls.measure(room, field, options) if options.syscalls else {}
    finally:
        for at in field.made_by_us:
            data.take_away(at)
    return cells, memory, calls


def main():
    options = arguments()
    # Idle clients, and poolers that are started from here, need as many open files as there may be.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = Scratch()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(room, options)
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
