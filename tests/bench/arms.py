"""The ways to the same rows that are held against each other."""

import dataclasses
import os
import re

import data
import scratch
from scratch import ROLE, BenchError, say

MODES = ("simple", "extended", "prepared")
OURS = "pgcordon (unix)"
EARLIER = "pgcordon earlier (unix)"


@dataclasses.dataclass
class Arm:
    """One way to the same database."""

    name: str
    kind: str  # direct, pgbouncer, pgcordon, earlier or other
    ways: list  # targets: more than one where clients are spread over workspaces
    admin: dict  # who may look into the tables and empty them
    socket: str = "tcp"  # to Postgres
    table: str = "bench_account"
    pid: int | None = None
    modes: tuple = MODES
    options: str = ""
    sslmode: str = "disable"
    note: str = ""
    settle: float = 0  # seconds until what it held is free again for the other arms
    encrypted: bool = False  # whether TLS is offered

    def environment(self, way):
        return scratch.environment(way, PGOPTIONS=self.options, PGSSLMODE=self.sslmode)

    def but(self, suffix, **changes):
        """The same in another way."""
        return dataclasses.replace(self, name=f"{self.name}{suffix}", **changes)


@dataclasses.dataclass
class Field:
    """All that was started, for the works to take their arms from."""

    plain: list  # without policies, one workspace: direct, PgBouncer, pgcordon, earlier, others
    policies: list  # the same rows behind row-level security
    spread: dict  # by the name of an arm: targets of as many workspaces
    password_bouncers: list  # PgBouncers that ask for a password
    made_by_us: list  # targets to take the tables away from

    def of(self, *kinds, socket=None):
        return [a for a in self.plain if a.kind in kinds and (socket is None or a.socket == socket or a.kind == "other")]

    def proxies(self):
        """What is compared in every work: the quickest way to Postgres of each proxy."""
        bouncers = [b for b in self.of("pgbouncer", socket="unix") if "simple" in b.modes]
        return bouncers + self.of("pgcordon", "earlier", "other")


def set_up(room, options):
    """Starts everything."""
    password = os.urandom(16).hex()
    chain, key = scratch.certificate(room) if "tls" in options.works else ("", "")
    ours, admin, told = None, None, None
    if options.without_pgcordon:
        admin = scratch.start_postgres(room)
        data.prepare(admin, "", options.rows, password)
    else:
        ours, told = start_ours(room, options, password, chain, key)
        admin = ours.admin
    make_sure_of_room(admin, options)
    sockets = data.open_the_door(admin, admin["database"])
    direct = Arm("direct", "direct", [{**admin, "user": ROLE, "password": password}], admin)
    field = Field([direct, *bouncers(room, direct, sockets, options, chain, key)], [], {}, [], [])
    if ours:
        field.plain.append(ours)
    if ours and options.against:
        field.plain.append(earlier(room, options, password, chain, key))
    for given in options.proxy:
        field.plain.append(other(given, options.rows, field))
    if options.policies:
        field.policies = policies(direct, ours, told)
    if "logins" in options.works:
        field.password_bouncers = password_bouncers(room, direct, sockets, options)
    if {"workspaces", "idle"} & set(options.works) or options.syscalls:
        spread_out(field, options)
    if options.only:
        wanted = options.only.split(",")
        for arms in (field.plain, field.policies, field.password_bouncers):
            arms[:] = [arm for arm in arms if any(word in arm.name for word in wanted)]
    return field


def settings(options, chain, key):
    """What pgcordon is told beside its defaults."""
    tls = [("tls", "certificate", f'"{chain}"'), ("tls", "key", f'"{key}"')] if chain else []
    return [("server", "connections_max", str(scratch.CLIENTS_MAX)), *tls, *options.set]


def start_ours(room, options, password, chain, key):
    """pgcordon and the data behind it. Returns its arm, and what it told of itself."""
    started = scratch.start_pgcordon(room, options.binary, options.pool, settings=settings(options, chain, key))
    return arm_of(started, OURS, "pgcordon", options, password, bool(chain)), started[1]


def earlier(room, options, password, chain, key):
    """An earlier build beside today's. It migrates its own way, so it has a cluster of its own, which the same data is in."""
    def start(*more):
        return scratch.start_pgcordon(room, options.against, options.pool, EARLIER.split()[1], *more)

    try:
        started, encrypted = start(settings(options, chain, key)), bool(chain)
    except BenchError:
        say("the earlier build doesn't start with this configuration: it is measured with its defaults, and without TLS")
        started, encrypted = start(), False
    return arm_of(started, EARLIER, "earlier", options, password, encrypted)


def arm_of(started, name, kind, options, password, encrypted):
    """Puts the data behind a pgcordon that was started."""
    process, told = started
    app = scratch.parts(told["workspaces"][0]["dsn"])
    admin = {**scratch.parts(told["upstream"]["admin_dsn"]), "database": app["database"]}
    data.prepare(admin, scratch.sql(app, "select quote_ident(current_user)"), options.rows, password)
    return Arm(name, kind, [app], admin, "unix", pid=process.pid, encrypted=encrypted)


def make_sure_of_room(admin, options):
    places, clients = int(scratch.sql(admin, "show max_connections")), max(options.clients)
    if places < clients + 3 * options.pool + 15:
        raise BenchError(f"max_connections = {places} is too small for {clients} direct clients beside "
                         f"three pools of {options.pool}: fewer --clients, or a larger --pool for pgcordon dev")


def bouncers(room, direct, sockets, options, chain, key):
    """PgBouncer by TCP and by the socket, and, where it keeps no prepared statements otherwise, in session mode."""
    version = scratch.bouncer_version()
    label = "PgBouncer " + ".".join(map(str, version))
    transaction = MODES if version >= (1, 21) else ("simple", "extended")
    kinds = [("tcp", "127.0.0.1", "transaction", transaction), ("unix", sockets, "transaction", transaction)]
    if "prepared" not in transaction:
        kinds.append(("unix, session mode", sockets, "session", ("prepared",)))
    tls = f"client_tls_sslmode = allow\nclient_tls_key_file = {key}\nclient_tls_cert_file = {chain}" if chain else ""
    arms = []
    for kind, host, mode, modes in kinds:
        size = options.pool if mode == "transaction" else max(options.clients)
        name = "pgbouncer-" + re.sub(r"\W+", "-", kind)
        process, port = scratch.start_pgbouncer(room, name, direct.ways[0], host, mode, size, more=tls)
        arm = Arm(f"{label} ({kind})", "pgbouncer", [{**direct.ways[0], "port": port}], direct.admin,
                  kind.split(",", maxsplit=1)[0], pid=process.pid, modes=modes, encrypted=bool(chain))
        if mode == "session":
            arm.note, arm.settle = "holds a server connection for each client", 2.5
        arms.append(arm)
    return arms


def password_bouncers(room, direct, sockets, options):
    """PgBouncers that ask for a password by SCRAM: one that is told the password, one that is told what Postgres keeps of it."""
    verifier = scratch.sql(direct.admin, f"select rolpassword from pg_authid where rolname = '{ROLE}'")
    arms = []
    for kind, secret in (("password", ""), ("verifier", verifier)):
        process, port = scratch.start_pgbouncer(room, f"pgbouncer-{kind}", direct.ways[0], sockets, "transaction",
                                                options.pool, "scram-sha-256", secret)
        arms.append(Arm(f"PgBouncer (unix), its auth_file has the {kind}", "pgbouncer",
                        [{**direct.ways[0], "port": port}], direct.admin, "unix", pid=process.pid))
    return arms


def policies(direct, ours, told):
    """The same rows behind row-level security."""
    arms = [direct.but(", plain policy", table="bench_plain", options=f"-c app.workspace_id={data.WORKSPACE}")]
    if ours:
        # The sealed rows belong to the workspace that asks, or the policy would rightly show none.
        workspace = told["workspaces"][0]["id"]
        scratch.sql(ours.admin,
                    f"update bench_sealed set workspace_id = '{workspace}'; vacuum full analyze bench_sealed;")
        arms.append(ours.but(", sealed policy", table="bench_sealed"))
    return arms


def other(given, rows, field):
    """Somebody else's proxy: NAME=HOST:PORT:USER:PASSWORD:DATABASE[:PID]."""
    name, _, place = given.partition("=")
    words = place.split(":")
    if not name or len(words) not in (5, 6) or not words[1].isdigit() or not all(w.isdigit() for w in words[5:]):
        raise BenchError(f"--proxy {given}: that isn't NAME=HOST:PORT:USER:PASSWORD:DATABASE[:PID]")
    at = dict(zip(("host", "port", "user", "password", "database"), words))
    at["port"] = int(at["port"])
    data.bring(at, rows)
    field.made_by_us.append(at)
    pid = int(words[5]) if len(words) == 6 else None
    return Arm(name, "other", [at], at, pid=pid, note="" if pid else "its CPU isn't known without a PID")


def spread_out(field, options):
    """Workspaces for the clients of pgcordon and of its earlier build."""
    for arm in field.of("pgcordon"):
        field.spread[arm.name] = scratch.workspaces(options.binary, arm.admin, options.workspaces)
    for arm in field.of("earlier"):
        try:
            field.spread[arm.name] = scratch.workspaces(options.against, arm.admin, options.workspaces)
        except BenchError as problem:
            say(f"the earlier build has one workspace only: {problem}")
