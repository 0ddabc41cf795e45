"""aiosqlite's connection with one turn of its thread a statement, instead of the four that SQLAlchemy asks of it.

In each turn two threads wait for the interpreter; while others are busy, that takes longer than most statements do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterable
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

    async def fetchall(self) -> list[Any]:
        """The rows."""
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
        execute = cast("Callable[[Callable[[], T]], Awaitable[T]]", self._execute)  # pyright: ignore[reportUnknownMemberType]
        return await execute(lambda: work(self._conn))


def connect(*arguments: Any, **options: Any) -> Connection:
    """A connection that opens when awaited, with what `sqlite3.connect` takes; its thread keeps no program alive."""
    connection = Connection(lambda: sqlite3.connect(*arguments, **options), 64)
    # As SQLAlchemy does with those that it makes.
    connection._thread.daemon = True  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    return connection
