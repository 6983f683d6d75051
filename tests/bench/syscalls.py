"""System calls per transaction, and how often a proxy writes to Postgres for one: a client whose workspace has a server
connection already should cause one write in the simple protocol, as through a proxy that knows no workspaces."""

import re
import signal
import subprocess
import time

import data
import load
import procs
from scratch import BenchError
from works import POINT, script_of

SECONDS = 2
# `12 sendto(9<UNIX-STREAM:[1->2]>, …`; a call that was interrupted in the listing is named again when it goes on.
BEGUN = re.compile(r"^\d+ +(\w+)\((\d+<([A-Z]+))?")
FAILED = re.compile(r"(\w+)(?:\(| resumed>).* = -1 ")
WRITES = ("sendto", "sendmsg", "write", "writev")


def measure(room, field, options):
    """By the name of a case: (calls per transaction, failed ones) by name, and the writes to Postgres per transaction."""
    script = script_of(room, "syscalls", f"\\set aid random(1, {options.rows})\n" + POINT.format(table="bench_account"))
    found, clients = {}, max(options.clients)
    for arm in [arm for arm in field.plain if arm.pid and "simple" in arm.modes]:
        found[f"{arm.name}, simple, {clients} clients"] = traced(
            room, arm, lambda arm=arm: load.run(arm, script, "simple", clients, SECONDS))
    for arm in field.proxies():
        ways = field.spread.get(arm.name)
        # Fewer workspaces than server connections: each keeps one. More: they change hands.
        for count in sorted({min(options.pool * 3 // 4, options.workspaces), options.workspaces}) if ways else []:
            spread = arm.but("", ways=ways[:count])
            data.check_rows(spread, options.rows)
            found[f"{arm.name}, simple, {count} clients of {count} workspaces"] = traced(
                room, spread, lambda spread=spread, count=count: load.spread(spread, script, "simple", count, SECONDS))
    return found


def traced(room, arm, work):
    output = room.path("strace")
    pids = [word for pid in procs.processes_of(arm.pid) for word in ("-p", str(pid))]
    tracer = subprocess.Popen(["strace", "-f", "-yy", "-s", "0", "-q", "-o", output, *pids], stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        if tracer.poll() is not None:
            raise BenchError(f"strace ended with exit code {tracer.returncode}")
        transactions = work()["done"]
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(30)
    return counted(output, transactions, arm.socket)


def counted(output, transactions, socket):
    calls, failed, upstream = {}, {}, 0
    with open(output, encoding="utf-8", errors="replace") as file:
        for line in file:
            if begun := BEGUN.match(line):
                name, kind = begun.group(1), begun.group(3)
                calls[name] = calls.get(name, 0) + 1
                upstream += name in WRITES and kind == "UNIX"
            if fault := FAILED.search(line):
                failed[fault.group(1)] = failed.get(fault.group(1), 0) + 1
    each = {name: (number / transactions, failed.get(name, 0) / transactions) for name, number in calls.items()}
    return {"calls": each, "upstream": upstream / transactions if socket == "unix" else None}


def table(found):
    out = ["\n**System calls per transaction** (in brackets: failed, mostly EAGAIN)\n",
           "| case | writes to Postgres | calls in all | of these |", "| --- | ---: | ---: | --- |"]
    for case, told in found.items():
        calls = sorted(told["calls"].items(), key=lambda item: -item[1][0])
        text = ", ".join(f"{n} {c:.2f}" + (f" ({e:.2f})" if e > 0.005 else "") for n, (c, e) in calls if c >= 0.005)
        upstream = "–" if told["upstream"] is None else f"{told['upstream']:.2f}"
        out.append(f"| {case} | {upstream} | {sum(c for _, (c, _) in calls):.2f} | {text} |")
    return out
