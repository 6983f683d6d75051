"""A client by hand: it logs in, asks and leaves, on a socket of its own."""

import base64
import hashlib
import hmac
import os
import socket
import struct

from scratch import BenchError


def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


def receive(sock):
    head = b""
    while len(head) < 5:
        piece = sock.recv(5 - len(head))
        if not piece:
            raise BenchError("a client's connection was closed")
        head += piece
    length, body = struct.unpack("!i", head[1:])[0] - 4, b""
    while len(body) < length:
        body += sock.recv(length - len(body))
    if head[:1] == b"E":
        raise BenchError(f"a client was refused: {body.decode(errors='replace')}")
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


def ask(sock, text):
    """A statement by the simple protocol, whose answer is waited for."""
    sock.sendall(message(b"Q", text.encode() + b"\0"))
    while receive(sock)[0] != b"Z":
        pass


def leave(sock):
    with sock:
        sock.sendall(message(b"X", b""))
