"""Inboxes in the store: what finds them, how they change, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd import sweeper
from inboxd.errors import Conflict, NotFound
from inboxd.model import Inbox, InboxFilter, InboxFunction, InboxId, InboxType, MessageFilter, Window, utc_now
from inboxd.store import connectors, inboxes, installation, messages
from inboxd.store.engine import Store
from inboxd.store.schema import INBOX_TAGS, INBOXES
from servers.stores import MORNING, Linked, link, make_connector, make_inbox, make_incoming

ALL = Window(size=1000)
HOUR = timedelta(hours=1)


async def keep(store: Store, *made: Inbox) -> None:
    for one in made:
        await inboxes.add(store, one)


async def found(store: Store, chosen: InboxFilter) -> list[str]:
    page = await inboxes.page(store, ALL, chosen)
    assert page.total == len(page.rows)
    return [one.email_address for one in page.rows]


def expired(email_address: str, ago: timedelta = HOUR) -> Inbox:
    return replace(make_inbox(email_address), expires_at=utc_now() - ago)


async def test_filters_and_all_of_them_at_once(store: Store, linked: Linked) -> None:
    plain = make_inbox("plain@x.example")
    liked = replace(make_inbox("liked@x.example"), favourite=True, tags=("blue", "green"))
    smtp = replace(make_inbox("smtp@x.example"), inbox_type=InboxType.SMTP_INBOX, tags=("blue",))
    await keep(store, plain, liked, smtp)
    of_connector = linked.inbox.email_address
    everything = [of_connector, "plain@x.example", "liked@x.example", "smtp@x.example"]
    assert await found(store, InboxFilter()) == everything
    assert await found(store, InboxFilter(favourite_only=True)) == ["liked@x.example"]
    assert await found(store, InboxFilter(tag="blue")) == ["liked@x.example", "smtp@x.example"]
    assert await found(store, InboxFilter(tag="blu")) == []
    assert await found(store, InboxFilter(inbox_type=InboxType.SMTP_INBOX)) == ["smtp@x.example"]
    assert await found(store, InboxFilter(inbox_type=InboxType.HTTP_INBOX)) == everything[:3]
    assert await found(store, InboxFilter(function=InboxFunction.CONNECTOR)) == [of_connector]
    assert await found(store, InboxFilter(function=InboxFunction.ALIAS)) == []
    all_at_once = InboxFilter(favourite_only=True, search="LIKED", tag="green", inbox_type=InboxType.HTTP_INBOX)
    assert await found(store, all_at_once) == ["liked@x.example"]
    assert await found(store, replace(all_at_once, function=InboxFunction.CONNECTOR)) == []


SEARCHES = {
    "hop": True,
    "GRÖSSE": True,
    "größe": True,
    "Shop@Inbox": True,
    "second line": True,
    "tag-on": True,
    "100%": True,
    "1%0": False,
    "under_score": True,
    "under-score": False,
    "back\\slash": True,
    "tag-three": False,
    "": True,
}


async def test_search_looks_at_name_address_description_and_tags_in_any_case(store: Store) -> None:
    words = {
        "name": "Größe",
        "description": "100% under_score\nsecond line back\\slash",
        "tags": ("tag-one", "Tag-Two"),
    }
    shop = replace(make_inbox("shop@inbox.example"), **words)
    await keep(store, shop, make_inbox("other@example.com"))
    assert {search: "shop@inbox.example" in await found(store, InboxFilter(search=search)) for search in SEARCHES} == (
        SEARCHES
    )
    assert await found(store, InboxFilter(search=str(shop.id).upper())) == ["shop@inbox.example"]


async def test_a_change_is_found_and_what_was_before_is_not(store: Store) -> None:
    inbox = replace(make_inbox(), name="Old", tags=("old", "both"))
    await keep(store, inbox)
    changed = await inboxes.change(store, inbox.id, lambda one: replace(one, name="New", tags=("both", "new")))
    assert changed == await inboxes.get(store, inbox.id) == replace(inbox, name="New", tags=("both", "new"))
    for word, is_found in (("old", False), ("new", True), ("both", True)):
        assert bool(await found(store, InboxFilter(tag=word))) is is_found, word
    for word, is_found in (("old", False), ("new", True)):
        assert bool(await found(store, InboxFilter(search=word))) is is_found, word
    assert await inboxes.find(store, name="Old") is None
    with pytest.raises(NotFound):
        await inboxes.change(store, InboxId(uuid4()), lambda one: one)


async def test_changes_at_once_do_not_undo_each_other(store: Store) -> None:
    inbox = make_inbox()
    await keep(store, inbox)
    async with asyncio.TaskGroup() as tasks:
        for number in range(10):
            add = _adding(f"tag {number}")
            tasks.create_task(inboxes.change(store, inbox.id, add))
    assert set((await inboxes.get(store, inbox.id)).tags) == {f"tag {number}" for number in range(10)}


def _adding(tag: str) -> Callable[[Inbox], Inbox]:
    return lambda inbox: replace(inbox, tags=(*inbox.tags, tag))


async def test_a_connector_shows_in_its_inbox_as_long_as_there_is_one(store: Store) -> None:
    inbox = make_inbox()
    await keep(store, inbox)
    assert not (await inboxes.get(store, inbox.id)).connected
    connector = make_connector(inbox)
    await connectors.add(store, connector)
    assert (await inboxes.get(store, inbox.id)).connected
    assert [one.connected for one in (await inboxes.page(store, ALL)).rows] == [True]
    second = await inboxes.find(store, email_address=inbox.email_address)
    assert second is not None
    assert second.connected
    await connectors.remove(store, connector.id)
    assert not (await inboxes.get(store, inbox.id)).connected


async def test_a_sole_address_is_refused_when_taken_in_any_case_of_its_letters(store: Store) -> None:
    inbox = make_inbox("Ärger@inbox.example")
    await inboxes.add(store, inbox, sole_address=True)
    for taken in ("Ärger@inbox.example", "ÄRGER@INBOX.EXAMPLE"):
        with pytest.raises(Conflict, match=f"inbox {inbox.id} has the address {taken}"):
            await inboxes.add(store, make_inbox(taken), sole_address=True)
    await inboxes.add(store, make_inbox("aerger@inbox.example"), sole_address=True)
    assert await inboxes.count(store) == 2
    await keep(store, expired("late@inbox.example"))
    await inboxes.add(store, make_inbox("late@inbox.example"), sole_address=True)


async def test_of_several_that_want_one_address_at_once_one_gets_it(store: Store) -> None:
    outcomes: list[bool] = []

    async def want(address: str) -> None:
        try:
            await inboxes.add(store, make_inbox(address), sole_address=True)
            outcomes.append(True)
        except Conflict:
            outcomes.append(False)

    # The first rounds also open the connections that the later ones share.
    for number in range(10):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(want(f"{number}@inbox.example"))
    assert sorted(outcomes) == [False] * 70 + [True] * 10
    assert await inboxes.count(store) == 10


async def test_the_first_inboxes_and_those_to_include(store: Store) -> None:
    made = [make_inbox(f"{number}@inbox.example", MORNING + number * HOUR) for number in range(5)]
    await keep(store, *made)
    assert await inboxes.first(store, Window(size=2)) == made[:2]
    assert await inboxes.first(store, Window(size=2, ascending=False)) == made[:-3:-1]
    assert await inboxes.first(store, Window(size=2), [made[4].id, made[0].id, uuid4()]) == [*made[:2], made[4]]
    late = Window(size=1, ascending=False, since=MORNING + HOUR, before=MORNING + 3 * HOUR)
    assert await inboxes.first(store, late, [made[0].id]) == [made[2], made[0]]
    assert await inboxes.addresses(store) == [(one.id, one.email_address) for one in made]


_AFTERWARDS: list[Callable[[Store, Inbox], Awaitable[object]]] = [
    lambda store, one: inboxes.get(store, one.id),
    lambda store, one: inboxes.remove(store, one.id),
    lambda store, one: inboxes.change(store, one.id, lambda stored: stored),
    lambda store, one: connectors.add(store, make_connector(one)),
]


@pytest.mark.parametrize("ask", _AFTERWARDS)
async def test_an_expired_inbox_is_not_found(store: Store, ask: Callable[[Store, Inbox], Awaitable[object]]) -> None:
    over = expired("over@inbox.example", timedelta(microseconds=1))
    await keep(store, over)
    with pytest.raises(NotFound, match=f"there is no inbox {over.id}"):
        await ask(store, over)


async def test_an_expired_inbox_is_in_no_list(store: Store) -> None:
    over, here = replace(expired("over@inbox.example"), name="over", tags=("a",)), make_inbox("here@inbox.example")
    await keep(store, over, here)
    assert await found(store, InboxFilter()) == ["here@inbox.example"]
    assert await found(store, InboxFilter(tag="a")) == []
    assert await inboxes.first(store, ALL, [over.id]) == [here]
    assert await inboxes.addresses(store) == [(here.id, here.email_address)]
    assert await inboxes.count(store) == 1
    assert await inboxes.find(store, email_address=over.email_address) is None
    assert await inboxes.find(store, name="over") is None


async def _rows(store: Store) -> tuple[int, int]:
    async def look(connection: AsyncConnection) -> tuple[int, int]:
        counts = [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in (INBOXES, INBOX_TAGS)
        ]
        return counts[0], counts[1]

    return await store.read(look)


async def test_sweeping_deletes_what_has_expired_by_then_and_nothing_else(store: Store, linked: Linked) -> None:
    now = utc_now()
    later = replace(make_inbox("later@inbox.example"), expires_at=now + HOUR, tags=("kept",))
    await keep(store, make_inbox("for ever@inbox.example"), later)
    await keep(store, *(replace(expired(f"{number}@inbox.example"), tags=("gone",)) for number in range(3)))
    assert await _rows(store) == (6, 4)
    await sweeper.sweep(store, now)
    assert await _rows(store) == (3, 1)
    assert await inboxes.get(store, later.id) == later
    await sweeper.sweep(store, now + HOUR)
    assert await _rows(store) == (2, 0)
    assert await inboxes.get(store, linked.inbox.id) == linked.inbox


async def test_sweeping_goes_on_until_nothing_is_left(store: Store) -> None:
    some = [expired(f"{number}@inbox.example") for number in range(inboxes.EXPIRED_AT_ONCE + 1)]

    async def work(connection: AsyncConnection) -> None:
        for one in some:
            await inboxes.insert(connection, one)

    await store.write(work)
    await sweeper.sweep(store, utc_now())
    assert await _rows(store) == (0, 0)


async def test_an_expired_inbox_takes_its_mails_along(store: Store, linked: Linked) -> None:
    await messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(1)])
    await connectors.remove(store, linked.connector.id)
    expires_at = utc_now() + HOUR
    await inboxes.change(store, linked.inbox.id, lambda one: replace(one, expires_at=expires_at))
    await sweeper.sweep(store, expires_at - timedelta(microseconds=1))
    assert await messages.count(store, MessageFilter()) == 1
    await sweeper.sweep(store, expires_at)
    assert await messages.count(store, MessageFilter()) == 0


async def test_the_inbox_of_a_connector_does_not_expire(store: Store, linked: Linked) -> None:
    soon = utc_now() + HOUR
    with pytest.raises(Conflict, match=r"a connector delivers into inbox .* cannot expire"):
        await inboxes.change(store, linked.inbox.id, lambda one: replace(one, expires_at=soon))
    renamed = await inboxes.change(store, linked.inbox.id, lambda one: replace(one, name="still changed"))
    assert (renamed.name, renamed.expires_at, renamed.connected) == ("still changed", None, True)
    expiring = replace(make_inbox(), expires_at=soon)
    await keep(store, expiring)
    await connectors.add(store, make_connector(expiring))
    assert (await inboxes.get(store, expiring.id)).expires_at is None
    await sweeper.sweep(store, soon + HOUR)
    assert await inboxes.count(store) == 2


async def test_removing_all_of_a_time_span_spares_connectors_inboxes(store: Store) -> None:
    made = [make_inbox(f"{number}@inbox.example", MORNING + number * HOUR) for number in range(5)]
    await keep(store, *made)
    kept = await link(store, created_at=MORNING + 2 * HOUR)
    assert await inboxes.remove_all(store, since=MORNING + HOUR, before=MORNING + 3 * HOUR) == 2
    assert {one.id for one in (await inboxes.page(store, ALL)).rows} == {
        kept.inbox.id, made[0].id, made[3].id, made[4].id
    }  # fmt: skip
    assert await inboxes.remove_all(store, since=MORNING + 4 * HOUR) == 1
    assert await inboxes.remove_all(store) == 2
    assert (await inboxes.page(store, ALL)).rows == (kept.inbox,)


async def test_long_names_and_addresses_are_kept_and_found(store: Store) -> None:
    name, address = "".join(chr(0x4E00 + n) for n in range(4_096)), f"{'é' * 200}@{'ü' * 253}"
    inbox = replace(make_inbox(address), name=name, tags=("".join(chr(0x4E00 + n) for n in range(255)),))
    await inboxes.add(store, inbox, sole_address=True)
    assert await inboxes.find(store, name=name, email_address=address.upper()) == inbox


async def test_the_installation_knows_when_it_began(store: Store) -> None:
    first: datetime = await installation.created_at(store)
    assert first <= utc_now()
    assert await installation.created_at(store) == first
