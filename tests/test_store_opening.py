"""Opening: URLs, migrations, pragmas, and why a database is refused."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import StoreError, StoreNewer
from inboxd.model import ApiKey, KeyId, MessageFilter
from inboxd.store import inboxes, installation, keys, messages
from inboxd.store.engine import Store, open_store
from inboxd.store.migrations import r0011_scopes
from inboxd.store.schema_grants import GRANTS
from inboxd.store.schema_outbox import OUTBOX
from inboxd.store.schema_traffic import TRAFFIC
from servers.postgres import PostgresServer
from servers.stores import MORNING, make_inbox


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inboxd.db'}"


async def pragma(connection: AsyncConnection, name: str) -> object:
    return (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()


async def test_migrated_schema_equals_the_tables(new_url: str) -> None:
    def is_compared(name: str | None, kind: str, _parents: object) -> bool:
        """All but the search index, which each database has in a way of its own."""
        return kind not in ("table", "index") or not (name or "").startswith("search_")

    def compare(connection: Connection) -> object:
        options = {"compare_type": True, "compare_server_default": True, "include_name": is_compared}
        context = MigrationContext.configure(connection, opts=options)
        (tables,) = {table.metadata for table in (GRANTS, OUTBOX, TRAFFIC)}
        return compare_metadata(context, tables)

    async def look(connection: AsyncConnection) -> object:
        return await connection.run_sync(compare)

    async with open_store(new_url) as store:
        assert await store.read(look) == []


OPENED = """
import asyncio, sys
from inboxd.store.engine import open_store
async def main():
    async with open_store(sys.argv[1]):
        pass
asyncio.run(main())
print(sorted({"alembic", "asyncpg"} & sys.modules.keys()))
"""


def test_what_a_start_has_no_use_for_takes_no_memory(sqlite_url: str) -> None:
    said = [subprocess.check_output([sys.executable, "-c", OPENED, sqlite_url], text=True) for _ in range(2)]
    assert said == ["['alembic']\n", "[]\n"]


async def test_opening_again_keeps_everything(new_url: str) -> None:
    inbox = make_inbox()
    async with open_store(new_url) as store:
        await inboxes.add(store, inbox)
        user = await installation.user_id(store)
    async with open_store(new_url) as store:
        assert await inboxes.get(store, inbox.id) == inbox
        assert await installation.user_id(store) == user


async def test_keys_made_before_there_were_scopes_go_on_opening_everything(store: Store) -> None:
    key = ApiKey(KeyId("k1"), "old", MORNING)
    await keys.add(store, key, b"hash")

    def migrate(connection: Connection) -> None:
        for column in ("scopes", "inbox_id"):
            connection.execute(text(f"ALTER TABLE api_keys DROP COLUMN {column}"))
        with Operations.context(MigrationContext.configure(connection)):
            r0011_scopes.upgrade()

    await store.write(lambda connection: connection.run_sync(migrate))
    assert await keys.find(store, key.id) == (key, b"hash")


async def test_several_programs_may_open_a_new_postgresql_database_at_once(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()

    async def open_once() -> object:
        async with open_store(url) as store:
            return await installation.user_id(store)

    async with asyncio.TaskGroup() as tasks:
        users = [tasks.create_task(open_once()) for _ in range(4)]
    assert len({user.result() for user in users}) == 1


async def test_database_of_a_newer_program_is_refused(new_url: str) -> None:
    async def age(connection: AsyncConnection) -> None:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    async with open_store(new_url) as store:
        await store.write(age)
    with pytest.raises(StoreNewer, match=r"written by a newer inboxd \(schema 9999\)"):
        async with open_store(new_url):
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


async def test_file_that_is_no_database_is_refused_and_leaves_no_thread(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "inboxd.db").write_bytes(b"something else entirely" * 100)
    before = set(threading.enumerate())
    with pytest.raises(StoreError, match="file is not a database"):
        async with open_store(sqlite_url):
            pass
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith("asyncio"):
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()


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
