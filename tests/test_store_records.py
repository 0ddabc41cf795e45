"""Inboxes, events, sent mails, API keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from inboxd.errors import Conflict, NotFound
from inboxd.model import (
    ApiKey,
    ConnectorId,
    Event,
    EventId,
    EventStatus,
    EventType,
    Inbox,
    InboxId,
    InboxType,
    KeyId,
    Kind,
    MessageFilter,
    Scope,
    SentId,
    SentState,
    Window,
    utc_now,
)
from inboxd.store import connectors, events, inboxes, installation, keys, messages, sent
from inboxd.store.engine import Store
from servers.stores import (
    MORNING,
    Linked,
    link,
    make_connection,
    make_event,
    make_inbox,
    make_incoming,
    make_sent,
    make_sync_settings,
)

ALL = Window(size=1000)
NOBODY = ConnectorId(uuid4())


async def test_installation_has_one_user(store: Store) -> None:
    assert await installation.user_id(store) == await installation.user_id(store)


async def test_inbox_comes_back_as_it_was(store: Store) -> None:
    inbox = Inbox(
        id=InboxId(uuid4()),
        email_address="box@inbox.example",
        created_at=MORNING,
        name="Box 📦",
        description="nothing",
        favourite=True,
        tags=("a", "ä"),
        expires_at=utc_now() + timedelta(days=1),
        inbox_type=InboxType.SMTP_INBOX,
        virtual=True,
    )
    plain = make_inbox("plain@inbox.example")
    for one in (inbox, plain):
        await inboxes.add(store, one)
        assert await inboxes.get(store, one.id) == one
    assert (await inboxes.page(store, ALL)).rows == (inbox, plain)


async def test_inbox_is_found_by_address_in_any_case_and_by_name(store: Store) -> None:
    inbox = replace(make_inbox("Box@Inbox.example"), name="Box")
    await inboxes.add(store, inbox)
    await inboxes.add(store, replace(make_inbox("box@inbox.example"), name="Other"))
    assert await inboxes.find(store, email_address="bOX@inbox.EXAMPLE") == inbox
    assert await inboxes.find(store, name="Box") == inbox
    assert await inboxes.find(store, name="box") is None
    assert await inboxes.find(store, name="Other", email_address="nobody@inbox.example") is None
    assert await inboxes.find(store) is None


async def test_inboxes_are_paged_by_creation(store: Store) -> None:
    made = [make_inbox(f"{number}@inbox.example", MORNING + timedelta(hours=number // 2)) for number in range(5)]
    for one in made:
        await inboxes.add(store, one)
    page = await inboxes.page(store, Window(page=1, size=2))
    assert (page.rows, page.total) == (tuple(made[2:4]), 5)
    page = await inboxes.page(store, Window(size=2, ascending=False))
    assert page.rows == (made[4], made[3])
    page = await inboxes.page(store, Window(since=MORNING + timedelta(hours=1), before=MORNING + timedelta(hours=2)))
    assert (page.rows, page.total) == (tuple(made[2:4]), 2)


async def test_removing_an_inbox_takes_its_mails_along(store: Store, linked: Linked) -> None:
    await messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(1)])
    await sent.add(store, make_sent(linked), b"raw")
    await connectors.remove(store, linked.connector.id)
    await inboxes.remove(store, linked.inbox.id)
    assert await messages.count(store, MessageFilter()) == 0
    assert (await sent.page(store, ALL)).total == 0


async def test_event_comes_back_and_lists_come_without_logs(store: Store, linked: Linked) -> None:
    event = make_event(linked.connector.id)
    await events.add(store, event)
    assert await events.get(store, event.id) == event
    assert (await events.page(store, ALL)).rows == (replace(event, logs=None),)


async def test_finishing_a_pass_that_stored_nothing_makes_its_event(store: Store, linked: Linked) -> None:
    event_id, before = EventId(uuid4()), utc_now()
    await events.finish(
        store,
        event_id,
        linked.connector.id,
        EventStatus.CONNECTION_ERROR,
        EventType.SYNC,
        size=None,
        message="no route",
        logs="S: BYE",
    )
    event = await events.get(store, event_id)
    assert before <= event.created_at <= utc_now()
    assert event == Event(
        event_id,
        linked.connector.id,
        EventType.SYNC,
        EventStatus.CONNECTION_ERROR,
        0,
        event.created_at,
        "no route",
        "S: BYE",
    )


@pytest.mark.parametrize(("size", "expected"), [(None, 2), (7, 7)])
async def test_finishing_keeps_the_count_unless_told(
    store: Store, linked: Linked, size: int | None, expected: int
) -> None:
    event_id = EventId(uuid4())
    batch = [make_incoming(1), make_incoming(2)]
    await messages.add_batch(store, linked.place, linked.inbox.id, batch, event_id=event_id)
    before = await events.get(store, event_id)
    await events.finish(
        store,
        event_id,
        linked.connector.id,
        EventStatus.SUCCESS,
        EventType.SYNC,
        size=size,
        message="2 mails",
        logs="x",
    )
    after = await events.get(store, event_id)
    assert after == replace(before, size=expected, message="2 mails", logs="x")


async def test_event_lasts_as_long_as_its_last_batch_or_its_end_says(store: Store, linked: Linked) -> None:
    event_id, end = EventId(uuid4()), (EventStatus.SUCCESS, EventType.SYNC)
    for uid in (1, 2):
        ready, lasted = messages.prepare(store, [make_incoming(uid)]), timedelta(seconds=uid)
        await messages.add_ready(store, linked.place, linked.inbox.id, ready, event_id=event_id, lasted=lasted)
        assert (await events.get(store, event_id)).duration == lasted
    for given, kept in ((None, 2), (timedelta(seconds=3), 3)):
        await events.finish(store, event_id, linked.connector.id, *end, duration=given)
        assert (await events.get(store, event_id)).duration == timedelta(seconds=kept)


async def test_sent_mail_comes_back_as_it_was(store: Store, linked: Linked) -> None:
    first, second = (
        make_sent(linked),
        replace(make_sent(linked, 1), state=SentState.UNKNOWN, subject=None, sent_at=None),
    )
    for one, raw in ((first, b"first \xff\x00"), (second, b"")):
        await sent.add(store, one, raw)
        assert await sent.get(store, one.id) == one
        assert await sent.raw(store, one.id) == raw
    page = await sent.page(store, Window(ascending=False))
    listed = tuple(replace(one, body=None) for one in (second, first))
    assert (page.rows, page.total) == (listed, 2)


async def test_sent_mails_are_chosen_by_inbox(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    here, there = make_sent(linked), make_sent(other)
    for one in (here, there):
        await sent.add(store, one, b"raw")
    assert (await sent.page(store, ALL, inbox_id=other.inbox.id)).rows == (replace(there, body=None),)


async def test_api_key_lives_and_is_revoked(store: Store) -> None:
    key = ApiKey(KeyId("k1"), "laptop", MORNING)
    scopes = frozenset({Scope.READ, Scope.SEND})
    later = MORNING + timedelta(hours=1)
    other = ApiKey(KeyId("k2"), "server", later, scopes=scopes, inbox_id=InboxId(uuid4()))
    assert not await keys.any_active(store)
    await keys.add(store, other, b"hash two")
    await keys.add(store, key, b"hash one")
    assert await keys.find(store, key.id) == (key, b"hash one")
    assert await keys.find(store, KeyId("k3")) is None
    assert await keys.all_keys(store) == [key, other]
    await keys.touch(store, key.id, MORNING + timedelta(hours=2))
    await keys.revoke(store, key.id)
    found = await keys.find(store, key.id)
    assert found is not None
    revoked_at = found[0].revoked_at
    assert found[0] == replace(key, last_used_at=MORNING + timedelta(hours=2), revoked_at=revoked_at)
    assert revoked_at is not None
    assert await keys.any_active(store)
    await keys.revoke(store, key.id)
    assert (await keys.all_keys(store))[0].revoked_at == revoked_at
    await keys.revoke(store, other.id)
    assert not await keys.any_active(store)
    with pytest.raises(Conflict):
        await keys.add(store, key, b"again")


MISSING: list[Callable[[Store], Awaitable[object]]] = [
    lambda store: inboxes.get(store, InboxId(uuid4())),
    lambda store: inboxes.remove(store, InboxId(uuid4())),
    lambda store: connectors.get(store, NOBODY),
    lambda store: connectors.remove(store, NOBODY),
    lambda store: connectors.put_connection(store, make_connection(NOBODY)),
    lambda store: connectors.remove_connection(store, NOBODY, Kind.IMAP),
    lambda store: connectors.put_sync_settings(store, make_sync_settings(NOBODY)),
    lambda store: connectors.remove_sync_settings(store, NOBODY),
    lambda store: events.add(store, make_event(NOBODY)),
    lambda store: events.get(store, EventId(uuid4())),
    lambda store: events.finish(store, EventId(uuid4()), NOBODY, EventStatus.SUCCESS, EventType.SYNC),
    lambda store: sent.get(store, SentId(uuid4())),
    lambda store: sent.raw(store, SentId(uuid4())),
    lambda store: keys.revoke(store, KeyId("nothing")),
]


async def test_what_does_not_exist_is_not_found(store: Store) -> None:
    for call in MISSING:
        with pytest.raises(NotFound):
            await call(store)
