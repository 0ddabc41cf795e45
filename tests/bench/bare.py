"""The peer of the latency benchmark: a blocking socket, no library, one row a mail; it prints when it committed."""

from __future__ import annotations

import re
import socket
import sqlite3
import sys
import time
from typing import IO


def main() -> None:
    """Log in, idle, fetch each mail announced, commit it; for ever."""
    port, path = int(sys.argv[1]), sys.argv[2]
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA page_size=32768")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE message (uid INTEGER PRIMARY KEY, raw BLOB)")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = connection.makefile("rb")
        stream.readline()
        _ask(connection, stream, b"a LOGIN x x")
        _ask(connection, stream, b"a EXAMINE INBOX")
        uid = 0
        while True:
            connection.sendall(b"a IDLE\r\n")
            while b"EXISTS" not in stream.readline():
                pass
            _ask(connection, stream, b"DONE")
            uid += 1
            connection.sendall(b"a UID FETCH %d (UID BODY.PEEK[])\r\n" % uid)
            raw = _literal(stream)
            while not stream.readline().startswith(b"a "):
                pass
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO message VALUES (?, ?)", (uid, raw))
            database.execute("COMMIT")
            print(time.perf_counter(), flush=True)


def _ask(connection: socket.socket, stream: IO[bytes], line: bytes) -> None:
    connection.sendall(line + b"\r\n")
    while not stream.readline().startswith(b"a "):
        pass


def _literal(stream: IO[bytes]) -> bytes:
    found = re.search(rb"\{(\d+)\}\r\n$", stream.readline())
    assert found
    return bytes(stream.read(int(found[1])))


main()
