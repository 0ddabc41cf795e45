"""Batches, cursors, renumbered mailboxes, tombstones, lists of messages."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import pytest
from sqlalchemy import delete, event, select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import Conflict, NotFound
from inboxd.mails import Address, Attachment, Cursor, Digest, Incoming, Message, Outcome, Place
from inboxd.model import (
    AttachmentId,
    ConnectorId,
    EventId,
    EventStatus,
    EventType,
    InboxId,
    MessageFilter,
    MessageId,
    Window,
    utc_now,
)
from inboxd.store import connectors, events, inboxes, messages
from inboxd.store.engine import Store
from inboxd.store.schema import ATTACHMENTS, MESSAGES, RAW_MESSAGES, TOMBSTONES
from servers.stores import MORNING, Linked, link, make_incoming

EVERY = MessageFilter()
ALL = Window(size=1000)


async def add(store: Store, linked: Linked, *uids: int) -> Outcome:
    return await messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(uid) for uid in uids])


async def stored_uids(store: Store) -> list[int | None]:
    return [message.uid for message in (await messages.page(store, EVERY, ALL)).rows]


def renumbered(place: Place, by: int = 1) -> Place:
    return replace(place, uidvalidity=place.uidvalidity + by)


def attachment(position: int) -> Attachment:
    return Attachment(
        AttachmentId(uuid4()), position, f"paper {position}.pdf", "application/pdf", 10 + position, "<c@x>"
    )


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
        attachments=(attachment(0), attachment(1)),
    )
    raw = bytes(range(256)) * 50
    before = utc_now()
    outcome = await messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(7, raw, digest)])
    after = utc_now()
    (stored,) = outcome.stored
    assert (stored.uid, stored.size_bytes, outcome.remapped, outcome.known) == (7, len(raw), 0, 0)
    message = await messages.get(store, stored.id)
    assert before <= message.created_at <= after
    assert message == Message(
        id=stored.id,
        inbox_id=linked.inbox.id,
        connector_id=linked.connector.id,
        created_at=message.created_at,
        updated_at=message.created_at,
        received_at=MORNING,
        mailbox="INBOX",
        uid=7,
        read=False,
        favourite=False,
        size_bytes=len(raw),
        digest=digest,
    )
    content = await messages.raw(store, stored.id)
    assert type(content) is bytes
    assert content == raw
    assert (await messages.page(store, EVERY, ALL)).rows == (message,)


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
        attachments=(replace(attachment(0), name=nasty),),
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
    await add(store, linked, 1, 2)
    again = await add(store, linked, 2, 3, 3)
    assert ([one.uid for one in again.stored], again.known) == ([3], 2)
    assert await stored_uids(store) == [1, 2, 3]


async def test_same_uid_of_another_mailbox_or_connector_is_another_message(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    await add(store, linked, 1)
    elsewhere = replace(linked.place, mailbox="Archive")
    for place in (elsewhere, other.place):
        outcome = await messages.add_batch(store, place, linked.inbox.id, [make_incoming(1)])
        assert len(outcome.stored) == 1


async def test_large_batch_is_stored_in_order(store: Store, linked: Linked) -> None:
    uids = list(range(1, 1301))
    first = await add(store, linked, *uids)
    assert [one.uid for one in first.stored] == uids
    assert (await add(store, linked, *uids)).known == len(uids)
    assert await stored_uids(store) == uids[:1000]
    moved = [make_incoming(10_000 + uid, b"Subject: mail %d\r\n\r\nbody %d\r\n" % (uid, uid)) for uid in uids]
    outcome = await messages.add_batch(store, renumbered(linked.place), linked.inbox.id, moved)
    assert (outcome.stored, outcome.remapped) == ((), len(uids))


async def test_batch_is_all_or_nothing(store: Store, linked: Linked) -> None:
    twice = attachment(0)
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
        await add(store, linked, 1)
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
    outcome = await add(store, linked, 1, 2, 3, 4)
    await messages.remove(store, outcome.stored[2].id)
    assert await messages.considered(store, linked.place, 0) == {1, 2, 3, 4}
    assert await messages.considered(store, linked.place, 2) == {3, 4}
    assert await messages.considered(store, renumbered(linked.place), 0) == set()


async def test_removed_message_does_not_come_back(store: Store, linked: Linked) -> None:
    incoming = make_incoming(1, b"x", Digest(attachments=(attachment(0),)))
    outcome = await messages.add_batch(store, linked.place, linked.inbox.id, [incoming])
    gone = outcome.stored[0].id
    await messages.remove(store, gone)
    for look in (messages.get, messages.raw, messages.remove):
        with pytest.raises(NotFound, match=f"there is no message {gone}"):
            await look(store, gone)
    again = await messages.add_batch(store, linked.place, linked.inbox.id, [incoming])
    assert (again.stored, again.known) == ((), 1)
    assert await messages.count(store, EVERY) == 0

    async def left(connection: AsyncConnection) -> list[int]:
        return [len((await connection.execute(select(table))).all()) for table in (RAW_MESSAGES, ATTACHMENTS)]

    assert await store.read(left) == [0, 0]


async def test_renumbered_mailbox_gives_old_messages_new_uids(store: Store, linked: Linked) -> None:
    first = await add(store, linked, 1, 2, 3)
    new = renumbered(linked.place)
    batch = [_renamed(make_incoming(uid), uid + 100) for uid in (1, 2, 3)] + [make_incoming(104)]
    outcome = await messages.add_batch(store, new, linked.inbox.id, batch, last_uid=104)
    assert ([one.uid for one in outcome.stored], outcome.remapped, outcome.known) == ([104], 3, 0)
    assert await stored_uids(store) == [101, 102, 103, 104]
    assert (await messages.get(store, first.stored[0].id)).uid == 101
    assert await messages.considered(store, new, 0) == {101, 102, 103, 104}
    assert await messages.considered(store, linked.place, 0) == set()
    again = await messages.add_batch(store, new, linked.inbox.id, batch)
    assert (again.stored, again.remapped, again.known) == ((), 0, 4)


async def test_renumbering_works_when_uidvalidity_goes_down(store: Store, linked: Linked) -> None:
    await add(store, linked, 5)
    lower = renumbered(linked.place, -1)
    outcome = await messages.add_batch(store, lower, linked.inbox.id, [_renamed(make_incoming(5), 1)])
    assert (outcome.stored, outcome.remapped) == ((), 1)


async def test_renumbering_uses_each_old_message_once(store: Store, linked: Linked) -> None:
    twins = [make_incoming(uid, b"twin") for uid in (1, 2)]
    first = await messages.add_batch(store, linked.place, linked.inbox.id, twins)
    triplets = [make_incoming(uid, b"twin") for uid in (11, 12, 13)]
    outcome = await messages.add_batch(store, renumbered(linked.place), linked.inbox.id, triplets)
    assert ([one.uid for one in outcome.stored], outcome.remapped) == ([13], 2)
    assert [(await messages.get(store, one.id)).uid for one in first.stored] == [11, 12]


async def test_same_bytes_within_an_incarnation_are_two_messages(store: Store, linked: Linked) -> None:
    for uid in (1, 2):
        await messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(uid, b"twin")])
    await messages.add_batch(store, renumbered(linked.place), linked.inbox.id, [make_incoming(1, b"twin")])
    outcome = await messages.add_batch(store, renumbered(linked.place), linked.inbox.id, [make_incoming(2, b"twin")])
    assert outcome.remapped == 1
    assert await messages.count(store, EVERY) == 2


async def test_renumbering_stays_within_its_mailbox_and_connector(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    await messages.add_batch(store, replace(linked.place, mailbox="Archive"), linked.inbox.id, [make_incoming(1)])
    await add(store, other, 1)
    outcome = await messages.add_batch(store, renumbered(linked.place), linked.inbox.id, [make_incoming(1)])
    assert (len(outcome.stored), outcome.remapped) == (1, 0)


async def test_removed_message_stays_removed_when_its_mailbox_is_renumbered(store: Store, linked: Linked) -> None:
    first = await add(store, linked, 1, 2)
    await messages.remove(store, first.stored[0].id)
    new = renumbered(linked.place)
    batch = [_renamed(make_incoming(uid), uid + 10) for uid in (1, 2)]
    outcome = await messages.add_batch(store, new, linked.inbox.id, batch)
    assert (outcome.stored, outcome.remapped) == ((), 2)
    assert await stored_uids(store) == [12]
    assert await messages.considered(store, new, 0) == {11, 12}
    again = await messages.add_batch(store, new, linked.inbox.id, batch)
    assert (again.stored, again.remapped, again.known) == ((), 0, 2)


async def test_old_messages_are_looked_for_only_after_a_renumbering(store: Store, linked: Linked) -> None:
    statements: list[str] = []

    def note(_c: object, _u: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    async def listen(connection: AsyncConnection) -> None:
        event.listen(connection.sync_engine, "before_cursor_execute", note)

    await add(store, linked, 1)
    await store.write(listen)
    await add(store, linked, *range(2, 102))
    assert not [one for one in statements if "content_hash IN" in one]
    assert 0 < len(statements) <= 6


async def test_pages_follow_arrival_in_either_order_without_gaps(store: Store, linked: Linked) -> None:
    for start in (1, 11, 21):
        await add(store, linked, *range(start, start + 5))
    uids = [*range(1, 6), *range(11, 16), *range(21, 26)]
    for ascending, expected in ((True, uids), (False, uids[::-1])):
        seen: list[int | None] = []
        for number in range(5):
            page = await messages.page(store, EVERY, Window(page=number, size=4, ascending=ascending))
            assert page.total == 15
            seen += [message.uid for message in page.rows]
        assert seen == expected


async def test_window_takes_its_first_moment_and_leaves_its_last(store: Store, linked: Linked) -> None:
    moments: list[datetime] = []
    for uid in (1, 2, 3):
        outcome = await add(store, linked, uid)
        moments.append((await messages.get(store, outcome.stored[0].id)).created_at)
    page = await messages.page(store, EVERY, Window(since=moments[1]))
    assert ([one.uid for one in page.rows], page.total) == ([2, 3], 2)
    page = await messages.page(store, EVERY, Window(before=moments[1]))
    assert ([one.uid for one in page.rows], page.total) == ([1], 1)
    page = await messages.page(store, EVERY, Window(since=moments[1], before=moments[2]))
    assert [one.uid for one in page.rows] == [2]


async def test_nth_counts_in_the_order_of_its_window(store: Store, linked: Linked) -> None:
    await add(store, linked, 1, 2, 3)
    oldest, newest = Window(page=7, size=1), Window(page=7, size=1, ascending=False)
    for window, index, expected in ((oldest, 0, 1), (oldest, 2, 3), (newest, 0, 3), (newest, 2, 1)):
        message = await messages.nth(store, EVERY, window, index)
        assert message is not None
        assert message.uid == expected
    assert await messages.nth(store, EVERY, oldest, 3) is None
    assert await messages.nth(store, EVERY, Window(since=utc_now()), 0) is None


async def test_filter_by_inboxes(store: Store, linked: Linked) -> None:
    other, third = await link(store, "other"), await link(store, "third")
    for one, uid in ((linked, 1), (other, 2), (third, 3)):
        await add(store, one, uid)
    chosen = MessageFilter(inbox_ids=(other.inbox.id, third.inbox.id))
    assert [one.uid for one in (await messages.page(store, chosen, ALL)).rows] == [2, 3]
    assert await messages.count(store, chosen) == 2
    assert await messages.count(store, MessageFilter(inbox_ids=(InboxId(uuid4()),))) == 0


async def test_marking_read_shows_in_the_message_and_the_filter(store: Store, linked: Linked) -> None:
    outcome = await add(store, linked, 1, 2)
    marked = await messages.mark_read(store, outcome.stored[0].id, read=True)
    assert marked.read
    assert marked.updated_at > marked.created_at
    assert marked == await messages.get(store, marked.id)
    unread = MessageFilter(unread_only=True)
    assert [one.uid for one in (await messages.page(store, unread, ALL)).rows] == [2]
    assert not (await messages.mark_read(store, marked.id, read=False)).read
    assert await messages.count(store, unread) == 2
    with pytest.raises(NotFound):
        await messages.mark_read(store, MessageId(uuid4()), read=True)


async def test_favourites_filter(store: Store, linked: Linked) -> None:
    outcome = await add(store, linked, 1, 2)

    async def favour(connection: AsyncConnection) -> None:
        await connection.execute(MESSAGES.update().where(MESSAGES.c.id == outcome.stored[1].id).values(favourite=True))

    await store.write(favour)
    assert [one.uid for one in (await messages.page(store, MessageFilter(favourite_only=True), ALL)).rows] == [2]


SEARCHES = {
    "quarterly": True,
    "QUARTERLY REPORT": True,
    "größe": True,
    "GRÖSSE": True,
    "zoe@example": True,
    "Zoë <ZOE@": True,
    "to@example.com": True,
    "copy@example.com": True,
    "blind@example.com": True,
    "100%": True,
    "1%0": False,
    "under_score": True,
    "under-score": False,
    "u_der": False,
    "back\\slash": True,
    "sla/sh": True,
    "the body": False,
    "nul\0": False,
    "": True,
}


async def test_search_looks_at_people_and_subject_in_any_case(store: Store, linked: Linked) -> None:
    digest = Digest(
        subject="Quarterly report, Größe 100% under_score back\\slash sla/sh",
        sender=Address("x", "zoe@example.com", "Zoë"),
        to=(Address("to@example.com", "to@example.com"),),
        cc=(Address("copy@example.com", "copy@example.com"),),
        bcc=(Address("blind@example.com", "blind@example.com"),),
        excerpt="the body",
    )
    await messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(1, b"x", digest)])
    found = {search: await messages.count(store, MessageFilter(search=search)) == 1 for search in SEARCHES}
    assert found == SEARCHES


async def test_search_finds_an_id(store: Store, linked: Linked) -> None:
    outcome = await add(store, linked, 1, 2)
    page = await messages.page(store, MessageFilter(search=str(outcome.stored[1].id).upper()), ALL)
    assert [one.uid for one in page.rows] == [2]


async def test_removing_an_inbox_keeps_tombstones_for_a_connector_that_moved_on(store: Store, linked: Linked) -> None:
    await add(store, linked, 1, 2)
    new_home = await link(store, "other")
    await connectors.update(store, replace(linked.connector, inbox_id=new_home.inbox.id))
    await inboxes.remove(store, linked.inbox.id)
    assert await messages.count(store, EVERY) == 0
    outcome = await messages.add_batch(store, linked.place, new_home.inbox.id, [make_incoming(1), make_incoming(3)])
    assert ([one.uid for one in outcome.stored], outcome.known) == ([3], 1)


async def test_message_without_a_connector_leaves_no_tombstone(store: Store, linked: Linked) -> None:
    outcome = await add(store, linked, 1)
    await connectors.remove(store, linked.connector.id)
    assert (await messages.get(store, outcome.stored[0].id)).connector_id is None
    await messages.remove(store, outcome.stored[0].id)

    async def graves(connection: AsyncConnection) -> int:
        return len((await connection.execute(select(TOMBSTONES))).all())

    assert await store.read(graves) == 0


async def test_numbers_of_removed_messages_are_not_used_again(store: Store, linked: Linked) -> None:
    async def highest(connection: AsyncConnection) -> int:
        return (await connection.execute(select(MESSAGES.c.seq).order_by(MESSAGES.c.seq.desc()))).scalars().all()[0]

    async def clear(connection: AsyncConnection) -> None:
        await connection.execute(delete(MESSAGES))

    await add(store, linked, 1, 2)
    before = await store.read(highest)
    await store.write(clear)
    await add(store, linked, 3)
    assert await store.read(highest) > before


async def test_unknown_connector_has_no_cursor(store: Store) -> None:
    assert await messages.cursor(store, ConnectorId(uuid4()), "INBOX") is None


def _renamed(incoming: Incoming, uid: int) -> Incoming:
    return replace(incoming, fetched=replace(incoming.fetched, uid=uid))
