"""A mailbox larger than anybody would hold in memory: its messages are made as they are asked for, and fast."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from servers import LOOPBACK, Listener

_SENT_AT_ONCE = 500_000
_HEADER = b"Subject: one of many\r\nFrom: a@example.test\r\nMIME-Version: 1.0\r\n"
TINY = _HEADER + b"\r\nhello\r\n"


def with_attachment(size: int) -> bytes:
    """A mail of at least `size` octets: a short text, and an attachment in base64."""
    line = b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0\r\n"
    return (
        _HEADER
        + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n'
        + b'--b\r\nContent-Type: application/octet-stream; name="a.bin"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        + line * (size // len(line) + 1)
        + b"--b--\r\n"
    )


@dataclass(frozen=True)
class Plenty:
    """`count` messages under the UIDs `step`, twice that, …, all of the same octets."""

    count: int
    raw: bytes = TINY
    step: int = 1

    def serve(self, client: socket.socket) -> None:
        """Serve one client until it leaves."""
        with client, client.makefile("rb") as lines, suppress(OSError):
            client.sendall(b"* OK ready\r\n")
            while line := lines.readline():
                tag, _, command = line.decode().strip().partition(" ")
                name = next((name for name in _ANSWERS if command.upper().startswith(name)), "")
                for piece in _ANSWERS[name](self, command):
                    client.sendall(piece)
                if name == "IDLE":
                    lines.readline()
                client.sendall(f"{tag} OK done\r\n".encode())

    def examined(self, _command: str) -> Iterator[bytes]:
        """What EXAMINE says."""
        yield b"* %d EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n" % self.count

    def listed(self, command: str) -> Iterator[bytes]:
        """Every UID that is searched for."""
        found = re.search(r"UID (\d+:\S+)", command)
        assert found, command
        yield b"* SEARCH " + b" ".join(b"%d" % uid for uid in self._chosen(found[1])) + b"\r\n"

    def handed_over(self, command: str) -> Iterator[bytes]:
        """The messages, some at a time."""
        waiting: list[bytes] = []
        for uid in self._chosen(command.split()[2]):
            head = b"* %d FETCH (UID %d FLAGS () BODY[] {%d}\r\n" % (uid // self.step, uid, len(self.raw))
            waiting += [head, self.raw, b")\r\n"]
            if len(waiting) * len(self.raw) > 3 * _SENT_AT_ONCE:
                yield from waiting if len(self.raw) > _SENT_AT_ONCE else [b"".join(waiting)]
                waiting = []
        yield b"".join(waiting)

    def _chosen(self, uids: str) -> Iterator[int]:
        top = self.count * self.step
        for item in uids.split(","):
            low, _, high = item.partition(":")
            first, last = (top if end == "*" else min(int(end), top) for end in (low, high or low))
            yield from range(-(-first // self.step) * self.step, last + 1, self.step)


_ANSWERS: dict[str, Callable[[Plenty, str], Iterator[bytes]]] = {
    "CAPABILITY": lambda _, __: iter([b"* CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN SASL-IR\r\n"]),
    "EXAMINE": Plenty.examined,
    "UID SEARCH": Plenty.listed,
    "UID FETCH": Plenty.handed_over,
    "IDLE": lambda _, __: iter([b"+ idling\r\n"]),
    "": lambda _, __: iter(()),
}


@contextmanager
def plenty(mailbox: Plenty) -> Generator[Listener]:
    """Where the mailbox is served, a thread for each client."""

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=mailbox.serve, args=(client,), daemon=True).start()

    with socket.create_server((LOOPBACK, 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield Listener(LOOPBACK, int(listening.getsockname()[1]))
        finally:
            listening.shutdown(socket.SHUT_RDWR)
