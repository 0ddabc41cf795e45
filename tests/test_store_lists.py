"""Lists of messages: pages, windows, filters, search."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.mails import Address, Digest
from inboxd.model import (
    InboxId,
    MessageFilter,
    MessageId,
    Window,
    utc_now,
)
from inboxd.store import messages
from inboxd.store.engine import Store
from inboxd.store.schema import MESSAGES
from servers.stores import (
    Linked,
    add_mails,
    link,
    make_incoming,
)

EVERY = MessageFilter()
ALL = Window(size=1000)


async def test_pages_follow_arrival_in_either_order_without_gaps(store: Store, linked: Linked) -> None:
    for start in (1, 11, 21):
        await add_mails(store, linked, *range(start, start + 5))
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
        outcome = await add_mails(store, linked, uid)
        moments.append((await messages.get(store, outcome.stored[0].id)).created_at)
    page = await messages.page(store, EVERY, Window(since=moments[1]))
    assert ([one.uid for one in page.rows], page.total) == ([2, 3], 2)
    page = await messages.page(store, EVERY, Window(before=moments[1]))
    assert ([one.uid for one in page.rows], page.total) == ([1], 1)
    page = await messages.page(store, EVERY, Window(since=moments[1], before=moments[2]))
    assert [one.uid for one in page.rows] == [2]


async def test_nth_counts_in_the_order_of_its_window(store: Store, linked: Linked) -> None:
    await add_mails(store, linked, 1, 2, 3)
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
        await add_mails(store, one, uid)
    chosen = MessageFilter(inbox_ids=(other.inbox.id, third.inbox.id))
    assert [one.uid for one in (await messages.page(store, chosen, ALL)).rows] == [2, 3]
    assert await messages.count(store, chosen) == 2
    assert await messages.count(store, MessageFilter(inbox_ids=(InboxId(uuid4()),))) == 0


async def test_marking_read_shows_in_the_message_and_the_filter(store: Store, linked: Linked) -> None:
    outcome = await add_mails(store, linked, 1, 2)
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
    outcome = await add_mails(store, linked, 1, 2)

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
    outcome = await add_mails(store, linked, 1, 2)
    page = await messages.page(store, MessageFilter(search=str(outcome.stored[1].id).upper()), ALL)
    assert [one.uid for one in page.rows] == [2]
