"""Opening, transactions, cancellation, readers beside a writer."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
from collections.abc import Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import Conflict, NotFound, StoreError, StoreNewer
from inboxd.mails import Cursor
from inboxd.model import EventId, MessageFilter, Window
from inboxd.store import connectors, events, inboxes, installation, messages
from inboxd.store.engine import Store, open_store
from inboxd.store.schema import INBOXES, TABLES
from servers.postgres import PostgresServer, run_postgres
from servers.stores import Linked, link, make_connector, make_inbox, make_incoming


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inboxd.db'}"


async def pragma(connection: AsyncConnection, name: str) -> object:
    return (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()


async def test_migrated_schema_equals_the_tables(store: Store) -> None:
    def compare(connection: Connection) -> object:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return compare_metadata(context, TABLES)

    async def look(connection: AsyncConnection) -> object:
        return await connection.run_sync(compare)

    assert await store.read(look) == []


async def test_opening_again_keeps_everything(store_url: str) -> None:
    inbox = make_inbox()
    async with open_store(store_url) as store:
        await inboxes.add(store, inbox)
        user = await installation.user_id(store)
    async with open_store(store_url) as store:
        assert await inboxes.get(store, inbox.id) == inbox
        assert await installation.user_id(store) == user


async def test_several_programs_may_open_a_new_postgresql_database_at_once(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()

    async def open_once() -> object:
        async with open_store(url) as store:
            return await installation.user_id(store)

    async with asyncio.TaskGroup() as tasks:
        users = [tasks.create_task(open_once()) for _ in range(4)]
    assert len({user.result() for user in users}) == 1


async def test_database_of_a_newer_program_is_refused(store_url: str) -> None:
    async def age(connection: AsyncConnection) -> None:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    async with open_store(store_url) as store:
        await store.write(age)
    with pytest.raises(StoreNewer, match=r"written by a newer inboxd \(schema 9999\)"):
        async with open_store(store_url):
            pass


async def test_failed_migration_leaves_nothing_behind(tmp_path: Path, sqlite_url: str) -> None:
    with sqlite3.connect(tmp_path / "inboxd.db") as connection:
        connection.execute("CREATE TABLE tombstones (anything)")
    connection.close()
    with pytest.raises(StoreError, match="tombstones already exists"):
        async with open_store(sqlite_url):
            pass
    connection = sqlite3.connect(tmp_path / "inboxd.db")
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    assert names == [("tombstones",)]


async def test_sqlite_file_belongs_to_its_owner_alone(tmp_path: Path, sqlite_url: str) -> None:
    before = os.umask(0)
    try:
        async with open_store(sqlite_url) as store:
            await inboxes.add(store, make_inbox())
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in os.scandir(tmp_path)}
    finally:
        os.umask(before)
    assert modes == {"inboxd.db": 0o600, "inboxd.db-wal": 0o600, "inboxd.db-shm": 0o600}


async def test_sqlite_pragmas_are_in_force(sqlite_url: str) -> None:
    expected = {
        "page_size": 32768,
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 5000,
        "query_only": 0,
    }

    async def look(connection: AsyncConnection) -> dict[str, object]:
        return {name: await pragma(connection, name) for name in expected}

    async with open_store(sqlite_url) as store:
        assert await store.write(look) == expected
        read = await store.read(look)
        assert read["query_only"] == 1
        assert read["busy_timeout"] == 5000


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


async def test_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere: no such folder for the database; create it first$"):
        async with open_store(f"sqlite:///{tmp_path}/nowhere/inboxd.db"):
            pass


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "not a database URL"),
        ("inboxd.db", "not a database URL"),
        ("mysql://someone:hunter2@host/mail", "mysql is not supported"),
        ("sqlite://", "SQLite needs a file"),
        ("sqlite:///:memory:", "SQLite needs a file"),
        ("sqlite:////proc/inboxd.db", "cannot be opened"),
    ],
)
async def test_unusable_url_is_refused(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words) as caught:
        async with open_store(url):
            pass
    assert "hunter2" not in str(caught.value)


async def test_file_that_is_no_database_is_refused(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "inboxd.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        async with open_store(sqlite_url):
            pass


async def test_missing_asyncpg_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(StoreError, match=r"pip install inboxd\[postgres\]"):
        async with open_store("postgresql://someone@/mail"):
            pass


async def test_unreachable_postgresql_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the database failed") as caught:
        async with open_store(f"postgresql://someone:hunter2@/mail?host={tmp_path}"):
            pass
    assert "hunter2" not in str(caught.value)


async def test_unknown_postgresql_database_is_named(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database().replace("/test_", "/missing_")
    with pytest.raises(StoreError, match=r'database "missing_.*" does not exist'):
        async with open_store(url):
            pass


async def test_sslmode_is_understood(postgres_server: PostgresServer) -> None:
    async with open_store(postgres_server.new_database() + "&sslmode=disable") as store:
        assert await messages.count(store, MessageFilter()) == 0


async def test_error_of_the_callers_block_comes_out_as_it_is(store_url: str) -> None:
    with pytest.raises(NotFound, match=r"^mine$"):
        async with open_store(store_url):
            raise NotFound("mine")


async def test_error_inside_a_write_rolls_it_back(store: Store) -> None:
    inbox = make_inbox()

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(
            INBOXES.insert().values(
                id=inbox.id, email_address="x", created_at=inbox.created_at, favourite=False, tags=()
            )
        )
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
        await connection.execute(INBOXES.insert().values(_columns(inbox.email_address)))
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
    assert steps > 15
    async with open_store(store_url) as store:
        assert await messages.considered(store, linked.place, 0) == set(range(1, uid + 1))
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
        await connection.execute(INBOXES.insert().values(_columns("late@inbox.example")))

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
        await connection.execute(INBOXES.insert().values(_columns("late@inbox.example")))
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


def _columns(email_address: str) -> dict[str, object]:
    inbox = make_inbox(email_address)
    return {
        "id": inbox.id,
        "email_address": email_address,
        "created_at": inbox.created_at,
        "favourite": False,
        "tags": (),
    }


async def _set(event: asyncio.Event) -> None:
    event.set()
