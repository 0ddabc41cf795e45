"""The limit of the first sync: a blocking socket reads all messages in one answer and throws them away."""

from __future__ import annotations

import re
import socket
import sys

_READ_BYTES = 256 << 10
_TAIL_BYTES = 4096


def main() -> None:
    """HOST PORT USER PASSWORD."""
    host, port, user, password = sys.argv[1:]
    with socket.create_connection((host, int(port))) as connection:
        connection.recv(_READ_BYTES)
        for line in (
            f'a LOGIN "{user}" "{password}"',
            "b EXAMINE INBOX",
            "c UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])",
        ):
            _ask(connection, line)


def _ask(connection: socket.socket, line: str) -> None:
    connection.sendall(f"{line}\r\n".encode())
    ended = re.compile(rf"(?:^|\n){line[0]} OK[^\n]*\n\Z".encode())
    tail = b""
    while not ended.search(tail):
        octets = connection.recv(_READ_BYTES)
        if not octets:
            sys.exit("the server closed the connection")
        tail = (tail + octets[-_TAIL_BYTES:])[-_TAIL_BYTES:]


main()
