"""Statements that each new mail goes through, by the driver alone: SQLAlchemy takes ten times as long as they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, final

from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.store import driver
from inboxd.store.many import Many, Row

Statement = Executable | dict[str, Any]


@final
class Straight:
    """A statement, or one for each dialect, to which `names` give values; no value may stand for several.

    Its rows come as the driver has them: numbers, texts and octets, no other types.
    """

    def __init__(self, statement: Statement, names: Sequence[str]) -> None:
        self._statement = statement
        self._many = Many(cast("Any", statement), names)

    async def rows(self, connection: AsyncConnection, values: Row) -> list[tuple[Any, ...]]:
        """All rows of one execution; IntegrityError and its kin are SQLAlchemy's or the driver's own."""
        if connection.dialect.name != "sqlite":
            chosen = self._statement[connection.dialect.name] if isinstance(self._statement, dict) else self._statement
            result = await connection.execute(chosen, values)
            return [tuple(row) for row in result] if result.returns_rows else []
        raw = await connection.get_raw_connection()
        sql, (bound,) = self._many.bound(connection.dialect, [values])
        return await cast("driver.Connection", raw.driver_connection).turn(lambda db: db.execute(sql, bound).fetchall())
