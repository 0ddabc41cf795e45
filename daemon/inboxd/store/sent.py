"""Mails that were handed to an SMTP server, whatever it made of them."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.mails import Sent
from inboxd.model import InboxId, Page, SentId, Window
from inboxd.store.engine import Store
from inboxd.store.rows import columns_of, page_in, record_of, row_of
from inboxd.store.schema import CONNECTORS, RAW_SENT, SENT


async def add(store: Store, sent: Sent, raw: bytes) -> None:
    """Keep a sent mail with its bytes; a connector removed in the meantime is left out of the row."""

    async def work(connection: AsyncConnection) -> None:
        connector = select(CONNECTORS.c.id).where(CONNECTORS.c.id == sent.connector_id).scalar_subquery()
        insert = SENT.insert().values({**columns_of(sent), "connector_id": connector}).returning(SENT.c.seq)
        seq = (await connection.execute(insert)).scalar_one()
        await connection.execute(RAW_SENT.insert().values(seq=seq, raw=raw))

    await store.write(work)


async def get(store: Store, sent_id: SentId) -> Sent:
    """The sent mail, or NotFound."""

    async def look(connection: AsyncConnection) -> Sent:
        return record_of(Sent, await row_of(connection, SENT, sent_id, "sent mail"))

    return await store.read(look)


async def raw(store: Store, sent_id: SentId) -> bytes:
    """The sent mail's bytes as they went to the server, or NotFound."""

    async def look(connection: AsyncConnection) -> bytes:
        content = (
            await connection.execute(
                select(RAW_SENT.c.raw).join(SENT, SENT.c.seq == RAW_SENT.c.seq).where(SENT.c.id == sent_id)
            )
        ).scalar()
        if content is None:
            raise NotFound(f"there is no sent mail {sent_id}")
        return content

    return await store.read(look)


async def page(store: Store, window: Window, *, inbox_id: InboxId | None = None) -> Page[Sent]:
    """One page of sent mails, of one inbox where given."""
    conditions = [] if inbox_id is None else [SENT.c.inbox_id == inbox_id]

    async def look(connection: AsyncConnection) -> Page[Sent]:
        return await page_in(connection, SENT, Sent, window, conditions)

    return await store.read(look)
