"""Batches, cursors, what is kept of a message."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import Conflict, NotFound
from inboxd.mails import Address, Cursor, Digest, Message, Outcome, Place
from inboxd.model import (
    ConnectorId,
    EventId,
    EventStatus,
    EventType,
    InboxId,
    MessageFilter,
    Window,
    utc_now,
)
from inboxd.store import connectors, events, messages
from inboxd.store.engine import Store
from servers.stores import (
    MORNING,
    Linked,
    add_mails,
    link,
    make_attachment,
    make_incoming,
    renumbered,
    stored_uids,
)

EVERY = MessageFilter()
ALL = Window(size=1000)


async def test_batch_comes_back_as_it_was(store: Store, linked: Linked) -> None:
    digest = Digest(
        subject="Grüße 🎉",
        sender=Address("Zoë <zoe@example.com>", "zoe@example.com", "Zoë"),
        to=(Address("a@example.com", "a@example.com"), Address("B <b@example.com>", "b@example.com", "B")),
        cc=(Address("c@example.com", "c@example.com"),),
        bcc=(Address("d@example.com", "d@example.com"),),
        reply_to="reply@example.com",
        header_message_id="<1@example.com>",
        in_reply_to="<0@example.com>",
        date=datetime(2026, 5, 4, 8, 29, 59, tzinfo=UTC),
        excerpt="First words",
        part_types=("text/plain", "application/pdf"),
        attachments=(make_attachment(0), make_attachment(1)),
    )
    raw = bytes(range(256)) * 50
    before = utc_now()
    incoming = make_incoming(7, raw, digest)
    incoming = replace(incoming, fetched=replace(incoming.fetched, labels=("Inbox", "Réçus")))
    outcome = await messages.add_batch(store, linked.place, linked.inbox.id, [incoming])
    after = utc_now()
    (stored,) = outcome.stored
    assert (stored.uid, stored.size_bytes, outcome.remapped, outcome.known) == (7, len(raw), 0, 0)
    message = await messages.get(store, stored.id)
    assert before <= message.created_at <= after
    assert message == Message(
        id=stored.id,
        seq=message.seq,
        inbox_id=linked.inbox.id,
        connector_id=linked.connector.id,
        created_at=message.created_at,
        updated_at=message.created_at,
        received_at=MORNING,
        mailbox="INBOX",
        uidvalidity=linked.place.uidvalidity,
        uid=7,
        flags=("\\Seen",),
        read=False,
        favourite=False,
        size_bytes=len(raw),
        digest=digest,
        labels=("Inbox", "Réçus"),
    )
    content = await messages.raw(store, stored.id)
    assert type(content) is bytes
    assert content == raw
    assert (await messages.page(store, EVERY, ALL)).rows == (message,)


async def test_a_mail_stored_before_there_were_labels_has_none(store: Store, linked: Linked) -> None:
    outcome = await messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(1, b"x", Digest())])

    async def forget(connection: AsyncConnection) -> None:
        await connection.execute(text("UPDATE messages SET labels = NULL"))

    await store.write(forget)
    assert (await messages.get(store, outcome.stored[0].id)).labels == ()


@pytest.mark.parametrize("raw", [b"", bytearray(b"a\x00b"), bytearray(b"\xff" * 3_000_000)])
async def test_raw_bytes_are_kept_exactly(store: Store, linked: Linked, raw: bytes | bytearray) -> None:
    outcome = await messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(1, raw, Digest())])
    assert await messages.raw(store, outcome.stored[0].id) == raw


async def test_hostile_text_is_stored_with_replacement_characters(store: Store, linked: Linked) -> None:
    nasty = "nul \0 lone \ud83d high \udc80 pair \ud83d\ude00"
    neat = "nul \ufffd lone \ufffd high \ufffd pair 😀"
    digest = Digest(
        subject=nasty,
        sender=Address(nasty, nasty, nasty),
        to=(Address(nasty, nasty),),
        part_types=(nasty,),
        attachments=(replace(make_attachment(0), name=nasty),),
        defect=nasty,
        date=datetime.min.replace(tzinfo=UTC),
    )
    outcome = await messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(1, b"x", digest)])
    read = (await messages.get(store, outcome.stored[0].id)).digest
    assert (read.subject, read.sender, read.defect) == (neat, Address(neat, neat, neat), neat)
    assert (read.to, read.part_types, read.attachments[0].name) == ((Address(neat, neat),), (neat,), neat)


async def test_time_beyond_the_calendar_is_kept_at_its_edge(store: Store, linked: Linked) -> None:
    digest = Digest(date=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))))
    outcome = await messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(1, b"x", digest)])
    assert (await messages.get(store, outcome.stored[0].id)).digest.date == datetime.min.replace(tzinfo=UTC)


async def test_empty_batch_moves_only_the_cursor(store: Store, linked: Linked) -> None:
    event_id = EventId(uuid4())
    outcome = await messages.add_batch(store, linked.place, linked.inbox.id, [], last_uid=9, event_id=event_id)
    assert outcome == Outcome((), 0, 0)
    assert await messages.cursor(store, linked.connector.id, "INBOX") == Cursor(1000, 9)
    with pytest.raises(NotFound):
        await events.get(store, event_id)


async def test_uid_is_stored_once(store: Store, linked: Linked) -> None:
    await add_mails(store, linked, 1, 2)
    again = await add_mails(store, linked, 2, 3, 3)
    assert ([one.uid for one in again.stored], again.known) == ([3], 2)
    assert await stored_uids(store) == [1, 2, 3]


async def test_same_uid_of_another_mailbox_or_connector_is_another_message(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    await add_mails(store, linked, 1)
    elsewhere = replace(linked.place, mailbox="Archive")
    for place in (elsewhere, other.place):
        outcome = await messages.add_batch(store, place, linked.inbox.id, [make_incoming(1)])
        assert len(outcome.stored) == 1


async def test_large_batch_is_stored_in_order(store: Store, linked: Linked) -> None:
    uids = list(range(1, 1301))
    first = await add_mails(store, linked, *uids)
    assert [one.uid for one in first.stored] == uids
    assert (await add_mails(store, linked, *uids)).known == len(uids)
    assert await stored_uids(store) == uids[:1000]
    moved = [make_incoming(10_000 + uid, b"Subject: mail %d\r\n\r\nbody %d\r\n" % (uid, uid)) for uid in uids]
    outcome = await messages.add_batch(store, renumbered(linked.place), linked.inbox.id, moved)
    assert (outcome.stored, outcome.remapped) == ((), len(uids))


async def test_batch_is_all_or_nothing(store: Store, linked: Linked) -> None:
    twice = make_attachment(0)
    broken = make_incoming(2, b"x", Digest(attachments=(twice, twice)))
    with pytest.raises(Conflict):
        await messages.add_batch(
            store, linked.place, linked.inbox.id, [make_incoming(1), broken], last_uid=2, event_id=EventId(uuid4())
        )
    assert await messages.count(store, EVERY) == 0
    assert await messages.cursor(store, linked.connector.id, "INBOX") is None
    assert (await events.page(store, ALL)).total == 0


async def test_batch_of_a_removed_connector_is_not_found(store: Store, linked: Linked) -> None:
    await connectors.remove(store, linked.connector.id)
    with pytest.raises(NotFound, match="there is no connector"):
        await add_mails(store, linked, 1)
    with pytest.raises(NotFound, match="there is no connector"):
        await messages.set_cursor(store, linked.place, 1)


async def test_batch_for_a_removed_inbox_is_a_conflict(store: Store, linked: Linked) -> None:
    with pytest.raises(Conflict):
        await messages.add_batch(store, linked.place, InboxId(uuid4()), [make_incoming(1)])


async def test_cursor_never_moves_backwards_within_an_incarnation(store: Store, linked: Linked) -> None:
    assert await messages.cursor(store, linked.connector.id, "INBOX") is None
    for last_uid, expected in ((5, 5), (3, 5), (None, 5), (8, 8)):
        await messages.add_batch(store, linked.place, linked.inbox.id, [], last_uid=last_uid)
        assert await messages.cursor(store, linked.connector.id, "INBOX") == Cursor(1000, expected)
    await messages.add_batch(store, renumbered(linked.place), linked.inbox.id, [], last_uid=2)
    assert await messages.cursor(store, linked.connector.id, "INBOX") == Cursor(1001, 2)
    assert await messages.cursor(store, linked.connector.id, "Archive") is None


async def test_cursor_is_set_backwards_when_asked_to(store: Store, linked: Linked) -> None:
    await messages.set_cursor(store, linked.place, 50)
    await messages.set_cursor(store, linked.place, 0)
    assert await messages.cursor(store, linked.connector.id, "INBOX") == Cursor(1000, 0)
    largest = Place(linked.connector.id, "INBOX", 2**32 - 1)
    await messages.set_cursor(store, largest, 2**32 - 1)
    assert await messages.cursor(store, linked.connector.id, "INBOX") == Cursor(2**32 - 1, 2**32 - 1)


async def test_event_counts_the_mails_of_its_batches(store: Store, linked: Linked) -> None:
    event_id = EventId(uuid4())
    for uids in ((1, 2), (2,), (2, 3)):
        batch = [make_incoming(uid) for uid in uids]
        await messages.add_batch(store, linked.place, linked.inbox.id, batch, event_id=event_id)
    kept = await events.get(store, event_id)
    assert (kept.type, kept.status, kept.size) == (EventType.SYNC, EventStatus.SUCCESS, 3)
    assert kept.connector_id == linked.connector.id


async def test_considered_uids_are_the_stored_and_the_removed_above_a_mark(store: Store, linked: Linked) -> None:
    outcome = await add_mails(store, linked, 1, 2, 3, 4)
    await messages.remove(store, outcome.stored[2].id)
    assert set(await messages.considered(store, linked.place, 0)) == {1, 2, 3, 4}
    assert set(await messages.considered(store, linked.place, 2)) == {3, 4}
    assert set(await messages.considered(store, renumbered(linked.place), 0)) == set()


async def test_unknown_connector_has_no_cursor(store: Store) -> None:
    assert await messages.cursor(store, ConnectorId(uuid4()), "INBOX") is None
