"""Counts over all inboxes, and the mails beside one, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from inboxd.mails import Loaded, Place
from inboxd.model import MessageFilter, MessageId, Window, utc_now
from inboxd.store import cursors, marks, messages, neighbours, tallies
from inboxd.store.engine import Store
from servers.stores import Linked, link, make_incoming


async def _fill(store: Store, linked: Linked, count: int) -> list[MessageId]:
    made = await messages.add_batch(
        store, linked.place, linked.inbox.id, [make_incoming(uid) for uid in range(1, count + 1)], last_uid=count
    )
    return [one.id for one in made.stored]


async def test_inboxes_are_counted_each_by_itself(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    before = utc_now()
    ids = await _fill(store, linked, 3)
    await _fill(store, other, 1)
    await messages.mark_read(store, ids[0], read=True)
    found = await tallies.of_inboxes(store)
    assert {inbox: (one.messages, one.unread) for inbox, one in found.items()} == {
        linked.inbox.id: (3, 2),
        other.inbox.id: (1, 1),
    }
    newest = found[linked.inbox.id].newest_at
    assert newest is not None
    assert before - timedelta(seconds=1) <= newest <= utc_now()


async def test_mails_are_counted_by_the_hour_they_came_in(store: Store, linked: Linked) -> None:
    await _fill(store, linked, 3)
    now = utc_now() + timedelta(seconds=1)
    assert await tallies.by_hour(store, now, 24) == {linked.inbox.id: [0] * 23 + [3]}
    later = now + timedelta(hours=5)
    assert (await tallies.by_hour(store, later, 24))[linked.inbox.id] == [0] * 18 + [3] + [0] * 5
    assert await tallies.by_hour(store, now + timedelta(days=3), 24) == {}


async def test_what_first_loads_brought_did_not_come_today(store: Store, linked: Linked) -> None:
    sent, archive = (replace(linked.place, mailbox=name) for name in ("Sent", "Archive"))

    async def load(place: Place, *uids: int) -> None:
        await asyncio.sleep(0.01)  # its mails are as if created before it, a microsecond apart for each UID
        begun = await cursors.begin(store, place, top=max(uids))
        ready = messages.prepare(store, [make_incoming(uid) for uid in uids])
        whole, epoch = Loaded(0, max(uids) + 1), begun.backfill_epoch
        await messages.add_ready(store, place, linked.inbox.id, ready, loaded=whole, epoch=epoch)

    async def arrive(place: Place, uid: int) -> None:
        await messages.add_batch(store, place, linked.inbox.id, [make_incoming(uid)], last_uid=uid)

    await arrive(sent, 1)
    await load(linked.place, 1, 2, 3)
    await arrive(linked.place, 4)
    await load(archive, 7, 2_000)
    await arrive(archive, 2_001)
    other = await link(store, "other")
    await _fill(store, other, 2)
    now = utc_now() + timedelta(seconds=1)
    assert await tallies.by_hour(store, now, 24) == {linked.inbox.id: [0] * 23 + [3], other.inbox.id: [0] * 23 + [2]}
    assert (await tallies.by_hour(store, now + timedelta(hours=2), 24))[linked.inbox.id] == [0] * 21 + [3, 0, 0]
    assert await tallies.by_hour(store, now + timedelta(days=2), 24) == {}


async def test_mailboxes_say_how_far_they_are_read(store: Store, linked: Linked) -> None:
    await _fill(store, linked, 2)
    empty = replace(linked.place, mailbox="Archive")
    await messages.set_cursor(store, empty, 17)
    archive, inbox = await tallies.of_mailboxes(store, linked.connector.id)
    assert (archive.mailbox, archive.last_uid, archive.messages, archive.newest_at) == ("Archive", 17, 0, None)
    assert (inbox.mailbox, inbox.last_uid, inbox.messages, inbox.loading_below) == (linked.place.mailbox, 2, 2, None)
    assert inbox.newest_at is not None


async def test_size_of_the_store_is_known(store: Store) -> None:
    assert await tallies.store_bytes(store) > 10_000


async def test_mails_beside_one_are_those_of_the_same_list(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    ids = await _fill(store, linked, 4)
    await _fill(store, other, 2)
    for favourite in (ids[0], ids[1], ids[3]):
        await marks.set_favourite(store, favourite, favourite=True)
    chosen = MessageFilter((linked.inbox.id,), favourite_only=True)
    listed = [one.id for one in (await messages.page(store, chosen, Window(ascending=False))).rows]
    assert listed == [ids[3], ids[1], ids[0]]
    seen = [await neighbours.of(store, chosen, await messages.get(store, one)) for one in listed]
    assert seen == [(None, ids[1]), (ids[3], ids[0]), (ids[1], None)]
