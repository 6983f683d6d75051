"""What was asked of pgcordon, and what it does."""

import statistics

from report import base_of, first, ratios, shown, values

IDLE_MANY = 10_000


class Row:
    """One target: the median of what was found is held against it."""

    def __init__(self, work, target, found, bound, at_least=False, digits=2, beside=""):
        self.work, self.target, self.found = work, target, found
        self.bound, self.at_least, self.digits, self.beside = bound, at_least, digits, beside

    def line(self):
        if not self.found:
            return f"| {self.work} | {self.target} | not measured |"
        middle = statistics.median(self.found)
        met = middle >= self.bound if self.at_least else middle <= self.bound
        return f"| {self.work} | {self.target} | {shown(self.found, self.digits)}{self.beside}{'' if met else ', **missed**'} |"


def cpu(cell, name, most, what="CPU"):
    ours = first(cell, "pgcordon")
    return Row(name, f"{what} ≤ {most} of PgBouncer's", against_bouncer(cell, ours, "cpu_us"), most)


def rate(cell, name, least, what="tps"):
    ours = first(cell, "pgcordon")
    return Row(name, f"{what} ≥ {least} of PgBouncer's", against_bouncer(cell, ours, "rate"), least, at_least=True)


def against_bouncer(cell, ours, what):
    return ratios(cell, ours, base_of(cell, ours), what) if ours else []


def of_select(cell):
    mode, clients = cell.name.split(",")[0], int(cell.name.split()[1])
    rows, ours, direct = [], first(cell, "pgcordon"), first(cell, "direct")
    if clients >= 64:
        rows += [cpu(cell, f"select {cell.name}", 0.8), rate(cell, f"select {cell.name}", 1.2)]
    if clients == 1:
        rows.append(added_latency(cell, ours, direct))
    if mode == "extended" and clients > 1 and ours:
        found = ratios(cell, ours, direct, "rate")
        rows.append(Row(f"unnamed, {clients} clients", "tps ≥ 1.1 of direct", found, 1.1, at_least=True))
    return rows


def added_latency(cell, ours, direct):
    """How much longer half of the transactions take than directly, in milliseconds, held against PgBouncer's share of it."""
    work, target = f"select {cell.name}", "added p50 latency ≤ PgBouncer's"
    base = base_of(cell, ours) if ours else None
    if not (ours and direct and base):
        return Row(work, target, [], 0)
    added = [[a - b for a, b in zip(values(cell, arm, "p50_ms"), values(cell, direct, "p50_ms"))] for arm in (ours, base)]
    theirs = statistics.median(added[1])
    return Row(work, target, added[0], theirs, digits=3, beside=f" ms against {theirs:.3f} ms")


def of_workspaces(cell):
    ours = [arm for arm in cell.arms if arm.kind == "pgcordon"]
    spread, one = next((a for a in ours if len(a.ways) > 1), None), next((a for a in ours if len(a.ways) == 1), None)
    if not spread:
        return []
    name = f"{len(spread.ways)} workspaces, {cell.name}"
    late = [values(cell, arm, "p99_ms") for arm in (spread, base_of(cell, spread)) if arm]
    p99 = "; p99 " + " against ".join(f"{statistics.median(each):.1f} ms" for each in late if each)
    return [Row(name, "CPU ≤ 1.5 of PgBouncer's with one tenant", against_bouncer(cell, spread, "cpu_us"), 1.5, beside=p99),
            Row(name, "tps ≥ 0.7 of one workspace's", ratios(cell, spread, one, "rate") if one else [], 0.7, at_least=True)]


def of_logins(cell):
    """Held against the PgBouncer that has the password; how it stands to the one that has the verifier is told beside."""
    row, ours = rate(cell, "logins by SCRAM", 1.0, "logins/s"), first(cell, "pgcordon")
    more = [arm for arm in cell.arms if arm.kind == "pgbouncer"][1:] if ours else []
    row.beside = f"; CPU for each {shown(against_bouncer(cell, ours, 'cpu_us'), 2, False)} of its"
    for arm in more:
        row.beside += (f" ({shown(ratios(cell, ours, arm, 'rate'), 2, False)} and {shown(ratios(cell, ours, arm, 'cpu_us'), 2, False)}"
                       " of the one with the verifier)")
    return row


def of_literals(cells):
    """Cells come in pairs: the same text, then unique ones. A pair is of one round."""
    rows = []
    for same, unique in zip(cells[::2], cells[1::2]):
        def dearer(arm, same=same, unique=unique):
            return [b / a for a, b in zip(values(same, arm, "cpu_us"), values(unique, arm, "cpu_us")) if a] if arm else []

        theirs = dearer(first(same, "pgbouncer"))
        beside = f" (PgBouncer: {shown(theirs, 2)})" if theirs else ""
        rows.append(Row(f"literals, {same.name.split(',')[0]}", "CPU of unique texts ≤ 1.1 of one text's",
                        dearer(first(same, "pgcordon")), 1.1, beside=beside))
    return rows


def of_idle(memory):
    rows = []
    for name, told in memory.items():
        if told["kind"] != "pgcordon":
            continue
        for clients, kib in told["steps"]:
            rows.append(Row(f"idle, {clients:,} clients", "≤ 4 KiB each", [(kib - told["before"]) / clients], 4, digits=1,
                            beside=" KiB"))
            if clients == IDLE_MANY:
                rows.append(Row(f"idle, {clients:,} clients", "< 100 MiB in all", [kib / 1024], 100, digits=1, beside=" MiB"))
    return rows


def rows_of(cells, memory):
    rows, of = [], {}
    for cell in cells:
        of.setdefault(cell.work, []).append(cell)
    for cell in of.get("select", []):
        rows += of_select(cell)
    for cell in of.get("workspaces", []):
        rows += of_workspaces(cell)
    rows += [cpu(cell, "TPC-B, 64 clients", 0.9) for cell in of.get("tpcb", [])]
    rows += [cpu(cell, f"bulk, {cell.name}", 1.0, "CPU per byte") for cell in of.get("bulk", [])]
    rows += [of_logins(cell) for cell in of.get("logins", [])]
    rows += of_literals(of.get("literals", []))
    rows += [cpu(cell, f"TLS, {cell.name}", 1.0) for cell in of.get("tls", [])]
    return rows + of_idle(memory)


def table(cells, memory):
    rows = rows_of(cells, memory)
    heading = ["\n**Summary**\n", "| work | target | measured |", "| --- | --- | ---: |"]
    return heading + [row.line() for row in rows] if rows else []
