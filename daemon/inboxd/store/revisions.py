"""Brings a database to the schema of this program."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.runtime.migration import MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import StoreNewer
from inboxd.model import utc_now
from inboxd.store.rows import inserts_of
from inboxd.store.schema import INSTALLATION

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = text("SELECT pg_advisory_xact_lock(7236286178)")

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


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory(_FOLDER, version_locations=[_FOLDER])


def _run(connection: Connection) -> None:
    scripts = _scripts()

    def missing(heads: tuple[str, ...], _context: MigrationContext) -> Iterable[MigrationStep]:
        newest_first = scripts.iterate_revisions("heads", heads)
        return [MigrationStep.upgrade_from_script(scripts.revision_map, one) for one in reversed(list(newest_first))]

    options: dict[str, Any] = {"fn": missing}
    context = MigrationContext.configure(connection, opts=options)
    unknown = set(context.get_current_heads()) - {one.revision for one in scripts.walk_revisions()}
    if unknown:
        raise StoreNewer(
            f"the database was written by a newer inboxd (schema {', '.join(sorted(unknown))}); "
            "start that version, or restore a backup made by this one"
        )
    with Operations.context(context):
        context.run_migrations()
