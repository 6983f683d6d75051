"""What processes cost: CPU time and resident memory of a proxy with all its children, from /proc."""

import glob
import os
import threading

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


def processes_of(pid):
    """`pid` and its descendants that are not Postgres."""
    children, names = {}, {}
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(stat, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        process = int(text.split(" ", 1)[0])
        names[process] = text[text.index("(") + 1 : text.rindex(")")]
        children.setdefault(int(text[text.rindex(")") + 2 :].split()[1]), []).append(process)
    found, queue = [], [pid]
    while queue:
        process = queue.pop()
        found.append(process)
        queue += [c for c in children.get(process, []) if names.get(c) != "postgres"]
    return found


def cpu_us(pid):
    """User and system time so far of a proxy, all its threads and child processes, in microseconds."""
    user = system = 0.0
    for process in processes_of(pid):
        of_it = cpu_of(process)
        user, system = user + of_it[0], system + of_it[1]
    return user, system


def cpu_of(process):
    """The same of one process, threads that ended included; a tick is 10 ms."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0.0
    return int(fields[11]) * TICK_US, int(fields[12]) * TICK_US


def threads_ns(process, name):
    """CPU time so far of each thread whose name begins so, by its id, as the scheduler counts it."""
    spent = {}
    for thread in glob.glob(f"/proc/{process}/task/[0-9]*"):
        try:
            with open(f"{thread}/comm", encoding="utf-8") as comm, open(f"{thread}/schedstat", encoding="utf-8") as stat:
                if comm.read().startswith(name):
                    spent[thread] = int(stat.read().split()[0])
        except OSError:
            continue
    return spent


class Stopwatch:
    """CPU time of the threads whose name begins so, from now on. One that ends meanwhile isn't counted, one that comes is."""

    def __init__(self, process, name):
        self.process, self.name, self.before = process, name, threads_ns(process, name)

    def ms(self):
        return sum(spent - self.before.get(thread, 0) for thread, spent in threads_ns(self.process, self.name).items()) / 1e6


def resident_kib(pid):
    return sum(map(resident_of, processes_of(pid)))


def resident_of(process):
    try:
        with open(f"/proc/{process}/status", encoding="utf-8") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    except OSError:
        return 0


class Beside:
    """What takes its `turn` again and again, with a pause behind each, on a thread of its own within a `with` block."""

    def __init__(self, pause):
        self.pause, self.over = pause, threading.Event()
        self.thread = threading.Thread(target=self.go_on, daemon=True)

    def go_on(self):
        while True:
            self.turn()
            if self.over.wait(self.pause):
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


class Peak(Beside):
    """The most resident memory of a proxy, looked at ten times a second."""

    def __init__(self, pid):
        super().__init__(0.1)
        self.processes, self.kib = processes_of(pid), 0

    def turn(self):
        self.kib = max(self.kib, sum(map(resident_of, self.processes)))
