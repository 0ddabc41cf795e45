"""Received messages, and how far each mailbox has been read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, RowMapping, and_, delete, func, literal, or_, select, true, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.mails import Attachment, Cursor, Digest, Incoming, Loaded, Message, Outcome, Outline, Place
from inboxd.model import ConnectorId, EventId, InboxId, MessageFilter, MessageId, Page, Window, utc_now
from inboxd.store import batches, cursors, deliveries, large, searching
from inboxd.store.batches import Ready
from inboxd.store.chosen import marks
from inboxd.store.engine import Store
from inboxd.store.rows import (
    Condition,
    at_place,
    columns_of,
    in_order,
    in_span,
    inserts_of,
    lock_connector,
    record_of,
    row_of,
    rows_at,
    rows_in,
    slices,
)
from inboxd.store.schema import ATTACHMENTS, CURSORS, MESSAGES, RAW_MESSAGES, TOMBSTONES
from inboxd.uids import UidSet

_DIGEST = [field.name for field in fields(Digest) if field.name in MESSAGES.c]
_OWN = [field.name for field in fields(Message) if field.name in MESSAGES.c and field.name != "labels"]
_LISTED = [MESSAGES.c[name] for name in (*_OWN, "labels", *_DIGEST)]
_HIGHEST_UID = 2**32 - 1
_KEYS_AT_ONCE = 1000  # far below the 32,766 parameters that SQLite takes
_SET_CURSOR = inserts_of(
    CURSORS,
    lambda new: new.on_conflict_do_update(
        index_elements=["connector_id", "mailbox"],
        set_={name: new.excluded[name] for name in cursors.MARKS},
    ),
)


async def cursor(store: Store, connector_id: ConnectorId, mailbox: str) -> Cursor | None:
    """How far the mailbox has been read, or None when never."""

    async def look(connection: AsyncConnection) -> Cursor | None:
        return await cursors.find(connection, connector_id, mailbox)

    return await store.read(look)


async def set_cursor(store: Store, place: Place, last_uid: int) -> None:
    """Put the mailbox's cursor here, backwards too, and into this incarnation; NotFound without the connector.

    No first load is under way then.
    """
    marks = columns_of(place) | columns_of(Cursor(place.uidvalidity, last_uid))

    async def work(connection: AsyncConnection) -> None:
        await lock_connector(connection, place.connector_id)
        await connection.execute(_SET_CURSOR[connection.dialect.name], marks)

    await store.write(work)


async def rewind(store: Store, connector_id: ConnectorId) -> bool:
    """Put the cursors of all the connector's mailboxes before their first UID; whether one was elsewhere."""
    moved = (
        update(CURSORS)
        .where(CURSORS.c.connector_id == connector_id, CURSORS.c.last_uid > 0)
        .values(last_uid=0, backfill_below=None, backfill_epoch=None)
    )

    async def work(connection: AsyncConnection) -> bool:
        return (await connection.execute(moved)).rowcount > 0

    return await store.write(work)


async def considered(store: Store, place: Place, above_uid: int, below_uid: int | None = None) -> UidSet:
    """The UIDs above `above_uid`, or between the two, that are stored or were removed by a user: there is no need to
    fetch them.
    """
    highest = _HIGHEST_UID if below_uid is None else below_uid - 1

    async def look(connection: AsyncConnection) -> UidSet:
        return await batches.considered(connection, place, above_uid + 1, highest)

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
    cursor = None if last_uid is None else Cursor(place.uidvalidity, last_uid)
    return await add_ready(store, place, inbox_id, prepare(store, incoming), cursor=cursor, event_id=event_id)


def prepare(store: Store, incoming: Sequence[Incoming]) -> list[Ready]:
    """A batch, or a part of it, made ready for `add_ready`; blocking, for a thread."""
    return batches.prepare(store.dialect, incoming)


async def add_ready(
    store: Store,
    place: Place,
    inbox_id: InboxId,
    ready: Sequence[Ready],
    *,
    cursor: Cursor | None = None,
    loaded: Loaded | None = None,
    epoch: datetime | None = None,
    event_id: EventId | None = None,
    lasted: timedelta | None = None,
    bulk: bool = False,
) -> Outcome:
    """As `add_batch`; `bulk` as by `Store.write_at_once`. `cursor` is where the cursor goes to unless that is
    backwards; its marks of a first load count only where the mailbox had another incarnation.

    For messages of a first load: the mark goes down to what is `loaded`, and they are created by its `epoch`.
    `lasted` is how long the sync of the event took so far.
    """

    async def work(connection: AsyncConnection) -> Outcome:
        return await batches.add(connection, place, inbox_id, ready, cursor, loaded, epoch, event_id, lasted)

    return await store.write_at_once(work, bulk=bulk)


async def page(store: Store, chosen: MessageFilter, window: Window, *, count_to: int | None = None) -> Page[Message]:
    """One page of the chosen messages; those to be included are so whatever the window's time span.

    A search counts no further than `count_to`, for that may take longer than all the rest: a total above it stands for
    any. It must be a few times as much as what lies before the end of the page.
    """

    async def look(connection: AsyncConnection) -> Page[Message]:
        if chosen.include:
            wanted = and_(true(), *in_span(MESSAGES, window), *conditions(chosen))
            unspanned = replace(window, since=None, before=None)
            either = or_(wanted, MESSAGES.c.id.in_(chosen.include))
            rows, total = await rows_in(connection, MESSAGES, unspanned, [either], columns=_LISTED)
        elif chosen.search:
            where = [*marks(chosen), *in_span(MESSAGES, window)]
            seqs, total = await searching.page(connection, chosen.search, window, where, count_to)
            rows = await rows_at(connection, MESSAGES, window, seqs, columns=_LISTED)
        else:
            rows, total = await rows_in(connection, MESSAGES, window, marks(chosen), columns=_LISTED)
        return Page(await _messages(connection, rows), total)

    return await store.read(look)


async def nth(store: Store, chosen: MessageFilter, window: Window, index: int) -> Message | None:
    """The chosen message at `index`, counted from 0 in the window's order and time span; its paging is ignored."""

    async def look(connection: AsyncConnection) -> Message | None:
        where = [*conditions(chosen), *in_span(MESSAGES, window)]
        wanted = select(MESSAGES.c.seq).where(*where).order_by(*in_order(MESSAGES, window)).limit(1).offset(index)
        seqs = (await connection.execute(wanted)).scalars().all()
        rows = await rows_at(connection, MESSAGES, window, seqs, columns=_LISTED)
        return next(iter(await _messages(connection, rows)), None)

    return await store.read(look)


async def count(store: Store, chosen: MessageFilter) -> int:
    """How many messages are chosen."""

    async def look(connection: AsyncConnection) -> int:
        if chosen.search:
            return await searching.count(connection, chosen.search, marks(chosen))
        wanted = select(func.count()).select_from(MESSAGES).where(*marks(chosen))
        return (await connection.execute(wanted)).scalar_one()

    return await store.read(look)


async def outlines(
    store: Store, chosen: MessageFilter, window: Window, asked: frozenset[str], behind: Outline | None, size: int
) -> tuple[Outline, ...]:
    """The next `size` chosen messages after `behind`, from the first on without it; the window's paging is ignored.

    `asked` names the fields of their digests that are filled.
    """
    names = sorted(asked - {"attachments"})
    columns = [MESSAGES.c[name] for name in ("seq", "created_at", *names)]
    wanted = select(*columns).where(*in_span(MESSAGES, window))
    if behind is not None:
        place = tuple_(MESSAGES.c.created_at, MESSAGES.c.seq)
        last = tuple_(literal(behind.created_at, MESSAGES.c.created_at.type), literal(behind.seq))
        wanted = wanted.where(place > last if window.ascending else place < last)

    async def look(connection: AsyncConnection) -> tuple[Outline, ...]:
        these = wanted.where(*conditions(chosen)).order_by(*in_order(MESSAGES, window)).limit(size)
        rows = (await connection.execute(these)).mappings().all()
        attached = await _attachments(connection, [row["seq"] for row in rows] if "attachments" in asked else [])
        return tuple(
            Outline(
                row["seq"],
                row["created_at"],
                Digest(**{name: row[name] for name in names}, attachments=tuple(attached[row["seq"]])),
            )
            for row in rows
        )

    return await store.read(look)


async def last_seq(store: Store) -> int:
    """The greatest number (`Message.seq`) of all messages there are; 0 when there are none."""

    async def look(connection: AsyncConnection) -> int:
        return await _last_seq(connection)

    return await store.read(look)


async def arrived(
    store: Store, chosen: MessageFilter, window: Window, above: int, most: int
) -> tuple[tuple[int, ...], int]:
    """The lowest `most` numbers above `above` of chosen messages in the window's span, and the greatest of all."""

    async def look(connection: AsyncConnection) -> tuple[tuple[int, ...], int]:
        wanted = select(MESSAGES.c.seq).where(*conditions(chosen), *in_span(MESSAGES, window))
        # SQLite would read the inbox's index from end to end, although the end of the table is asked for.
        wanted = wanted.with_hint(MESSAGES, "NOT INDEXED", dialect_name="sqlite")
        rows = await connection.execute(wanted.where(MESSAGES.c.seq > above).order_by(MESSAGES.c.seq).limit(most))
        return tuple(rows.scalars()), await _last_seq(connection)

    return await store.read(look)


async def numbered(store: Store, chosen: MessageFilter, window: Window, seqs: Sequence[int]) -> tuple[Message, ...]:
    """The messages with these numbers as far as they are there and chosen, in the window's order and time span."""

    async def look(connection: AsyncConnection) -> tuple[Message, ...]:
        wanted = select(*_LISTED).where(*conditions(chosen), *in_span(MESSAGES, window))
        found: list[Message] = []
        for some in slices(seqs, _KEYS_AT_ONCE):
            rows = await connection.execute(wanted.where(MESSAGES.c.seq.in_(some)))
            found += await _messages(connection, rows.mappings().all())
        return tuple(sorted(found, key=lambda one: (one.created_at, one.seq), reverse=not window.ascending))

    return await store.read(look)


async def heads(store: Store, seqs: Sequence[int], most_bytes: int) -> dict[int, bytes]:
    """The first bytes of the messages with these numbers, as many as are still there."""
    start = func.substr(RAW_MESSAGES.c.raw, 1, most_bytes, type_=RAW_MESSAGES.c.raw.type)
    wanted = select(RAW_MESSAGES.c.seq, start).where(RAW_MESSAGES.c.seq.in_(seqs))

    async def look(connection: AsyncConnection) -> dict[int, bytes]:
        return {seq: head for seq, head in await connection.execute(wanted)}  # noqa: C416

    return await store.read(look)


async def get(store: Store, message_id: MessageId) -> Message:
    """The message, or NotFound."""

    async def look(connection: AsyncConnection) -> Message:
        return await _message(connection, message_id)

    return await store.read(look)


async def raw(store: Store, message_id: MessageId) -> bytes:
    """The message's bytes as the server sent them, or NotFound."""
    wanted = select(MESSAGES.c.seq).where(MESSAGES.c.id == message_id)

    async def look(connection: AsyncConnection) -> bytes:
        seq = (await connection.execute(wanted)).scalar()
        if seq is None:
            raise NotFound(f"there is no message {message_id}")
        return await large.read(connection, RAW_MESSAGES, seq)

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


async def set_flags(store: Store, message_id: MessageId, flags: tuple[str, ...]) -> None:
    """Keep the flags the message has on its server now; nothing happens when the message is gone."""
    changed = update(MESSAGES).where(MESSAGES.c.id == message_id).values(flags=flags, updated_at=utc_now())

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(changed)

    await store.write(work)


async def set_flags_at(store: Store, place: Place, uid: int, flags: tuple[str, ...]) -> InboxId | None:
    """As `set_flags`, for the message that came from there; its inbox, or None when it is gone."""
    there = (at_place(MESSAGES, place), MESSAGES.c.uid == uid)
    changed = update(MESSAGES).where(*there).values(flags=flags, updated_at=utc_now()).returning(MESSAGES.c.inbox_id)

    async def work(connection: AsyncConnection) -> InboxId | None:
        return (await connection.execute(changed)).scalar()

    return await store.write(work)


async def mark_read(store: Store, message_id: MessageId, read: bool) -> Message:
    """The message as it is once marked read or unread, or NotFound. Webhooks are told of a change to read."""
    otherwise = (MESSAGES.c.id == message_id) & MESSAGES.c.read.is_(not read)
    marked = update(MESSAGES).where(otherwise).values(read=read, updated_at=utc_now())

    async def work(connection: AsyncConnection) -> Message:
        changed = (await connection.execute(marked)).rowcount
        message = await _message(connection, message_id)
        if changed and read:
            await deliveries.announce_read(connection, [(message.id, message.inbox_id)])
        return message

    return await store.write(work)


def conditions(chosen: MessageFilter) -> list[Condition]:
    """What the chosen messages meet."""
    return [*marks(chosen), searching.holding(chosen.search)] if chosen.search else marks(chosen)


async def _last_seq(connection: AsyncConnection) -> int:
    return (await connection.execute(select(func.max(MESSAGES.c.seq)))).scalar() or 0


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
            labels=row["labels"] or (),
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
