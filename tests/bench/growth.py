"""What a transaction costs as more takes part: active clients, workspaces, server connections. In each series the other two stay
as they are."""

import dataclasses
import os
import time
import typing

import arms
import data
import procs
import scratch
import steady
from population import Population
from report import shown
from scratch import ROLE, say
from works import POINT, script_of

CLIENTS = (1, 8, 64, 200, 500)
KNOWN = (2, 100, 1_000, 10_000)
TAKING_PART = (1, 15, 64)
BACKENDS = (1, 5, 20, 100, 200)
# Of the series in which it isn't the number of clients that grows.
CLIENTS_HELD = 64
CLIENTS_OF_BACKENDS = 200
# From how many times the least cost of its series on a point isn't flat.
FLAT = 1.25
# How long what follows a walk over all workspaces may take: records that are shipped, sockets that are closed.
SETTLE = 3
# Several loads of the control data, until what they take of memory has been taken.
LOADED_AGAIN = 16


@dataclasses.dataclass
class Point:
    """One number of one series, through one proxy."""

    name: str
    through: str
    measure: typing.Callable
    samples: list = dataclasses.field(default_factory=list)

    def cpu(self):
        """The least of the rounds: noise only adds."""
        return min(sample["cpu_us"] for sample in self.samples)


@dataclasses.dataclass
class Series:
    """What grows, the points in their order, and what is to be said beside them."""

    name: str
    heading: str
    points: list
    against: str = "PgBouncer"  # through which proxy a point is held against at the same number
    notes: list = dataclasses.field(default_factory=list)

    def ratios(self, point):
        """A point's CPU time in proportion to that of the same number through the other proxy, round by round."""
        if point.through == self.against:
            return []
        other = next((each for each in self.points if (each.name, each.through) == (point.name, self.against)), None)
        return [a["cpu_us"] / b["cpu_us"] for a, b in zip(point.samples, other.samples)] if other else []


class Ground:
    """A Postgres with room for all server connections, its control data, and what asks it."""

    def __init__(self, room, options):
        self.room, self.options = room, options
        settings = arms.settings(options, "", "")
        started = scratch.start_pgcordon(room, options.binary, max(BACKENDS), "growth-", settings)
        password, told = os.urandom(16).hex(), started[1]
        self.base = arms.arm_of(started, arms.OURS, "pgcordon", options, password, False)
        self.admin = self.base.admin
        self.sockets = data.open_the_door(self.admin, self.admin["database"])
        self.direct = {**self.admin, "user": ROLE, "password": password}
        self.population = Population(self.admin, told)
        self.script = script_of(room, "growth", f"\\set aid random(1, {options.rows})\n" + POINT.format(table="bench_account"))

    def ours(self, size):
        """A proxy of ours with so many server connections, of which one workspace may hold all. Returns (arm, process)."""
        process, port = scratch.start_serve(self.room, self.options.binary, self.admin, "growth", pool__size=size,
                                            pool__workspace_max=size if size > 1 else 0)
        scratch.wait_for("pgcordon", lambda: scratch.listens(port), process)
        way = {**self.base.ways[0], "port": port}
        return dataclasses.replace(self.base, name="pgcordon", ways=[way], pid=process.pid), process

    def bouncer(self, size):
        """The same of PgBouncer."""
        name, way = f"growth-pgbouncer-{size}", self.direct
        process, port = scratch.start_pgbouncer(self.room, name, way, self.sockets, "transaction", size)
        return arms.Arm("PgBouncer", "pgbouncer", [{**way, "port": port}], self.admin, "unix", pid=process.pid), process

    def steady(self, arm, clients):
        return steady.run(arm, self.script, clients, self.options.seconds)

    def measure(self, series):
        """All points, in as many rounds as there are to be."""
        for number in range(self.options.rounds):
            for point in series.points:
                say(f"round {number + 1} of {self.options.rounds}: growth: {series.name}: {point.name}, {point.through}")
                point.samples.append(point.measure())
        return series


def measure(room, options):
    ground = Ground(room, options)
    return [of_clients(ground), *of_workspaces(ground), of_backends(ground)]


def of_clients(ground):
    """One workspace with more and more clients."""
    started = [ground.ours(ground.options.pool), ground.bouncer(ground.options.pool)]
    points = [Point(f"{clients:,}", arm.name, lambda arm=arm, clients=clients: ground.steady(arm, clients))
              for clients in CLIENTS for arm, _ in started]
    title = f"active clients of one workspace, {ground.options.pool} server connections"
    series = ground.measure(Series(title, "clients", points))
    ground.room.end(*(process for _, process in started))
    return series


def of_workspaces(ground):
    """More and more workspaces that the proxy knows of, then that take part, through a proxy that only knows them all and through
    one that all of them have come by."""
    quiet, process = ground.ours(ground.options.pool)

    def known(count):
        ground.population.become(count - 2, quiet)
        return ground.steady(quiet, CLIENTS_HELD)

    # Two are there from the beginning.
    points = [Point(f"{count:,}", quiet.name, lambda count=count: known(count)) for count in KNOWN]
    yield ground.measure(Series(f"workspaces that are known, {CLIENTS_HELD} clients of one of them", "workspaces", points))

    ground.population.become(KNOWN[-1] - 2, quiet)
    walked, other = ground.ours(ground.options.pool)
    note = walk(ground, walked)
    names = {"none has come by": quiet, "all have come by": walked}
    points = [Point(f"{count:,}", name, lambda arm=spread(ground, arm, count): ground.steady(arm, CLIENTS_HELD))
              for count in TAKING_PART for name, arm in names.items()]
    title = f"workspaces that take part, {CLIENTS_HELD} clients, {KNOWN[-1]:,} known"
    yield ground.measure(Series(title, "workspaces", points, "none has come by", [note]))
    ground.room.end(process, other)
    ground.population.become(0)


def spread(ground, arm, count):
    """The arm with a way for each client, over so many workspaces: one pgbench for each, with one workspace as well."""
    return arm.but("", ways=[ground.population.way(number % count + 1, arm) for number in range(CLIENTS_HELD)])


def walk(ground, arm):
    """Has all workspaces come by. What that left behind in the proxy's memory, as a line."""
    say(f"growth: {ground.population.count:,} workspaces come by")
    ground.steady(arm, CLIENTS_HELD)
    time.sleep(LOADED_AGAIN)
    before = procs.resident_of(arm.pid)
    took = ground.population.walk(arm, "select abalance from bench_account where aid = 1")
    time.sleep(SETTLE)
    after = procs.resident_of(arm.pid)
    count = ground.population.count
    return (f"{count:,} workspaces came by within {took:.0f} s, one after the other, with one transaction each: "
            f"{before / 1024:.1f} MiB before, {after / 1024:.1f} after, {(after - before) / count:.2f} KiB for each.")


def of_backends(ground):
    """More and more server connections. Each point has a proxy of its own, for what others hold would be Postgres' to carry."""
    def alone(start, size):
        arm, process = start(size)
        try:
            return ground.steady(arm, CLIENTS_OF_BACKENDS)
        finally:
            ground.room.end(process)

    points = [Point(f"{size:,}", name, lambda start=start, size=size: alone(start, size))
              for size in BACKENDS for name, start in (("pgcordon", ground.ours), ("PgBouncer", ground.bouncer))]
    return ground.measure(Series(f"server connections, {CLIENTS_OF_BACKENDS} clients of one workspace", "connections", points))


def samples(found):
    """For --json."""
    return {f"{series.name}: {point.name}, {point.through}": point.samples for series in found for point in series.points}


def table(found):
    return [line for series in found for line in table_of(series)]


def table_of(series):
    out = [f"\n**growth: {series.name}**\n",
           f"| {series.heading} | through | CPU µs/transaction | / least | / {series.against} | tps | p50 ms | p99 ms | MiB |",
           "| ---: | --- |" + " ---: |" * 7]
    least = {point.through: min(p.cpu() for p in series.points if p.through == point.through) for point in series.points}
    steep = []
    for point in series.points:
        columns = [shown([sample[what] for sample in point.samples], digits, whole) for what, digits, whole in
                   (("cpu_us", 1, True), ("rate", 0, True), ("p50_ms", 2, False), ("p99_ms", 2, False), ("rss_mib", 1, False))]
        times = point.cpu() / least[point.through]
        beside = shown(series.ratios(point), 2)
        out.append(f"| {point.name} | {point.through} | {columns[0]} | {times:.2f} | {beside} | {' | '.join(columns[1:])} |")
        if times > FLAT:
            steep.append(f"{point.name} ({point.through}, {times:.2f})")
    flat = f"Not flat, at more than {FLAT} of the least: {', '.join(steep)}." if steep else "Flat."
    return out + ["", *series.notes, flat]
