"""Brings a database to the schema of this program."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import uuid4

from sqlalchemy import Connection, column, inspect, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.model import utc_now
from inboxd.store.rows import inserts_of
from inboxd.store.schema import INSTALLATION

FOLDER: Final = Path(__file__).parent / "migrations"
NEWEST: Final = max(file.name for file in FOLDER.glob("r*.py"))[1:5]
_LOCK = text("SELECT pg_advisory_xact_lock(7236286178)")
_REVISIONS = table("alembic_version", column("version_num"))
_FIRST_USER = inserts_of(INSTALLATION, lambda insert: insert.on_conflict_do_nothing())


async def upgrade(connection: AsyncConnection) -> None:
    """Run the missing revisions in the caller's transaction; two programs that start at once take turns.

    StoreNewer when the database has a revision that this program does not know.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(_LOCK)
    await connection.run_sync(_run)
    user = {"number": 1, "user_id": uuid4(), "created_at": utc_now()}
    await connection.execute(_FIRST_USER[connection.dialect.name], user)


def _run(connection: Connection) -> None:
    if _revisions(connection) != [NEWEST]:
        # Alembic is 7 MB of memory, for which most starts have no use.
        from inboxd.store.migrating import migrate  # noqa: PLC0415

        migrate(connection, FOLDER)


def _revisions(connection: Connection) -> list[str]:
    """Those that the database has: one, as long as they are in a row; none, where it is empty."""
    if not inspect(connection).has_table(_REVISIONS.name):
        return []
    return list(connection.execute(select(_REVISIONS.c.version_num)).scalars())
