"""What is measured, and what it runs on: the scratch upstream, PgBouncer, and pgcordon."""

import glob
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from urllib.parse import unquote, urlsplit

ROLE = "pgcordon_bench"
# What every pooler is let have, so that 10,000 idle clients fit.
CLIENTS_MAX = 12_000


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


class BenchError(Exception):
    """Something the bench needs did not work; the text says what."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def find_tool(name):
    for path in [shutil.which(name), *sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True)]:
        if path and os.access(path, os.X_OK):
            return path
    raise BenchError(f"{name} is not installed")


def unprivileged():
    """Options for subprocess that drop root: neither Postgres nor PgBouncer runs as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
            return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        except KeyError:
            continue
    raise BenchError("no unprivileged account (postgres or nobody) to run Postgres as")


def own(path):
    account = unprivileged()
    if account:
        os.chown(path, account["user"], account["group"])


def parts(dsn):
    """A URL taken apart: host, port, user, password, database."""
    url = urlsplit(dsn)
    return {
        "host": url.hostname or "127.0.0.1",
        "port": url.port or 5432,
        "user": unquote(url.username or ""),
        "password": unquote(url.password or ""),
        "database": url.path.lstrip("/") or "postgres",
    }


def environment(at, **more):
    """The libpq environment for one connection target; nothing of the caller's PG* leaks in."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    env.update(PGHOST=str(at["host"]), PGPORT=str(at["port"]), PGUSER=at["user"], PGDATABASE=at["database"])
    env.update(PGPASSWORD=at["password"], PGCONNECT_TIMEOUT="10", PGSSLMODE="disable")
    env.update(more)
    return env


def psql(env, script):
    """Runs SQL through psql and returns what it prints: rows, `|` between columns."""
    done = subprocess.run(
        [find_tool("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"],
        input=script, env=env, capture_output=True, text=True, check=False,
    )
    if done.returncode:
        raise BenchError(f"psql as {env['PGUSER']} on {env['PGHOST']}:{env['PGPORT']}: {done.stderr.strip()}")
    return done.stdout.strip()


def sql(at, script, **more):
    """The same on one connection target."""
    return psql(environment(at, **more), script)


class Scratch:
    """A temporary directory and the processes in it; `close` ends and removes everything."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="pgcordon-bench-")
        os.chmod(self.directory, 0o755)
        self.processes = []

    def path(self, name, directory=False):
        path = os.path.join(self.directory, name)
        if directory:
            os.makedirs(path, exist_ok=True)
            own(path)
        return path

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o600)
        own(path)
        return path

    def start(self, command, **options):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
        self.processes.append(process)
        return process

    def end(self, *processes):
        """Ends some of them before their time."""
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM if process.args[0].endswith("pgcordon") else signal.SIGINT)
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self.processes.remove(process)

    def close(self):
        self.end(*reversed(self.processes))
        shutil.rmtree(self.directory, ignore_errors=True)


def wait_for(what, ready, process, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise BenchError(f"{what} ended at its start with exit code {process.returncode}")
        if ready():
            return
        time.sleep(0.05)
    raise BenchError(f"{what} was not ready within {seconds} s")


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def certificate(scratch):
    """A certificate for localhost that nobody trusts, and its key, as two files."""
    key, chain = scratch.path("tls.key"), scratch.path("tls.crt")
    done = subprocess.run(
        [find_tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", chain], capture_output=True, text=True, check=False,
    )
    if done.returncode:
        raise BenchError(f"openssl made no certificate: {done.stderr[-500:]}")
    for path in (key, chain):
        os.chmod(path, 0o600)
        own(path)
    return chain, key


def configuration(scratch, name, settings):
    """A configuration file of these (section, key, value as TOML has it)."""
    sections = {}
    for section, key, value in settings:
        sections.setdefault(section, []).append(f"{key} = {value}")
    text = "\n".join("\n".join([f"[{section}]", *lines]) for section, lines in sections.items())
    return scratch.write(f"{name}.toml", text + "\n")


def start_pgcordon(scratch, binary, pool, name="", settings=()):
    """`pgcordon dev`, which brings its own Postgres. Returns (process, its JSON line)."""
    log = open(scratch.path(f"{name}pgcordon.log"), "w", encoding="utf-8")
    more = ["--config", configuration(scratch, f"{name}pgcordon", settings)] if settings else []
    process = scratch.start(
        [binary, "dev", "--json", "--port", "0", "--http-port", "0", "--pool-size", str(pool), *more],
        stdout=subprocess.PIPE, stderr=log, text=True,
    )
    line = []
    reader = threading.Thread(target=lambda: line.append(process.stdout.readline()), daemon=True)
    reader.start()
    reader.join(120)
    if not line or not line[0].startswith("{"):
        log.flush()
        with open(log.name, encoding="utf-8") as file:
            raise BenchError(f"pgcordon dev did not start:\n{file.read()[-2000:]}")
    return process, json.loads(line[0])


def configuration_of(admin):
    """The configuration that `pgcordon dev` wrote, for other commands on the same database."""
    return os.path.join(os.path.dirname(sql(admin, "show data_directory")), "pgcordon.toml")


def start_serve(scratch, binary, admin, name, **settings):
    """One more proxy before the Postgres of a `pgcordon dev`, with these settings (section__key) in place of its. Returns
    (process, port) at once: it listens before it can serve anybody."""
    port = free_port()
    settings = {"server__listen": f"127.0.0.1:{port}", "http__listen": "", **settings}
    env = {**os.environ, **{f"PGCORDON_{key.upper()}": str(value) for key, value in settings.items()}}
    with open(scratch.path(f"{name}-pgcordon.log"), "a", encoding="utf-8") as log:
        process = scratch.start([binary, "serve", "--config", configuration_of(admin)], env=env, stdout=log, stderr=log)
    return process, port


def workspaces(binary, admin, count):
    """As many workspaces with a key each, made as an operator makes them. Returns a target for each."""
    env = {**os.environ, "PGCORDON_CONFIG": configuration_of(admin)}

    def ask(*words):
        done = subprocess.run([binary, *words, "--json"], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"pgcordon {' '.join(words)}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    targets = []
    for number in range(count):
        ask("workspace", "create", f"bench-{number}")
        targets.append(parts(ask("key", "create", "--workspace", f"bench-{number}")["dsn"]))
    return targets


def start_postgres(scratch):
    """A scratch Postgres of our own, for runs without pgcordon. Returns its administrator's target."""
    data, sockets = scratch.path("data", True), scratch.path("run", True)
    password, port = secrets.token_hex(16), free_port()
    password_file = scratch.write("password", password + "\n")
    quiet = {"stdout": subprocess.DEVNULL, **unprivileged()}
    subprocess.run(
        [find_tool("initdb"), "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", password_file],
        check=True, stderr=subprocess.DEVNULL, cwd=scratch.directory, **quiet,
    )
    with open(scratch.path("postgres.log"), "w", encoding="utf-8") as log:
        process = scratch.start(
            [find_tool("postgres"), "-D", data, "-k", sockets, "-p", str(port), "-c", "listen_addresses=127.0.0.1",
             "-c", "fsync=off", "-c", "max_connections=300"], stderr=log, cwd=scratch.directory, **quiet,
        )
    at = {"host": "127.0.0.1", "port": port, "user": "postgres", "password": password, "database": "postgres"}

    def answers():
        try:
            return sql(at, "select 1") == "1"
        except BenchError:
            return False

    wait_for("Postgres", answers, process)
    return at


def bouncer_version():
    text = subprocess.run([find_tool("pgbouncer"), "--version"], capture_output=True, text=True, check=True)
    return tuple(int(n) for n in re.search(r"(\d+)\.(\d+)", text.stdout).groups())


def start_pgbouncer(scratch, name, upstream, host, mode, pool, auth="trust", secret="", more=""):
    """One PgBouncer in front of `upstream` by `host` (a name or a socket directory). Its auth_file has the password,
    or `secret` in its place. Returns (process, port)."""
    directory, port = scratch.path(name, True), free_port()
    users = scratch.write(f"{name}/users", f'"{upstream["user"]}" "{secret or upstream["password"]}"\n')
    # Held only where it is cheap to get back: a session-mode pool would keep Postgres' places from the other arms.
    idle = 1 if mode == "session" else 3600
    statements = "max_prepared_statements = 200" if bouncer_version() >= (1, 21) else ""
    config = scratch.write(f"{name}/pgbouncer.ini", f"""[databases]
{upstream["database"]} = host={host} port={upstream["port"]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = {auth}
auth_file = {users}
pool_mode = {mode}
default_pool_size = {pool}
server_idle_timeout = {idle}
{statements}
{more}
max_client_conn = {CLIENTS_MAX}
logfile = {directory}/log
log_connections = 0
log_disconnections = 0
ignore_startup_parameters = extra_float_digits
""")
    process = scratch.start(
        [find_tool("pgbouncer"), "-q", config], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        cwd=directory, **unprivileged(),
    )
    wait_for(name, lambda: listens(port), process)
    return process, port
