"""What is done on each arm, and with how many clients. A work is made of cells; each is measured once in each round, arms back
to back."""

import dataclasses
import typing

import data
import load
import scratch
from scratch import BenchError

POINT = "select abalance from {table} where aid = :aid;\n"
# pgbench's own seven statements, on tables with a workspace column.
TPCB = """\\set aid random(1, {rows})
\\set bid random(1, {branches})
\\set tid random(1, 10 * {branches})
\\set delta random(-5000, 5000)
begin;
update bench_tpcb_accounts set abalance = abalance + :delta where aid = :aid;
select abalance from bench_tpcb_accounts where aid = :aid;
update bench_tpcb_tellers set tbalance = tbalance + :delta where tid = :tid;
update bench_tpcb_branches set bbalance = bbalance + :delta where bid = :bid;
insert into bench_tpcb_history (tid, bid, aid, delta, mtime) values (:tid, :bid, :aid, :delta, current_timestamp);
end;
"""
# The same bytes on the wire, in texts that come once or always. No branch is 0: clients with one text would wait for one row.
LITERALS = {
    "select": "select abalance, {number} from bench_account where aid = {aid};\n",
    "update": "update bench_tpcb_accounts set abalance = {number} where aid = {aid} and bid = 0;\n",
}


@dataclasses.dataclass(eq=False)
class Cell:
    """One thing to measure, on all of its arms."""

    work: str
    name: str
    arms: list
    measure: typing.Callable  # of an arm: what was done, as `done`, and how fast
    unit: str = "transaction"
    columns: tuple = ()  # what is shown beside throughput and CPU
    samples: dict = dataclasses.field(default_factory=dict)  # by the name of the arm


def script_of(room, name, text):
    return room.write(f"{name}.sql", text)


def select(room, field, options):
    """Point selects, as pgbench's select-only: simple, extended (a statement without a name each time) and prepared."""
    arms = field.plain + field.policies
    if options.quick:
        arms = [a for a in arms if not (a.kind == "pgbouncer" and a.socket == "tcp")]
    scripts = {table: script_of(room, table, f"\\set aid random(1, {options.rows})\n" + POINT.format(table=table))
               for table in {arm.table for arm in arms}}
    cells = []
    for mode in options.modes:
        for clients in options.clients:
            def measure(arm, mode=mode, clients=clients):
                return load.run(arm, scripts[arm.table], mode, clients, options.seconds, latencies=clients == 1)

            able = [arm for arm in arms if mode in arm.modes]
            cells.append(Cell("select", f"{mode}, {clients} client{'s' if clients > 1 else ''}", able, measure,
                              columns=("p50_ms",) if clients == 1 else ()))
    return cells


def workspaces(room, field, options):
    """As many clients as workspaces on the same server connections. PgBouncer knows one tenant."""
    script = script_of(room, "workspaces", f"\\set aid random(1, {options.rows})\n" + POINT.format(table="bench_account"))
    count = options.workspaces
    arms = field.proxies()
    arms += [arm.but(f", {count} workspaces", ways=field.spread[arm.name]) for arm in arms if arm.name in field.spread]
    modes = [m for m in options.modes if m in ("simple", "extended")] or options.modes
    cells = []
    for mode in modes[:1] if options.quick else modes:
        def measure(arm, mode=mode):
            return load.spread(arm, script, mode, count, options.seconds)

        able = [arm for arm in arms if mode in arm.modes]
        cells.append(Cell("workspaces", f"{mode}, {count} clients", able, measure, columns=("p50_ms", "p99_ms")))
    return cells


def tpcb(room, field, options):
    """TPC-B-like transactions. Each leaves a row of history, and the rows are counted."""
    script = script_of(room, "tpcb", TPCB.format(rows=options.rows, branches=data.BRANCHES))

    def measure(arm):
        scratch.sql(arm.admin, "truncate bench_tpcb_history")
        result = load.run(arm, script, "simple", data.BRANCHES, options.seconds)
        left = int(scratch.sql(arm.admin, "select count(*) from bench_tpcb_history"))
        if left != result["done"]:
            raise BenchError(f"{arm.name}: {result['done']:.0f} transactions left {left} rows of history")
        return result

    arms = field.proxies() if options.quick else field.of("direct") + field.proxies()
    return [Cell("tpcb", f"seven statements, {data.BRANCHES} clients", arms, measure)]


def logins(room, field, options):
    """A login by SCRAM for each transaction."""
    script = script_of(room, "login", "select 1;\n")

    def measure(arm):
        return load.run(arm, script, "simple", 8, options.seconds, "-C")

    direct = [] if options.quick else field.of("direct")
    arms = direct + field.password_bouncers + field.of("pgcordon", "earlier", "other")
    return [Cell("logins", "8 clients, pgbench -C", arms, measure, unit="login")]


def literals(room, field, options):
    """Texts that are new each time against one that is always the same, as long as they are."""
    cells = []
    most = min(99_999, options.rows)
    for kind, text in list(LITERALS.items())[: 1 if options.quick else None]:
        once = text.format(number=":number", aid=":aid")
        always = text.format(number=1_234_567_890, aid=most)
        sets = f"\\set aid random({(most + 1) // 10}, {most})\n\\set number random(1000000000, 2000000000)\n"
        for name, body in (("the same text", always), ("unique texts", once)):
            script = script_of(room, f"literals-{kind}-{name[:3]}", sets + body)

            def measure(arm, script=script):
                return load.run(arm, script, "simple", 8, options.seconds)

            cells.append(Cell("literals", f"{kind}, {name}, 8 clients", field.proxies(), measure))
    return cells


def tls(room, field, options):
    """Point selects over TLS between client and proxy."""
    script = script_of(room, "tls", f"\\set aid random(1, {options.rows})\n" + POINT.format(table="bench_account"))
    arms = [arm.but(", TLS", sslmode="require") for arm in field.proxies() if arm.encrypted]
    for arm in arms:
        said = scratch.psql(arm.environment(arm.ways[0]), "\\conninfo\n")
        if "TLSv1.3" not in said:
            raise BenchError(f"{arm.name}: that isn't TLS 1.3: {said}")
    clients = max(options.clients)

    def measure(arm):
        return load.run(arm, script, "simple", clients, options.seconds)

    return [Cell("tls", f"simple, {clients} clients, TLS 1.3", arms, measure)]
