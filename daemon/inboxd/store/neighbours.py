"""The messages beside one in a list: what a reader goes on to."""

from __future__ import annotations

from sqlalchemy import literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.mails import Message
from inboxd.model import MessageFilter, MessageId, Window
from inboxd.store.engine import Store
from inboxd.store.messages import conditions
from inboxd.store.rows import in_order
from inboxd.store.schema import MESSAGES


async def of(store: Store, chosen: MessageFilter, message: Message) -> tuple[MessageId | None, MessageId | None]:
    """The chosen messages that came right after and right before this one, None where there is none."""
    place = tuple_(MESSAGES.c.created_at, MESSAGES.c.seq)
    here = tuple_(literal(message.created_at, MESSAGES.c.created_at.type), literal(message.seq))

    async def beside(connection: AsyncConnection, *, ascending: bool) -> MessageId | None:
        wanted = select(MESSAGES.c.id).where(place > here if ascending else place < here, *conditions(chosen))
        first = wanted.order_by(*in_order(MESSAGES, Window(ascending=ascending))).limit(1)
        return (await connection.execute(first)).scalar()

    async def look(connection: AsyncConnection) -> tuple[MessageId | None, MessageId | None]:
        return await beside(connection, ascending=True), await beside(connection, ascending=False)

    return await store.read(look)
