"""One mail for 200 who wait, over HTTP; and what 1,000 who wait cost: inboxd beside a bare server that holds requests.

inboxd's clock starts with the mail's `createdAt`, which it takes just before its transaction, the bare server's when it
is told to answer. Both run in a process of their own and are asked over the same bare sockets.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, final

from bench.report import heading, spread
from servers import LOOPBACK, free_port
from servers.certs import issue
from servers.daemon import KEY, Daemon
from servers.dovecot import Dovecot

MAIL = b"From: a@example.test\r\nTo: b@example.test\r\nSubject: bench\r\n\r\n" + (b"x" * 76 + b"\r\n") * 50
SETTLE_SECONDS = 1.0
QUIET_SECONDS = 0.02  # of CPU while one settles


@final
class Caller(asyncio.Protocol):
    """A connection that asks and notes when the first byte of the answer came."""

    def __init__(self) -> None:
        self.answered = asyncio.Event()
        self.at = 0.0
        self._read = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to ask."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, path: str, method: str = "GET") -> None:
        """Send a request."""
        assert self._transport is not None
        self.answered.clear()
        self._read = b""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nx-api-key: {KEY}\r\nContent-Length: 0\r\n\r\n"
        self._transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        """Until the body is complete."""
        if not self._read:
            self.at = time.time()
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            assert b" 200 " in head[:20], head
            self.answered.set()

    @property
    def json(self) -> Any:
        """The answer."""
        return json.loads(self._read.partition(b"\r\n\r\n")[2])

    def close(self) -> None:
        """Hang up."""
        assert self._transport is not None
        self._transport.abort()


@dataclass
class Server:
    """What is asked: where, how its waiters are let go, and its process."""

    name: str
    port: int
    path: str
    pid: int
    let_go: Callable[[], Awaitable[None]]
    begun: Callable[[Any], float]
    answers: list[float] = field(default_factory=list[float])
    spans: list[float] = field(default_factory=list[float])

    async def callers(self, count: int) -> list[Caller]:
        """Open connections."""
        loop = asyncio.get_running_loop()
        return [(await loop.create_connection(Caller, LOOPBACK, self.port))[1] for _ in range(count)]

    async def round(self, callers: list[Caller]) -> None:
        """All wait, one thing happens, all are answered."""
        for caller in callers:
            caller.ask(self.path)
        await asyncio.sleep(SETTLE_SECONDS)
        await self.let_go()
        for caller in callers:
            await caller.answered.wait()
        begun = self.begun(callers[0].json)
        latencies = [caller.at - begun for caller in callers]
        self.answers += latencies
        self.spans.append(max(latencies) - min(latencies))
        print(f"{self.name:12} {_percentiles(latencies)}   first to last {self.spans[-1] * 1e3:6.2f} ms", flush=True)

    def resident_kib(self) -> int:
        """The process's memory."""
        return int(Path(f"/proc/{self.pid}/status").read_text().split("VmRSS:")[1].split()[0])

    def cpu_seconds(self) -> float:
        """What the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def idle(self, count: int, seconds: float) -> float:
        """What `count` waiters cost while nothing happens; KiB each."""
        before, alone = self.resident_kib(), await self._cpu_over(seconds)
        callers = await self.callers(count)
        for caller in callers:
            caller.ask(self.path)
        while await self._cpu_over(SETTLE_SECONDS) > QUIET_SECONDS:
            pass
        each = (self.resident_kib() - before) / count
        busy = await self._cpu_over(seconds)
        for caller in callers:
            caller.close()
        print(
            f"{self.name:12} {count} waiters: {each:.1f} KiB each;"
            f" CPU in {seconds:g} s: {busy:.2f} s, without them {alone:.2f} s",
            flush=True,
        )
        return each

    async def _cpu_over(self, seconds: float) -> float:
        before = self.cpu_seconds()
        await asyncio.sleep(seconds)
        return self.cpu_seconds() - before


def _middle(values: list[float]) -> float:
    return statistics.median(values)


def _percentiles(values: list[float]) -> str:
    ordered = sorted(values)
    p95 = ordered[int(len(ordered) * 0.95)]
    return f"p50 {_middle(ordered) * 1e3:7.2f} ms   p95 {p95 * 1e3:7.2f} ms   max {ordered[-1] * 1e3:7.2f} ms"


async def _measure(inboxd: Server, bare: Server, *, quick: bool) -> None:
    count = 200
    pairs = [(server, await server.callers(count)) for server in (bare, inboxd)]
    for number in range(2 if quick else 6):
        for server, callers in pairs:
            await server.round(callers)
            if number == 0:
                server.answers.clear()  # the first round warms up
                server.spans.clear()
    for _, callers in pairs:
        for caller in callers:
            caller.close()
    for server in (bare, inboxd):
        print(f"{server.name:12} {spread(server.answers)}")
    for what, of in (("median", _middle), ("max", max)):
        print(f"inboxd / bare server, {what}: {of(inboxd.answers) / of(bare.answers):.2f}")
    print(f"inboxd / bare server, first answer to last: {_middle(inboxd.spans) / _middle(bare.spans):.2f}")
    heading("1,000 who wait while nothing happens")
    costs = [await server.idle(1000, 3 if quick else 8) for server in (bare, inboxd)]
    print(f"inboxd / bare server, memory of a waiter: {costs[1] / costs[0]:.2f}")


def main(*, quick: bool) -> None:
    """Interleaved rounds, the mails delivered to a real Dovecot."""
    heading("waits: one mail for 200 requests of waitForLatestEmail, from its createdAt to each answer")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        certificates = issue(folder)
        dovecot = Dovecot(folder / "dovecot", certificates)
        dovecot.start()
        daemon = Daemon(folder, certificates.ca_file)
        daemon.settings = {}
        bare: subprocess.Popen[bytes] | None = None
        try:
            daemon.start()
            user = dovecot.user()
            connector = daemon.connect(user, dovecot.starttls)
            daemon.await_state(connector, "idle")
            dovecot.append(user, MAIL)
            path = f"/waitForLatestEmail?inboxId={connector['inboxId']}&unreadOnly=true&timeout=120000"
            size = len(json.dumps(daemon.http("GET", path)[1], separators=(",", ":"), ensure_ascii=False).encode())
            port = free_port()
            bare = subprocess.Popen([sys.executable, "-m", "bench.held", str(port), str(size)])
            daemon.until(lambda: _answers(port), "the bare server")
            assert daemon.process is not None
            ours = Server("inboxd", daemon.api_port, path, daemon.process.pid, _deliver(dovecot, user), _created)
            theirs = Server("bare server", port, "/wait", bare.pid, _go(port), lambda body: body["createdAt"])
            asyncio.run(_measure(ours, theirs, quick=quick))
        finally:
            if bare is not None:
                bare.kill()
                bare.wait()
            daemon.stop()
            dovecot.stop(kill=True)


def _created(email: Any) -> float:
    return datetime.fromisoformat(email["createdAt"]).timestamp()


def _deliver(dovecot: Dovecot, user: Any) -> Callable[[], Awaitable[None]]:
    async def deliver() -> None:
        await asyncio.to_thread(dovecot.append, user, MAIL)

    return deliver


def _go(port: int) -> Callable[[], Awaitable[None]]:
    async def go() -> None:
        _, caller = await asyncio.get_running_loop().create_connection(Caller, LOOPBACK, port)
        caller.ask("/go", "POST")
        await caller.answered.wait()
        caller.close()

    return go


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
        return True
    return False
