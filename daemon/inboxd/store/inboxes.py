"""Local inboxes."""

from __future__ import annotations

from sqlalchemy import delete, exists, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import Conflict
from inboxd.model import Inbox, InboxId, Page, Window, utc_now
from inboxd.store.engine import Store
from inboxd.store.rows import Condition, columns_of, page_in, record_of, row_of
from inboxd.store.schema import CONNECTORS, INBOXES, MESSAGES, TOMBSTONES


async def add(store: Store, inbox: Inbox) -> None:
    """Keep a new inbox."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(INBOXES.insert().values(columns_of(inbox)))

    await store.write(work)


async def get(store: Store, inbox_id: InboxId) -> Inbox:
    """The inbox, or NotFound."""

    async def look(connection: AsyncConnection) -> Inbox:
        return record_of(Inbox, await row_of(connection, INBOXES, inbox_id, "inbox"))

    return await store.read(look)


async def find(store: Store, *, email_address: str | None = None, name: str | None = None) -> Inbox | None:
    """The oldest inbox that has all that is given (the address in any case of its letters); None without a hit."""
    conditions: list[Condition] = []
    if email_address is not None:
        conditions.append(func.lower(INBOXES.c.email_address) == email_address.lower())
    if name is not None:
        conditions.append(INBOXES.c.name == name)

    async def look(connection: AsyncConnection) -> Inbox | None:
        wanted = select(INBOXES).where(*conditions).order_by(INBOXES.c.seq).limit(1)
        row = (await connection.execute(wanted)).mappings().first()
        return None if row is None else record_of(Inbox, row)

    return await store.read(look) if conditions else None


async def page(store: Store, window: Window) -> Page[Inbox]:
    """One page of all inboxes."""

    async def look(connection: AsyncConnection) -> Page[Inbox]:
        return await page_in(connection, INBOXES, Inbox, window)

    return await store.read(look)


async def remove(store: Store, inbox_id: InboxId) -> None:
    """Delete the inbox with its messages and sent mails; NotFound; Conflict while a connector delivers into it."""

    async def work(connection: AsyncConnection) -> None:
        await row_of(connection, INBOXES, inbox_id, "inbox")
        linked = select(CONNECTORS.c.id).where(CONNECTORS.c.inbox_id == inbox_id).limit(1)
        connector = (await connection.execute(linked)).scalar()
        if connector is not None:
            raise Conflict(f"connector {connector} delivers into inbox {inbox_id}; remove the connector first")
        await _remove(connection, INBOXES.c.id == inbox_id)

    await store.write(work)


async def remove_all(store: Store) -> int:
    """Delete every inbox that no connector delivers into, as `remove` does; how many those were."""
    unlinked = ~exists().where(CONNECTORS.c.inbox_id == INBOXES.c.id)

    async def work(connection: AsyncConnection) -> int:
        return await _remove(connection, unlinked)

    return await store.write(work)


async def _remove(connection: AsyncConnection, condition: Condition) -> int:
    """Tombstones stay for messages of a connector that has moved on to another inbox, so that none comes back."""
    columns = (MESSAGES.c.connector_id, MESSAGES.c.mailbox, MESSAGES.c.uidvalidity, MESSAGES.c.uid)
    gone = select(*columns, MESSAGES.c.content_hash, literal(utc_now(), TOMBSTONES.c.created_at.type)).where(
        MESSAGES.c.inbox_id.in_(select(INBOXES.c.id).where(condition)), MESSAGES.c.connector_id.is_not(None)
    )
    names = [column.name for column in TOMBSTONES.c]
    await connection.execute(TOMBSTONES.insert().from_select(names, gone))
    return (await connection.execute(delete(INBOXES).where(condition))).rowcount
