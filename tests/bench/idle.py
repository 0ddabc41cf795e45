"""What idle connectors cost, and how a crowd of them starts, listens and comes back after a cut.

The connectors lie in the store before the real daemon starts; the server is `bench.crowd`. "Login budget off" takes
the two rates away, to see what the machine can do; the run without that remark has the daemon's own settings.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, final
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from bench.report import heading, spread
from inboxd.accounts import seal_password
from inboxd.model import Inbox, Secret, Tls, utc_now
from inboxd.store import inboxes
from inboxd.store.engine import open_store
from inboxd.store.rows import columns_of
from inboxd.store.schema import CONNECTIONS, CONNECTORS, SYNC_SETTINGS
from inboxd.vault import open_vault
from servers import Listener, await_listener, free_port
from servers.certs import Certificates, issue
from servers.daemon import Daemon
from servers.stores import make_connection, make_connector, make_inbox, make_sync_settings

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
UNLIMITED = {"INBOXD_IMAP__LOGINS_PER_SECOND": "0", "INBOXD_IMAP__LOGINS_PER_HOST_SECOND": "0"}
SETTLE_SECONDS = 2.0
RENEW_SECONDS = 2.0
IDLE_SECONDS = 240.0  # imap.idle_seconds, for what is reckoned from RENEW_SECONDS


@dataclass(frozen=True, slots=True)
class Case:
    """One run. `hosts` is how many of HOSTS the connectors are dealt out to."""

    count: int
    tls: Tls
    hosts: int
    seconds: float
    settings: dict[str, str]

    @property
    def title(self) -> str:
        """What it is."""
        off = ", login budget off" if self.settings == UNLIMITED else ""
        kind = "plain" if self.tls is Tls.NONE else "TLS"
        return f"{self.count} {kind} connectors on {self.hosts} host{'s' * (self.hosts > 1)}{off}"


@final
class Server:
    """The crowd's server as the benchmark drives it."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self._process = process
        self._turn = threading.Lock()

    def tell(self, line: str) -> dict[str, Any]:
        """Its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            print(line, file=self._process.stdin, flush=True)
            return dict(json.loads(self._process.stdout.readline()))

    def await_idlers(self, count: int, seconds: float = 600.0) -> float:
        """Once so many idle: when that was."""
        deadline = time.monotonic() + seconds
        while (answer := self.tell("count"))["idlers"] < count:
            assert time.monotonic() < deadline, answer
            time.sleep(0.05)
        return float(answer["at"])


@contextmanager
def serving(certificates: Certificates, tls: Tls) -> Generator[Server]:
    """The server in its process, until the block ends."""
    port = free_port()
    files = [] if tls is Tls.NONE else [str(certificates.good.chain), str(certificates.good.key)]
    command = [sys.executable, "-m", "bench.crowd", str(port), *files]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            await_listener(Listener(HOSTS[0], port))
            yield Server(port, process)
        finally:
            process.kill()


async def fill(state_dir: Path, case: Case, port: int) -> None:
    """Put the connectors into the store of a daemon that does not run yet."""
    vault, now = open_vault(None, state_dir), utc_now()
    rows: dict[Any, list[dict[str, Any]]] = {CONNECTORS: [], CONNECTIONS: [], SYNC_SETTINGS: []}
    homes: list[Inbox] = []
    for number in range(case.count):
        inbox = make_inbox(f"c{number}@inbox.example")
        connector = make_connector(inbox, f"c{number}", now)
        key = uuid4()
        connection = replace(
            make_connection(connector.id), id=key, host=HOSTS[number % case.hosts], port=port, tls=case.tls,
            username=f"u{number}", sealed_password=seal_password(vault, key, Secret("secret")), mechanisms=(),
            ssl_trust=None, ssl_protocols=(), select_folder=None, search_terms=None,
        )  # fmt: skip
        homes.append(inbox)
        records = (connector, connection, make_sync_settings(connector.id))
        for held, record in zip(rows.values(), records, strict=True):
            held.append(columns_of(record))

    async def work(connection: AsyncConnection) -> None:
        for inbox in homes:
            await inboxes.insert(connection, inbox)
        for table, held in rows.items():
            await connection.execute(table.insert(), held)

    async with open_store(f"sqlite:///{state_dir / 'inboxd.db'}") as store:
        await store.write(work)


@final
class Watched:
    """A daemon under measurement."""

    def __init__(self, daemon: Daemon, server: Server) -> None:
        assert daemon.process is not None
        self.daemon = daemon
        self.server = server
        self.ready_at = time.monotonic()
        self._proc = Path(f"/proc/{daemon.process.pid}")
        self._seen = 0
        self._stored = threading.Condition()
        self._stored_at = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            for _ in self.daemon.client.stream("GET", "/control/watch"):
                with self._stored:
                    self._seen += 1
                    self._stored_at = time.monotonic()
                    self._stored.notify_all()
        except Exception:  # noqa: BLE001 the daemon went
            pass

    def attach(self, user: str) -> None:
        """Return once the watch hears: mails that came before it did are not told."""
        with self._stored:
            while not self._seen:
                self.server.tell(f"mail {user}")
                self._stored.wait(0.5)

    def resident_kb(self) -> int:
        """Memory."""
        return int((self._proc / "status").read_text().split("VmRSS:")[1].split()[0])

    def descriptors(self) -> int:
        """Open files and sockets."""
        return len(os.listdir(self._proc / "fd"))  # noqa: PTH208

    def cpu_seconds(self) -> float:
        """What it has used."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_over(self, seconds: float) -> float:
        """What it uses in so long, as a share of one processor."""
        before, begun = self.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu_seconds() - before) / (time.monotonic() - begun)

    def mail(self, user: str) -> float:
        """One mail for a user: seconds from its announcement to its being told of as committed."""
        with self._stored:
            seen = self._seen
            said = float(self.server.tell(f"mail {user}")["at"])
            assert self._stored.wait_for(lambda: self._seen > seen, 60), self.daemon.log[-3000:]
            return self._stored_at - said

    def ask(self, path: str) -> float:
        """Seconds until a page of the metrics listener is there."""
        begun = time.monotonic()
        self.daemon.scrape(path)
        return time.monotonic() - begun


@contextmanager
def repeating(work: Callable[[], float], pause_seconds: float) -> Generator[list[float]]:
    """What `work` measures again and again, in a thread, while the block runs; once at least."""
    ended, measured = threading.Event(), list[float]()

    def run() -> None:
        measured.append(work())
        while not ended.wait(pause_seconds):
            measured.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield measured
    finally:
        ended.set()
        thread.join()


def most_in_a_second(moments: list[float]) -> int:
    """The most that fall into any one second."""
    ordered = sorted(moments)
    return max((bisect_right(ordered, at + 1.0) - number for number, at in enumerate(ordered)), default=0)


def _start(watched: Watched, case: Case) -> None:
    server, begun = watched.server, watched.ready_at
    server.await_idlers(1)
    watched.attach("u0")
    with repeating(lambda: watched.ask("/readyz"), 0.02) as ready, repeating(lambda: watched.mail("u0"), 0.1) as mails:
        connected = server.await_idlers(case.count) - begun
    logins = server.tell("state")["logins"]
    print(f"  connected      all after {connected:.1f} s; at most {most_in_a_second(logins)} logins in a second")
    print(f"  while starting /readyz  {spread(ready)}")
    print(f"  while starting one mail {spread(mails)}")


def _rest(watched: Watched, case: Case) -> int:
    time.sleep(SETTLE_SECONDS)
    busy = watched.cpu_over(case.seconds)
    resident = watched.resident_kb()
    print(f"  idle           RSS {resident / 1000:.1f} MB; {watched.descriptors()} descriptors; CPU {busy:.2%} of one")
    print(f"  idle           one mail {spread([watched.mail(f'u{n}') for n in range(min(case.count, 50))])}")
    print(f"  idle           /metrics {spread([watched.ask('/metrics') for _ in range(5)])}")
    return resident


def _cut(watched: Watched, case: Case) -> None:
    before = watched.cpu_seconds()
    cut = float(watched.server.tell("drop")["at"])
    with repeating(lambda: watched.ask("/readyz"), 0.02) as ready:
        back = watched.server.await_idlers(case.count) - cut
    logins = watched.server.tell("state")["logins"]
    seconds = range(min(int(back) + 1, 12))
    first = " ".join(str(sum(n <= at - cut < n + 1 for at in logins)) for n in seconds)
    print(f"  after a cut    all back after {back:.1f} s; at most {most_in_a_second(logins)} logins in a second")
    print(f"  after a cut    logins in each of the first seconds: {first}")
    print(f"  after a cut    /readyz  {spread(ready)}")
    used = (watched.cpu_seconds() - before) / case.count
    print(f"  after a cut    {used * 1e3:.2f} ms of CPU a connector; {watched.descriptors()} descriptors")


@contextmanager
def running(case: Case, server: Server, certificates: Certificates) -> Generator[Daemon]:
    """The daemon over a filled store, ready."""
    with tempfile.TemporaryDirectory() as place:
        daemon = Daemon(Path(place), certificates.ca_file)
        daemon.state_dir.mkdir()
        asyncio.run(fill(daemon.state_dir, case, server.port))
        daemon.settings = dict(case.settings)
        try:
            daemon.start()
            yield daemon
        finally:
            begun = time.monotonic()
            daemon.stop()
            print(f"  stopped        after {time.monotonic() - begun:.2f} s")


def measure(case: Case, certificates: Certificates) -> int:
    """One run, printed; its resident memory, idle."""
    print(case.title, flush=True)
    with serving(certificates, case.tls) as server, running(case, server, certificates) as daemon:
        watched = Watched(daemon, server)
        _start(watched, case)
        resident = _rest(watched, case)
        _cut(watched, case)
    return resident


def _renewals(certificates: Certificates, count: int, seconds: float) -> None:
    """What the renewal of an IDLE costs, from many of them."""
    often = {"INBOXD_IMAP__IDLE_SECONDS": str(RENEW_SECONDS), "INBOXD_IMAP__IDLE_JITTER_SECONDS": "0.5"}
    case = Case(count, Tls.IMPLICIT, 1, seconds, UNLIMITED | often)
    print(f"{count} TLS connectors, IDLE renewed every {RENEW_SECONDS:g} s")
    with serving(certificates, case.tls) as server, running(case, server, certificates) as daemon:
        server.await_idlers(count * 9 // 10)
        time.sleep(SETTLE_SECONDS)
        watched = Watched(daemon, server)
        looks = daemon.metric("inboxd_sync_runs_total", trigger="poll", result="ok")
        busy = watched.cpu_over(seconds) * seconds
        looks = daemon.metric("inboxd_sync_runs_total", trigger="poll", result="ok") - looks
        each = busy / looks
        share = 2000 / IDLE_SECONDS * each
        print(f"  a renewal      {each * 1e3:.2f} ms of CPU; of 2,000 connectors every {IDLE_SECONDS:g} s: {share:.2%}")


def main(*, quick: bool) -> None:
    """The sizes one after the other, then the slope: what one more connector costs."""
    heading("idle: connectors that only listen; their memory, CPU, start, mail and return after a cut")
    most, seconds = (500, 10.0) if quick else (2000, 20.0)
    with tempfile.TemporaryDirectory() as place:
        certificates = issue(Path(place))
        for tls in (Tls.NONE, Tls.IMPLICIT):
            sizes = sorted({100, most})
            resident = {size: measure(Case(size, tls, 4, 10.0, UNLIMITED), certificates) for size in sizes[:-1]}
            last = UNLIMITED if quick or tls is Tls.NONE else {}
            resident[most] = measure(Case(most, tls, 4, seconds, last), certificates)
            for less, more in pairwise(sizes):
                each = (resident[more] - resident[less]) / (more - less)
                print(f"one more connector, {less} to {more}: {each:.1f} KB")
        _renewals(certificates, 200, 10.0)
