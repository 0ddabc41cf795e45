"""aiosqlite's connection with one turn of its thread a statement, instead of the four that SQLAlchemy asks of it.

In each turn two threads wait for the interpreter; while others are busy, that takes longer than most statements do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from threading import get_ident
from typing import Any, TypeVar, cast, final

import aiosqlite

T = TypeVar("T")


@final
class Cursor:
    """What SQLAlchemy needs of a cursor: its rows are fetched when it is executed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> Cursor:
        return self

    async def execute(self, sql: str, parameters: Any = ()) -> None:
        """Execute a statement."""
        await self._take_turn(lambda cursor: cursor.execute(sql, parameters))

    async def executemany(self, sql: str, parameters: Iterable[Any]) -> None:
        """Execute a statement for each set of parameters."""
        await self._take_turn(lambda cursor: cursor.executemany(sql, parameters))

    async def fetchone(self) -> Any:
        """The next row, None after the last."""
        return next(iter(await self.fetchmany(1)), None)

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next rows."""
        count = size or self.arraysize
        rows, self._rows = self._rows[:count], self._rows[count:]
        return rows

    async def fetchall(self) -> list[Any]:
        """The rows that are left."""
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """Nothing is open any more."""

    async def _take_turn(self, work: Callable[[sqlite3.Cursor], object]) -> None:
        def turn(connection: sqlite3.Connection) -> tuple[Any, list[Any], int, int | None]:
            cursor = connection.cursor()
            try:
                work(cursor)
                rows = cursor.fetchall() if cursor.description else []
                return cursor.description, rows, cursor.rowcount, cursor.lastrowid
            finally:
                cursor.close()

        self.description, self._rows, self.rowcount, self.lastrowid = await self._connection.turn(turn)


@final
class Connection(aiosqlite.Connection):
    """aiosqlite's, but for its cursors."""

    def cursor(self) -> Cursor:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """A cursor; it costs nothing."""
        return Cursor(self)

    async def turn(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on SQLite's own connection, in the thread that this has to itself."""
        return await self._execute(lambda: work(self._conn))

    async def _execute(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """At once, where this is that thread already: see `to_its_end`."""
        if get_ident() == self._thread.ident:
            return fn(*args, **kwargs)
        execute = cast("Callable[..., Awaitable[T]]", super()._execute)  # pyright: ignore[reportUnknownMemberType]
        return await execute(fn, *args, **kwargs)


def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that awaits nothing but a connection, run in that connection's own thread."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    work.close()
    raise RuntimeError("the transaction waits for something other than its connection")


def connect(*arguments: Any, **options: Any) -> Connection:
    """A connection that opens when awaited, with what `sqlite3.connect` takes; its thread keeps no program alive."""
    connection = Connection(lambda: sqlite3.connect(*arguments, **options), 64)
    # As SQLAlchemy does with those that it makes.
    connection._thread.daemon = True  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    return connection
