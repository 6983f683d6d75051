"""Runs of pgbench, and what they tell: throughput and latencies. A run that failed at anything is no measurement."""

import glob
import os
import re
import statistics
import subprocess
import tempfile

import scratch
from scratch import BenchError

# Seconds beyond the measurement that are there for logging in, which pgbench's -T counts but its throughput doesn't; more on a
# machine so busy that they weren't enough.
BESIDE_ONE = (0, 3, 9)
BESIDE_MANY = (2, 4, 8)


class NothingDone(BenchError):
    """The time was over before the first transaction was."""


def command(script, mode, clients, seconds, *more):
    threads = min(clients, os.cpu_count() or 1)
    return [scratch.find_tool("pgbench"), "-n", "-M", mode, "-c", str(clients), "-j", str(threads), "-T", str(seconds),
            "-f", script, *more]


def run(arm, script, mode, clients, seconds, *more, latencies=False):
    """One pgbench over the arm's first way."""
    for beside in BESIDE_ONE:
        try:
            return run_once(arm, script, mode, clients, seconds + beside, more, latencies)
        except NothingDone as problem:
            nothing = problem
    raise nothing


def run_once(arm, script, mode, clients, seconds, more, latencies):
    with tempfile.TemporaryDirectory() as logs:
        result = run_in(logs, arm, script, mode, clients, seconds, *more, *(["-l"] if latencies else []))
        if latencies:
            result.update(percentiles([line[1] for line in logged(logs)]))
    return result


def run_in(directory, arm, script, mode, clients, seconds, *more):
    """One pgbench, which leaves its logs in a directory if it is told to write any."""
    done = subprocess.run(
        command(script, mode, clients, seconds, *more), cwd=directory, env=arm.environment(arm.ways[0]), capture_output=True,
        text=True, check=False, timeout=seconds + 120,
    )
    return told(f"{arm.name}, {mode}, {clients} clients", done.returncode, done.stdout, done.stderr)


def spread(arm, script, mode, clients, seconds):
    """One pgbench for each client, over the arm's ways in turn. Figures are of the time in which all of them were running;
    `done` is all that was done, for the CPU time is for all."""
    result = {"done": 0}
    for beside in BESIDE_MANY:
        with tempfile.TemporaryDirectory() as logs:
            result["done"] += sum(crowd(arm, script, mode, clients, seconds + beside, logs))
            each = [logged(logs, f"{number:03}") for number in range(clients)]
        if not all(each):
            continue
        begin, end = max(lines[0][0] for lines in each), min(lines[-1][0] for lines in each)
        found = [latency for lines in each for at, latency in lines if begin <= at <= end]
        if end - begin >= seconds / 2 and found:
            return {**result, "rate": len(found) / (end - begin), "latency_ms": statistics.fmean(found), **percentiles(found)}
    raise BenchError(f"{arm.name}: {clients} clients never ran all together for {seconds / 2:.1f} s; more --seconds")


def crowd(arm, script, mode, clients, seconds, logs):
    """Runs a pgbench for each client; they begin together, when the gate is closed. How much each has done."""
    read, write = os.pipe()
    wait = ["sh", "-c", 'read -r _; exec "$@"', "sh"]
    running = [subprocess.Popen(
        wait + command(script, mode, 1, seconds, "-l", f"--log-prefix={logs}/{number:03}"), stdin=read,
        env=arm.environment(arm.ways[number % len(arm.ways)]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) for number in range(clients)]
    os.close(read)
    os.close(write)
    ended = [(process, *process.communicate(timeout=seconds + 120)) for process in running]
    for number, (process, out, err) in enumerate(ended):
        try:
            yield told(f"{arm.name}, {mode}, client {number} of {clients}", process.returncode, out, err)["done"]
        except NothingDone:
            yield 0


def told(what, code, out, err):
    """What pgbench says that it has done."""

    def number(pattern):
        found = re.search(pattern, out)
        return float(found.group(1)) if found else 0.0

    done = number(r"transactions actually processed: (\d+)")
    if code or number(r"failed transactions: (\d+)"):
        raise BenchError(f"{what}: pgbench failed\n{out[-500:]}{err[-1500:]}")
    if not done:
        raise NothingDone(f"{what}: pgbench did nothing\n{out[-500:]}{err[-1500:]}")
    return {"done": done, "rate": number(r"tps = ([\d.]+)"), "latency_ms": number(r"latency average = ([\d.]+)")}


def logged(directory, prefix="pgbench_log"):
    """The transactions of pgbench's logs: when each was over, in seconds, and how many milliseconds it took."""
    lines = []
    for log in glob.glob(os.path.join(directory, f"{prefix}.*")):
        with open(log, encoding="utf-8") as file:
            for line in file:
                field = line.split()
                lines.append((int(field[4]) + int(field[5]) / 1e6, int(field[2]) / 1000))
    return sorted(lines)


def percentiles(latencies):
    ordered = sorted(latencies)
    return {"p50_ms": share(ordered, 0.5), "p99_ms": share(ordered, 0.99)}


def share(ordered, part):
    """The latency that this part of the answers kept below."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")
