"""What is done with many received messages at once, and to their marks: a slice at a time, so that others may write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, delete, func, literal, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.model import InboxId, MessageId, Window, utc_now
from inboxd.store import deliveries
from inboxd.store.engine import Store
from inboxd.store.rows import in_order, in_span
from inboxd.store.schema import MESSAGES, TOMBSTONES

# How many messages one transaction changes. The bytes of a deleted mail go too, page by page.
_MARKED_AT_ONCE: Final = 1000
_DELETED_AT_ONCE: Final = 200
# Carried out on the messages of these numbers; the inbox of each that it changed.
_Change = Callable[[AsyncConnection, list[int]], Awaitable[list[InboxId]]]


async def set_favourite(store: Store, message_id: MessageId, favourite: bool) -> InboxId:
    """Mark the message as a favourite, or no longer; its inbox. NotFound."""
    marked = update(MESSAGES).where(MESSAGES.c.id == message_id).values(favourite=favourite, updated_at=utc_now())

    async def work(connection: AsyncConnection) -> InboxId:
        inbox_id = (await connection.execute(marked.returning(MESSAGES.c.inbox_id))).scalar()
        if inbox_id is None:
            raise NotFound(f"there is no message {message_id}")
        return InboxId(inbox_id)

    return await store.write(work)


async def mark_all_read(store: Store, read: bool, inbox_id: InboxId | None = None) -> Counter[InboxId]:
    """Mark all messages that are there now, of one inbox where given; how many of each inbox were marked otherwise."""
    wanted = _ordered(Window(), inbox_id).where(MESSAGES.c.read.is_(not read)).limit(_MARKED_AT_ONCE)

    async def mark(connection: AsyncConnection, seqs: list[int]) -> list[InboxId]:
        marked = update(MESSAGES).where(MESSAGES.c.seq.in_(seqs)).values(read=read, updated_at=utc_now())
        rows = (await connection.execute(marked.returning(MESSAGES.c.id, MESSAGES.c.inbox_id))).all()
        if read:
            await deliveries.announce_read(connection, [(row.id, row.inbox_id) for row in rows])
        return [row.inbox_id for row in rows]

    return await _in_slices(store, wanted, mark)


async def remove_all(
    store: Store, inbox_id: InboxId | None = None, *, since: datetime | None = None, before: datetime | None = None
) -> Counter[InboxId]:
    """Delete, as `messages.remove` does, all messages of the span that are there now; how many of each inbox."""
    wanted = _ordered(Window(since=since, before=before), inbox_id).limit(_DELETED_AT_ONCE)
    return await _in_slices(store, wanted, _bury)


async def _bury(connection: AsyncConnection, seqs: list[int]) -> list[InboxId]:
    these = MESSAGES.c.seq.in_(seqs)
    now = literal(utc_now(), TOMBSTONES.c.created_at.type)
    columns = (MESSAGES.c.connector_id, MESSAGES.c.mailbox, MESSAGES.c.uidvalidity, MESSAGES.c.uid)
    gone = select(*columns, MESSAGES.c.content_hash, now).where(these, MESSAGES.c.connector_id.is_not(None))
    await connection.execute(TOMBSTONES.insert().from_select([column.name for column in TOMBSTONES.c], gone))
    return list((await connection.execute(delete(MESSAGES).where(these).returning(MESSAGES.c.inbox_id))).scalars())


def _ordered(window: Window, inbox_id: InboxId | None) -> Select[Any, Any]:
    wanted = select(MESSAGES.c.created_at, MESSAGES.c.seq).where(*in_span(MESSAGES, window))
    if inbox_id is not None:
        wanted = wanted.where(MESSAGES.c.inbox_id == inbox_id)
    return wanted.order_by(*in_order(MESSAGES, window))


async def _in_slices(store: Store, wanted: Select[Any, Any], change: _Change) -> Counter[InboxId]:
    """Carry out `change` on the wanted messages, one transaction a slice. What arrives meanwhile is left alone."""

    async def newest(connection: AsyncConnection) -> int | None:
        return (await connection.execute(select(func.max(MESSAGES.c.seq)))).scalar()

    wanted = wanted.where(MESSAGES.c.seq <= (await store.read(newest) or 0))
    changed: Counter[InboxId] = Counter()
    last = await _one_slice(store, wanted, change, changed)
    while last is not None:
        behind = tuple_(MESSAGES.c.created_at, MESSAGES.c.seq) > tuple(last)
        last = await _one_slice(store, wanted.where(behind), change, changed)
    return changed


async def _one_slice(
    store: Store, wanted: Select[Any, Any], change: _Change, changed: Counter[InboxId]
) -> Row[Any, Any] | None:
    """The last row of the slice, or None when there is nothing left."""

    async def work(connection: AsyncConnection) -> tuple[Row[Any, Any] | None, list[InboxId]]:
        rows = (await connection.execute(wanted.with_for_update())).all()
        return (rows[-1], await change(connection, [row.seq for row in rows])) if rows else (None, [])

    last, inboxes = await store.write(work)
    changed.update(inboxes)
    return last
