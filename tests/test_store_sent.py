"""Sent mails searched, counted and removed, and which connectors can send."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from inboxd.errors import NotFound
from inboxd.mails import Address, Sent
from inboxd.model import ConnectorId, Kind, SentId, SentState, Window
from inboxd.store import connectors, sent
from inboxd.store.engine import Store
from servers.stores import MORNING, Linked, link, make_connection, make_connector

ALL = Window(size=1000)


def make_sent(linked: Linked, minutes: int = 0, **changed: object) -> Sent:
    made = Sent(
        id=SentId(uuid4()), inbox_id=linked.inbox.id, connector_id=linked.connector.id,
        created_at=MORNING + timedelta(minutes=minutes), state=SentState.SENT,
        sender=Address("ann@example.com", "ann@example.com", "Ann Ödland"), to=('"Bob B" <bob@example.com>',),
        cc=("cy@example.com",), bcc=("dora@example.com",), subject="Grüße 100%", header_message_id="1@example.com",
        size_bytes=11, body="in the body",
    )  # fmt: skip
    return replace(made, **changed)


async def found(store: Store, search: str) -> int:
    return (await sent.page(store, ALL, search=search)).total


async def test_a_search_looks_at_people_subject_and_id_in_any_case(store: Store, linked: Linked) -> None:
    mail = make_sent(linked)
    await sent.add(store, mail, b"raw")
    await sent.add(
        store, make_sent(linked, sender=Address("x@y", "x@y"), to=("z@y",), cc=(), bcc=(), subject=None), b""
    )
    for hit in ("GRÜSSE", "bob b", "BOB@example", "cy@", "dora", "ödLAND", "100%", str(mail.id)[4:20].upper()):
        assert await found(store, hit) == 1, hit
    for miss in ("in the body", "1@example.com", "100_", "nobody"):
        assert await found(store, miss) == 0, miss
    assert await found(store, "") == 2


async def test_pages_are_of_an_inbox_a_span_and_an_order(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    mails = [make_sent(linked, minutes) for minutes in range(4)]
    for mail in (*mails, make_sent(other, 9)):
        await sent.add(store, mail, b"raw")
    window = Window(0, 2, ascending=False, since=mails[1].created_at, before=mails[3].created_at)
    page = await sent.page(store, window, inbox_id=linked.inbox.id, search="bob")
    assert ([row.id for row in page.rows], page.total) == ([mails[2].id, mails[1].id], 2)
    assert [row.body for row in page.rows] == [None, None]
    assert await sent.count(store, linked.inbox.id) == 4


async def test_removed_mails_are_gone_with_their_bytes(store: Store, linked: Linked) -> None:
    mails = [make_sent(linked) for _ in range(3)]
    for mail in mails:
        await sent.add(store, mail, b"raw")
    await sent.remove(store, mails[0].id)
    for look in (sent.get, sent.raw, sent.remove):
        with pytest.raises(NotFound):
            await look(store, mails[0].id)
    assert await sent.raw(store, mails[1].id) == b"raw"
    assert await sent.remove_all(store) == 2
    assert await sent.remove_all(store) == 0
    assert await found(store, "") == 0


async def test_connectors_send_that_are_enabled_with_smtp_enabled(store: Store, linked: Linked) -> None:
    async def add(address: str, kind: Kind = Kind.SMTP, *, enabled: bool = True, smtp: bool = True) -> ConnectorId:
        made = replace(make_connector(linked.inbox), email_address=address, enabled=enabled)
        await connectors.add(store, made, connections=[make_connection(made.id, kind, enabled=smtp)])
        return made.id

    async def ids(**wanted: object) -> list[ConnectorId]:
        return [one.id for one in await connectors.sending(store, **wanted)]  # type: ignore[arg-type]

    assert await ids() == []
    await add("off@example.com", enabled=False)
    await add("imap@example.com", Kind.IMAP)
    await add("disabled@example.com", smtp=False)
    assert await ids(inbox_id=linked.inbox.id) == []
    first, second, third = [await add(f"{name}@Example.com") for name in "abc"]
    elsewhere = await link(store, "elsewhere")
    assert await ids(inbox_id=elsewhere.inbox.id) == []
    assert await ids(inbox_id=linked.inbox.id) == await ids() == [first, second]
    assert await ids(likely=third) == [third, first]
    assert await ids(address="B@example.COM", likely=third) == [second, third]
    assert await ids(address="off@example.com", likely=third) == [third, first]
