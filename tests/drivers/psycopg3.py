"""psycopg 3, used as its users do. Arguments: acme's URL, globex' URL."""
import sys
import threading
import time

import psycopg

ACME, GLOBEX = sys.argv[1:3]


def backend_pid(connection):
    return connection.execute("select pg_backend_pid()").fetchone()[0]


# What libpq was told at the login is what Postgres says: to one alone, to two at a time, and to one that is pinned.
with psycopg.connect(ACME) as one:
    assert backend_pid(one) == one.info.backend_pid
    with psycopg.connect(GLOBEX, autocommit=True) as two:
        assert backend_pid(two) == two.info.backend_pid != one.info.backend_pid
        assert backend_pid(one) == one.info.backend_pid
    one.rollback()
    one.execute("listen news")
    one.commit()
    assert backend_pid(one) == one.info.backend_pid


def work(dsn):
    with psycopg.connect(dsn) as connection:
        for number in range(12):  # past the threshold at which psycopg prepares
            own = connection.execute('select count(*) from "Segment" where name <> %s', (f"none {number}",)).fetchone()[0]
        with connection.transaction():
            connection.execute('insert into "Segment" (name) values (%s)', (f"psycopg {time.time()}",))
        connection.commit()
        assert connection.execute('select count(*) from "Segment"').fetchone()[0] == own + 1
        try:
            connection.execute("select 1/0")
            raise SystemExit("a division by zero went through")
        except psycopg.errors.DivisionByZero:
            connection.rollback()
        with connection.cursor() as cursor, cursor.copy('copy (select name from "Segment") to stdout') as copy:
            assert sum(1 for _ in copy.rows()) == own + 1
        with connection.pipeline():
            results = [connection.execute("select %s::int", (number,)) for number in range(30)]
        assert [result.fetchone()[0] for result in results] == list(range(30))
        with connection.cursor("server_side") as cursor:
            assert len(cursor.execute("select generate_series(1, 1000)").fetchall()) == 1000
        connection.execute("delete from \"Segment\" where name like 'psycopg %'")
        return own


assert work(ACME) != work(GLOBEX), "the tenants have different numbers of rows"

prepared = [psycopg.connect(dsn, autocommit=True, prepare_threshold=0) for dsn in (ACME, GLOBEX, ACME)]
for _ in range(5):
    for connection in prepared:
        connection.execute('select count(*) from "Journey" where name <> %s', ("x",)).fetchone()
prepared[0].execute("deallocate all")
prepared[0].execute('select count(*) from "Journey" where name <> %s', ("x",)).fetchone()


def cancel_soon():
    time.sleep(0.3)
    prepared[0].cancel()


thread = threading.Thread(target=cancel_soon)
thread.start()
try:
    prepared[0].execute("select pg_sleep(30)")
    raise SystemExit("a cancelled statement went on")
except psycopg.errors.QueryCanceled:
    pass
thread.join()
print("all good")
