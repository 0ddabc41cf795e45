"""Counts over all inboxes at once, from the messages' indexes alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, final

from sqlalchemy import BigInteger, Select, bindparam, case, func, select, text, type_coerce, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.model import ConnectorId, InboxId
from inboxd.store.columns import microseconds_of
from inboxd.store.engine import Store
from inboxd.store.schema import CONNECTORS, CURSORS, MESSAGES

_HOUR: Final = timedelta(hours=1)
_SINCE, _UNTIL = bindparam("since", type_=BigInteger), bindparam("until", type_=BigInteger)


def _by_hour(dialect: str) -> Select[InboxId, int, int]:
    """Inboxes, hours after `since` and how many messages came then, found in the gaps between first loads."""
    epoch, created = type_coerce(CURSORS.c.backfill_epoch, BigInteger), type_coerce(MESSAGES.c.created_at, BigInteger)
    loads = (
        select(CONNECTORS.c.inbox_id, epoch.label("first"), (epoch + CURSORS.c.last_uid + 1).label("end"))
        .join(CURSORS, CURSORS.c.connector_id == CONNECTORS.c.id)
        .where(epoch + CURSORS.c.last_uid >= _SINCE, epoch < _UNTIL)
        .cte("loads")
    )
    ended = func.max(loads.c.end).over(partition_by=loads.c.inbox_id, order_by=loads.c.first, rows=(None, -1))
    gaps = union_all(
        select(loads.c.inbox_id, func.coalesce(ended, _SINCE).label("first"), loads.c.first.label("end")),
        select(loads.c.inbox_id, func.max(loads.c.end), _UNTIL).group_by(loads.c.inbox_id),
        select(CONNECTORS.c.inbox_id, _SINCE, _UNTIL)
        .where(CONNECTORS.c.inbox_id.not_in(select(loads.c.inbox_id)))
        .distinct(),
    ).cte("gaps")
    hour = (created - _SINCE) // (3600 * 1_000_000)
    counted = (
        select(gaps.c.inbox_id, hour.label("hour"), func.count())
        .join(MESSAGES, MESSAGES.c.inbox_id == gaps.c.inbox_id)
        .where(created >= gaps.c.first, created < gaps.c.end)
        .group_by(gaps.c.inbox_id, "hour")
    )
    # PostgreSQL may go over the hours instead of over the gaps; SQLite would go over the loads, too, for their sake.
    return counted if dialect == "sqlite" else counted.where(created >= _SINCE, created < _UNTIL)


_BY_HOUR: Final = {dialect: _by_hour(dialect) for dialect in ("sqlite", "postgresql")}
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
    """How many messages came in each of the last `hours` hours, the oldest first, in the inboxes of connectors; those
    without any are left out.

    What the first load of a mailbox brought did not come then, and is passed over: a load is a span of time, right
    before it began and as many microseconds long as there are UIDs, so that its messages are not even looked at.
    """
    since = until - hours * _HOUR
    asked = {"since": microseconds_of(since), "until": microseconds_of(until)}

    async def look(connection: AsyncConnection) -> dict[InboxId, list[int]]:
        counts: defaultdict[InboxId, list[int]] = defaultdict(lambda: [0] * hours)
        for inbox_id, at, count in await connection.execute(_BY_HOUR[connection.dialect.name], asked):
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
