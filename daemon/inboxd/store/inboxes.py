"""Local inboxes. One that has expired is found by nothing here, though `remove_expired` may not have deleted it yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, exists, false, func, literal, or_, select
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import Conflict, NotFound
from inboxd.model import Inbox, InboxFilter, InboxFunction, InboxId, Page, Window, utc_now
from inboxd.store.engine import Store
from inboxd.store.rows import Condition, columns_of, in_order, in_span, record_of, rows_in
from inboxd.store.schema import CONNECTORS, INBOX_TAGS, INBOXES, INSTALLATION, MESSAGES, TOMBSTONES

EXPIRED_AT_ONCE: Final = 100
# Reading this many rows holds the event loop for a few milliseconds.
_ROWS_AT_ONCE: Final = 1000

_CONNECTED = exists().where(CONNECTORS.c.inbox_id == INBOXES.c.id)
_READ = (*INBOXES.c, _CONNECTED.label("connected"))
_ALL = InboxFilter()


async def add(store: Store, inbox: Inbox, *, sole_address: bool = False) -> None:
    """Keep a new inbox. With `sole_address`: Conflict when another has its address, in whatever case of letters."""

    async def work(connection: AsyncConnection) -> None:
        if sole_address:
            # One at a time, so that of two with the same address only one finds it free.
            await connection.execute(select(INSTALLATION.c.number).with_for_update())
            taken = select(INBOXES.c.id).where(_has_address(inbox.email_address), _alive()).limit(1)
            if (other := (await connection.execute(taken)).scalar()) is not None:
                raise Conflict(f"inbox {other} has the address {inbox.email_address}; use that one, or another address")
        await insert(connection, inbox)

    await store.write(work)


async def insert(connection: AsyncConnection, inbox: Inbox) -> None:
    """Inside a transaction: keep a new inbox."""
    row = INBOXES.insert().values(_columns(inbox)).returning(INBOXES.c.seq)
    await _tag(connection, (await connection.execute(row)).scalar_one(), inbox.tags)


async def claim(connection: AsyncConnection, inbox_id: InboxId) -> None:
    """Inside a transaction: the inbox is a connector's, and does not expire; NotFound."""
    claimed = update_of(INBOXES).where(INBOXES.c.id == inbox_id, _alive()).values(expires_at=None)
    if (await connection.execute(claimed)).rowcount == 0:
        raise NotFound(f"there is no inbox {inbox_id}")


async def get(store: Store, inbox_id: InboxId) -> Inbox:
    """The inbox, or NotFound."""

    async def look(connection: AsyncConnection) -> Inbox:
        return await _inbox(connection, inbox_id)

    return await store.read(look)


async def find(store: Store, *, email_address: str | None = None, name: str | None = None) -> Inbox | None:
    """The oldest inbox that has all that is given (the address in any case of its letters); None without a hit."""
    conditions: list[Condition] = []
    if email_address is not None:
        conditions.append(_has_address(email_address))
    if name is not None:
        conditions.append(INBOXES.c.name == name)

    async def look(connection: AsyncConnection) -> Inbox | None:
        wanted = select(*_READ).where(*conditions, _alive()).order_by(INBOXES.c.seq).limit(1)
        row = (await connection.execute(wanted)).mappings().first()
        return None if row is None else record_of(Inbox, row)

    return await store.read(look) if conditions else None


async def page(store: Store, window: Window, chosen: InboxFilter = _ALL) -> Page[Inbox]:
    """One page of the chosen inboxes."""

    async def look(connection: AsyncConnection) -> Page[Inbox]:
        rows, total = await rows_in(connection, INBOXES, window, _conditions(chosen), columns=_READ)
        return Page(tuple(record_of(Inbox, row) for row in rows), total)

    return await store.read(look)


async def first(store: Store, window: Window, include: Sequence[UUID] = ()) -> list[Inbox]:
    """The first inboxes in the window's order and time span, as many as its size, and besides them those to include."""
    order = in_order(INBOXES, window)
    head = select(INBOXES.c.seq).where(*in_span(INBOXES, window), _alive()).order_by(*order).limit(window.size)
    named = select(INBOXES.c.seq).where(INBOXES.c.id.in_(include), _alive())
    wanted = select(*_READ).where(INBOXES.c.seq.in_(select(head.subquery().c.seq).union(named)))

    async def look(connection: AsyncConnection) -> list[Inbox]:
        rows = await connection.execute(wanted.order_by(*order))
        return [record_of(Inbox, row) for row in rows.mappings()]

    return await store.read(look)


async def addresses(store: Store) -> list[tuple[InboxId, str]]:
    """The id and the address of every inbox, oldest first."""
    wanted = select(INBOXES.c.id, INBOXES.c.email_address).where(_alive()).order_by(*in_order(INBOXES, Window()))

    async def look(connection: AsyncConnection) -> list[tuple[InboxId, str]]:
        rows = await connection.stream(wanted)
        return [
            (InboxId(identity), address) async for part in rows.partitions(_ROWS_AT_ONCE) for identity, address in part
        ]

    return await store.read(look)


async def count(store: Store) -> int:
    """How many inboxes there are."""

    async def look(connection: AsyncConnection) -> int:
        return (await connection.execute(select(func.count()).select_from(INBOXES).where(_alive()))).scalar_one()

    return await store.read(look)


async def change(store: Store, inbox_id: InboxId, changed: Callable[[Inbox], Inbox]) -> Inbox:
    """The inbox as it is once it was replaced by what `changed` makes of it; NotFound.

    Conflict when it shall expire and a connector delivers into it.
    """

    async def work(connection: AsyncConnection) -> Inbox:
        seq = await _lock(connection, inbox_id)
        inbox = changed(await _inbox(connection, inbox_id))
        if inbox.expires_at is not None and inbox.connected:
            raise Conflict(f"a connector delivers into inbox {inbox_id}, which therefore cannot expire")
        await connection.execute(update_of(INBOXES).where(INBOXES.c.seq == seq).values(_columns(inbox)))
        await connection.execute(delete(INBOX_TAGS).where(INBOX_TAGS.c.seq == seq))
        await _tag(connection, seq, inbox.tags)
        return inbox

    return await store.write(work)


async def remove(store: Store, inbox_id: InboxId) -> None:
    """Delete the inbox with its messages and sent mails; NotFound; Conflict while a connector delivers into it."""

    async def work(connection: AsyncConnection) -> None:
        await _lock(connection, inbox_id)
        linked = select(CONNECTORS.c.id).where(CONNECTORS.c.inbox_id == inbox_id).limit(1)
        connector = (await connection.execute(linked)).scalar()
        if connector is not None:
            raise Conflict(f"connector {connector} delivers into inbox {inbox_id}; remove the connector first")
        await _remove(connection, INBOXES.c.id == inbox_id)

    await store.write(work)


async def remove_all(store: Store, *, since: datetime | None = None, before: datetime | None = None) -> int:
    """Delete, as `remove` does, every inbox created in the time span that no connector delivers into; how many."""
    chosen = [~_CONNECTED, *in_span(INBOXES, Window(since=since, before=before))]

    async def work(connection: AsyncConnection) -> int:
        return await _remove(connection, *chosen)

    return await store.write(work)


async def remove_expired(store: Store, now: datetime) -> list[InboxId]:
    """Delete, as `remove` does, up to EXPIRED_AT_ONCE inboxes that have expired by `now`; which those were."""
    expired = select(INBOXES.c.id).where(INBOXES.c.expires_at <= now, ~_CONNECTED).order_by(INBOXES.c.expires_at)

    async def work(connection: AsyncConnection) -> list[InboxId]:
        ids = (await connection.execute(expired.limit(EXPIRED_AT_ONCE).with_for_update())).scalars().all()
        if ids:
            await _remove(connection, INBOXES.c.id.in_(ids))
        return [InboxId(identity) for identity in ids]

    return await store.write(work)


def _alive() -> Condition:
    return or_(INBOXES.c.expires_at.is_(None), INBOXES.c.expires_at > utc_now())


def _has_address(email_address: str) -> Condition:
    return INBOXES.c.address_key == email_address.lower()


def _conditions(chosen: InboxFilter) -> list[Condition]:
    conditions = [_alive()]
    if chosen.favourite_only:
        conditions.append(INBOXES.c.favourite.is_(True))
    if chosen.search:
        conditions.append(INBOXES.c.searched.contains(chosen.search.casefold(), autoescape=True))
    if chosen.tag is not None:
        conditions.append(INBOXES.c.seq.in_(select(INBOX_TAGS.c.seq).where(INBOX_TAGS.c.tag == chosen.tag)))
    if chosen.inbox_type is not None:
        conditions.append(INBOXES.c.inbox_type == chosen.inbox_type)
    if chosen.function is not None:
        conditions.append(_CONNECTED if chosen.function is InboxFunction.CONNECTOR else false())
    return conditions


def _columns(inbox: Inbox) -> dict[str, Any]:
    words = (inbox.id, inbox.email_address, inbox.name, inbox.description, *inbox.tags)
    own = {name: value for name, value in columns_of(inbox).items() if name in INBOXES.c}
    searched = "\n".join(str(word) for word in words if word is not None).casefold()
    return own | {"address_key": inbox.email_address.lower(), "searched": searched}


async def _tag(connection: AsyncConnection, seq: int, tags: Sequence[str]) -> None:
    if tags:
        await connection.execute(INBOX_TAGS.insert(), [{"seq": seq, "tag": tag} for tag in dict.fromkeys(tags)])


async def _inbox(connection: AsyncConnection, inbox_id: InboxId) -> Inbox:
    wanted = select(*_READ).where(INBOXES.c.id == inbox_id, _alive())
    row = (await connection.execute(wanted)).mappings().first()
    if row is None:
        raise NotFound(f"there is no inbox {inbox_id}")
    return record_of(Inbox, row)


async def _lock(connection: AsyncConnection, inbox_id: InboxId) -> int:
    """Hold the inbox against connectors that would claim it, until the transaction ends; its number, or NotFound."""
    wanted = select(INBOXES.c.seq).where(INBOXES.c.id == inbox_id, _alive()).with_for_update()
    seq = (await connection.execute(wanted)).scalar()
    if seq is None:
        raise NotFound(f"there is no inbox {inbox_id}")
    return seq


async def _remove(connection: AsyncConnection, *conditions: Condition) -> int:
    """Tombstones stay for messages of a connector that has moved on to another inbox, so that none comes back."""
    columns = (MESSAGES.c.connector_id, MESSAGES.c.mailbox, MESSAGES.c.uidvalidity, MESSAGES.c.uid)
    gone = select(*columns, MESSAGES.c.content_hash, literal(utc_now(), TOMBSTONES.c.created_at.type)).where(
        MESSAGES.c.inbox_id.in_(select(INBOXES.c.id).where(*conditions)), MESSAGES.c.connector_id.is_not(None)
    )
    names = [column.name for column in TOMBSTONES.c]
    await connection.execute(TOMBSTONES.insert().from_select(names, gone))
    return (await connection.execute(delete(INBOXES).where(*conditions))).rowcount
