"""Alembic's part: the revisions that a database lacks, run one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.runtime.migration import MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from inboxd.errors import StoreNewer


@cache
def _scripts(folder: Path) -> ScriptDirectory:
    return ScriptDirectory(folder, version_locations=[folder])


def migrate(connection: Connection, folder: Path) -> None:
    """Run what is missing of the revisions in `folder`; StoreNewer when the database has another."""
    scripts = _scripts(folder)

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
