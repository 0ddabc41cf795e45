"""From a URL to connections: where SQLite and PostgreSQL differ, they differ here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from json import JSONEncoder
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from inboxd.errors import StoreError
from inboxd.store import driver

T = TypeVar("T")

BUSY_MILLISECONDS = 5000
POSTGRES_CONNECTIONS = 10
SQLITE_READERS = 4
CONNECT_SECONDS = 10
COMMAND_SECONDS = 60

# 32 KiB pages wrote mail-sized blobs 2.3 times as fast as 4 KiB ones. The page size comes before WAL, which fixes it.
_WRITER_PRAGMAS = (
    f"busy_timeout = {BUSY_MILLISECONDS}",
    "page_size = 32768",
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "journal_size_limit = 67108864",
)
# Pages after which the log is written back: 128 MB, where the default of 32 MB did it after every second batch; and
# 3 MB, which takes a few milliseconds instead of a tenth of a second.
_SELDOM, _OFTEN = 4000, 100
_READER_PRAGMAS = (f"busy_timeout = {BUSY_MILLISECONDS}", "query_only = 1")

_encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Checkpoint(Protocol):
    """See `Database`."""

    async def __call__(self, connection: AsyncConnection, *, often: bool) -> None: ...


class AtOnce(Protocol):
    """See `Database`."""

    async def __call__(self, connection: AsyncConnection, work: Coroutine[Any, Any, T]) -> T: ...


@dataclass(frozen=True, slots=True)
class Database:
    """Engines to read and to write with, and how many connections each may use at a time.

    `at_once` runs a coroutine that awaits nothing but the connection with as little waiting in between as can be.
    `checkpoint` lets a writing connection do what it does between transactions often and briefly, or seldom and at
    length, which takes less time altogether.
    """

    reader: AsyncEngine
    writer: AsyncEngine
    readers: int
    writers: int
    at_once: AtOnce
    checkpoint: Checkpoint


def connect(url: str) -> AbstractAsyncContextManager[Database]:
    """The database at `url`, its connections closed at the end; StoreError when the URL cannot be used."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError("store.url is not a database URL; write sqlite:///path or postgresql://…") from error
    open_backend = _BACKENDS.get(parsed.get_backend_name())
    if open_backend is None:
        raise StoreError(f"store.url: {parsed.get_backend_name()} is not supported; use sqlite or postgresql")
    return open_backend(parsed)


@asynccontextmanager
async def _sqlite(url: URL) -> AsyncGenerator[Database]:
    """One connection writes and checkpoints, for SQLite before 3.51.3 may corrupt the file when two do.

    For the same reason the readers, which cannot write, are closed first: the last to leave checkpoints.
    """
    if not url.database or url.database == ":memory:":
        raise StoreError("store.url: SQLite needs a file; write sqlite:///path")
    await asyncio.to_thread(_create, Path(url.database))
    writer = _sqlite_engine(url, 1, _WRITER_PRAGMAS, "BEGIN IMMEDIATE")
    reader = _sqlite_engine(url, SQLITE_READERS, _READER_PRAGMAS, "BEGIN")
    try:
        yield Database(reader, writer, readers=SQLITE_READERS, writers=1, at_once=_in_one_turn, checkpoint=_checkpoint)
    finally:
        await reader.dispose()
        await writer.dispose()


async def _in_one_turn(connection: AsyncConnection, work: Coroutine[Any, Any, T]) -> T:
    """All of it in the driver's own thread: a turn a statement, each waits for the loop and for the interpreter."""
    raw = await connection.get_raw_connection()
    return await cast("driver.Connection", raw.driver_connection).turn(lambda _: driver.to_its_end(work))


async def _checkpoint(connection: AsyncConnection, *, often: bool) -> None:
    raw = await connection.get_raw_connection()
    pragma = f"PRAGMA wal_autocheckpoint = {_OFTEN if often else _SELDOM}"
    await cast("driver.Connection", raw.driver_connection).turn(lambda database: database.execute(pragma).close())


async def _leave(connection: AsyncConnection, *, often: bool) -> None:
    del connection, often


async def _as_it_is(connection: AsyncConnection, work: Coroutine[Any, Any, T]) -> T:
    del connection
    return await work


def _create(path: Path) -> None:
    """Make an empty file that only its owner can read; SQLite gives its companions the same mode.

    A file that exists is not touched: closing it would drop every lock this program holds on it (POSIX, fcntl).
    """
    if not path.parent.is_dir():
        raise StoreError(f"{path.parent}: no such folder for the database; create it first")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreError(f"{path}: the database cannot be opened: {error.strerror}") from error


def _sqlite_engine(url: URL, connections: int, pragmas: tuple[str, ...], begin: str) -> AsyncEngine:
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        json_serializer=_to_json,
        # The driver then begins nothing by itself, and the begin event decides.
        connect_args={"isolation_level": None, "async_creator_fn": driver.connect},
        # Every transaction here has its end: a rollback more, as a connection is given back, is a turn of its thread.
        pool_reset_on_return=None,
    )
    event.listen(engine.sync_engine, "connect", partial(_set_pragmas, pragmas))
    event.listen(engine.sync_engine, "begin", partial(_begin, begin))
    return engine


def _set_pragmas(pragmas: tuple[str, ...], connection: DBAPIConnection, _record: object) -> None:
    try:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
    except BaseException:
        # SQLAlchemy 2.0 forgets a connection that fails here, and its thread would keep the program from ending.
        connection.close()
        raise


def _begin(statement: str, connection: Connection) -> None:
    connection.exec_driver_sql(statement)


@asynccontextmanager
async def _postgresql(url: URL) -> AsyncGenerator[Database]:
    """One pool for all; a read sees one snapshot, so that a page and its total agree."""
    connect_args: dict[str, Any] = {"timeout": CONNECT_SECONDS, "command_timeout": COMMAND_SECONDS}
    try:
        writer = create_async_engine(
            _without_libpq(url).set(drivername="postgresql+asyncpg"),
            pool_size=POSTGRES_CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,
            json_serializer=_to_json,
            connect_args=connect_args,
        )
    except ModuleNotFoundError as error:
        raise StoreError("PostgreSQL needs one more package: pip install inboxd[postgres]") from error
    reader = writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    share = POSTGRES_CONNECTIONS // 2
    try:
        yield Database(reader, writer, readers=share, writers=share, at_once=_as_it_is, checkpoint=_leave)
    finally:
        await writer.dispose()


def _to_json(value: object) -> str:
    """Most lists of a mail are empty, so those take the short way."""
    return "[]" if value == [] else _encode(value)


def _without_libpq(url: URL) -> URL:
    """The URL with libpq's `sslmode` under the name that asyncpg gives it."""
    mode = url.query.get("sslmode")
    return url if mode is None else url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})


_BACKENDS: dict[str, Callable[[URL], AbstractAsyncContextManager[Database]]] = {
    "sqlite": _sqlite,
    "postgres": _postgresql,
    "postgresql": _postgresql,
}
