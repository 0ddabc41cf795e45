"""Counts over all inboxes at once, from the messages' indexes alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, final

from sqlalchemy import case, cast, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.model import ConnectorId, InboxId
from inboxd.store.columns import microseconds_of
from inboxd.store.engine import Store
from inboxd.store.schema import CURSORS, MESSAGES

_HOUR: Final = timedelta(hours=1)
_SIZES: Final = {
    "sqlite": text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"),
    "postgresql": text("SELECT pg_database_size(current_database())"),
}


@final
@dataclass(frozen=True, slots=True)
class Tally:
    """What an inbox holds, and when its newest mail came."""

    messages: int
    unread: int
    newest_at: datetime | None


async def of_inboxes(store: Store) -> dict[InboxId, Tally]:
    """Every inbox that holds a message."""
    unread = func.sum(case((MESSAGES.c.read, 0), else_=1))
    wanted = select(MESSAGES.c.inbox_id, func.count(), unread, func.max(MESSAGES.c.created_at)).group_by(
        MESSAGES.c.inbox_id
    )

    async def look(connection: AsyncConnection) -> dict[InboxId, Tally]:
        rows = await connection.execute(wanted)
        return {inbox_id: Tally(count, int(fresh), newest) for inbox_id, count, fresh, newest in rows}

    return await store.read(look)


async def by_hour(store: Store, until: datetime, hours: int) -> dict[InboxId, list[int]]:
    """How many messages came in each of the last `hours` hours, the oldest first; inboxes without any are left out."""
    since = until - hours * _HOUR
    start = microseconds_of(since)
    hour = (cast(MESSAGES.c.created_at, MESSAGES.c.seq.type) - start) // (3600 * 1_000_000)
    wanted = (
        select(MESSAGES.c.inbox_id, hour.label("hour"), func.count())
        .where(MESSAGES.c.created_at >= since, MESSAGES.c.created_at < until)
        .group_by(MESSAGES.c.inbox_id, "hour")
    )

    async def look(connection: AsyncConnection) -> dict[InboxId, list[int]]:
        counts: defaultdict[InboxId, list[int]] = defaultdict(lambda: [0] * hours)
        for inbox_id, at, count in await connection.execute(wanted):
            counts[inbox_id][min(max(int(at), 0), hours - 1)] = count
        return dict(counts)

    return await store.read(look)


async def store_bytes(store: Store) -> int:
    """How large the database is, SQLite's log of the last writes not counted."""

    async def look(connection: AsyncConnection) -> int:
        return (await connection.execute(_SIZES[connection.dialect.name])).scalar_one()

    return await store.read(look)


@final
@dataclass(frozen=True, slots=True)
class Read:
    """How far a mailbox of a connector has been read, how many of its messages are kept, when the newest came."""

    mailbox: str
    last_uid: int
    loading_below: int | None
    messages: int
    newest_at: datetime | None


async def of_mailboxes(store: Store, connector_id: ConnectorId) -> list[Read]:
    """The connector's mailboxes by name."""
    held = (
        select(MESSAGES.c.mailbox, func.count().label("messages"))
        .where(MESSAGES.c.connector_id == connector_id)
        .group_by(MESSAGES.c.mailbox)
        .subquery()
    )
    same = (MESSAGES.c[name] == CURSORS.c[name] for name in ("connector_id", "mailbox", "uidvalidity"))
    newest = select(MESSAGES.c.created_at).where(*same).order_by(MESSAGES.c.uid.desc()).limit(1).scalar_subquery()
    counted = func.coalesce(held.c.messages, 0)
    wanted = (
        select(CURSORS.c.mailbox, CURSORS.c.last_uid, CURSORS.c.backfill_below, counted, newest)
        .select_from(CURSORS.outerjoin(held, held.c.mailbox == CURSORS.c.mailbox))
        .where(CURSORS.c.connector_id == connector_id)
        .order_by(CURSORS.c.mailbox)
    )

    async def look(connection: AsyncConnection) -> list[Read]:
        return [Read(*row) for row in await connection.execute(wanted)]

    return await store.read(look)
