"""The one row about this installation."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.model import utc_now
from inboxd.store.engine import Store
from inboxd.store.schema import INSTALLATION


async def user_id(store: Store) -> UUID:
    """The id of the one user, made when this database was first opened."""

    async def look(connection: AsyncConnection) -> UUID:
        return (await connection.execute(select(INSTALLATION.c.user_id))).scalar_one()

    return await store.read(look)


async def created_at(store: Store) -> datetime:
    """When this database was first opened."""

    async def look(connection: AsyncConnection) -> datetime:
        return (await connection.execute(select(INSTALLATION.c.created_at))).scalar_one()

    return await store.read(look)


async def touch(store: Store) -> None:
    """Write the present moment: StoreError when the database takes no writes."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(update(INSTALLATION).values(touched_at=utc_now()))

    await store.write(work)
