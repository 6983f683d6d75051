"""What a proxy takes while a load runs steadily: what is at its begin, logins above all, isn't counted."""

import tempfile
import time

import load
import procs
from scratch import BenchError

# Seconds from the first transaction until the load counts as steady: server connections are opened in it.
WARMING = 0.5
# Seconds beyond the measurement, the warming in them; more where so many clients needed longer to log in.
BESIDE = (1.5, 4, 9)
# Seconds between two looks at the proxy.
LOOK = 0.05


class Watcher(procs.Beside):
    """Looks at a proxy: when, its CPU time so far in µs, and its resident memory in KiB."""

    def __init__(self, pid):
        super().__init__(LOOK)
        self.pid, self.looks = pid, []

    def turn(self):
        self.looks.append((time.time(), sum(procs.cpu_of(self.pid)), procs.resident_of(self.pid)))


def run(arm, script, clients, seconds, mode="simple"):
    """So many clients over the arm's ways in turn. A sample of the time in which all of them were running."""
    for beside in BESIDE:
        with tempfile.TemporaryDirectory() as logs, Watcher(arm.pid) as watcher:
            each = crowd(arm, script, mode, clients, seconds + beside, logs)
        found = within(each, watcher.looks, seconds) if all(each) else None
        if found:
            return found
    raise BenchError(f"{arm.name}: {clients} clients never ran all together for {seconds} s")


def crowd(arm, script, mode, clients, seconds, logs):
    """The transactions of one pgbench, or of one for each client where they have ways of their own."""
    seconds = int(seconds + 0.5)
    if len(arm.ways) == 1:
        try:
            load.run_in(logs, arm, script, mode, clients, seconds, "-l")
        except load.NothingDone:
            return [[]]
        return [load.logged(logs)]
    for _ in load.crowd(arm, script, mode, clients, seconds, logs):
        pass
    return [load.logged(logs, f"{number:03}") for number in range(clients)]


def within(each, looks, seconds):
    """What was done, and what the proxy took for it, between the first look and the last one at a steady load; nothing if that
    wasn't long enough."""
    begin, end = max(lines[0][0] for lines in each) + WARMING, min(lines[-1][0] for lines in each)
    looks = [look for look in looks if begin <= look[0] <= min(end, begin + seconds)]
    if len(looks) < 2 or looks[-1][0] - looks[0][0] < 0.7 * seconds:
        return None
    (begin, cpu_before, _), (end, cpu_after, kib) = looks[0], looks[-1]
    latencies = [latency for lines in each for at, latency in lines if begin < at <= end]
    return {"done": len(latencies), "rate": len(latencies) / (end - begin), **load.percentiles(latencies),
            "cpu_us": (cpu_after - cpu_before) / len(latencies), "rss_mib": kib / 1024}
