"""1,000 small mails through one connector: the outbox drained by the sender beside a bare aiosmtplib loop.

Both use one kept connection to the same server in a process of its own, in turn, in this process and on the same event
loop. The outbox's mails are in the store when the clock starts; it stops when the last one is SENT there, on disk.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import aiosmtplib
import uvloop

from bench.report import heading
from inboxd import logs, sender
from inboxd.accepting import accept
from inboxd.mails import Draft
from inboxd.model import SentId, SentState, Window
from inboxd.serve import settle_down
from inboxd.services import Services
from inboxd.store import outbox_list, sent
from inboxd.store.engine import open_store
from servers import LOOPBACK, free_port
from servers.mailbox import Linked, make_bench
from servers.outbox import hurried, link, until

ROUNDS = 3
WINDOW = Window(size=1)
DRAFT = Draft(sender="", to=("bob@example.com",), subject="bench", text="All work and no play.\n" * 20)


def main(*, quick: bool = False) -> None:
    """Run it and print the medians."""
    count = 100 if quick else 1_000
    heading(f"sending: {count:,} small mails over one connection")
    logs.set_up("error", "json")
    settle_down()  # as the daemon does
    with _sink() as port:
        uvloop.run(_rounds(port, count))


async def _rounds(port: int, count: int) -> None:
    bare: list[float] = []
    ours: list[float] = []
    accepted: list[float] = []
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            async with open_store(f"sqlite:///{folder}/inboxd.db") as store:
                linked = await link(await make_bench(store, Path(folder)), port)
                services = hurried(linked.bench)
                taken, last = await _accept(services, linked, count)
                accepted.append(taken)
                if number % 2:
                    ours.append(await _drain(services, last, count))
                    bare.append(await _bare(services, port, count))
                else:
                    bare.append(await _bare(services, port, count))
                    ours.append(await _drain(services, last, count))
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, bare, strict=True))
    for name, values in (("accepted, one after the other", accepted), ("inboxd", ours), ("bare aiosmtplib", bare)):
        print(f"  {name:30} {statistics.median(values) / count * 1e3:7.2f} ms a mail")
    print(f"  inboxd / bare aiosmtplib       {ratio:7.2f}", flush=True)


async def _accept(services: Services, linked: Linked, count: int) -> tuple[float, SentId]:
    """How long it took, and the last mail's id."""
    began = time.perf_counter()
    ids = [(await accept(services, linked.connector.id, DRAFT)).id for _ in range(count)]
    return time.perf_counter() - began, ids[-1]


async def _drain(services: Services, last: SentId, count: int) -> float:
    """The mails go in order, one after the other: when the last one is sent, all are."""
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(sender.run(services))
        await until(services, last, SentState.SENT)
        seconds = time.perf_counter() - began
        task.cancel()
    assert (await outbox_list.page(services.store, WINDOW, states={SentState.SENT})).total == count
    return seconds


async def _bare(services: Services, port: int, count: int) -> float:
    page = await outbox_list.page(services.store, WINDOW)
    raw = await sent.raw(services.store, page.rows[0].id)
    client = aiosmtplib.SMTP(hostname=LOOPBACK, port=port, use_tls=False, start_tls=False)
    await client.connect()
    began = time.perf_counter()
    for _ in range(count):
        await client.sendmail("work@example.com", ["bob@example.com"], raw)
    seconds = time.perf_counter() - began
    await client.quit()
    return seconds


@contextmanager
def _sink() -> Generator[int]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.sink", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield port
    finally:
        process.kill()
        process.wait(15)
