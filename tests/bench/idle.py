"""Memory of idle clients: N connections that logged in and say nothing."""

import time

import load
import procs
from client import login
from works import script_of


def arms_of(field):
    """Whose memory is looked at. pgcordon's clients are spread over workspaces, for one may have a quarter of all."""
    arms = [arm for arm in field.proxies() if arm.pid]
    return [arm.but(f", {len(field.spread[arm.name])} workspaces", ways=field.spread[arm.name])
            if arm.name in field.spread else arm for arm in arms]


def measure(room, field, options):
    """Resident memory of each arm with its server connections open and nobody there, then with more and more idle clients.
    By the arm's name: what it was before, and with how many clients it was what, in KiB."""
    script, found = script_of(room, "warm", "select 1;\n"), {}
    for arm in arms_of(field):
        warm(arm, script, options)
        before, sockets, salted, steps = procs.resident_kib(arm.pid), [], {}, []
        try:
            for clients in sorted(options.idle):
                while len(sockets) < clients:
                    sockets.append(login(arm.ways[len(sockets) % len(arm.ways)], salted))
                time.sleep(1)
                steps.append((clients, procs.resident_kib(arm.pid)))
        finally:
            for sock in sockets:
                sock.close()
        found[arm.name] = {"kind": arm.kind, "before": before, "steps": steps}
    return found


def warm(arm, script, options):
    """Has every server connection opened that the pool may have."""
    if len(arm.ways) > 1:
        load.spread(arm, script, "simple", len(arm.ways), 1)
    else:
        load.run(arm, script, "simple", 3 * options.pool, 1)


def table(found):
    out = ["\n**Resident memory with idle clients, all server connections open**\n",
           "| arm | clients | without them MiB | with them MiB | KiB per client |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, memory in found.items():
        before = memory["before"]
        for clients, kib in memory["steps"]:
            out.append(f"| {name} | {clients:,} | {before / 1024:.1f} | {kib / 1024:.1f} | {(kib - before) / clients:.1f} |")
    return out
