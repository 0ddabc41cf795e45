"""Attachments of received mails, whose bytes are in the mail, and uploads, which have bytes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from sqlalchemy import RowMapping, Select, and_, delete, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.mails import Attachment, KeptAttachment
from inboxd.model import AttachmentFilter, AttachmentId, Page, SentId, Window, utc_now
from inboxd.store import large
from inboxd.store.engine import Store
from inboxd.store.rows import Condition, columns_of, in_span, record_of, rows_in
from inboxd.store.schema import ATTACHMENTS, MESSAGES, RAW_MESSAGES, SENT, UPLOADS

# An upload may have tens of megabytes, and the one who deletes holds the writer.
_ROWS_AT_ONCE: Final = 100
_OF_MESSAGE: Final = select(MESSAGES.c.id).where(MESSAGES.c.seq == ATTACHMENTS.c.message_seq).scalar_subquery()
_LISTED: Final = (*ATTACHMENTS.c, _OF_MESSAGE.label("of_message"))


async def add_upload(store: Store, attachment: Attachment, raw: bytes) -> None:
    """Keep an attachment of no mail yet, with its bytes."""
    row = columns_of(attachment) | {"created_at": utc_now()}

    async def work(connection: AsyncConnection) -> None:
        insert = ATTACHMENTS.insert().values(row).returning(ATTACHMENTS.c.seq)
        seq = (await connection.execute(insert)).scalar_one()
        await connection.execute(UPLOADS.insert().values(seq=seq, raw=raw))

    await store.write(work)


async def get(store: Store, attachment_id: AttachmentId) -> KeptAttachment:
    """The attachment without its bytes, or NotFound."""

    async def look(connection: AsyncConnection) -> KeptAttachment:
        return _kept(await _row(connection, select(*_LISTED), attachment_id))

    return await store.read(look)


async def content(store: Store, attachment_id: AttachmentId) -> tuple[KeptAttachment, bytes]:
    """The attachment and the bytes it is kept in: an upload's own, else those of the whole mail. NotFound."""
    wanted = (
        select(*_LISTED, UPLOADS.c.seq.is_not(None).label("uploaded"))
        .select_from(ATTACHMENTS)
        .outerjoin(UPLOADS, UPLOADS.c.seq == ATTACHMENTS.c.seq)
    )

    async def look(connection: AsyncConnection) -> tuple[KeptAttachment, bytes]:
        row = await _row(connection, wanted, attachment_id)
        table, seq = (UPLOADS, row["seq"]) if row["uploaded"] else (RAW_MESSAGES, row["message_seq"])
        return _kept(row), await large.read(connection, table, seq)

    return await store.read(look)


async def page(store: Store, chosen: AttachmentFilter, window: Window) -> Page[KeptAttachment]:
    """One page of the chosen attachments; those to be included are so whatever the window's time span."""

    async def look(connection: AsyncConnection) -> Page[KeptAttachment]:
        sent_ids = await _attached_to(connection, chosen.sent_id)
        wanted = and_(true(), *in_span(ATTACHMENTS, window), *_conditions(chosen, sent_ids))
        if chosen.include:
            wanted = or_(wanted, ATTACHMENTS.c.id.in_(chosen.include))
        unspanned = replace(window, since=None, before=None)
        rows, total = await rows_in(connection, ATTACHMENTS, unspanned, [wanted], columns=_LISTED)
        return Page(tuple(map(_kept, rows)), total)

    return await store.read(look)


async def remove(store: Store, attachment_id: AttachmentId) -> None:
    """Delete the attachment; NotFound. A mail no longer names it, but keeps the bytes it came in."""

    async def work(connection: AsyncConnection) -> None:
        gone = delete(ATTACHMENTS).where(ATTACHMENTS.c.id == attachment_id)
        if (await connection.execute(gone)).rowcount == 0:
            raise _nothing(attachment_id)

    await store.write(work)


async def remove_all(store: Store) -> int:
    """Delete every attachment that is there now, as `remove` does; how many those were. Others may write meanwhile."""

    async def newest(connection: AsyncConnection) -> int | None:
        return (await connection.execute(select(func.max(ATTACHMENTS.c.seq)))).scalar()

    last = await store.read(newest) or 0
    some = select(ATTACHMENTS.c.seq).where(ATTACHMENTS.c.seq <= last).order_by(ATTACHMENTS.c.seq).limit(_ROWS_AT_ONCE)

    async def work(connection: AsyncConnection) -> int:
        return (await connection.execute(delete(ATTACHMENTS).where(ATTACHMENTS.c.seq.in_(some)))).rowcount

    total = 0
    while gone := await store.write(work):
        total += gone
    return total


async def _row(
    connection: AsyncConnection, wanted: Select[*tuple[Any, ...]], attachment_id: AttachmentId
) -> RowMapping:
    row = (await connection.execute(wanted.where(ATTACHMENTS.c.id == attachment_id))).mappings().first()
    if row is None:
        raise _nothing(attachment_id)
    return row


def _nothing(attachment_id: AttachmentId) -> NotFound:
    return NotFound(f"there is no attachment {attachment_id}")


def _kept(row: RowMapping) -> KeptAttachment:
    return KeptAttachment(record_of(Attachment, row), row["created_at"], row["inbox_id"], row["of_message"])


def _conditions(chosen: AttachmentFilter, sent_ids: list[UUID] | None) -> Iterator[Condition]:
    if chosen.name is not None:
        yield ATTACHMENTS.c.name.icontains(chosen.name, autoescape=True)
    if chosen.inbox_id is not None:
        yield ATTACHMENTS.c.inbox_id == chosen.inbox_id
    if chosen.message_id is not None:
        message = select(MESSAGES.c.seq).where(MESSAGES.c.id == chosen.message_id)
        yield ATTACHMENTS.c.message_seq == message.scalar_subquery()
    if sent_ids is not None:
        yield ATTACHMENTS.c.id.in_(sent_ids)


async def _attached_to(connection: AsyncConnection, sent_id: SentId | None) -> list[UUID] | None:
    """The ids that the sent mail names; None when none is asked for."""
    if sent_id is None:
        return None
    named = (await connection.execute(select(SENT.c.attachments).where(SENT.c.id == sent_id))).scalar()
    return [UUID(one) for one in named or ()]
