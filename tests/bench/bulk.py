"""Much data for one statement: what a byte costs, and whether the proxy's memory stays as it is."""

import subprocess
import time

import load
import procs
import scratch
from scratch import BenchError
from works import Cell, script_of

MB = 1_000_000
ROWS = 1000
# A thousand rows of some 100 bytes, and one of 1 MB.
QUERIES = {
    "1,000 rows": f"select aid, repeat('x', 90) from bench_account where aid <= {ROWS}",
    "1 MB in a row": f"select repeat('x', {MB})",
}
# How long a COPY's line is: a number of 9 digits, a tab, the text, a newline.
LINE = 100


def bulk(room, field, options):
    """Results of many rows, of a large value, and COPY out."""
    arms = field.proxies() if options.quick else field.of("direct") + field.proxies()
    cells, columns = [], ("rss_before", "rss_peak", "rss_after")
    for name, query in QUERIES.items():
        size = measured_size(arms, query)
        script = script_of(room, f"bulk-{size}", f"{query};\n")

        def measure(arm, script=script, size=size):
            result = watched(arm, lambda: load.run(arm, script, "simple", 4, options.seconds))
            return {**result, "done": result["done"] * size / MB, "rate": result["rate"] * size / MB}

        cells.append(Cell("bulk", f"{name}, 4 clients", arms, measure, "MB", columns))
    megabytes = 1000 if options.large else 100
    cells.append(Cell("bulk", f"COPY out of {megabytes:,} MB, 1 client", arms,
                      lambda arm: watched(arm, lambda: copy(arm, megabytes)), "MB", columns))
    return cells


def measured_size(arms, query):
    """How many bytes the answer's values have: the same through every arm."""
    sizes = {arm.name: len(scratch.psql(arm.environment(arm.ways[0]), f"{query};\n")) for arm in arms}
    if len(set(sizes.values())) > 1 or any(size < 90 * ROWS for size in sizes.values()):
        raise BenchError(f"the arms' answers to {query} differ, or are short: {sizes}")
    return max(sizes.values(), default=0)


def watched(arm, work):
    """The work, and the proxy's resident memory before it, at its most, and after it."""
    if arm.pid is None:
        return work()
    before = procs.resident_kib(arm.pid)
    with procs.Peak(arm.pid) as peak:
        result = work()
    return {**result, "rss_before": before / 1024, "rss_peak": peak.kib / 1024,
            "rss_after": procs.resident_kib(arm.pid) / 1024}


def copy(arm, megabytes):
    """COPY out through psql, whose output is counted and thrown away."""
    lines = megabytes * MB // LINE
    text = f"copy (select 100000000 + i, repeat('x', {LINE - 11}) from generate_series(1, {lines}) i) to stdout"
    begun = time.monotonic()
    process = subprocess.Popen([scratch.find_tool("psql"), "-X", "-q", "-c", text], env=arm.environment(arm.ways[0]),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seen = 0
    while chunk := process.stdout.read(1 << 20):
        seen += len(chunk)
    took = time.monotonic() - begun
    _, error = process.communicate()
    if process.returncode or seen != lines * LINE:
        raise BenchError(f"{arm.name}: COPY brought {seen:,} bytes instead of {lines * LINE:,}\n{error.decode()[-500:]}")
    return {"done": seen / MB, "rate": seen / MB / took, "latency_ms": took * 1000}
