"""The tables that are measured on, and the role that reaches them without pgcordon."""

import scratch
from scratch import ROLE, BenchError

WORKSPACE = "11111111-1111-4111-8111-111111111111"
TABLES = ("bench_account", "bench_tpcb_accounts", "bench_tpcb_branches", "bench_tpcb_tellers", "bench_tpcb_history")
# As many branches as clients at most, as TPC-B wants it.
BRANCHES = 64


def accounts(rows):
    """A table for selects."""
    return f"""
create table bench_account (aid int primary key, workspace_id uuid not null, abalance int not null, filler char(84));
insert into bench_account select i, '{WORKSPACE}', i % 1000, '' from generate_series(1, {rows}) i;
"""


def tpcb(rows):
    """pgbench's four tables with a workspace column each."""
    column = f"workspace_id uuid not null default '{WORKSPACE}'"
    return f"""
create table bench_tpcb_branches (bid int primary key, {column}, bbalance int not null, filler char(88)) with (fillfactor = 10);
create table bench_tpcb_tellers (tid int primary key, {column}, bid int not null, tbalance int not null, filler char(84))
    with (fillfactor = 10);
create table bench_tpcb_accounts (aid int primary key, {column}, bid int not null, abalance int not null, filler char(84))
    with (fillfactor = 50);
create table bench_tpcb_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22), {column});
insert into bench_tpcb_branches (bid, bbalance) select i, 0 from generate_series(1, {BRANCHES}) i;
insert into bench_tpcb_tellers (tid, bid, tbalance) select i, (i - 1) / 10 + 1, 0 from generate_series(1, {BRANCHES} * 10) i;
insert into bench_tpcb_accounts (aid, bid, abalance) select i, i % {BRANCHES} + 1, 0 from generate_series(1, {rows}) i;
"""


def prepare(admin, app_role, rows, password):
    """The tables, and the role. The accounts are there three times: with no policy, with a plain `current_setting`
    policy, and with the sealed one (which only exists where pgcordon migrated). Returns whether that is so."""
    sealed = scratch.sql(admin, "select to_regprocedure('cordon.workspace_id()') is not null") == "t"
    grantees = ROLE + (f", {app_role}" if app_role else "")
    workspace = "(select nullif(current_setting('app.workspace_id', true), '')::uuid)"
    script = f"""
create role {ROLE} login password '{password}';
grant usage on schema public to {grantees};
{accounts(rows)}{tpcb(rows)}
create table bench_plain (like bench_account including all);
insert into bench_plain select * from bench_account;
alter table bench_plain enable row level security;
create policy bench on bench_plain using (workspace_id = {workspace});
grant select on bench_account, bench_plain to {grantees};
grant select, insert, update on {", ".join(TABLES[1:])} to {grantees};
"""
    if sealed:
        script += f"""
create table bench_sealed (like bench_account including all);
insert into bench_sealed select * from bench_account;
alter table bench_sealed enable row level security;
alter table bench_sealed force row level security;
create policy bench on bench_sealed using (workspace_id = (select cordon.workspace_id()));
grant select on bench_sealed to {grantees};
"""
    scratch.sql(admin, "set client_min_messages = warning;" + script + "vacuum analyze;checkpoint;")
    return sealed


def bring(at, rows):
    """The tables behind somebody else's proxy. They are made through it, and its user owns them."""
    scratch.sql(at, f"set client_min_messages = warning; drop table if exists {', '.join(TABLES)};"
                    f"{accounts(rows)}{tpcb(rows)} analyze {', '.join(TABLES)};")


def take_away(at):
    scratch.sql(at, f"set client_min_messages = warning; drop table if exists {', '.join(TABLES)};")


def open_the_door(admin, database):
    """Lets the bench role in by password, over TCP and the socket: a scratch cluster admits only whom it knows."""
    path, sockets = scratch.sql(
        admin, "select current_setting('hba_file'), split_part(current_setting('unix_socket_directories'), ',', 1)"
    ).split("|")
    with open(path, encoding="utf-8") as file:
        rules = file.read()
    lines = f"local {database} {ROLE} scram-sha-256\nhost {database} {ROLE} 127.0.0.1/32 scram-sha-256\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(lines + rules)
    scratch.sql(admin, "select pg_reload_conf()")
    return sockets.strip().strip('"')


def check_rows(arm, rows):
    """Each arm must really see its rows: throughput over nothing means nothing."""
    for way in arm.ways:
        seen = scratch.sql(way, f"select count(*) from {arm.table}", PGOPTIONS=arm.options)
        if seen != str(rows):
            raise BenchError(f"{arm.name}: {arm.table} shows {seen} rows instead of {rows}")
