"""A quiet tenant beside one that floods, through PgBouncer and through pgcordon, in interleaved rounds.

The quiet tenant asks for a row, 50 times a second on two connections; its latencies are reported, counted from the moment at which
each was due. The flood is a second tenant with many connections, which for PgBouncer is the same user, as tenants of one
application are. Standard library only.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import data
import load
import scratch
from scratch import BenchError, Scratch, say

QUIET = "\\set aid random(1, 1000)\nselect abalance from bench_account where aid = :aid;\n"
FLOODS = {
    "nothing": "",
    "busy": "\\set aid random(1, 90000)\n"
            "select sum(abalance) from bench_account where aid between :aid and :aid + 5000;\n",
    # Each transaction does next to nothing, and stays open for two seconds.
    "open transactions": "begin;\nselect 1;\n\\sleep 2 s\nend;\n",
}


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/run.sh fair", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6, help="of each measurement")
    parser.add_argument("--clients", type=int, default=500, help="of the flood")
    parser.add_argument("--pool", type=int, default=20, help="server connections of each pooler")
    parser.add_argument("--binary", required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def pgbench(at, script, *options):
    return [scratch.find_tool("pgbench"), "-n", "-f", script, *map(str, options), at["database"]]


def latencies(at, room, script, seconds):
    """Of the quiet tenant, in milliseconds."""
    with tempfile.TemporaryDirectory(dir=room.directory) as logs:
        command = pgbench(at, script, "-M", "extended", "-c", 2, "-j", 1, "-R", 50, "-T", seconds, "-l")
        done = subprocess.run(command, cwd=logs, env=scratch.environment(at), capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"the quiet tenant failed: {done.stderr[-500:]}")
        return sorted(latency for _, latency in load.logged(logs))


def beside(quiet, noisy, flood, room, scripts, options):
    """The quiet tenant's latencies while the other one floods."""
    if not scripts[flood]:
        return latencies(quiet, room, scripts["quiet"], options.seconds)
    command = pgbench(noisy, scripts[flood], "-c", options.clients, "-j", 2, "-T", options.seconds + 30)
    crowd = subprocess.Popen(command, env=scratch.environment(noisy), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(4)
        if crowd.poll() is not None:
            raise BenchError(f"the flood ended with exit code {crowd.returncode}")
        return latencies(quiet, room, scripts["quiet"], options.seconds)
    finally:
        crowd.kill()
        crowd.wait()
        time.sleep(2)


def set_up(room, options):
    """By name: the quiet tenant's and the noisy one's way to the same rows."""
    _, told = scratch.start_pgcordon(room, options.binary, options.pool)
    acme, globex = (scratch.parts(workspace["dsn"]) for workspace in told["workspaces"][:2])
    admin = {**scratch.parts(told["upstream"]["admin_dsn"]), "database": acme["database"]}
    password = os.urandom(16).hex()
    data.prepare(admin, scratch.sql(acme, "select quote_ident(current_user)"), 100_000, password)
    data.open_the_door(admin, admin["database"])
    direct = {**admin, "user": scratch.ROLE, "password": password}
    _, port = scratch.start_pgbouncer(room, "pgbouncer", direct, direct["host"], "transaction", options.pool)
    through = {**direct, "host": "127.0.0.1", "port": port}
    return {"PgBouncer": (through, through), "pgcordon": (globex, acme)}


def main():
    options = arguments()
    room = Scratch()
    try:
        ways = set_up(room, options)
        scripts = {"quiet": room.write("quiet.sql", QUIET)}
        for number, (name, text) in enumerate(FLOODS.items()):
            scripts[name] = room.write(f"flood{number}.sql", text) if text else ""
        for script in filter(None, scripts.values()):
            os.chmod(script, 0o644)
        samples = {}
        for number in range(options.rounds):
            for flood in FLOODS:
                for name, (quiet, noisy) in ways.items():
                    say(f"round {number + 1}: {name} beside {flood}")
                    found = beside(quiet, noisy, flood, room, scripts, options)
                    samples.setdefault((flood, name), []).append((load.share(found, 0.5), load.share(found, 0.99), len(found)))
        print("| beside | through | p50 ms | p99 ms | answered |\n| --- | --- | ---: | ---: | ---: |")
        for (flood, name), rounds in samples.items():
            p50, p99, answered = (statistics.median(values) for values in zip(*rounds))
            print(f"| {flood} | {name} | {p50:.1f} | {p99:.1f} | {answered:.0f} of {50 * options.seconds} |")
    except BenchError as error:
        say(error)
        return 3
    finally:
        room.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
