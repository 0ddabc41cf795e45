"""The server of the idle benchmark: a small IMAP server for thousands of clients, in a process of its own.

It is told by lines on its standard input and answers each with one line of JSON: `state` (who idles, when each login
was), `mail USER` (one more mail for a user; when it was announced), `drop` (every connection is cut at once; when).
Times are those of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
import time
from typing import Any, cast

import uvloop

MAIL = b"From: a@example.test\r\nTo: b@example.test\r\nSubject: bench\r\n\r\n" + (b"x" * 76 + b"\r\n") * 20
_CAPABILITY = b"* CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN SASL-IR\r\n"
_HEAD = '* %d FETCH (UID %d FLAGS () INTERNALDATE "22-Nov-2026 10:00:00 +0000" RFC822.SIZE %d BODY[] {%d}\r\n'


class Crowd:
    """Everybody connected, and what each has in the mailbox."""

    def __init__(self) -> None:
        self.open: set[Client] = set()
        self.idlers: dict[str, Client] = {}
        self.mails: dict[str, int] = {}
        self.logins: list[float] = []

    def obey(self, line: str) -> dict[str, Any]:
        """Do as told; the answer."""
        word, _, user = line.strip().partition(" ")
        if word == "mail":
            self.mails[user] = self.mails.get(user, 0) + 1
            if user in self.idlers:
                self.idlers[user].announce()
        elif word == "drop":
            self.logins.clear()
            for client in tuple(self.open):
                client.transport.abort()
        answer: dict[str, Any] = {"at": time.monotonic(), "idlers": len(self.idlers), "open": len(self.open)}
        return answer | {"logins": self.logins} if word == "state" else answer


class Client(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._read = b""
        self._user = ""
        self._idle_tag = b""
        self._said = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._crowd.open.add(self)
        self.transport.write(b"* OK ready\r\n")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 asyncio names it
        self._crowd.open.discard(self)
        self._rest()

    def data_received(self, data: bytes) -> None:
        *lines, self._read = (self._read + data).split(b"\r\n")
        for line in lines:
            if line.upper() == b"DONE":
                self._rest()
                self.transport.write(self._idle_tag + b" OK done\r\n")
            else:
                self._answer(*line.split(b" ", 2))

    def announce(self) -> None:
        """Say how many mails there are."""
        self._said = self._count
        self.transport.write(b"* %d EXISTS\r\n" % self._count)

    @property
    def _count(self) -> int:
        return self._crowd.mails.get(self._user, 0)

    def _rest(self) -> None:
        if self._crowd.idlers.get(self._user) is self:
            del self._crowd.idlers[self._user]

    def _answer(self, tag: bytes, command: bytes, rest: bytes = b"") -> None:
        said = b""
        if command == b"CAPABILITY":
            said = _CAPABILITY
        elif command == b"AUTHENTICATE":
            self._user = base64.b64decode(rest.split()[1]).split(b"\0")[1].decode()
            self._crowd.logins.append(time.monotonic())
        elif command == b"EXAMINE":
            self._said = count = self._count
            said = b"* %d EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT %d] ok\r\n" % (count, count + 1)
        elif command == b"UID":
            said = self._uids(rest)
        elif command == b"IDLE":
            self._idle_tag = tag
            self._crowd.idlers[self._user] = self
            self.transport.write(b"+ idling\r\n")
            if self._said != self._count:
                self.announce()
            return
        self.transport.write(said + tag + b" OK done\r\n")

    def _uids(self, rest: bytes) -> bytes:
        if rest.startswith(b"SEARCH"):
            return b"* SEARCH %s\r\n" % " ".join(map(str, range(1, self._count + 1))).encode()
        mails = b""
        for span in rest.split(b" ")[1].decode().split(","):
            first, _, last = span.replace("*", str(self._count)).partition(":")
            for number in range(min(int(first), int(last or first)), int(last or first) + 1):
                mails += (_HEAD % (number, number, len(MAIL), len(MAIL))).encode() + MAIL + b")\r\n"
        return mails


async def main() -> None:
    """Serve on every address of 127.0.0.0/8 until the standard input ends."""
    port, *files = sys.argv[1:]
    context = None
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
    crowd, loop = Crowd(), asyncio.get_running_loop()
    await loop.create_server(lambda: Client(crowd), "0.0.0.0", int(port), ssl=context, backlog=4096)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(crowd.obey(line)), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
