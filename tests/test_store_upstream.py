"""What became of stored messages in their mailbox, as it is kept; on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inboxd.errors import NotFound
from inboxd.mails import Place, Tags
from inboxd.model import MessageFilter, Window, utc_now
from inboxd.store import connectors, cursors, marks, messages, upstream
from inboxd.store.engine import Store
from inboxd.store.upstream import Settled
from servers.stores import Linked, add_mails, make_incoming, renumbered


async def kept(store: Store) -> dict[int, tuple[tuple[str, ...], bool]]:
    """The flags of each message, which are \\Seen to begin with, and whether it is marked as gone."""
    page = await messages.page(store, MessageFilter(), Window(size=1000))
    return {row.uid or 0: (row.flags, row.vanished_at is not None) for row in page.rows}


async def test_flags_and_what_is_gone_are_settled_once_with_the_mark(store: Store, linked: Linked) -> None:
    await cursors.begin(store, linked.place)
    await add_mails(store, linked, 1, 2, 3)
    tags = {1: Tags(("\\Seen", "$Tödo")), 2: Tags(()), 9: Tags(("\\Seen",))}
    assert await upstream.settle(store, linked.place, tags, [3, 7], modseq=12) == Settled(2, 1)
    assert await kept(store) == {1: (("\\Seen", "$Tödo"), False), 2: ((), False), 3: (("\\Seen",), True)}
    cursor = await messages.cursor(store, linked.connector.id, linked.place.mailbox)
    assert cursor
    assert (cursor.modseq, cursor.uidvalidity) == (12, linked.place.uidvalidity)
    again = {
        1: Tags(("$tödo", "\\SEEN", "\\Recent")),
        2: Tags(("\\Recent",)),
    }  # neither order, case nor \Recent makes a change
    assert await upstream.settle(store, linked.place, again, [3]) == Settled(0, 0)
    other = replace(linked.place, mailbox="Other")
    for place in (renumbered(linked.place), other):
        assert await upstream.settle(store, place, {1: Tags(())}, [1, 2], modseq=99) == Settled(0, 0)
    cursor = await messages.cursor(store, linked.connector.id, linked.place.mailbox)
    assert cursor
    assert cursor.modseq == 12


async def test_labels_change_only_where_something_was_said_of_them(store: Store, linked: Linked) -> None:
    await add_mails(store, linked, 1, 2)
    seen = ("\\Seen",)
    assert await upstream.settle(store, linked.place, {1: Tags(seen, ("a", "b"))}) == Settled(labels=1)
    assert await upstream.settle(store, linked.place, {1: Tags(seen, ("b", "a")), 2: Tags(seen, ())}) == Settled()
    assert await upstream.settle(store, linked.place, {1: Tags(()), 2: Tags((), ("c",))}) == Settled(2, labels=1)
    page = await messages.page(store, MessageFilter(), Window(size=10))
    assert {row.uid: (row.flags, row.labels) for row in page.rows} == {1: ((), ("a", "b")), 2: ((), ("c",))}


async def test_only_what_is_marked_is_deleted_and_what_is_there_again_is_not(store: Store, linked: Linked) -> None:
    await add_mails(store, linked, *range(1, 301))
    await upstream.settle(store, linked.place, {}, range(1, 300))
    assert await upstream.marked(store, linked.place) == [*range(1, 300)]
    await upstream.found_again(store, linked.place, [5])
    assert await upstream.marked(store, renumbered(linked.place)) == []
    assert await upstream.remove_vanished(store, linked.place, range(1, 301)) == 298
    assert await kept(store) == {5: (("\\Seen",), False), 300: (("\\Seen",), False)}
    outcome = await messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(6)])
    assert len(outcome.stored) == 1  # no tombstone keeps it away


async def test_ranges_find_what_is_stored_however_wide_or_many(store: Store, linked: Linked) -> None:
    await add_mails(store, linked, *range(10, 2010, 10))
    await upstream.settle(store, linked.place, {}, [20])
    assert await upstream.within(store, linked.place, [(1, 4_294_967_295)]) == [10, *range(30, 2010, 10)]
    assert await upstream.within(store, linked.place, [(1, 9), (30, 30), (35, 45)]) == [30, 40]
    many = [(uid - 1, uid) for uid in range(10, 2010, 5)]
    assert await upstream.within(store, linked.place, many) == [10, *range(30, 2010, 10)]
    assert await upstream.within(store, linked.place, []) == []
    page = await upstream.following(store, linked.place, 10, 3)
    assert page == [(20, True), (30, False), (40, False)]


async def test_a_renumbered_mailbox_gives_life_to_those_that_are_there_before_those_that_were_gone(
    store: Store, linked: Linked
) -> None:
    await cursors.begin(store, linked.place, modseq=50)
    twice = [make_incoming(1), replace(make_incoming(1), fetched=replace(make_incoming(1).fetched, uid=2))]
    await messages.add_batch(store, linked.place, linked.inbox.id, [*twice, make_incoming(3)])
    await upstream.settle(store, linked.place, {}, [1, 3], compared_at=utc_now())
    anew = renumbered(linked.place)
    await cursors.begin(store, anew)
    for uid, number in ((11, 1), (13, 3)):
        one = make_incoming(number)
        one = replace(one, fetched=replace(one.fetched, uid=uid))
        assert (await messages.add_batch(store, anew, linked.inbox.id, [one])).remapped == 1
    assert await kept(store) == {1: (("\\Seen",), True), 11: (("\\Seen",), False), 13: (("\\Seen",), False)}
    cursor = await messages.cursor(store, linked.connector.id, anew.mailbox)
    assert cursor
    assert cursor.modseq is None  # what was known was of the other incarnation


async def test_a_cursor_that_moves_keeps_what_is_known_of_the_messages(store: Store, linked: Linked) -> None:
    place: Place = linked.place
    begun = await cursors.begin(store, place, modseq=50)
    assert begun.modseq == 50
    top = await cursors.begin(store, place, 7)
    assert (top.last_uid, top.modseq, top.compared_at) == (7, 50, begun.compared_at)
    await messages.add_batch(store, place, linked.inbox.id, [make_incoming(8)], last_uid=8)
    assert await messages.rewind(store, linked.connector.id)
    cursor = await messages.cursor(store, linked.connector.id, place.mailbox)
    assert cursor
    assert (cursor.last_uid, cursor.modseq) == (0, 50)


async def test_nothing_is_settled_for_a_connector_that_is_gone(store: Store, linked: Linked) -> None:
    await add_mails(store, linked, 1)
    await connectors.remove(store, linked.connector.id)
    with pytest.raises(NotFound):
        await upstream.settle(store, linked.place, {1: Tags(("\\Seen",))})
    assert await marks.remove_all(store) == {linked.inbox.id: 1}
