"""The index follows the mails by itself, stands back for writers, and survives being killed."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd import indexer
from inboxd.bus import Bus
from inboxd.mails import Digest
from inboxd.model import MessageFilter
from inboxd.store import messages
from inboxd.store.engine import Store, open_store
from servers.daemon import Daemon
from servers.stores import Linked, link, make_incoming

HAY = "hay and more of it " * 100


async def put(store: Store, linked: Linked, *bodies: str, first: int = 1) -> None:
    batch = [make_incoming(uid, b"%d" % uid, Digest(words=words)) for uid, words in enumerate(bodies, first)]
    await messages.add_batch(store, linked.place, linked.inbox.id, batch)


async def mark(store: Store) -> int:
    async def look(connection: AsyncConnection) -> int:
        return int((await connection.execute(text("SELECT seq FROM search_mark"))).scalar_one())

    return await store.read(look)


async def until_indexed(store: Store, seq: int) -> None:
    async with asyncio.timeout(30):
        while await mark(store) < seq:
            pass


@asynccontextmanager
async def indexing(store: Store, bus: Bus) -> AsyncGenerator[asyncio.Task[None]]:
    """The indexer at work, with little patience."""
    async with asyncio.TaskGroup() as group:
        worker = group.create_task(indexer.run(store, bus, quiet_seconds=0.01))
        yield worker
        worker.cancel()


async def test_index_takes_up_what_was_there_and_what_comes(tmp_path: Path) -> None:
    bus = Bus()
    async with open_store(f"sqlite:///{tmp_path / 'inboxd.db'}") as store:
        linked = await link(store)
        await put(store, linked, *(f"needle {HAY}" for _ in range(50)))
        async with indexing(store, bus):
            await until_indexed(store, 50)
            await put(store, linked, "needle", first=51)
            bus.publish(linked.inbox.id)
            await until_indexed(store, 51)
        assert await messages.count(store, MessageFilter(search="needle")) == 51


async def test_mails_that_keep_coming_are_indexed_in_the_end(tmp_path: Path) -> None:
    bus = Bus()
    async with open_store(f"sqlite:///{tmp_path / 'inboxd.db'}") as store:
        linked = await link(store)
        async with indexing(store, bus):
            for uid in range(1, 101):
                await put(store, linked, "needle", first=uid)
                bus.publish(linked.inbox.id)
                assert await messages.count(store, MessageFilter(search="needle")) == uid
            await until_indexed(store, 100)


async def test_there_is_nothing_to_do_on_a_database_that_keeps_its_index(store: Store) -> None:
    async with indexing(store, Bus()) as worker:
        if "postgresql" in str(await store.read(_dialect)):
            async with asyncio.timeout(10):
                await worker


async def _dialect(connection: AsyncConnection) -> str:
    return connection.dialect.name


def progress(database: Path) -> int:
    """How far the index of a running daemon has come."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT seq FROM search_mark").fetchone()[0])


async def test_killed_while_indexing_nothing_is_lost(daemon: Daemon) -> None:
    count = 1500
    daemon.state_dir.mkdir(mode=0o700)
    database = daemon.state_dir / "inboxd.db"
    async with open_store(f"sqlite:///{database}") as store:
        linked = await link(store)
        await put(store, linked, *(f"needle {number} {HAY}" for number in range(count)))
    await asyncio.to_thread(daemon.start)
    await asyncio.to_thread(daemon.until, lambda: progress(database), "the index to begin")
    await asyncio.to_thread(daemon.stop, signal.SIGKILL)
    async with open_store(f"sqlite:///{database}") as store:
        assert 0 < await mark(store) < count
        assert await messages.count(store, MessageFilter(search="needle")) == count
        assert await messages.count(store, MessageFilter(search=f"needle {count - 1} ")) == 1
    await asyncio.to_thread(daemon.start)
    await asyncio.to_thread(daemon.until, lambda: progress(database) == count, "the index to be whole")

    def found(search: str) -> Any:
        return daemon.http("GET", f"/emails?searchFilter={search}&size=1")[1]["totalElements"]

    assert await asyncio.to_thread(found, "needle") == count
    assert await asyncio.to_thread(found, "needle%2077%20") == 1
    await asyncio.to_thread(daemon.stop)
