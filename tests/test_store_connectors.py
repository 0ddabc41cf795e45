"""Connectors and what belongs to them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from inboxd.errors import Conflict, NotFound
from inboxd.model import (
    ConnectorId,
    EventId,
    EventType,
    InboxId,
    Kind,
    Tls,
    Window,
)
from inboxd.store import connectors, events, inboxes, messages, sent
from inboxd.store.engine import Store
from servers.stores import (
    MORNING,
    Linked,
    link,
    make_connection,
    make_connector,
    make_event,
    make_inbox,
    make_incoming,
    make_sent,
    make_sync_settings,
)

ALL = Window(size=1000)
NOBODY = ConnectorId(uuid4())


async def test_inbox_of_a_connector_is_not_removed(store: Store, linked: Linked) -> None:
    with pytest.raises(Conflict, match=f"connector {linked.connector.id} delivers into inbox"):
        await inboxes.remove(store, linked.inbox.id)
    free = make_inbox("free@inbox.example")
    await inboxes.add(store, free)
    assert await inboxes.remove_all(store) == 1
    assert (await inboxes.page(store, ALL)).rows == (linked.inbox,)


async def test_connector_is_added_with_all_that_is_given_or_not_at_all(store: Store) -> None:
    inbox = make_inbox()
    connector = make_connector(inbox)
    imap, smtp = make_connection(connector.id), make_connection(connector.id, Kind.SMTP)
    settings = make_sync_settings(connector.id)
    with pytest.raises(NotFound, match=f"there is no inbox {inbox.id}"):
        await connectors.add(store, connector, connections=(imap,))
    with pytest.raises(Conflict):
        await connectors.add(store, connector, inbox=inbox, connections=(imap, replace(imap, id=uuid4())))
    assert (await inboxes.page(store, ALL)).total == 0
    await connectors.add(store, connector, inbox=inbox, connections=(imap, smtp), sync=settings)
    assert await inboxes.get(store, inbox.id) == inbox
    assert await connectors.get(store, connector.id) == connector
    assert await connectors.connection(store, connector.id, Kind.IMAP) == imap
    assert await connectors.connection(store, connector.id, Kind.SMTP) == smtp
    assert await connectors.sync_settings(store, connector.id) == settings


async def test_connector_is_found_by_what_is_given(store: Store) -> None:
    first, second = await link(store, "first"), await link(store, "second")
    assert await connectors.find(store, name="second") == second.connector
    assert await connectors.find(store, inbox_id=first.inbox.id) == first.connector
    assert await connectors.find(store, email_address="FIRST@example.com") == first.connector
    assert await connectors.find(store, name="first", inbox_id=second.inbox.id) is None
    assert await connectors.find(store) is None


async def test_connectors_are_paged_by_creation(store: Store) -> None:
    made = [(await link(store, str(number), MORNING + timedelta(hours=number))).connector for number in range(3)]
    page = await connectors.page(store, Window(size=2, ascending=False))
    assert (page.rows, page.total) == ((made[2], made[1]), 3)


async def test_connector_is_updated(store: Store, linked: Linked) -> None:
    changed = replace(linked.connector, name="new", email_address=None, enabled=False)
    await connectors.update(store, changed)
    assert await connectors.get(store, changed.id) == changed
    with pytest.raises(NotFound, match="there is no inbox"):
        await connectors.update(store, replace(changed, inbox_id=InboxId(uuid4())))
    with pytest.raises(NotFound, match="there is no connector"):
        await connectors.update(store, replace(changed, id=NOBODY))


async def test_removing_a_connector_keeps_its_inbox_and_mails(store: Store, linked: Linked) -> None:
    key = linked.connector.id
    await connectors.put_connection(store, make_connection(key))
    await connectors.put_sync_settings(store, make_sync_settings(key))
    outcome = await messages.add_batch(
        store, linked.place, linked.inbox.id, [make_incoming(1), make_incoming(2)], last_uid=2
    )
    await messages.remove(store, outcome.stored[1].id)
    event = make_event(key)
    await events.add(store, event)
    kept = make_sent(linked)
    await sent.add(store, kept, b"raw")
    await connectors.remove(store, key)
    assert await inboxes.get(store, linked.inbox.id) == linked.inbox
    message = await messages.get(store, outcome.stored[0].id)
    assert (message.connector_id, message.inbox_id, message.uid) == (None, linked.inbox.id, 1)
    assert await sent.get(store, kept.id) == replace(kept, connector_id=None)
    assert await connectors.connection(store, key, Kind.IMAP) is None
    assert await connectors.sync_settings(store, key) is None
    assert await messages.cursor(store, key, "INBOX") is None
    assert set(await messages.considered(store, linked.place, 0)) == set()
    with pytest.raises(NotFound):
        await events.get(store, event.id)


async def test_all_connectors_are_removed_at_once(store: Store) -> None:
    ids = {(await link(store, name)).connector.id for name in ("first", "second")}
    assert set(await connectors.remove_all(store)) == ids
    assert await connectors.remove_all(store) == []
    assert (await inboxes.page(store, ALL)).total == 2


async def test_connection_is_replaced_by_kind(store: Store, linked: Linked) -> None:
    key = linked.connector.id
    old, smtp = make_connection(key), make_connection(key, Kind.SMTP)
    new = replace(make_connection(key), host="other.example.com", tls=Tls.STARTTLS, sealed_password=None, mechanisms=())
    for one in (old, smtp, new):
        await connectors.put_connection(store, one)
    assert await connectors.connection(store, key, Kind.IMAP) == new
    assert await connectors.connection(store, key, Kind.SMTP) == smtp
    same_id = replace(new, port=143)
    await connectors.put_connection(store, same_id)
    assert await connectors.connection(store, key, Kind.IMAP) == same_id
    await connectors.remove_connection(store, key, Kind.IMAP)
    assert await connectors.connection(store, key, Kind.IMAP) is None
    assert await connectors.connection(store, key, Kind.SMTP) == smtp


async def test_sync_settings_are_replaced(store: Store, linked: Linked) -> None:
    key = linked.connector.id
    for settings in (make_sync_settings(key), replace(make_sync_settings(key, enabled=False), interval_minutes=None)):
        await connectors.put_sync_settings(store, settings)
        assert await connectors.sync_settings(store, key) == settings
    await connectors.remove_sync_settings(store, key)
    assert await connectors.sync_settings(store, key) is None


async def test_runnable_connectors_are_enabled_in_every_part(store: Store) -> None:
    made: dict[str, ConnectorId] = {}
    for name in (
        "good",
        "no connection",
        "smtp only",
        "imap off",
        "no settings",
        "sync off",
        "connector off",
        "second",
    ):
        made[name] = (await link(store, name)).connector.id
        kind = Kind.SMTP if name == "smtp only" else Kind.IMAP
        if name != "no connection":
            await connectors.put_connection(store, make_connection(made[name], kind, enabled=name != "imap off"))
        if name != "no settings":
            settings = make_sync_settings(made[name], enabled=name != "sync off")
            await connectors.put_sync_settings(store, settings)
    off = await connectors.get(store, made["connector off"])
    await connectors.update(store, replace(off, enabled=False))
    await connectors.put_connection(store, make_connection(made["good"], Kind.SMTP))
    running = [one.connector.id for one in await connectors.synced(store)]
    assert running == [made["good"], made["second"]]
    assert [name for name, key in made.items() if key in running] == ["good", "second"]
    assert NOBODY not in running


async def test_all_that_sync_are_read_whole_at_once_and_oldest_first(store: Store, linked: Linked) -> None:
    names = ["first", "second", "third"]
    made = [(await link(store, name)).connector.id for name in names]
    for key in made:
        await connectors.put_connection(store, make_connection(key, Kind.SMTP))
        await connectors.put_connection(store, make_connection(key))
        await connectors.put_sync_settings(store, make_sync_settings(key))
    off = await connectors.get(store, made[1])
    await connectors.update(store, replace(off, enabled=False))
    assert linked.connector.id not in made
    synced = await connectors.synced(store)
    assert [one.connector.id for one in synced] == [made[0], made[2]]
    for one in synced:
        key = one.connector.id
        assert one.connector == await connectors.get(store, key)
        assert one.connection == await connectors.connection(store, key, Kind.IMAP)
        assert one.interval == await connectors.sync_settings(store, key)


async def test_events_are_chosen_by_connector_and_type(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    here, sending = make_event(linked.connector.id), make_event(linked.connector.id, EventType.SEND, 1)
    there = make_event(other.connector.id, EventType.SEND, 2)
    for one in (here, sending, there):
        await events.add(store, one)

    async def ids(window: Window = ALL, **chosen: Any) -> list[EventId]:
        return [one.id for one in (await events.page(store, window, **chosen)).rows]

    assert await ids() == [here.id, sending.id, there.id]
    assert await ids(connector_id=linked.connector.id) == [here.id, sending.id]
    assert await ids(type=EventType.SEND) == [sending.id, there.id]
    assert await ids(connector_id=other.connector.id, type=EventType.SYNC) == []
    assert await ids(Window(size=1, page=1, ascending=False)) == [sending.id]
    assert await ids(Window(since=sending.created_at)) == [sending.id, there.id]


async def test_mail_sent_while_its_connector_was_removed_is_kept(store: Store, linked: Linked) -> None:
    await connectors.remove(store, linked.connector.id)
    mail = make_sent(linked)
    await sent.add(store, mail, b"raw")
    assert (await sent.get(store, mail.id)).connector_id is None


async def test_declared_connector_is_found_and_replaced_whole(store: Store) -> None:
    by_hand = await link(store, "hand")
    inbox = make_inbox("declared@inbox.example")
    connector = replace(make_connector(inbox, "declared"), declared="declared.toml")
    ways = tuple(make_connection(connector.id, kind) for kind in Kind)
    sync = make_sync_settings(connector.id)
    await connectors.add(store, connector, inbox=inbox, connections=ways, sync=sync)
    assert await connectors.declared(store) == [connectors.Whole(connector, ways, sync)]
    assert await connectors.undeclared_names(store) == {"hand"}
    changed = connectors.Whole(replace(connector, name="other"), (replace(ways[1], id=uuid4(), port=465),))
    await connectors.put_whole(store, changed)
    assert await connectors.declared(store) == [changed]
    assert await connectors.get(store, by_hand.connector.id) == by_hand.connector
    await connectors.remove(store, connector.id)
    with pytest.raises(NotFound):
        await connectors.put_whole(store, changed)
