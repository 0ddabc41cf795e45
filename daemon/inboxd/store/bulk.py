"""Many rows into tables, by the driver alone: SQLAlchemy's work on each value costs more than writing it.

SQLite gets many rows a statement, and all statements in one turn of its thread: the driver lets go of the interpreter
for each, and where other threads are busy has to wait for it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast, final

from sqlalchemy import Dialect, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.mails import Spooled
from inboxd.store import driver, large

Convert = Callable[[Any], Any]
Row = list[Any]

# Each number of rows is a statement of its own, which the driver keeps prepared.
_ROWS_AT_ONCE: Final = (64, 16, 4, 1)
_BYTES_AT_ONCE: Final = 1 << 20


@final
class Bulk:
    """Inserts into a table: `shared` names the columns that all rows of an insert have in common, `own` the others."""

    def __init__(self, table: Table, shared: Sequence[str], own: Sequence[str]) -> None:
        self.table = table
        self._shared = [table.c[name] for name in shared]
        self._own = [table.c[name] for name in own]
        self._converts = cache(self._make_converts)
        self.statement = cache(self._make_statement)

    def convert(self, dialect: Dialect, rows: Sequence[Row]) -> None:
        """Turn rows of `own` values, in place, into what the driver takes."""
        _, of_own = self._converts(dialect.name, dialect)
        for row in rows:
            for place, convert in of_own:
                if not isinstance(row[place], Spooled):
                    row[place] = convert(row[place])

    def insert(self, dialect: Dialect, shared: Sequence[object], rows: Sequence[Row]) -> Insert:
        """What `write` writes: converted rows, and `shared` values, not converted."""
        of_shared, _ = self._converts(dialect.name, dialect)
        common = [convert(value) if convert else value for convert, value in zip(of_shared, shared, strict=True)]
        return Insert(self, common, rows)

    def _make_converts(self, _name: str, dialect: Dialect) -> tuple[list[Convert | None], list[tuple[int, Convert]]]:
        shared, own = (
            [cast("Convert | None", column.type.dialect_impl(dialect).bind_processor(dialect)) for column in columns]
            for columns in (self._shared, self._own)
        )
        return shared, [(place, convert) for place, convert in enumerate(own) if convert is not None]

    def _make_statement(self, dialect_name: str, rows: int) -> str:
        names = [f'"{column.name}"' for column in (*self._shared, *self._own)]
        into = f"INSERT INTO {self.table.name} ({', '.join(names)})"  # the schema's own names
        return f"{into} VALUES {_PLACES[dialect_name](len(names), rows)}"


@final
@dataclass(frozen=True, slots=True)
class Insert:
    """Rows on their way into a table."""

    bulk: Bulk
    common: Row
    rows: Sequence[Row]


async def write(connection: AsyncConnection, inserts: Sequence[Insert]) -> None:
    """Carry out inserts in order; IntegrityError as from any insert."""
    await _WRITES[connection.dialect.name](connection, [insert for insert in inserts if insert.rows])


async def _write_sqlite(connection: AsyncConnection, inserts: Sequence[Insert]) -> None:
    raw = await connection.get_raw_connection()

    def work(database: Any) -> None:
        for insert in inserts:
            for some in _slices(insert.rows):
                if isinstance(some[0][-1], Spooled):
                    large.write_sqlite(database, insert.bulk.table, *some[0])
                else:
                    values = [value for row in some for value in (*insert.common, *row)]
                    database.execute(insert.bulk.statement("sqlite", len(some)), values)

    await cast("driver.Connection", raw.driver_connection).turn(work)


def _slices(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Rows for one statement each: as many as there is a statement for, and not too many bytes."""
    at = 0
    while at < len(rows):
        for count in _ROWS_AT_ONCE:
            some = rows[at : at + count]
            if len(some) == count and (count == 1 or _bytes_of(some) <= _BYTES_AT_ONCE):
                yield some
                at += count
                break


def _bytes_of(rows: Sequence[Row]) -> int:
    """What the last column takes: where a table has large values, they are in that one."""
    return 0 if isinstance(rows[0][-1], str | int | None) else sum(map(len, (row[-1] for row in rows)))


async def _write_postgresql(connection: AsyncConnection, inserts: Sequence[Insert]) -> None:
    for insert in inserts:
        rows = [(*insert.common, *row) for row in insert.rows if not isinstance(row[-1], Spooled)]
        if rows:
            await connection.exec_driver_sql(insert.bulk.statement("postgresql", 1), rows)
        for row in insert.rows:
            if isinstance(row[-1], Spooled):
                await large.write_postgresql(connection, insert.bulk.table, *row)


_WRITES = {"sqlite": _write_sqlite, "postgresql": _write_postgresql}
_PLACES: dict[str, Callable[[int, int], str]] = {
    "sqlite": lambda columns, rows: ", ".join([f"({', '.join('?' * columns)})"] * rows),
    "postgresql": lambda columns, _rows: f"({', '.join(f'${number}' for number in range(1, columns + 1))})",
}
