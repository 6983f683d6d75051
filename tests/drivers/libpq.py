"""Connects with psycopg's own libpq: libpq.py CONNINFO query|cancel|version.

query runs one statement; cancel stops a long one as a user's Ctrl-C does, by the way that libpq takes since 17, which is
encrypted where the session is; version tells the protocol that was agreed on. What came of it is printed.
"""

import sys
import threading
import time

import psycopg

conninfo, action = sys.argv[1:]
try:
    connection = psycopg.connect(conninfo, autocommit=True)
except psycopg.Error as error:
    sys.exit(f"{error.sqlstate} {error}")

with connection:
    if action == "query":
        print(connection.execute("select 40 + %s", (2,)).fetchone()[0])
    elif action == "version":
        print(getattr(connection.pgconn, "full_protocol_version", connection.pgconn.protocol_version))
    elif action == "cancel":
        # As another session shows nothing of this one, the cancel is repeated until it hits.
        done = threading.Event()

        def cancel():
            while not done.is_set():
                connection.cancel_safe()
                time.sleep(0.05)

        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            connection.execute("select pg_sleep(30)")
            print("never cancelled")
        except psycopg.errors.QueryCanceled as error:
            print(error.sqlstate)
        finally:
            done.set()
            thread.join()
        # What comes next is left alone.
        print(connection.execute("select count(*) from generate_series(1, 100000)").fetchone()[0])
    else:
        sys.exit(f"no such action: {action}")
