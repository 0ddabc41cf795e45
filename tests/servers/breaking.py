"""An SMTP server that breaks where it is told to, in a thread of its own, and remembers each mail it has taken."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from servers import LOOPBACK, abort_connections, free_port, stop_accepting

# In order. At `body` half the mail has come; at `dot` all of it, and no answer has gone; at `reply` one has.
STAGES = ("banner", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "body", "dot", "reply")
CLOSE, SILENCE = b"close", b"silence"
NONSENSE = b"\x00\xff what? \r\n"
_ID = re.compile(rb"^Message-ID: <([^>]+)>", re.IGNORECASE | re.MULTILINE)

Plan = Callable[[str], bytes | None]


def behave(_stage: str) -> bytes | None:
    """The plan of a server that does what it should."""
    return None


@dataclass
class Breaking:
    """What a test sees. `plan` says at each stage what to do instead: CLOSE, SILENCE, or the bytes to answer."""

    tls: ssl.SSLContext | None = None
    user: str = ""
    password: str = ""
    pipelining: bool = True
    plan: Plan = behave
    host: str = LOOPBACK
    port: int = field(default_factory=free_port)
    taken: list[bytes] = field(default_factory=list[bytes])
    ids: list[str] = field(default_factory=list[str])
    sessions: int = 0
    _reached: dict[str, threading.Event] = field(default_factory=lambda: {one: threading.Event() for one in STAGES})
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def watch(self, stage: str) -> threading.Event:
        """Set once the stage is reached from now on."""
        self._reached[stage] = threading.Event()
        return self._reached[stage]

    def counts(self) -> Counter[str]:
        """How often each Message-ID was taken."""
        with self._changed:
            return Counter(self.ids)

    def wait_for(self, count: int, seconds: float = 30.0) -> None:
        """Until that many mails were taken."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.ids) >= count, seconds), len(self.ids)

    def act(self, stage: str) -> bytes | None:
        """What the plan says; the stage counts as reached after that."""
        action = self.plan(stage)
        self._reached[stage].set()
        return action

    def take(self, content: bytes) -> None:
        """The mail is this server's now."""
        found = _ID.search(content)
        assert found, content[:500]
        with self._changed:
            self.taken.append(content)
            self.ids.append(found[1].decode())
            self._changed.notify_all()


class _Over(Exception):
    """The conversation is over."""


class _Talk:
    def __init__(self, server: Breaking, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._secured = False

    async def run(self) -> None:
        await self._say("banner", b"220 mail.example.test ESMTP\r\n")
        while True:
            line = await self._line()
            command = line.split(b" ")[0].strip().upper()
            await self._answers.get(command, _Talk._other)(self, line)

    async def _line(self) -> bytes:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise _Over
        return line

    async def _say(self, stage: str, good: bytes) -> bool:
        """Answer; whether it was the good answer."""
        action = self._server.act(stage)
        if action == CLOSE:
            raise _Over
        if action == SILENCE:
            await self._reader.read()
            raise _Over
        self._writer.write(good if action is None else action)
        await self._writer.drain()
        return action is None

    async def _hello(self, _line: bytes) -> None:
        lines = [b"mail.example.test", b"8BITMIME", b"SIZE 100000000", b"DSN", b"SMTPUTF8"]
        lines += [b"PIPELINING"] if self._server.pipelining else []
        lines += [b"STARTTLS"] if self._server.tls is not None and not self._secured else []
        lines += [b"AUTH PLAIN"] if self._server.user and (self._secured or self._server.tls is None) else []
        marked = [b"250-" + one for one in lines[:-1]] + [b"250 " + lines[-1]]
        await self._say("ehlo", b"\r\n".join(marked) + b"\r\n")

    async def _secure(self, _line: bytes) -> None:
        if await self._say("starttls", b"220 go\r\n") and self._server.tls is not None:
            await self._writer.start_tls(self._server.tls)
            self._secured = True

    async def _log_in(self, line: bytes) -> None:
        given = base64.b64decode(line.split()[2]).split(b"\0")[1:]
        good = given == [self._server.user.encode(), self._server.password.encode()]
        await self._say("auth", b"235 in\r\n" if good else b"535 5.7.8 no\r\n")

    async def _mail(self, _line: bytes) -> None:
        await self._say("mail", b"250 ok\r\n")

    async def _rcpt(self, _line: bytes) -> None:
        await self._say("rcpt", b"250 ok\r\n")

    async def _data(self, _line: bytes) -> None:
        if not await self._say("data", b"354 go\r\n"):
            return
        content = bytearray(await self._line())
        action = self._server.act("body")
        if action == CLOSE:
            raise _Over
        if action == SILENCE:
            await asyncio.Event().wait()
        if action is not None:  # the answer to the mail, given early: it is not taken
            self._writer.write(action)
        while (line := await self._line()) != b".\r\n":
            content += line
        if action is None:
            await self._end(bytes(content))

    async def _end(self, content: bytes) -> None:
        """A 4xx or 5xx says that the mail was not taken; whatever else happens, it was."""
        action = self._server.act("dot")
        refused = action is not None and action[:1] in b"45"
        if not refused:
            self._server.take(content)
        if action == CLOSE:
            raise _Over
        if action == SILENCE:
            await self._reader.read()
            raise _Over
        self._writer.write(b"250 2.0.0 queued\r\n" if action is None else action)
        await self._writer.drain()
        if self._server.act("reply") == CLOSE:
            raise _Over

    async def _quit(self, _line: bytes) -> None:
        self._writer.write(b"221 bye\r\n")
        raise _Over

    async def _other(self, _line: bytes) -> None:
        self._writer.write(b"250 ok\r\n")

    _answers = {  # noqa: RUF012
        b"EHLO": _hello,
        b"STARTTLS": _secure,
        b"AUTH": _log_in,
        b"MAIL": _mail,
        b"RCPT": _rcpt,
        b"DATA": _data,
        b"QUIT": _quit,
    }


@contextmanager
def breaking(server: Breaking | None = None) -> Generator[Breaking]:
    """The server, until the block ends."""
    made = server or Breaking()
    ready = threading.Event()
    ended: list[Callable[[], object]] = []

    async def serve() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        ended.append(lambda: loop.call_soon_threadsafe(over.set))
        talks: set[asyncio.Task[None]] = set()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            talks.add(task)
            made.sessions += 1
            try:
                await _Talk(made, reader, writer).run()
            except (_Over, ConnectionError, ssl.SSLError, asyncio.CancelledError):
                pass
            finally:
                talks.discard(task)
                writer.close()

        listener = await asyncio.start_server(talk, made.host, made.port, limit=1 << 26)
        ready.set()
        async with listener:
            await over.wait()
            await stop_accepting(listener)
            for task in tuple(talks):
                task.cancel()
            await asyncio.wait(talks, timeout=5) if talks else None
        await abort_connections()

    thread = threading.Thread(target=asyncio.run, args=[serve()], name="breaking", daemon=True)
    thread.start()
    try:
        assert ready.wait(15), "the SMTP server did not start"
        yield made
    finally:
        ended[0]()
        thread.join(15)
    assert not thread.is_alive(), "the SMTP server did not stop"
