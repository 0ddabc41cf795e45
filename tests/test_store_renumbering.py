"""Renumbered mailboxes and tombstones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import delete, event, select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.mails import Digest, Incoming
from inboxd.model import (
    MessageFilter,
    Window,
)
from inboxd.store import connectors, inboxes, messages
from inboxd.store.engine import Store
from inboxd.store.schema import ATTACHMENTS, MESSAGES, RAW_MESSAGES, TOMBSTONES
from servers.stores import (
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


async def test_removed_message_does_not_come_back(store: Store, linked: Linked) -> None:
    incoming = make_incoming(1, b"x", Digest(attachments=(make_attachment(0),)))
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
    first = await add_mails(store, linked, 1, 2, 3)
    new = renumbered(linked.place)
    batch = [_renamed(make_incoming(uid), uid + 100) for uid in (1, 2, 3)] + [make_incoming(104)]
    outcome = await messages.add_batch(store, new, linked.inbox.id, batch, last_uid=104)
    assert ([one.uid for one in outcome.stored], outcome.remapped, outcome.known) == ([104], 3, 0)
    assert await stored_uids(store) == [101, 102, 103, 104]
    assert (await messages.get(store, first.stored[0].id)).uid == 101
    assert set(await messages.considered(store, new, 0)) == {101, 102, 103, 104}
    assert set(await messages.considered(store, linked.place, 0)) == set()
    again = await messages.add_batch(store, new, linked.inbox.id, batch)
    assert (again.stored, again.remapped, again.known) == ((), 0, 4)


async def test_renumbering_works_when_uidvalidity_goes_down(store: Store, linked: Linked) -> None:
    await add_mails(store, linked, 5)
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
    await add_mails(store, other, 1)
    outcome = await messages.add_batch(store, renumbered(linked.place), linked.inbox.id, [make_incoming(1)])
    assert (len(outcome.stored), outcome.remapped) == (1, 0)


async def test_removed_message_stays_removed_when_its_mailbox_is_renumbered(store: Store, linked: Linked) -> None:
    first = await add_mails(store, linked, 1, 2)
    await messages.remove(store, first.stored[0].id)
    new = renumbered(linked.place)
    batch = [_renamed(make_incoming(uid), uid + 10) for uid in (1, 2)]
    outcome = await messages.add_batch(store, new, linked.inbox.id, batch)
    assert (outcome.stored, outcome.remapped) == ((), 2)
    assert await stored_uids(store) == [12]
    assert set(await messages.considered(store, new, 0)) == {11, 12}
    again = await messages.add_batch(store, new, linked.inbox.id, batch)
    assert (again.stored, again.remapped, again.known) == ((), 0, 2)


async def test_old_messages_are_looked_for_only_after_a_renumbering(store: Store, linked: Linked) -> None:
    statements: list[str] = []

    def note(_c: object, _u: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    async def listen(connection: AsyncConnection) -> None:
        event.listen(connection.sync_engine, "before_cursor_execute", note)

    await add_mails(store, linked, 1)
    await store.write(listen)
    await add_mails(store, linked, *range(2, 102))
    assert not [one for one in statements if "content_hash IN" in one]
    assert 0 < len(statements) <= 8


async def test_removing_an_inbox_keeps_tombstones_for_a_connector_that_moved_on(store: Store, linked: Linked) -> None:
    await add_mails(store, linked, 1, 2)
    new_home = await link(store, "other")
    await connectors.update(store, replace(linked.connector, inbox_id=new_home.inbox.id))
    await inboxes.remove(store, linked.inbox.id)
    assert await messages.count(store, EVERY) == 0
    outcome = await messages.add_batch(store, linked.place, new_home.inbox.id, [make_incoming(1), make_incoming(3)])
    assert ([one.uid for one in outcome.stored], outcome.known) == ([3], 1)


async def test_message_without_a_connector_leaves_no_tombstone(store: Store, linked: Linked) -> None:
    outcome = await add_mails(store, linked, 1)
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

    await add_mails(store, linked, 1, 2)
    before = await store.read(highest)
    await store.write(clear)
    await add_mails(store, linked, 3)
    assert await store.read(highest) > before


def _renamed(incoming: Incoming, uid: int) -> Incoming:
    return replace(incoming, fetched=replace(incoming.fetched, uid=uid))
