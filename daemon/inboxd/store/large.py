"""Values too large to be held in memory, or to be held twice: for tables of a number and one such value."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, cast

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.mails import Spooled
from inboxd.store import driver

# PostgreSQL's binary COPY: signature, flags, extension; a row of two fields, the first of 8 octets; the end.
_COPY_BEGINS: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_ROW: Final = struct.Struct("!hiqi")
_COPY_ENDS: Final = struct.pack("!h", -1)


def write_sqlite(database: Any, table: Table, seq: int, spooled: Spooled) -> None:
    """Insert a row, on SQLite's own connection, in its thread: a bound value is copied twice."""
    number, value = table.columns
    into = f"INSERT INTO {table.name} ({number.name}, {value.name})"  # the schema's own names
    database.execute(f"{into} VALUES (?, zeroblob(?))", (seq, len(spooled)))
    with database.blobopen(table.name, value.name, seq) as blob:
        for piece in spooled.pieces():
            blob.write(piece)


async def write_postgresql(connection: AsyncConnection, table: Table, seq: int, spooled: Spooled) -> None:
    """Insert a row: COPY takes it in pieces, where a parameter is copied twice."""
    raw = await connection.get_raw_connection()
    asyncpg = cast("Any", raw.driver_connection)
    columns = [column.name for column in table.columns]
    await asyncpg.copy_to_table(table.name, columns=columns, source=_copied(seq, spooled), format="binary")


async def _copied(seq: int, spooled: Spooled) -> AsyncGenerator[bytes]:
    yield _COPY_BEGINS + _COPY_ROW.pack(2, 8, seq, len(spooled))
    pieces = spooled.pieces()
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece
    yield _COPY_ENDS


async def read(connection: AsyncConnection, table: Table, seq: int) -> bytes:
    """The value of a row that is there; on SQLite without a second copy on the way."""
    return await _READS[connection.dialect.name](connection, table, seq)


async def _read_sqlite(connection: AsyncConnection, table: Table, seq: int) -> bytes:
    def work(database: Any) -> bytes:
        with database.blobopen(table.name, table.columns[1].name, seq, readonly=True) as blob:
            return bytes(blob.read())

    raw = await connection.get_raw_connection()
    return await cast("driver.Connection", raw.driver_connection).turn(work)


async def _read_postgresql(connection: AsyncConnection, table: Table, seq: int) -> bytes:
    number, value = table.columns
    return (await connection.execute(select(value).where(number == seq))).scalar_one()


_READS: dict[str, Callable[[AsyncConnection, Table, int], Any]] = {
    "sqlite": _read_sqlite,
    "postgresql": _read_postgresql,
}
