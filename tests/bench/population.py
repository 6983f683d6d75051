"""Workspaces in great numbers, with a key each, put into the control data by SQL."""

import time

import client
import scratch
from scratch import BenchError

# How long a change may take until the proxy goes by it.
APPLIED_WITHIN = 60


class Population:
    """Workspaces `grown-1`, `grown-2` and so on. Their keys have one secret, which is that of a key that is there."""

    def __init__(self, admin, told):
        self.admin, self.model, self.count, self.salted = admin, scratch.parts(told["workspaces"][0]["dsn"]), 0, {}

    def way(self, number, arm=None):
        """The target of one of them, through the proxy of an arm."""
        return {**(arm.ways[0] if arm else self.model), "user": f"grown_{number}", "password": self.model["password"]}

    def become(self, count, arm=None):
        """So many of them, and the proxy goes by it."""
        if count > self.count:
            self.add(self.count + 1, count)
            telling = count, True
        else:
            self.remove(count + 1)
            telling = self.count, False
        if count != self.count:
            self.wait_until(*telling, arm)
        self.count = count

    def add(self, first, last):
        scratch.sql(self.admin, f"""
begin;
insert into cordon.workspace (name) select 'grown-' || i from generate_series({first}, {last}) i;
insert into cordon.api_key (key_id, workspace_id, kind, verifier)
    select replace(w.name, '-', '_'), w.id, 'workspace', k.verifier from cordon.workspace w, cordon.api_key k
    where w.name like 'grown-%' and split_part(w.name, '-', 2)::int >= {first} and k.key_id = '{self.model["user"]}';
commit;
vacuum analyze cordon.workspace;
vacuum analyze cordon.api_key;""")

    def remove(self, first):
        scratch.sql(self.admin, f"""
begin;
delete from cordon.api_key where key_id like 'grown\\_%' and split_part(key_id, '_', 2)::int >= {first};
delete from cordon.workspace where name like 'grown-%' and split_part(name, '-', 2)::int >= {first};
commit;
vacuum analyze cordon.workspace;
vacuum analyze cordon.api_key;""")

    def wait_until(self, number, there, arm):
        """Tries one of the keys until it is good, or no longer."""
        end = time.monotonic() + APPLIED_WITHIN
        while self.opens(number, arm) != there:
            if time.monotonic() > end:
                raise BenchError(f"the proxy didn't hear of {number:,} workspaces within {APPLIED_WITHIN} s")
            time.sleep(0.05)

    def opens(self, number, arm):
        try:
            client.leave(client.login(self.way(number, arm), self.salted))
            return True
        except BenchError:
            return False

    def walk(self, arm, text):
        """One after the other comes by, asks one thing, and leaves. How many seconds that took."""
        begin = time.monotonic()
        for number in range(1, self.count + 1):
            sock = client.login(self.way(number, arm), self.salted)
            client.ask(sock, text)
            client.leave(sock)
        return time.monotonic() - begin
