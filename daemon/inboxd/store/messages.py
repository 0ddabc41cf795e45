"""Received messages, and how far each mailbox has been read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields

from sqlalchemy import ColumnElement, RowMapping, and_, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.mails import Attachment, Cursor, Digest, Incoming, Message, Outcome, Place
from inboxd.model import ConnectorId, EventId, InboxId, MessageFilter, MessageId, Page, Window, utc_now
from inboxd.store import batches
from inboxd.store.engine import Store
from inboxd.store.rows import (
    Condition,
    columns_of,
    in_order,
    in_span,
    inserts_of,
    lock_connector,
    record_of,
    row_of,
    rows_in,
)
from inboxd.store.schema import ATTACHMENTS, CURSORS, MESSAGES, RAW_MESSAGES, TOMBSTONES

_DIGEST = [field.name for field in fields(Digest) if field.name in MESSAGES.c]
_OWN = [field.name for field in fields(Message) if field.name in MESSAGES.c]
_LISTED = [MESSAGES.c[name] for name in (*_OWN, *_DIGEST)]
_SET_CURSOR = inserts_of(
    CURSORS,
    lambda new: new.on_conflict_do_update(
        index_elements=["connector_id", "mailbox"],
        set_={"uidvalidity": new.excluded.uidvalidity, "last_uid": new.excluded.last_uid},
    ),
)


async def cursor(store: Store, connector_id: ConnectorId, mailbox: str) -> Cursor | None:
    """How far the mailbox has been read, or None when never."""

    async def look(connection: AsyncConnection) -> Cursor | None:
        wanted = select(CURSORS).where(CURSORS.c.connector_id == connector_id, CURSORS.c.mailbox == mailbox)
        row = (await connection.execute(wanted)).mappings().first()
        return None if row is None else record_of(Cursor, row)

    return await store.read(look)


async def set_cursor(store: Store, place: Place, last_uid: int) -> None:
    """Put the mailbox's cursor here, backwards too, and into this incarnation; NotFound without the connector."""

    async def work(connection: AsyncConnection) -> None:
        await lock_connector(connection, place.connector_id)
        await connection.execute(_SET_CURSOR[connection.dialect.name], {**columns_of(place), "last_uid": last_uid})

    await store.write(work)


async def considered(store: Store, place: Place, above_uid: int) -> set[int]:
    """The UIDs above `above_uid` that are stored or were removed by a user: there is no need to fetch them."""

    async def look(connection: AsyncConnection) -> set[int]:
        return await batches.considered(connection, place, above_uid)

    return await store.read(look)


async def add_batch(
    store: Store,
    place: Place,
    inbox_id: InboxId,
    incoming: Sequence[Incoming],
    *,
    last_uid: int | None = None,
    event_id: EventId | None = None,
) -> Outcome:
    """Keep a batch, move the mailbox's cursor and count the event, all in one transaction.

    A UID that is stored, was removed by a user, or comes twice is passed over. When the mailbox was renumbered
    (UIDVALIDITY, RFC 3501 §2.3.1.1), a message with the same bytes under an older UIDVALIDITY gets the new UID
    instead of a second row, each one once; those removed by a user likewise. The cursor goes to `last_uid` unless that
    is None or backwards. The event is counted when something was stored. NotFound when the connector is gone. If
    cancelled, the batch is committed whole or not at all; adding it again is harmless.
    """

    async def work(connection: AsyncConnection) -> Outcome:
        return await batches.add(connection, place, inbox_id, incoming, last_uid, event_id)

    return await store.write(work)


async def page(store: Store, chosen: MessageFilter, window: Window) -> Page[Message]:
    """One page of the chosen messages."""

    async def look(connection: AsyncConnection) -> Page[Message]:
        rows, total = await rows_in(connection, MESSAGES, window, _conditions(chosen), columns=_LISTED)
        return Page(await _messages(connection, rows), total)

    return await store.read(look)


async def nth(store: Store, chosen: MessageFilter, window: Window, index: int) -> Message | None:
    """The chosen message at `index`, counted from 0 in the window's order and time span; its paging is ignored."""
    wanted = (
        select(*_LISTED)
        .where(*_conditions(chosen), *in_span(MESSAGES, window))
        .order_by(*in_order(MESSAGES, window))
        .limit(1)
        .offset(index)
    )

    async def look(connection: AsyncConnection) -> Message | None:
        rows = (await connection.execute(wanted)).mappings().all()
        return next(iter(await _messages(connection, rows)), None)

    return await store.read(look)


async def count(store: Store, chosen: MessageFilter) -> int:
    """How many messages are chosen."""

    async def look(connection: AsyncConnection) -> int:
        wanted = select(func.count()).select_from(MESSAGES).where(*_conditions(chosen))
        return (await connection.execute(wanted)).scalar_one()

    return await store.read(look)


async def get(store: Store, message_id: MessageId) -> Message:
    """The message, or NotFound."""

    async def look(connection: AsyncConnection) -> Message:
        return await _message(connection, message_id)

    return await store.read(look)


async def raw(store: Store, message_id: MessageId) -> bytes:
    """The message's bytes as the server sent them, or NotFound."""
    wanted = select(RAW_MESSAGES.c.raw).join(MESSAGES, MESSAGES.c.seq == RAW_MESSAGES.c.seq)

    async def look(connection: AsyncConnection) -> bytes:
        content = (await connection.execute(wanted.where(MESSAGES.c.id == message_id))).scalar()
        if content is None:
            raise NotFound(f"there is no message {message_id}")
        return content

    return await store.read(look)


async def remove(store: Store, message_id: MessageId) -> None:
    """Delete the message for good: a tombstone keeps later syncs from bringing it back. NotFound."""

    async def work(connection: AsyncConnection) -> None:
        row = await row_of(connection, MESSAGES, message_id, "message")
        if row["connector_id"] is not None:
            grave = {column.name: row[column.name] for column in TOMBSTONES.c} | {"created_at": utc_now()}
            await connection.execute(TOMBSTONES.insert().values(grave))
        await connection.execute(delete(MESSAGES).where(MESSAGES.c.id == message_id))

    await store.write(work)


async def mark_read(store: Store, message_id: MessageId, read: bool) -> Message:
    """The message as it is once marked read or unread, or NotFound."""
    marked = update(MESSAGES).where(MESSAGES.c.id == message_id).values(read=read, updated_at=utc_now())

    async def work(connection: AsyncConnection) -> Message:
        await connection.execute(marked)
        return await _message(connection, message_id)

    return await store.write(work)


def _conditions(chosen: MessageFilter) -> list[Condition]:
    conditions: list[Condition] = []
    if chosen.inbox_ids:
        conditions.append(MESSAGES.c.inbox_id.in_(chosen.inbox_ids))
    if chosen.unread_only:
        conditions.append(MESSAGES.c.read.is_(False))
    if chosen.favourite_only:
        conditions.append(MESSAGES.c.favourite.is_(True))
    if chosen.search:
        conditions.append(MESSAGES.c.searched.contains(chosen.search.casefold(), autoescape=True))
    return conditions


async def _message(connection: AsyncConnection, message_id: MessageId) -> Message:
    rows = await connection.execute(select(*_LISTED).where(MESSAGES.c.id == message_id))
    messages = await _messages(connection, rows.mappings().all())
    if not messages:
        raise NotFound(f"there is no message {message_id}")
    return messages[0]


async def _messages(connection: AsyncConnection, rows: Sequence[RowMapping]) -> tuple[Message, ...]:
    attached = await _attachments(connection, [row["seq"] for row in rows])
    return tuple(
        Message(
            **{name: row[name] for name in _OWN},
            digest=Digest(**{name: row[name] for name in _DIGEST}, attachments=tuple(attached[row["seq"]])),
        )
        for row in rows
    )


async def _attachments(connection: AsyncConnection, seqs: Sequence[int]) -> defaultdict[int, list[Attachment]]:
    attached: defaultdict[int, list[Attachment]] = defaultdict(list)
    if seqs:
        of_these: ColumnElement[bool] = and_(ATTACHMENTS.c.message_seq.in_(seqs))
        wanted = select(ATTACHMENTS).where(of_these).order_by(ATTACHMENTS.c.message_seq, ATTACHMENTS.c.position)
        for row in (await connection.execute(wanted)).mappings():
            attached[row["message_seq"]].append(record_of(Attachment, row))
    return attached
