"""What was reported as stored is there after a kill -9. Run as a program, this file is the one that gets killed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from pathlib import Path

from inboxd.mails import Cursor, Place
from inboxd.model import MessageFilter, Window
from inboxd.store import connectors, messages
from inboxd.store.engine import open_store
from servers.stores import link, make_incoming

ROUNDS = 5
BATCH = 20
PAPER = bytes(range(256)) * 160


async def fill(url: str) -> None:
    """Add batches for ever, printing how many messages are stored after each one."""
    async with open_store(url) as store:
        linked = await link(store)
        count = 0
        while True:
            uids = range(count + 1, count + 1 + BATCH)
            batch = [make_incoming(uid, b"%d " % uid + PAPER) for uid in uids]
            outcome = await messages.add_batch(store, linked.place, linked.inbox.id, batch, last_uid=uids[-1])
            count += len(outcome.stored)
            print(linked.connector.id, count, flush=True)


async def kill_after(url: str, batches: int) -> tuple[str, int]:
    """The connector of a child killed in the middle, and how many messages it had reported."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, url, stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert child.stdout is not None
    reports = [await child.stdout.readline() for _ in range(batches)]
    child.kill()
    reports += [line async for line in child.stdout if line.endswith(b"\n")]
    await child.wait()
    connector, count = reports[-1].decode().split()
    return connector, int(count)


async def test_reported_messages_survive_kill_9(store_url: str, tmp_path: Path) -> None:
    reported: dict[str, int] = {}
    for number in range(ROUNDS):
        connector, count = await kill_after(store_url, 1 + 2 * number)
        reported[connector] = count
    await check(store_url, reported)
    if store_url.startswith("sqlite"):
        connection = sqlite3.connect(tmp_path / "inboxd.db")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()


async def check(url: str, reported: dict[str, int]) -> None:
    async with open_store(url) as store:
        linked = (await connectors.page(store, Window())).rows
        assert {str(connector.id) for connector in linked} == set(reported)
        for connector in linked:
            page = await messages.page(store, MessageFilter(inbox_ids=(connector.inbox_id,)), Window(size=100_000))
            assert page.total >= reported[str(connector.id)] > 0
            assert page.total % BATCH == 0
            assert [message.uid for message in page.rows] == list(range(1, page.total + 1))
            cursor = await messages.cursor(store, connector.id, "INBOX")
            assert cursor == (Cursor(1000, page.total) if page.total else None)
            assert set(await messages.considered(store, Place(connector.id, "INBOX", 1000), page.total)) == set()
            for message in page.rows:
                assert await messages.raw(store, message.id) == b"%d " % (message.uid or 0) + PAPER


if __name__ == "__main__":
    asyncio.run(fill(sys.argv[1]))
