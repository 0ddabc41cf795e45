"""One statement for many rows, by the driver alone: SQLAlchemy's work on each value costs more than writing it.

`bulk` does that for inserts of large batches; this for whatever else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, cast, final

from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

from inboxd.store import driver

Row = dict[str, Any]
Call = tuple[str, list[tuple[Any, ...]]]


@final
class Many:
    """A statement whose rows give values to all of `names`, and to nothing else."""

    def __init__(self, statement: ClauseElement | dict[str, Any], names: Sequence[str]) -> None:
        self._statement = statement
        self._names = list(names)
        self._compiled = cache(self._compile)

    def bound(self, dialect: Dialect, rows: Sequence[Row]) -> Call:
        """The statement in the dialect's words, and the rows as the driver takes them."""
        sql, places = self._compiled(dialect)
        return sql, [tuple([take(row) for take in places]) for row in rows]

    def _compile(self, dialect: Dialect) -> tuple[str, list[Callable[[Row], Any]]]:
        statement = self._statement[dialect.name] if isinstance(self._statement, dict) else self._statement
        compiled = cast("SQLCompiler", statement.compile(dialect=dialect, column_keys=self._names))
        return str(compiled), [self._taking(compiled, name, dialect) for name in compiled.positiontup or ()]

    def _taking(self, compiled: SQLCompiler, name: str, dialect: Dialect) -> Callable[[Row], Any]:
        """What makes a row's value for one place; the same for all where the statement itself has it."""
        bound = compiled.binds[name]
        convert = bound.type.dialect_impl(dialect).bind_processor(dialect)
        if name not in self._names:
            value = bound.effective_value if convert is None else convert(bound.effective_value)
            return lambda _row: value
        return itemgetter(name) if convert is None else lambda row: convert(row[name])


async def carry_out(connection: AsyncConnection, work: Sequence[tuple[Many, Sequence[Row]]]) -> None:
    """Each statement for all its rows, in this order; IntegrityError and its kin are the driver's own."""
    calls = [many.bound(connection.dialect, rows) for many, rows in work if rows]
    if connection.dialect.name != "sqlite":
        for sql, values in calls:
            await connection.exec_driver_sql(sql, values)
        return
    raw = await connection.get_raw_connection()

    def run(database: Any) -> None:
        for sql, values in calls:
            database.executemany(sql, values)

    await cast("driver.Connection", raw.driver_connection).turn(run)
