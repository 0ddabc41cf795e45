"""Attachments of mails and uploads in one table: kept, listed, deleted."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.mails import Attachment, Digest, KeptAttachment
from inboxd.model import AttachmentFilter, AttachmentId, InboxId, MessageId, SentId, Window, utc_now
from inboxd.store import attachments, inboxes, messages, sent
from inboxd.store.engine import Store
from inboxd.store.schema import ATTACHMENTS, UPLOADS
from servers.stores import Linked, link, make_attachment, make_incoming, make_sent

EVERY = AttachmentFilter()
ALL = Window(size=1000)


async def attach(store: Store, linked: Linked, uid: int, *parts: Attachment, raw: bytes | None = None) -> MessageId:
    incoming = make_incoming(uid, raw, Digest(attachments=parts))
    outcome = await messages.add_batch(store, linked.place, linked.inbox.id, [incoming])
    return outcome.stored[0].id


async def upload(store: Store, position: int = 0, raw: bytes = b"bytes") -> Attachment:
    made = replace(make_attachment(position), position=0)
    await attachments.add_upload(store, made, raw)
    return made


async def listed(store: Store, chosen: AttachmentFilter = EVERY, window: Window = ALL) -> list[AttachmentId]:
    page = await attachments.page(store, chosen, window)
    assert page.total >= len(page.rows)
    return [kept.attachment.id for kept in page.rows]


async def rows(store: Store) -> tuple[int, int]:
    async def look(connection: AsyncConnection) -> tuple[int, int]:
        first, second = [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in (ATTACHMENTS, UPLOADS)
        ]
        return first, second

    return await store.read(look)


@pytest.mark.parametrize("raw", [b"x", bytes(range(256)) * 4_000])
async def test_an_upload_comes_back_as_it_was(store: Store, raw: bytes) -> None:
    before = utc_now()
    made = await upload(store, raw=raw)
    kept = await attachments.get(store, made.id)
    assert before <= kept.created_at <= utc_now()
    assert kept == KeptAttachment(made, kept.created_at, inbox_id=None, message_id=None)
    assert await attachments.content(store, made.id) == (kept, raw)


async def test_a_part_of_a_mail_names_its_mail_and_has_its_bytes(store: Store, linked: Linked) -> None:
    part = make_attachment(1)
    message_id = await attach(store, linked, 1, make_attachment(0), part, raw=b"the mail")
    created_at = (await messages.get(store, message_id)).created_at
    kept = KeptAttachment(part, created_at, linked.inbox.id, message_id)
    assert await attachments.get(store, part.id) == kept
    assert await attachments.content(store, part.id) == (kept, b"the mail")


async def test_an_unknown_attachment_is_not_found(store: Store) -> None:
    nothing = AttachmentId(uuid4())
    for look in (attachments.get, attachments.content, attachments.remove):
        with pytest.raises(NotFound, match=f"there is no attachment {nothing}"):
            await look(store, nothing)


async def test_uploads_and_parts_are_listed_together_in_order(store: Store, linked: Linked) -> None:
    first = await upload(store)
    parts = (make_attachment(0), make_attachment(1))
    message_id = await attach(store, linked, 1, *parts)
    last = await upload(store)
    ids = [first.id, parts[0].id, parts[1].id, last.id]
    assert await listed(store) == ids
    assert await listed(store, window=Window(page=1, size=3, ascending=False)) == ids[:1]
    page = await attachments.page(store, EVERY, Window(size=2))
    assert ([kept.message_id for kept in page.rows], page.total) == ([None, message_id], 4)
    moment = (await attachments.get(store, parts[0].id)).created_at
    assert await listed(store, window=Window(since=moment)) == ids[1:]
    assert await listed(store, window=Window(before=moment)) == ids[:1]


async def test_filters_choose_by_name_inbox_mail_and_sent_mail(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    named = [
        replace(make_attachment(at), name=name) for at, name in enumerate(("Bill_1.PDF", "bill%2.pdf", "BiLLs.zip"))
    ]
    first = await attach(store, linked, 1, named[0])
    await attach(store, linked, 2, named[1])
    await attach(store, other, 1, named[2])
    extra = await upload(store)
    gone = make_sent(linked)
    await sent.add(store, replace(gone, attachments=(str(extra.id), str(named[0].id), str(uuid4()))), b"raw")
    ids = [attachment.id for attachment in named]
    for chosen, expected in (
        (AttachmentFilter(name="BILL"), ids),
        (AttachmentFilter(name="l_1"), ids[:1]),
        (AttachmentFilter(name="%"), ids[1:2]),
        (AttachmentFilter(inbox_id=linked.inbox.id), ids[:2]),
        (AttachmentFilter(inbox_id=linked.inbox.id, name="2"), ids[1:2]),
        (AttachmentFilter(message_id=first), ids[:1]),
        (AttachmentFilter(sent_id=gone.id), [ids[0], extra.id]),
        (AttachmentFilter(inbox_id=InboxId(uuid4())), []),
        (AttachmentFilter(message_id=MessageId(uuid4())), []),
        (AttachmentFilter(sent_id=SentId(uuid4())), []),
    ):
        assert await listed(store, chosen) == expected, chosen
        assert (await attachments.page(store, chosen, Window(size=1))).total == len(expected)


async def test_what_is_to_be_included_is_listed_once_whatever_else_is_asked(store: Store, linked: Linked) -> None:
    part = make_attachment(0)
    await attach(store, linked, 1, part)
    extra = await upload(store)
    chosen = AttachmentFilter(inbox_id=linked.inbox.id, include=(extra.id, part.id, AttachmentId(uuid4())))
    assert await listed(store, chosen) == [part.id, extra.id]
    assert await listed(store, replace(chosen, name="nowhere"), Window(since=utc_now())) == [part.id, extra.id]


async def test_a_deleted_part_leaves_its_mail_and_the_other_parts(store: Store, linked: Linked) -> None:
    parts = (make_attachment(0), make_attachment(1))
    message_id = await attach(store, linked, 1, *parts, raw=b"the mail")
    await attachments.remove(store, parts[0].id)
    assert (await messages.get(store, message_id)).digest.attachments == parts[1:]
    assert await messages.raw(store, message_id) == b"the mail"
    with pytest.raises(NotFound):
        await attachments.remove(store, parts[0].id)


async def test_a_deleted_upload_takes_its_bytes_along(store: Store) -> None:
    made = await upload(store)
    await attachments.remove(store, made.id)
    assert await rows(store) == (0, 0)


async def test_everything_is_deleted_in_slices(store: Store, linked: Linked) -> None:
    message_id = await attach(store, linked, 1, *(make_attachment(at) for at in range(230)))
    await upload(store)
    assert await attachments.remove_all(store) == 231
    assert await rows(store) == (0, 0)
    assert (await messages.get(store, message_id)).digest.attachments == ()
    assert await attachments.remove_all(store) == 0


async def test_a_removed_mail_takes_its_parts_along_and_leaves_uploads(store: Store, linked: Linked) -> None:
    message_id = await attach(store, linked, 1, make_attachment(0))
    made = await upload(store)
    await messages.remove(store, message_id)
    assert await listed(store) == [made.id]
    assert (await inboxes.get(store, linked.inbox.id)).id == linked.inbox.id
