"""Marks of messages, and deleting many of them: all that was there, nothing that comes meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from uuid import uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.mails import Digest
from inboxd.model import InboxId, MessageFilter, MessageId, Window
from inboxd.store import connectors, marks, messages
from inboxd.store.engine import Store, open_store
from inboxd.store.schema import ATTACHMENTS, RAW_MESSAGES, TOMBSTONES
from servers.stores import Linked, add_mails, link, make_attachment, make_incoming, renumbered, stored_uids

EVERY = MessageFilter()
UNREAD = MessageFilter(unread_only=True)
# More than two slices of marking; more than three of deleting.
MANY = 2_300
SLICES = range(1, 701)


async def test_a_favourite_is_marked_and_found(store: Store, linked: Linked) -> None:
    outcome = await add_mails(store, linked, 1, 2)
    chosen = outcome.stored[1].id
    assert await marks.set_favourite(store, chosen, favourite=True) == linked.inbox.id
    marked = await messages.get(store, chosen)
    assert (marked.favourite, marked.updated_at > marked.created_at) == (True, True)
    assert (await messages.page(store, MessageFilter(favourite_only=True), Window())).rows == (marked,)
    await marks.set_favourite(store, chosen, favourite=False)
    assert await messages.count(store, MessageFilter(favourite_only=True)) == 0
    with pytest.raises(NotFound, match="there is no message"):
        await marks.set_favourite(store, MessageId(uuid4()), favourite=True)


async def test_all_mails_are_marked_read_and_unread_again(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    await add_mails(store, linked, *range(1, MANY + 1))
    await add_mails(store, other, 1, 2, 3)
    assert await marks.mark_all_read(store, True, linked.inbox.id) == Counter({linked.inbox.id: MANY})
    assert await messages.count(store, UNREAD) == 3
    assert await marks.mark_all_read(store, True) == Counter({other.inbox.id: 3})
    assert await messages.count(store, UNREAD) == 0
    assert await marks.mark_all_read(store, True) == Counter()
    assert (await marks.mark_all_read(store, False)).total() == MANY + 3
    assert await messages.count(store, UNREAD) == MANY + 3
    assert await marks.mark_all_read(store, True, InboxId(uuid4())) == Counter()


async def test_marking_leaves_those_that_were_marked_before_untouched(store: Store, linked: Linked) -> None:
    outcome = await add_mails(store, linked, 1, 2)
    before = await messages.mark_read(store, outcome.stored[0].id, read=True)
    await marks.mark_all_read(store, True)
    assert await messages.get(store, before.id) == before


async def test_removed_mails_leave_nothing_and_do_not_come_back(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    batch = [make_incoming(uid, None, Digest(attachments=(make_attachment(0),))) for uid in range(1, 451)]
    await messages.add_batch(store, linked.place, linked.inbox.id, batch)
    await add_mails(store, other, 1)
    assert await marks.remove_all(store, linked.inbox.id) == Counter({linked.inbox.id: 450})
    assert (await messages.count(store, EVERY), await counted(store)) == (1, (450, 1, 0))
    again = await messages.add_batch(store, linked.place, linked.inbox.id, batch)
    assert (again.stored, again.known) == ((), 450)
    moved = [make_incoming(uid + 1000, bytes(one.fetched.raw)) for uid, one in enumerate(batch)]
    after = await messages.add_batch(store, renumbered(linked.place), linked.inbox.id, moved)
    assert (after.stored, after.remapped) == ((), 450)


async def test_removing_everything_reaches_every_inbox_and_mails_without_a_connector(
    store: Store, linked: Linked
) -> None:
    other = await link(store, "other")
    await add_mails(store, linked, 1, 2)
    await add_mails(store, other, 1)
    await connectors.remove(store, other.connector.id)
    assert await marks.remove_all(store) == Counter({linked.inbox.id: 2, other.inbox.id: 1})
    assert await counted(store) == (2, 0, 0)
    assert await marks.remove_all(store) == Counter()


async def test_removing_keeps_to_its_time_span(store: Store, linked: Linked) -> None:
    moments: list[datetime] = []
    for uid in (1, 2, 3, 4):
        outcome = await add_mails(store, linked, uid)
        moments.append((await messages.get(store, outcome.stored[0].id)).created_at)
    await marks.remove_all(store, since=moments[1], before=moments[2])
    assert await stored_uids(store) == [1, 3, 4]
    await marks.remove_all(store, before=moments[2])
    assert await stored_uids(store) == [3, 4]
    await marks.remove_all(store, linked.inbox.id, since=moments[3])
    assert await stored_uids(store) == [3]


async def test_many_mails_are_changed_in_many_transactions(store_url: str) -> None:
    transactions: list[float] = []
    async with open_store(store_url, observe=transactions.append) as store:
        linked = await link(store)
        await add_mails(store, linked, *range(1, MANY + 1))
        for change, slices in ((marks.mark_all_read(store, True), 3), (marks.remove_all(store), 12)):
            transactions.clear()
            await change
            assert len(transactions) >= slices


async def test_mails_that_come_meanwhile_are_left_alone(store: Store, linked: Linked) -> None:
    await add_mails(store, linked, *SLICES)
    async with asyncio.TaskGroup() as group:
        removing = group.create_task(marks.remove_all(store))
        while await messages.count(store, EVERY) == len(SLICES):
            pass
        await add_mails(store, linked, 9_999)
    assert removing.result() == Counter({linked.inbox.id: len(SLICES)})
    assert await stored_uids(store) == [9_999]


async def counted(store: Store) -> tuple[int, int, int]:
    """How many tombstones, raw mails and attachments there are."""

    async def look(connection: AsyncConnection) -> tuple[int, int, int]:
        graves, raws, parts = [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in (TOMBSTONES, RAW_MESSAGES, ATTACHMENTS)
        ]
        return graves, raws, parts

    return await store.read(look)
