"""Medians, ratios and tables of what was measured. Ratios are taken round by round: what one round's noise does to both arms
cancels out."""

import statistics

HEADINGS = {
    "p50_ms": ("p50 ms", 3), "p99_ms": ("p99 ms", 2), "rss_before": ("MiB before", 1), "rss_peak": ("at most", 1),
    "rss_after": ("after", 1),
}


def values(cell, arm, what):
    return [sample[what] for sample in cell.samples.get(arm.name, []) if what in sample]


def ratios(cell, arm, base, what):
    if base is None:
        return []
    ours, theirs = cell.samples.get(arm.name, []), cell.samples.get(base.name, [])
    return [a[what] / b[what] for a, b in zip(ours, theirs) if b.get(what) and what in a]


def shown(found, digits=0, spread=True):
    """The median, and from where to where it goes."""
    if not found:
        return "–"
    middle, least, most = (f"{of(found):,.{digits}f}" for of in (statistics.median, min, max))
    return f"{middle} ({least}–{most})" if spread and least != most else middle


def base_of(cell, arm):
    """The PgBouncer that an arm is held against: over the same kind of socket, else whichever ran the cell."""
    found = [b for b in cell.arms if b.kind == "pgbouncer" and b.name in cell.samples]
    if arm.kind == "pgbouncer" and arm.socket == "tcp":
        return next((b for b in found if b.socket == "tcp"), None)
    return next((b for b in found if b.socket == "unix"), found[0] if found else None)


def first(cell, kind):
    return next((arm for arm in cell.arms if arm.kind == kind and arm.name in cell.samples), None)


def table(cell):
    unit = cell.unit
    more = "".join(f" {HEADINGS[column][0]} |" for column in cell.columns)
    rate = "tps" if unit == "transaction" else f"{unit}{'s' if unit.islower() else ''}/s"
    out = [f"\n**{cell.work}: {cell.name}**\n",
           f"| arm | {rate} | mean ms |{more} CPU µs/{unit} | user | system | {rate} / direct | {rate} / PgBouncer "
           "| CPU / PgBouncer |", "| --- |" + " ---: |" * (8 + len(cell.columns))]
    direct = first(cell, "direct")
    for arm in cell.arms:
        base = base_of(cell, arm)
        columns = [shown(values(cell, arm, "rate")), shown(values(cell, arm, "latency_ms"), 3, False)]
        columns += [shown(values(cell, arm, column), HEADINGS[column][1], False) for column in cell.columns]
        columns += [shown(values(cell, arm, "cpu_us"), 1), shown(values(cell, arm, "user_us"), 1, False),
                    shown(values(cell, arm, "system_us"), 1, False), shown(ratios(cell, arm, direct, "rate"), 2),
                    shown(ratios(cell, arm, base, "rate"), 2), shown(ratios(cell, arm, base, "cpu_us"), 2)]
        out.append(f"| {arm.name} | {' | '.join(columns)} |")
    return out


def notes(cells):
    arms = {arm.name: arm for cell in cells for arm in cell.arms}.values()
    found = [f"{arm.name}: {arm.note}" for arm in arms if arm.note]
    if any("session mode" in arm.name for arm in arms):
        found.append("this PgBouncer keeps no prepared statements in transaction mode (1.21 and later do)")
    return ["", *(f"- {note}" for note in found)] if found else []


def against_earlier(cells):
    """Today's build against the earlier one."""
    out = []
    for cell in cells:
        ours, before = first(cell, "pgcordon"), first(cell, "earlier")
        if ours and before:
            told = (shown(ratios(cell, ours, before, what), 2) for what in ("cpu_us", "rate"))
            out.append(f"| {cell.work}: {cell.name} | {' | '.join(told)} |")
    heading = ["\n**Today's build against the earlier one**\n", "| work | CPU | throughput |", "| --- | ---: | ---: |"]
    return heading + out if out else []


def everything(cells):
    return [line for cell in cells for line in table(cell)] + notes(cells) + against_earlier(cells)
