"""EXISTS on the wire to committed: inboxd beside a bare blocking socket that writes a row of the same mail.

A scripted server announces one mail at a time. For inboxd the clock stops when another program can read the mail from
the database; for the bare client when its own commit returned. Neither is told anything beforehand. The same while a
first load goes on: of the mailbox that mail arrives in, and of another connector's.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from bench.announcer import MAIL, Announcer
from bench.report import heading, spread
from servers import LOOPBACK, Listener
from servers.certs import issue
from servers.daemon import Daemon
from servers.dovecot import User
from servers.scripted import scripted

GAP_SECONDS = 0.03
OLDER = 300_000  # more than any machine loads meanwhile
CASES = ("nothing else", "the same mailbox loading", "another connector loading")


async def _deliver(announcer: Announcer, seen: asyncio.Queue[float], times: int) -> list[float]:
    latencies: list[float] = []
    for _ in range(times):
        said = await announcer.announce()
        latencies.append(await seen.get() - said)
        await asyncio.sleep(GAP_SECONDS)
    return latencies[times // 10 :]


async def _inboxd(folder: Path, case: str, times: int) -> list[float]:
    announcer = Announcer(OLDER if case == CASES[1] else 0)
    daemon = Daemon(folder, issue(folder).ca_file)
    daemon.settings = {}
    async with scripted(announcer.script()) as port, scripted(Announcer(OLDER).script()) as other:
        await asyncio.to_thread(daemon.start)
        try:
            if case == CASES[2]:
                await _connect(daemon, "loading", other)
            made = await _connect(daemon, "bench", port)
            path = str(daemon.state_dir / "inboxd.db")
            async with _lines("bench.committed", path, UUID(made["id"]).hex, str(announcer.count + 1)) as seen:
                latencies = await _deliver(announcer, seen, times)
            print(await asyncio.to_thread(_own_part, daemon, case), flush=True)
            return latencies
        finally:
            await asyncio.to_thread(daemon.stop)


async def _connect(daemon: Daemon, name: str, port: int) -> dict[str, Any]:
    user = User(f"{name}@example.test", "x", daemon.folder)
    return await asyncio.to_thread(daemon.connect, user, Listener(LOOPBACK, port))


def _own_part(daemon: Daemon, case: str) -> str:
    """What the daemon measured itself: EXISTS read from the socket to the commit."""
    assert case == CASES[0] or daemon.metric("inboxd_backfill_remaining_messages") > 0, "the load was over too soon"
    name = "inboxd_push_to_stored_seconds"
    count, total = daemon.metric(f"{name}_count"), daemon.metric(f"{name}_sum")
    bounds = ("0.0025", "0.005", "0.01", "0.025")
    shares = ", ".join(
        f"{daemon.metric(f'{name}_bucket', le=le) / count:.0%} under {float(le) * 1e3:g} ms" for le in bounds
    )
    return f"  EXISTS read to committed, by its own clock: mean {total / count * 1000:.2f} ms; {shares}"


async def _bare(folder: Path, times: int) -> list[float]:
    announcer = Announcer()
    async with scripted(announcer.script()) as port, _lines("bench.bare", str(port), str(folder / "bare.db")) as seen:
        return await _deliver(announcer, seen, times)


@asynccontextmanager
async def _lines(module: str, *arguments: str) -> AsyncGenerator[asyncio.Queue[float]]:
    """The numbers that a program prints, one a line."""
    loop = asyncio.get_running_loop()
    numbers: asyncio.Queue[float] = asyncio.Queue()
    program = _start(module, *arguments)
    output = program.stdout
    assert output is not None

    def follow() -> None:
        for line in output:
            loop.call_soon_threadsafe(numbers.put_nowait, float(line))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield numbers
    finally:
        program.kill()
        program.wait()
        await asyncio.to_thread(thread.join)


def _start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE)


def main(*, quick: bool) -> None:
    """Interleaved rounds."""
    times = 50 if quick else 120
    heading(f"latency: EXISTS on the wire to committed, {times} mails of {len(MAIL)} bytes a round")
    ratios: dict[str, list[float]] = {case: [] for case in CASES}
    for _ in range(1 if quick else 3):
        bare = _once(lambda folder: _bare(folder, times))
        print(f"bare socket  {spread(bare)}", flush=True)
        for case in CASES:
            ours = _once(lambda folder, case=case: _inboxd(folder, case, times))
            print(f"inboxd       {spread(ours)}   {case}", flush=True)
            ratios[case].append(statistics.median(ours) / statistics.median(bare))
    for case, found in ratios.items():
        print(f"inboxd / bare socket: {statistics.median(found):.2f}, {case}")
    print("goal: the median within 2 times of the bare socket; p99 under 20 ms, loads or not")


def _once(run: Callable[[Path], Coroutine[Any, Any, list[float]]]) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(Path(folder)))
