"""Memory of idle clients: N connections that logged in and say nothing."""

import base64
import hashlib
import hmac
import os
import socket
import struct
import time

import load
import procs
from scratch import BenchError
from works import script_of


def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


def receive(sock):
    head = b""
    while len(head) < 5:
        piece = sock.recv(5 - len(head))
        if not piece:
            raise BenchError("an idle client's connection was closed")
        head += piece
    length, body = struct.unpack("!i", head[1:])[0] - 4, b""
    while len(body) < length:
        body += sock.recv(length - len(body))
    if head[:1] == b"E":
        raise BenchError(f"an idle client was refused: {body.decode(errors='replace')}")
    return head[:1], body


def login(at, salted):
    """Connects and logs in (trust or SCRAM-SHA-256). `salted` remembers the slow hash between connections."""
    sock = socket.create_connection((at["host"], at["port"]), 10)
    pairs = f"user\0{at['user']}\0database\0{at['database']}\0\0".encode()
    sock.sendall(message(b"", struct.pack("!i", 196608) + pairs))
    nonce, first, expected = base64.b64encode(os.urandom(18)).decode(), "", b""
    while True:
        kind, body = receive(sock)
        if kind == b"Z":
            return sock
        if kind != b"R":
            continue
        (code,) = struct.unpack("!i", body[:4])
        if code == 10:
            first = f"n=,r={nonce}"
            data = f"n,,{first}".encode()
            sock.sendall(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(data)) + data))
        elif code == 11:
            challenge = body[4:].decode()
            fields = dict(part.split("=", 1) for part in challenge.split(","))
            key = (at["password"], fields["s"], fields["i"])
            if key not in salted:
                salted[key] = hashlib.pbkdf2_hmac(
                    "sha256", at["password"].encode(), base64.b64decode(fields["s"]), int(fields["i"])
                )
            final = f"c=biws,r={fields['r']}"
            signed = f"{first},{challenge},{final}".encode()
            client_key = hmac.digest(salted[key], b"Client Key", "sha256")
            signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
            proof = bytes(a ^ b for a, b in zip(client_key, signature))
            expected = hmac.digest(hmac.digest(salted[key], b"Server Key", "sha256"), signed, "sha256")
            sock.sendall(message(b"p", f"{final},p={base64.b64encode(proof).decode()}".encode()))
        elif code == 12 and body[4:] != b"v=" + base64.b64encode(expected):
            raise BenchError("the server's SCRAM signature is wrong")
        elif code not in (0, 12):
            raise BenchError(f"authentication request {code} is not understood")


def arms_of(field):
    """Whose memory is looked at. pgcordon's clients are spread over workspaces, for one may have a quarter of all."""
    arms = [arm for arm in field.proxies() if arm.pid]
    return [arm.but(f", {len(field.spread[arm.name])} workspaces", ways=field.spread[arm.name])
            if arm.name in field.spread else arm for arm in arms]


def measure(room, field, options):
    """Resident memory of each arm with its server connections open and nobody there, then with more and more idle clients.
    By the arm's name: what it was before, and with how many clients it was what, in KiB."""
    script, found = script_of(room, "warm", "select 1;\n"), {}
    for arm in arms_of(field):
        warm(arm, script, options)
        before, sockets, salted, steps = procs.resident_kib(arm.pid), [], {}, []
        try:
            for clients in sorted(options.idle):
                while len(sockets) < clients:
                    sockets.append(login(arm.ways[len(sockets) % len(arm.ways)], salted))
                time.sleep(1)
                steps.append((clients, procs.resident_kib(arm.pid)))
        finally:
            for sock in sockets:
                sock.close()
        found[arm.name] = {"kind": arm.kind, "before": before, "steps": steps}
    return found


def warm(arm, script, options):
    """Has every server connection opened that the pool may have."""
    if len(arm.ways) > 1:
        load.spread(arm, script, "simple", len(arm.ways), 1)
    else:
        load.run(arm, script, "simple", 3 * options.pool, 1)


def table(found):
    out = ["\n**Resident memory with idle clients, all server connections open**\n",
           "| arm | clients | without them MiB | with them MiB | KiB per client |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, memory in found.items():
        before = memory["before"]
        for clients, kib in memory["steps"]:
            out.append(f"| {name} | {clients:,} | {before / 1024:.1f} | {kib / 1024:.1f} | {(kib - before) / clients:.1f} |")
    return out
