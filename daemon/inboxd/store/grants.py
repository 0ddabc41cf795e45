"""OAuth2 grants, one a connector at most. Their tokens change by compare-and-set: of two that refresh, one is kept."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import delete, exists, select
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.consents import Grant
from inboxd.errors import NotFound
from inboxd.model import ConnectorId, Event
from inboxd.store.engine import Store
from inboxd.store.rows import columns_of, lock_connector, record_of
from inboxd.store.schema import CONNECTIONS, EVENTS
from inboxd.store.schema_grants import GRANTS


async def find(store: Store, connector_id: ConnectorId) -> Grant | None:
    """The connector's grant, or None."""

    async def look(connection: AsyncConnection) -> Grant | None:
        wanted = select(GRANTS).where(GRANTS.c.connector_id == connector_id)
        row = (await connection.execute(wanted)).mappings().first()
        return None if row is None else record_of(Grant, row)

    return await store.read(look)


async def every(store: Store) -> list[Grant]:
    """All grants, oldest first."""

    async def look(connection: AsyncConnection) -> list[Grant]:
        rows = await connection.execute(select(GRANTS).order_by(GRANTS.c.created_at, GRANTS.c.id))
        return [record_of(Grant, row) for row in rows.mappings()]

    return await store.read(look)


async def awaited(store: Store) -> frozenset[ConnectorId]:
    """The connectors that are to log in and have nothing to do it with: neither a password, its source, nor a grant."""
    bare = (CONNECTIONS.c.sealed_password.is_(None), CONNECTIONS.c.password_source.is_(None))
    granted = exists().where(GRANTS.c.connector_id == CONNECTIONS.c.connector_id)
    wanted = select(CONNECTIONS.c.connector_id).where(CONNECTIONS.c.username.is_not(None), *bare, ~granted)

    async def look(connection: AsyncConnection) -> frozenset[ConnectorId]:
        return frozenset(ConnectorId(one) for one in (await connection.execute(wanted)).scalars())

    return await store.read(look)


async def put(store: Store, new: Grant) -> None:
    """Make this the connector's grant, in place of another; NotFound without the connector."""

    async def work(connection: AsyncConnection) -> None:
        await lock_connector(connection, new.connector_id)
        await connection.execute(delete(GRANTS).where(GRANTS.c.connector_id == new.connector_id))
        await connection.execute(GRANTS.insert().values(columns_of(new)))

    await store.write(work)


async def renew(store: Store, renewed: Grant) -> bool:
    """Keep a grant's new tokens, whose `version` is one more than before; False when another one was quicker."""
    columns = columns_of(renewed)
    changed = update_of(GRANTS).where(GRANTS.c.id == renewed.id, GRANTS.c.version == renewed.version - 1)

    async def work(connection: AsyncConnection) -> bool:
        return (await connection.execute(changed.values(columns))).rowcount == 1

    return await store.write(work)


async def refuse(store: Store, grant: Grant, reason: str, event: Event) -> bool:
    """Keep why the grant is of no use any more, with its event; False when it has changed since it was read."""
    unchanged = (GRANTS.c.id == grant.id, GRANTS.c.version == grant.version, GRANTS.c.refused.is_(None))

    async def work(connection: AsyncConnection) -> bool:
        if (await connection.execute(update_of(GRANTS).where(*unchanged).values(refused=reason))).rowcount == 0:
            return False
        await connection.execute(EVENTS.insert().values(columns_of(event)))
        return True

    return await store.write(work)


async def remove(store: Store, grant_id: UUID) -> None:
    """Delete a grant; NotFound."""

    async def work(connection: AsyncConnection) -> None:
        if (await connection.execute(delete(GRANTS).where(GRANTS.c.id == grant_id))).rowcount == 0:
            raise NotFound(f"there is no grant {grant_id}")

    await store.write(work)
