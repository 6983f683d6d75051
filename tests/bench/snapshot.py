"""What it costs that the proxy decides by a copy of all workspaces and keys, which it loads anew as a whole.

A reload at a known moment: the table of workspaces is locked, a key is revoked, and the load that follows waits for the lock. When
that is let go the load runs, and it is over when the client with the revoked key has been hung up on. Until then nothing can be
loaded, so the time before is what it is like without.
"""

import random
import tempfile
import threading
import time

import arms
import client
import load
import procs
import scratch
from population import Population
from report import shown
from scratch import BenchError, say
from works import POINT, script_of

SIZES = (1_000, 10_000, 100_000)
CLIENTS = 8
# Longer than the proxy rests after a load and waits before the next one, five seconds each.
LOADED_WITHIN = 30
# Seconds in which nothing is asked and nothing changes: three looks at the version or so.
QUIET = 15
# Changes at moments of chance, in each round.
CHANGES = 3
# Seconds in which a load is held off and nothing else happens.
BETWEEN_LOADS = 3
# Seconds between two logins beside the load.
BETWEEN_LOGINS = 0.02
# What a load asks first: it is the backend that waits with this.
LOADS = "select pid from pg_stat_activity where wait_event_type = 'Lock' and query like '%FROM cordon.workspace AS t%'"
CONTROL = "select pid from pg_stat_activity where usename = 'pgcordon_control'"
THREAD = "pgcordon-contro"


class Scene:
    """A proxy, its workspaces, and an administrator beside it."""

    def __init__(self, room, options):
        self.room, self.options = room, options
        settings = arms.settings(options, "", "")
        started = scratch.start_pgcordon(room, options.binary, options.pool, "snapshot-", settings)
        self.arm = arms.arm_of(started, arms.OURS, "pgcordon", options, "unused", False)
        self.admin, self.pid = self.arm.admin, self.arm.pid
        self.population, self.revoked = Population(self.admin, started[1]), 0
        self.script = script_of(room, "snapshot", f"\\set aid random(1, {options.rows})\n" + POINT.format(table="bench_account"))

    def administrator(self):
        return client.login(self.admin, {})

    def victim(self):
        """A session of a key that is good, and what revokes that, as `pgcordon key revoke` does."""
        self.revoked += 1
        way = self.population.way(self.revoked)
        return (client.login(way, self.population.salted),
                f"update cordon.api_key set revoked_at = now() where key_id = '{way['user']}'")


def measure(room, options):
    """By how many workspaces there are: samples of what was measured."""
    scene, found = Scene(room, options), {}
    for size in SIZES:
        scene.population.become(size)
        rounds = []
        for number in range(options.rounds):
            say(f"round {number + 1} of {options.rounds}: snapshot: {size:,} workspaces")
            rounds.append({**start(scene), **quiet(scene), **changes(scene), **reload_beside(scene)})
        found[size] = rounds
    return found


def start(scene):
    """A second proxy: how long until it has let its first client in, and its memory then."""
    begin = time.monotonic()
    process, port = scratch.start_serve(scene.room, scene.options.binary, scene.admin, "snapshot")
    way = {**scene.arm.ways[0], "port": port}
    try:
        while True:
            try:
                client.leave(client.login(way, scene.population.salted))
                break
            except OSError as problem:
                if process.poll() is not None or time.monotonic() > begin + LOADED_WITHIN:
                    raise BenchError(f"the second proxy didn't start: {problem}") from problem
                time.sleep(0.005)
        return {"start_ms": (time.monotonic() - begin) * 1000, "fresh_mib": procs.resident_of(process.pid) / 1024}
    finally:
        scene.room.end(process)


def quiet(scene):
    """What the proxy and Postgres take while nothing is asked and nothing changes, and how long the first transaction takes that
    comes afterwards, and the next one."""
    with client.login(scene.arm.ways[0], scene.population.salted) as sock:
        ask = "select abalance from bench_account where aid = 1"
        client.ask(sock, ask)
        backends = scratch.sql(scene.admin, CONTROL).split()
        before = [sum(procs.cpu_of(scene.pid)), sum(sum(procs.cpu_of(pid)) for pid in backends)]
        time.sleep(QUIET)
        ours, theirs = sum(procs.cpu_of(scene.pid)), sum(sum(procs.cpu_of(pid)) for pid in backends)
        first, second = (timed(lambda: client.ask(sock, ask)) for _ in range(2))
    return {"quiet_cpu": (ours - before[0]) / 1000 / QUIET, "quiet_postgres": (theirs - before[1]) / 1000 / QUIET,
            "first_ms": first, "second_ms": second, "quiet_mib": procs.resident_of(scene.pid) / 1024}


def timed(work):
    begin = time.monotonic()
    work()
    return (time.monotonic() - begin) * 1000


def changes(scene):
    """How long it takes from a key's revocation until its client is hung up on, at moments of chance."""
    took = []
    with scene.administrator() as admin:
        for _ in range(CHANGES):
            time.sleep(random.uniform(0, 5))
            victim, revoke = scene.victim()
            client.ask(admin, revoke)
            took.append(timed(lambda victim=victim: hung_up(victim)))
    return {"changes_ms": took}


def hung_up(sock):
    with sock:
        sock.settimeout(LOADED_WITHIN)
        while sock.recv(4096):
            pass


class Logins(procs.Beside):
    """Logs in: when each was over, and how many milliseconds it took."""

    def __init__(self, way, salted):
        super().__init__(BETWEEN_LOGINS)
        self.way, self.salted, self.lines = way, salted, []

    def turn(self):
        took = timed(lambda: client.leave(client.login(self.way, self.salted)))
        self.lines.append((time.time(), took))


def reload_beside(scene):
    """One reload while clients select and others log in."""
    victim, revoke = scene.victim()
    with scene.administrator() as holder, scene.administrator() as admin, tempfile.TemporaryDirectory() as logs:
        client.ask(holder, "begin; lock table cordon.workspace in access exclusive mode")
        client.ask(admin, revoke)
        backend = waiting(scene)
        before, at = procs.resident_of(scene.pid), procs.Stopwatch(scene.pid, THREAD)
        time.sleep(BETWEEN_LOADS)
        between = at.ms() / BETWEEN_LOADS
        with Logins(scene.arm.ways[0], scene.population.salted) as logins, procs.Peak(scene.pid) as peak:
            seconds = 2 * scene.options.seconds
            crowd = threading.Thread(target=load.run_in, args=(
                logs, scene.arm, scene.script, "simple", CLIENTS, seconds, "-l"))
            crowd.start()
            time.sleep(scene.options.seconds)
            spent = procs.Stopwatch(scene.pid, THREAD), procs.Stopwatch(backend, "")
            begin = time.time()
            client.ask(holder, "commit")
            hung_up(victim)
            end = time.time()
            time.sleep(0.2)
            ours, theirs = (each.ms() for each in spent)
            crowd.join()
        lines = load.logged(logs)
    return {"between_cpu": between, "reload_ms": (end - begin) * 1000, "reload_cpu": ours, "reload_postgres": theirs,
            "rss_before": before / 1024, "rss_peak": peak.kib / 1024, "rss_after": procs.resident_of(scene.pid) / 1024,
            **held_against("select", lines, begin, end), **held_against("login", logins.lines, begin, end)}


def waiting(scene):
    """The backend of the load that waits for the lock, as soon as there is one."""
    end = time.monotonic() + LOADED_WITHIN
    while time.monotonic() < end:
        found = scratch.sql(scene.admin, LOADS)
        if found:
            return int(found.split()[0])
        time.sleep(0.02)
    raise BenchError(f"no load of the control data within {LOADED_WITHIN} s")


def held_against(what, lines, begin, end):
    """The latencies of what was over before a reload began, and of what was over while it ran or stood through it."""
    without = sorted(took for at, took in lines if lines[0][0] + 0.3 < at <= begin)
    beside = sorted(took for at, took in lines if at > begin and at - took / 1000 < end)
    told = {f"{what}_{name}": (load.share(found, 0.99), max(found, default=float("nan")))
            for name, found in (("without", without), ("beside", beside))}
    return {f"{key}_{which}": value for key, both in told.items() for which, value in zip(("p99", "max"), both)}


def samples(found):
    """For --json."""
    return found


def column(rounds, what, digits=1):
    return shown([each[what] for each in rounds], digits)


def table(found):
    out = ["\n**snapshot: one reload**\n",
           "| workspaces | ms until it holds | proxy's CPU ms | Postgres' CPU ms | MiB before | at most | after |",
           "| ---: |" + " ---: |" * 6]
    whole = ("reload_ms", "reload_cpu", "reload_postgres", "rss_before", "rss_peak", "rss_after")
    out += [line(size, (column(rounds, what) for what in whole)) for size, rounds in found.items()]
    out += [f"\n**snapshot: {CLIENTS} clients that select, and logins, without a reload → beside one, ms**\n",
            "| workspaces | select p99 | select most | login p99 | login most |", "| ---: |" + " ---: |" * 4]
    pairs = [f"{what}_{{}}_{which}" for what in ("select", "login") for which in ("p99", "max")]
    out += [line(size, (" → ".join(column(rounds, pair.format(when)) for when in ("without", "beside")) for pair in pairs))
            for size, rounds in found.items()]
    out += ["\n**snapshot: what it takes always**\n",
            "| workspaces | start to first login ms | MiB then | MiB later | CPU ms/s while nothing happens | of it without loads "
            "| Postgres' | first transaction after that ms | the next | ms until a change holds |", "| ---: |" + " ---: |" * 9]
    always = (("start_ms", 0), ("fresh_mib", 1), ("quiet_mib", 1), ("quiet_cpu", 1), ("between_cpu", 1),
              ("quiet_postgres", 1), ("first_ms", 1), ("second_ms", 1))
    for size, rounds in found.items():
        took = [each for sample in rounds for each in sample["changes_ms"]]
        out.append(line(size, [*(column(rounds, what, digits) for what, digits in always), shown(took)]))
    return out


def line(size, columns):
    return f"| {size:,} | {' | '.join(columns)} |"
