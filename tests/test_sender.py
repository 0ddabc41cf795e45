"""A send is recorded as what it was: sent, refused, deferred or unknown, in the server's words."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from inboxd import sender
from inboxd.accounts import seal_password
from inboxd.errors import (
    AuthRefused,
    Conflict,
    ConnectionLost,
    Invalid,
    MailServerError,
    NotFound,
    SendDeferred,
    SendRefused,
    SendUnknown,
    Unreachable,
)
from inboxd.mails import Draft, Sent
from inboxd.model import Connection, ConnectorId, Event, EventStatus, EventType, Kind, Secret, SentState, Tls, Window
from inboxd.store import connectors, events, sent
from inboxd.store.engine import Store
from servers import LOOPBACK, free_port
from servers.mailbox import Bench, Linked, make_bench, sample
from servers.sessions import eventually
from servers.smtp import Fault, Received, SmtpServer, smtp_server
from servers.stores import MORNING, no_such_id

USER, PASSWORD = "user@example.test", "canary-password"
DRAFT = Draft(
    sender="", to=("bob@example.com", "eve@example.com"), cc=("carl@example.com",), subject="hi", text="hello"
)


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inboxd.db'}"


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path)


@pytest.fixture
def smtp() -> Generator[SmtpServer]:
    with smtp_server() as server:
        yield server


async def link(bench: Bench, port: int, **changed: Any) -> Linked:
    """A connector with an SMTP connection to that port."""
    linked = await bench.link(1)
    key = uuid4()
    sealed = seal_password(bench.vault, key, Secret(PASSWORD)) if changed.get("username") else None
    connection = Connection(
        id=key, connector_id=linked.connector.id, kind=Kind.SMTP, created_at=MORNING, enabled=True, host=LOOPBACK,
        port=port, tls=Tls.NONE, sealed_password=sealed,
    )  # fmt: skip
    await connectors.put_connection(bench.store, replace(connection, **changed))
    return linked


async def records(linked: Linked) -> tuple[list[Sent], list[Event]]:
    """Everything recorded of the connector's sends, the events with their logs."""
    store, window = linked.bench.store, Window()
    rows = (await sent.page(store, window, inbox_id=linked.connector.inbox_id)).rows
    noted = (await events.page(store, window, connector_id=linked.connector.id)).rows
    return list(rows), [await events.get(store, event.id) for event in noted]


async def test_sent_mail_is_recorded_with_the_servers_words_and_its_bytes(bench: Bench, smtp: SmtpServer) -> None:
    linked = await link(bench, smtp.port)
    before = sample("inboxd_sends_total", result="sent")
    row = await sender.send(bench.services, linked.connector.id, DRAFT)
    (kept,), (event,) = await records(linked)
    assert (kept.id, kept.state, kept.reply) == (row.id, SentState.SENT, "250 2.0.0 OK: queued")
    assert (kept.sender.address, kept.to, kept.cc) == ("work@example.com", DRAFT.to, DRAFT.cc)
    assert kept.sent_at is not None
    (mail,) = smtp.received
    assert mail.rcpt_tos == ("bob@example.com", "eve@example.com", "carl@example.com")
    assert await sent.raw(bench.store, row.id) == mail.content
    assert (event.type, event.status, event.size) == (EventType.SEND, EventStatus.SUCCESS, 1)
    assert "RCPT TO:<eve@example.com>" in (event.logs or "")
    assert sample("inboxd_sends_total", result="sent") == before + 1


@pytest.mark.parametrize(
    ("answers", "kind", "state"),
    [
        ({"MAIL": "550 5.7.1 not you"}, SendRefused, SentState.FAILED),
        ({"MAIL": "451 4.3.0 later"}, SendDeferred, SentState.FAILED),
        ({"RCPT": "550 5.1.1 nobody there"}, SendRefused, SentState.FAILED),
        ({"RCPT": "450 4.2.0 greylisted"}, SendDeferred, SentState.FAILED),
        ({"DATA": "554 5.6.0 no"}, SendRefused, SentState.FAILED),
        ({"DOT": "552 5.3.4 too big"}, SendRefused, SentState.FAILED),
        ({"DOT": "421 4.3.2 going down"}, SendDeferred, SentState.FAILED),
        ({"MAIL": Fault.DROP}, ConnectionLost, SentState.FAILED),
        ({"DATA": Fault.DROP}, ConnectionLost, SentState.FAILED),
        ({"DOT": Fault.DROP}, SendUnknown, SentState.UNKNOWN),
    ],
)
async def test_failed_send_is_raised_and_recorded_as_what_it_was(
    bench: Bench, smtp: SmtpServer, answers: dict[str, str | Fault], kind: type[MailServerError], state: SentState
) -> None:
    linked = await link(bench, smtp.port)
    smtp.answers |= answers
    before = sample("inboxd_sends_total", result=state.value)
    with pytest.raises(kind) as told:
        await sender.send(bench.services, linked.connector.id, DRAFT)
    (row,), (event,) = await records(linked)
    assert (row.state, row.sent_at, row.reply) == (state, None, str(told.value))
    assert (event.status, event.size) == (EventStatus.CONNECTION_ERROR, 0)
    assert (event.message or "").startswith(f"{state.value}: ")
    for answer in answers.values():
        assert isinstance(answer, Fault) or answer[4:] in (row.reply or "")
    assert sample("inboxd_sends_total", result=state.value) == before + 1
    assert b"hello" in await sent.raw(bench.store, row.id)


async def test_recipient_refused_beside_others_is_named_with_the_servers_words(bench: Bench, smtp: SmtpServer) -> None:
    linked = await link(bench, smtp.port)
    smtp.answers["RCPT eve@example.com"] = "550 5.1.1 no eve here"
    row = await sender.send(bench.services, linked.connector.id, DRAFT)
    assert row.state is SentState.SENT
    assert "eve@example.com: 550 5.1.1 no eve here" in (row.reply or "")
    assert smtp.received[0].rcpt_tos == ("bob@example.com", "carl@example.com")


async def test_silent_server_after_the_whole_mail_is_unknown(bench: Bench, smtp: SmtpServer) -> None:
    linked = await link(bench, smtp.port)
    smtp.answers["DOT"] = Fault.STALL
    limits = bench.settings.smtp.model_copy(update={"data_seconds": 0.2})
    services = replace(bench.services, settings=bench.settings.model_copy(update={"smtp": limits}))
    with pytest.raises(SendUnknown):
        await sender.send(services, linked.connector.id, DRAFT)
    (row,), _ = await records(linked)
    assert row.state is SentState.UNKNOWN
    assert len(smtp.received) == 1


async def test_send_that_is_cancelled_is_recorded_as_unknown(bench: Bench, smtp: SmtpServer) -> None:
    linked = await link(bench, smtp.port)
    smtp.answers["DOT"] = Fault.STALL
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(sender.send(bench.services, linked.connector.id, DRAFT))
        await eventually(lambda: smtp.received)
        sending.cancel()
    assert sending.cancelled()
    (row,), (event,) = await records(linked)
    assert row.state is SentState.UNKNOWN
    assert event.type is EventType.SEND


async def test_connector_without_any_address_needs_one_in_the_request(bench: Bench, smtp: SmtpServer) -> None:
    linked = await link(bench, smtp.port)
    await connectors.update(bench.store, replace(linked.connector, email_address=None))
    with pytest.raises(Invalid) as told:
        await sender.send(bench.services, linked.connector.id, DRAFT)
    assert told.value.field == "from"
    assert await records(linked) == ([], [])
    row = await sender.send(bench.services, linked.connector.id, replace(DRAFT, sender="given@example.com"))
    assert row.sender.address == "given@example.com"


async def test_sender_without_an_address_is_the_accounts_name(bench: Bench, smtp: SmtpServer) -> None:
    smtp.users[USER] = PASSWORD
    linked = await link(bench, smtp.port, username=USER)
    await connectors.update(bench.store, replace(linked.connector, email_address=None))
    row = await sender.send(bench.services, linked.connector.id, DRAFT)
    assert (row.sender.address, smtp.received[0].login) == (USER, USER)


async def test_what_never_reached_a_server_is_raised(bench: Bench, smtp: SmtpServer) -> None:
    with pytest.raises(NotFound):
        await sender.send(bench.services, ConnectorId(no_such_id()), DRAFT)
    with pytest.raises(Conflict):
        await sender.send(bench.services, (await bench.link(1)).connector.id, DRAFT)
    with pytest.raises(Conflict):
        await sender.send(bench.services, (await link(bench, smtp.port, enabled=False)).connector.id, DRAFT)
    linked = await link(bench, free_port())
    with pytest.raises(Unreachable):
        await sender.send(bench.services, linked.connector.id, DRAFT)
    (row,), _ = await records(linked)
    assert row.state is SentState.FAILED


async def test_password_is_in_nothing_that_is_recorded(bench: Bench, smtp: SmtpServer) -> None:
    linked = await link(bench, smtp.port, username=USER)
    smtp.users[USER] = "another"
    with pytest.raises(MailServerError) as told:
        await sender.send(bench.services, linked.connector.id, DRAFT)
    assert isinstance(told.value, AuthRefused | SendRefused)
    assert PASSWORD not in repr(await records(linked)) + str(told.value)


async def test_connector_deleted_while_its_mail_is_sent_does_not_lose_the_record(
    bench: Bench, smtp: SmtpServer
) -> None:
    linked = await link(bench, smtp.port)
    loop = asyncio.get_running_loop()

    def remove(_mail: Received) -> None:
        asyncio.run_coroutine_threadsafe(connectors.remove(bench.store, linked.connector.id), loop).result(10)

    smtp.deliver = remove
    made = await sender.send(bench.services, linked.connector.id, DRAFT)
    (row,), noted = await records(linked)
    assert (row.id, row.state, noted) == (made.id, SentState.SENT, [])
