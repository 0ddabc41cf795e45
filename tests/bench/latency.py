"""EXISTS on the wire to committed: inboxd beside a bare blocking socket that writes the same row.

A scripted server announces one mail at a time. For inboxd the clock stops when the line of `/control/watch` arrives,
which follows the commit; for the bare client when its own commit returned. Neither is told anything beforehand.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.report import heading, spread
from servers import LOOPBACK, Listener
from servers.certs import issue
from servers.daemon import Daemon
from servers.dovecot import User
from servers.scripted import Conversation, Script, imap, scripted

MAIL = b"From: a@example.test\r\nTo: b@example.test\r\nSubject: bench\r\n\r\n" + (b"x" * 76 + b"\r\n") * 50
GAP_SECONDS = 0.03


class Announcer:
    """The scripted server's mailbox: `announce` adds one mail and says EXISTS to whoever idles."""

    def __init__(self) -> None:
        self.count = 0
        self.idling: Conversation | None = None
        self.idle = asyncio.Event()

    async def announce(self) -> float:
        """Once a client idles, say EXISTS; when it was said."""
        await self.idle.wait()
        assert self.idling is not None
        self.count += 1
        await self.idling.send(f"* {self.count} EXISTS\r\n".encode())
        return time.perf_counter()

    async def on_idle(self, talk: Conversation, tag: str) -> None:
        """IDLE until DONE."""
        await talk.send(b"+ idling\r\n")
        self.idling = talk
        self.idle.set()
        await talk.expect("DONE")
        self.idle.clear()
        await talk.send(f"{tag} OK\r\n".encode())

    async def on_search(self, talk: Conversation, tag: str) -> None:
        """Everything there is."""
        uids = " ".join(map(str, range(1, self.count + 1)))
        await talk.send(f"* SEARCH {uids}\r\n{tag} OK\r\n".encode())

    async def on_fetch(self, talk: Conversation, tag: str) -> None:
        """The newest mail."""
        head = f'* {self.count} FETCH (UID {self.count} FLAGS () INTERNALDATE "22-Nov-2026 10:00:00 +0000"'
        await talk.send(f"{head} RFC822.SIZE {len(MAIL)} BODY[] {{{len(MAIL)}}}\r\n".encode(), MAIL, b")\r\n")
        await talk.send(f"{tag} OK\r\n".encode())

    def script(self) -> Script:
        """What `scripted` runs."""
        return imap(
            {
                "CAPABILITY": b"* CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN SASL-IR\r\n",
                "EXAMINE": b"* 0 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT 1] ok\r\n",
                "UID SEARCH": self.on_search,
                "UID FETCH": self.on_fetch,
                "IDLE": self.on_idle,
            }
        )


async def _deliver(announcer: Announcer, seen: asyncio.Queue[float], times: int) -> list[float]:
    latencies: list[float] = []
    for _ in range(times):
        said = await announcer.announce()
        latencies.append(await seen.get() - said)
        await asyncio.sleep(GAP_SECONDS)
    return latencies[times // 10 :]


async def _inboxd(folder: Path, times: int) -> list[float]:
    announcer = Announcer()
    loop = asyncio.get_running_loop()
    seen: asyncio.Queue[float] = asyncio.Queue()
    daemon = Daemon(folder, issue(folder).ca_file)
    daemon.settings = {}

    def watch() -> None:
        for _ in daemon.client.stream("GET", "/control/watch"):
            loop.call_soon_threadsafe(seen.put_nowait, time.perf_counter())

    async with scripted(announcer.script()) as port:
        await asyncio.to_thread(daemon.start)
        try:
            threading.Thread(target=_quietly, args=(watch,), daemon=True).start()
            user = User("bench@example.test", "x", folder)
            await asyncio.to_thread(daemon.connect, user, Listener(LOOPBACK, port))
            latencies = await _deliver(announcer, seen, times)
            print(await asyncio.to_thread(_own_part, daemon), flush=True)
            return latencies
        finally:
            await asyncio.to_thread(daemon.stop)


def _own_part(daemon: Daemon) -> str:
    """What the daemon measured itself: EXISTS read from the socket to the commit."""
    name = "inboxd_push_to_stored_seconds"
    count, total = daemon.metric(f"{name}_count"), daemon.metric(f"{name}_sum")
    bounds = ("0.0025", "0.005", "0.01", "0.025")
    shares = ", ".join(
        f"{daemon.metric(f'{name}_bucket', le=le) / count:.0%} under {float(le) * 1e3:g} ms" for le in bounds
    )
    return f"  EXISTS read to committed, by its own clock: mean {total / count * 1000:.2f} ms; {shares}"


def _quietly(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:  # noqa: BLE001  # the stream ends with the daemon
        return


async def _bare(folder: Path, times: int) -> list[float]:
    announcer = Announcer()
    loop = asyncio.get_running_loop()
    seen: asyncio.Queue[float] = asyncio.Queue()
    async with scripted(announcer.script()) as port:
        client = await asyncio.to_thread(_start_bare, port, folder / "bare.db")
        output = client.stdout
        assert output is not None

        def follow() -> None:
            for _ in output:
                loop.call_soon_threadsafe(seen.put_nowait, time.perf_counter())

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            return await _deliver(announcer, seen, times)
        finally:
            client.kill()
            client.wait()
            thread.join()


def _start_bare(port: int, path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "bench.bare", str(port), str(path)], stdout=subprocess.PIPE)


def main(*, quick: bool) -> None:
    """Three interleaved rounds."""
    times = 50 if quick else 300
    heading(f"latency: EXISTS on the wire to committed, {times} mails of {len(MAIL)} bytes a round")
    rounds: list[tuple[list[float], list[float]]] = []
    for _ in range(1 if quick else 3):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            bare = asyncio.run(_bare(Path(one), times))
            ours = asyncio.run(_inboxd(Path(two), times))
        print(f"bare socket  {spread(bare)}\ninboxd       {spread(ours)}", flush=True)
        rounds.append((bare, ours))
    ratio = statistics.median(statistics.median(ours) / statistics.median(bare) for bare, ours in rounds)
    middle = statistics.median(statistics.median(ours) for _, ours in rounds)
    print(f"inboxd / bare socket: {ratio:.2f}; inboxd's median {middle * 1000:.2f} ms, the watcher's line included")
    print("goal: by the daemon's own clock, EXISTS read to committed, the median under 10 ms")
