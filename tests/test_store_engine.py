"""Transactions, cancellation, errors, readers beside a writer."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import Conflict, NotFound, StoreError
from inboxd.mails import Cursor
from inboxd.model import EventId, MessageFilter, Window
from inboxd.store import connectors, events, inboxes, messages
from inboxd.store.engine import Store, open_store
from inboxd.store.schema import INBOXES
from servers.postgres import run_postgres
from servers.stores import Linked, link, make_connector, make_inbox, make_incoming


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inboxd.db'}"


async def test_reader_cannot_write(store: Store) -> None:
    async def write(connection: AsyncConnection) -> None:
        await connection.execute(text("UPDATE inboxes SET name = 'x'"))

    with pytest.raises(StoreError, match=r"read-?only"):
        await store.read(write)


async def test_sqlite_writes_use_one_connection_and_begin_immediately(sqlite_url: str, tmp_path: Path) -> None:
    async def look(connection: AsyncConnection) -> object:
        raw = await connection.get_raw_connection()
        other = sqlite3.connect(tmp_path / "inboxd.db", timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
        return raw.driver_connection

    async with open_store(sqlite_url) as store, asyncio.TaskGroup() as tasks:
        seen = [tasks.create_task(store.write(look)) for _ in range(5)]
    assert len({id(task.result()) for task in seen}) == 1


async def test_error_of_the_callers_block_comes_out_as_it_is(store_url: str) -> None:
    with pytest.raises(NotFound, match=r"^mine$"):
        async with open_store(store_url):
            raise NotFound("mine")


async def test_error_inside_a_write_rolls_it_back(store: Store) -> None:
    inbox = make_inbox()

    async def work(connection: AsyncConnection) -> None:
        await inboxes.insert(connection, inbox)
        raise NotFound("mine")

    with pytest.raises(NotFound, match="mine"):
        await store.write(work)
    assert (await inboxes.page(store, Window())).total == 0


async def test_broken_foreign_or_unique_key_is_a_conflict_without_values(store: Store) -> None:
    inbox = make_inbox("secret@example.com")
    await inboxes.add(store, inbox)
    with pytest.raises(Conflict) as caught:
        await inboxes.add(store, inbox)
    assert "secret@example.com" not in str(caught.value)
    assert str(inbox.id) not in str(caught.value)


async def test_errors_show_no_parameters(store: Store) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("SELECT * FROM nowhere WHERE name = :name"), {"name": "hunter2"})

    with pytest.raises(StoreError, match=r"the database failed: .*nowhere") as caught:
        await store.write(work)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.__cause__)


async def test_value_of_a_wrong_type_is_a_store_error_without_the_value(store: Store) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(select(INBOXES).where(INBOXES.c.id == "hunter2"))

    with pytest.raises(StoreError, match="cannot hold a value") as caught:
        await store.read(work)
    assert "hunter2" not in str(caught.value)


async def test_naive_time_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="cannot hold a value"):
        await inboxes.add(store, make_inbox(created_at=datetime(2026, 1, 1)))  # noqa: DTZ001


async def test_each_committed_write_is_observed(store_url: str) -> None:
    seconds: list[float] = []
    async with open_store(store_url, observe=seconds.append) as store:
        at_open = len(seconds)
        await inboxes.add(store, make_inbox())
        assert len(seconds) == at_open + 1
        with pytest.raises(NotFound):
            await connectors.add(store, make_connector(make_inbox()))
        await inboxes.page(store, Window())
        assert len(seconds) == at_open + 1
    assert 0 < seconds[-1] < 10


async def test_readers_go_on_during_a_write_and_see_only_what_is_committed(store: Store, linked: Linked) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(INBOXES.update().values(name="changed"))
        inside.set()
        await go_on.wait()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(store.write(work))
        await inside.wait()
        async with asyncio.TaskGroup() as readers:
            seen = [readers.create_task(inboxes.get(store, linked.inbox.id)) for _ in range(20)]
        assert {one.result().name for one in seen} == {None}
        go_on.set()
    assert (await inboxes.get(store, linked.inbox.id)).name == "changed"


async def test_many_writers_at_once_all_succeed(store: Store, linked: Linked) -> None:
    async with asyncio.TaskGroup() as tasks:
        for uid in range(1, 101):
            tasks.create_task(messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(uid)]))
            tasks.create_task(messages.page(store, MessageFilter(), Window()))
    assert await messages.count(store, MessageFilter()) == 100


async def test_write_cancelled_inside_goes_on_to_its_commit(store: Store) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()
    inbox = make_inbox()

    async def work(connection: AsyncConnection) -> None:
        await inboxes.insert(connection, inbox)
        inside.set()
        await go_on.wait()

    async with asyncio.TaskGroup() as tasks:
        caller = tasks.create_task(store.write(work))
        await inside.wait()
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        go_on.set()
    await inboxes.add(store, make_inbox("second@inbox.example"))
    page = await inboxes.page(store, Window())
    assert [one.email_address for one in page.rows] == [inbox.email_address, "second@inbox.example"]


async def test_sqlite_write_cancelled_in_the_queue_never_happens(sqlite_url: str) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_connection: AsyncConnection) -> None:
        inside.set()
        await go_on.wait()

    async with open_store(sqlite_url) as store:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(store.write(hold))
            await inside.wait()
            waiting = tasks.create_task(inboxes.add(store, make_inbox()))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            go_on.set()
        assert (await inboxes.page(store, Window())).total == 0


class Tripwire:
    """Cancels a task at the Nth thing that the store's transaction does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._left = 0
        self._victim: asyncio.Task[object] | None = None

    async def lay(self) -> None:
        async def listen(connection: AsyncConnection) -> None:
            for what in ("begin", "before_cursor_execute", "after_cursor_execute", "commit"):
                event.listen(connection.sync_engine, what, self._step)

        await self._store.write(listen)

    async def run(self, steps: int, work: Coroutine[Any, Any, object]) -> bool:
        """Whether the work was cancelled at that step, rather than being over before it came to it."""
        self._left = steps
        async with asyncio.TaskGroup() as tasks:
            self._victim = tasks.create_task(work)
            await asyncio.wait([self._victim])
        return self._victim.cancelled()

    def _step(self, *_details: object) -> None:
        self._left -= 1
        if self._left == 0 and self._victim is not None:
            self._victim.cancel()


async def test_of_bulky_writes_only_one_goes_before_another_write(tmp_path: Path) -> None:
    gate, order = threading.Event(), list[str]()

    def noting(what: str) -> Callable[[AsyncConnection], Awaitable[None]]:
        async def work(_connection: AsyncConnection) -> None:
            gate.wait(10)
            order.append(what)

        return work

    async with open_store(f"sqlite:///{tmp_path / 'bulk.db'}") as store, asyncio.TaskGroup() as tasks:
        for what, bulk in (("first", True), ("second", True), ("third", True), ("mail", False)):
            tasks.create_task(store.write_at_once(noting(what), bulk=bulk))
        await asyncio.sleep(0)
        gate.set()
    assert order == ["first", "mail", "second", "third"]


async def test_cancelling_at_any_step_of_a_write_leaves_it_whole(store_url: str) -> None:
    steps, uid, cancelled = 0, 0, True
    async with open_store(store_url) as store:
        linked = await link(store)
        tripwire = Tripwire(store)
        await tripwire.lay()
        while cancelled:
            steps, uid = steps + 1, uid + 3
            batch = [make_incoming(uid - 2), make_incoming(uid - 1), make_incoming(uid)]
            add = messages.add_batch(
                store, linked.place, linked.inbox.id, batch, last_uid=uid, event_id=EventId(uuid4())
            )
            cancelled = await tripwire.run(steps, add)
            await inboxes.add(store, make_inbox())
            assert len(await messages.considered(store, linked.place, uid - 3)) in {0, 3}
    assert steps > 5  # what goes straight to SQLite, all in one turn, has none
    async with open_store(store_url) as store:
        assert set(await messages.considered(store, linked.place, 0)) == set(range(1, uid + 1))
        assert await messages.cursor(store, linked.connector.id, "INBOX") == Cursor(1000, uid)
        assert (await events.page(store, Window())).total == steps
        assert (await inboxes.page(store, Window())).total == steps + 1


async def test_cancelling_reads_at_any_turn_of_the_loop_leaves_the_readers_working(store: Store) -> None:
    for turns in range(100):
        async with asyncio.TaskGroup() as tasks:
            doomed = [tasks.create_task(messages.page(store, MessageFilter(), Window())) for _ in range(10)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in doomed:
                task.cancel()
            await asyncio.wait(doomed)
    assert await messages.count(store, MessageFilter()) == 0


async def test_postgresql_that_went_away_is_used_again_when_it_is_back() -> None:
    with run_postgres() as server:
        async with open_store(server.new_database()) as store:
            await inboxes.add(store, make_inbox())
            server.stop()
            with pytest.raises(StoreError, match="the database failed"):
                await inboxes.add(store, make_inbox())
            with pytest.raises(StoreError, match="the database failed"):
                await inboxes.page(store, Window())
            server.start()
            await inboxes.add(store, make_inbox())
            assert (await inboxes.page(store, Window())).total == 2


async def test_closing_waits_for_a_running_write(store_url: str) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: AsyncConnection) -> None:
        inside.set()
        await go_on.wait()
        await inboxes.insert(connection, make_inbox("late@inbox.example"))

    async with asyncio.TaskGroup() as tasks:
        async with open_store(store_url) as store:
            writing = tasks.create_task(store.write(work))
            await inside.wait()
            tasks.create_task(_set(go_on))
        assert writing.done()
    with pytest.raises(StoreError, match="the store is closed"):
        await inboxes.add(store, make_inbox())
    async with open_store(store_url) as store:
        assert (await inboxes.page(store, Window())).total == 1


async def test_cancelling_the_owner_still_lets_a_running_write_commit(store_url: str) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: AsyncConnection) -> None:
        await inboxes.insert(connection, make_inbox("late@inbox.example"))
        inside.set()
        await go_on.wait()

    async def own() -> None:
        async with open_store(store_url) as store:
            await store.write(work)

    async with asyncio.TaskGroup() as tasks:
        owner = tasks.create_task(own())
        await inside.wait()
        owner.cancel()
        tasks.create_task(_set(go_on))
        await asyncio.wait([owner])
    assert owner.cancelled()
    async with open_store(store_url) as store:
        assert (await inboxes.page(store, Window())).total == 1


async def test_locked_sqlite_file_is_a_store_error_and_passes(tmp_path: Path, sqlite_url: str) -> None:
    async def wait_less(connection: AsyncConnection) -> None:
        await connection.exec_driver_sql("PRAGMA busy_timeout = 50")

    async with open_store(sqlite_url) as store:
        await store.write(wait_less)
        other = sqlite3.connect(tmp_path / "inboxd.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="database is locked"):
            await inboxes.add(store, make_inbox())
        other.execute("ROLLBACK")
        other.close()
        await inboxes.add(store, make_inbox())
        assert (await inboxes.page(store, Window())).total == 1


async def _set(event: asyncio.Event) -> None:
    event.set()
