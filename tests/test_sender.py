"""Mails accepted, sent through real SMTP servers, and settled as what the server made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from inboxd import net
from inboxd.accepting import accept, prepare, send
from inboxd.errors import (
    AuthRefused,
    Conflict,
    ConnectionLost,
    Invalid,
    MailServerError,
    NotFound,
    PasswordStale,
    SendDeferred,
    SendRefused,
    SendUnknown,
    Unreachable,
)
from inboxd.mails import Draft
from inboxd.model import ConnectorId, EventStatus, EventType, Kind, SentState, Tls, Window
from inboxd.outbox import Chore, Delivery
from inboxd.providers import habits
from inboxd.sections import CredentialSettings, RelaySettings
from inboxd.services import Services
from inboxd.store import connectors, outbox_list, sent
from inboxd.store.engine import Store
from servers import LOOPBACK, free_port
from servers.mailbox import Bench, make_bench, sample
from servers.outbox import DRAFT, PASSWORD, USER, hurried, link, noted, until, working
from servers.smtp import Fault, SmtpServer, smtp_server
from servers.stores import blank_sqlite, no_such_id

WINDOW = Window(size=100)
SLOW: dict[str, Any] = {"retry_first_seconds": 3600.0, "retry_most_seconds": 3600.0}


def with_relay(services: Services, port: int) -> Services:
    relay = RelaySettings(host=LOOPBACK, port=port, tls=Tls.NONE)
    return replace(services, settings=services.settings.model_copy(update={"relay": relay}))


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return blank_sqlite(tmp_path)


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path)


@pytest.fixture
def smtp() -> Generator[SmtpServer]:
    with smtp_server() as server:
        yield server


async def test_sent_mail_is_recorded_with_the_servers_words_and_its_bytes(bench: Bench, smtp: SmtpServer) -> None:
    linked, services = await link(bench, smtp.port), hurried(bench)
    before = sample("inboxd_sends_total", result="sent")
    async with working(services):
        row = await send(services, linked.connector.id, DRAFT)
    assert (row.state, row.reply) == (SentState.SENT, "250 2.0.0 OK: queued")
    assert (row.sender.address, row.to, row.cc) == ("work@example.com", DRAFT.to, DRAFT.cc)
    assert row.sent_at is not None
    (mail,) = smtp.received
    assert mail.rcpt_tos == ("bob@example.com", "eve@example.com", "carl@example.com")
    assert await sent.raw(bench.store, row.id) == mail.content
    (event,) = await noted(linked)
    assert (event.type, event.status, event.size) == (EventType.SEND, EventStatus.SUCCESS, 1)
    assert "RCPT TO:<eve@example.com>" in (event.logs or "")
    assert event.duration is not None
    assert sample("inboxd_sends_total", result="sent") == before + 1


@pytest.mark.parametrize(
    ("answers", "kind", "state"),
    [
        ({"MAIL": "550 5.7.1 not you"}, SendRefused, SentState.FAILED),
        ({"MAIL": "451 4.3.0 later"}, SendDeferred, SentState.DEFERRED),
        ({"RCPT": "550 5.1.1 nobody there"}, SendRefused, SentState.FAILED),
        ({"RCPT": "450 4.2.0 greylisted"}, SendDeferred, SentState.DEFERRED),
        ({"DATA": "554 5.6.0 no"}, SendRefused, SentState.FAILED),
        ({"DOT": "552 5.3.4 too big"}, SendRefused, SentState.FAILED),
        ({"DOT": "452 4.3.1 disk full"}, SendDeferred, SentState.DEFERRED),
        ({"MAIL": Fault.DROP}, ConnectionLost, SentState.DEFERRED),
        ({"DATA": Fault.DROP}, ConnectionLost, SentState.DEFERRED),
        ({"DOT": Fault.DROP}, SendUnknown, SentState.UNKNOWN),
    ],
)
async def test_the_first_outcome_is_raised_and_recorded_as_what_it_was(
    bench: Bench, smtp: SmtpServer, answers: dict[str, str | Fault], kind: type[MailServerError], state: SentState
) -> None:
    linked, services = await link(bench, smtp.port), hurried(bench, **SLOW)
    smtp.answers |= answers
    before = sample("inboxd_send_attempts_total", result=state.value)
    async with working(services):
        with pytest.raises(kind) as told:
            await send(services, linked.connector.id, DRAFT)
    (entry,) = (await outbox_list.page(bench.store, WINDOW)).rows
    record = await outbox_list.get(bench.store, entry.id)
    assert (entry.state, entry.attempts, entry.kind) == (state, 1, kind.__name__)
    assert entry.reply
    assert entry.reply in str(told.value)
    assert (str(entry.id) in str(told.value)) == (state is not SentState.FAILED)
    assert [one.stage for one in record.tries] == [entry.stage]
    (event,) = await noted(linked)
    assert (event.status, event.size) == (EventStatus.CONNECTION_ERROR, 0)
    assert (event.message or "").startswith(f"{state.value}: ")
    for answer in answers.values():
        assert isinstance(answer, Fault) or answer[4:] in entry.reply
    assert sample("inboxd_send_attempts_total", result=state.value) == before + 1
    assert b"hello" in await sent.raw(bench.store, entry.id)


async def test_what_is_put_off_is_tried_again_until_the_server_takes_it(bench: Bench, smtp: SmtpServer) -> None:
    linked, services = await link(bench, smtp.port), hurried(bench)
    smtp.answers["RCPT"] = "450 4.2.0 greylisted"
    async with working(services):
        accepted = await accept(services, linked.connector.id, DRAFT)
        await asyncio.to_thread(smtp.wait_for_command, "RCPT", 9)
        del smtp.answers["RCPT"]
        record = await until(services, accepted.id, SentState.SENT)
    assert record.entry.attempts == len(record.tries) >= 4
    assert len(smtp.received) == 1


async def test_a_mail_that_is_put_off_for_too_long_fails_with_the_last_words(bench: Bench, smtp: SmtpServer) -> None:
    linked, services = await link(bench, smtp.port), hurried(bench, lifetime_seconds=0.2)
    smtp.answers["RCPT"] = "450 4.2.0 greylisted"
    async with working(services):
        accepted = await accept(services, linked.connector.id, DRAFT)
        record = await until(services, accepted.id, SentState.FAILED)
    assert "greylisted" in (record.entry.reply or "")
    assert {one.state for one in record.recipients} == {Delivery.REFUSED}
    assert (await noted(linked))[-1].status is EventStatus.CONNECTION_ERROR


async def test_recipients_are_kept_apart_and_only_those_put_off_are_tried_again(bench: Bench, smtp: SmtpServer) -> None:
    linked, services = await link(bench, smtp.port), hurried(bench)
    smtp.answers["RCPT eve@example.com"] = "550 5.1.1 no eve here"
    smtp.answers["RCPT carl@example.com"] = "450 4.2.0 greylisted"
    async with working(services):
        accepted = await accept(services, linked.connector.id, DRAFT)
        await until(services, accepted.id, SentState.DEFERRED)
        del smtp.answers["RCPT carl@example.com"]
        record = await until(services, accepted.id, SentState.SENT)
    assert [mail.rcpt_tos for mail in smtp.received] == [("bob@example.com",), ("carl@example.com",)]
    assert [(one.address, one.state) for one in record.recipients] == [
        ("bob@example.com", Delivery.ACCEPTED),
        ("eve@example.com", Delivery.REFUSED),
        ("carl@example.com", Delivery.ACCEPTED),
    ]
    assert record.recipients[1].reply == "550 5.1.1 no eve here"
    row = await sent.get(bench.store, accepted.id)
    assert "eve@example.com: 550 5.1.1 no eve here" in (row.reply or "")


async def test_silent_server_after_the_whole_mail_is_unknown_and_not_sent_again(bench: Bench, smtp: SmtpServer) -> None:
    linked, services = await link(bench, smtp.port), hurried(bench, smtp={"data_seconds": 0.2})
    smtp.answers["DOT"] = Fault.STALL
    async with working(services):
        with pytest.raises(SendUnknown, match="does not send it again by itself"):
            await send(services, linked.connector.id, DRAFT)
        del smtp.answers["DOT"]
        await send(services, linked.connector.id, replace(DRAFT, subject="the next one"))
    assert len(smtp.received) == 2
    assert b"the next one" in smtp.received[1].content


async def test_a_sender_that_is_stopped_lets_the_mail_on_its_way_end(bench: Bench) -> None:
    held, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(_mail: object) -> None:
        loop.call_soon_threadsafe(held.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)

    with smtp_server(deliver=hold) as smtp:
        linked, services = await link(bench, smtp.port), hurried(bench)
        async with asyncio.TaskGroup() as group, working(services):
            accepted = await accept(services, linked.connector.id, DRAFT)
            waiting = await accept(services, linked.connector.id, DRAFT)
            await held.wait()
            group.create_task(set_soon(release))
        assert (await outbox_list.entry(bench.store, accepted.id)).state is SentState.SENT
        assert (await outbox_list.entry(bench.store, waiting.id)).state is SentState.QUEUED
        assert len(smtp.received) == 1


async def set_soon(event: asyncio.Event) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    event.set()


async def test_a_sender_that_may_not_wait_leaves_the_mail_on_its_way_as_unknown(bench: Bench, smtp: SmtpServer) -> None:
    linked, services = await link(bench, smtp.port), hurried(bench, stop_seconds=0.0)
    smtp.answers["DOT"] = Fault.STALL
    async with working(services):
        accepted = await accept(services, linked.connector.id, DRAFT)
        await asyncio.to_thread(smtp.wait_for)
    assert (await outbox_list.entry(bench.store, accepted.id)).state is SentState.UNKNOWN


async def test_one_connection_serves_many_mails_and_a_stale_one_is_replaced(bench: Bench, smtp: SmtpServer) -> None:
    linked, services = await link(bench, smtp.port), hurried(bench, **SLOW)
    async with working(services):
        for number in range(5):
            await send(services, linked.connector.id, replace(DRAFT, subject=f"mail {number}"))
        assert sum(command.startswith("EHLO") for command in smtp.commands) == 1
        smtp.drop_all()
        await send(services, linked.connector.id, DRAFT)
    assert len(smtp.received) == 6
    assert sum(command.startswith("EHLO") for command in smtp.commands) == 2
    page = await outbox_list.page(bench.store, WINDOW)
    assert {row.attempts for row in page.rows} == {1}


async def test_a_way_that_is_closed_holds_all_mails_and_costs_each_no_connection(bench: Bench) -> None:
    linked, services = await link(bench, free_port()), hurried(bench, **SLOW)
    async with working(services):
        with pytest.raises(Unreachable):
            await send(services, linked.connector.id, DRAFT)
        with pytest.raises(Unreachable):  # at once, in the same words
            await send(services, linked.connector.id, DRAFT)
    rows = (await outbox_list.page(bench.store, WINDOW)).rows
    assert [row.state for row in rows] == [SentState.DEFERRED] * 2
    assert sorted(row.attempts for row in rows) == [0, 1]


async def test_a_changed_connection_ends_the_rest_at_once(bench: Bench, smtp: SmtpServer) -> None:
    linked, services = await link(bench, free_port()), hurried(bench, **SLOW)
    async with working(services):
        with pytest.raises(Unreachable):
            await send(services, linked.connector.id, DRAFT)
        connection = await connectors.connection(bench.store, linked.connector.id, Kind.SMTP)
        assert connection is not None
        await connectors.put_connection(bench.store, replace(connection, port=smtp.port))
        await send(services, linked.connector.id, DRAFT)
    assert len(smtp.received) == 1


async def test_refused_login_holds_the_queue_and_burns_no_mail(bench: Bench, smtp: SmtpServer) -> None:
    linked, services = await link(bench, smtp.port, username=USER), hurried(bench, **SLOW)
    smtp.users[USER] = "another"
    async with working(services):
        with pytest.raises(AuthRefused):
            await send(services, linked.connector.id, DRAFT)
        with pytest.raises(AuthRefused) as told:
            await send(services, linked.connector.id, DRAFT)
    assert smtp.commands.count("AUTH") == 1
    assert PASSWORD not in str(told.value) + repr(await noted(linked))


async def test_limit_a_minute_holds_back_what_is_too_much(bench: Bench, smtp: SmtpServer) -> None:
    linked, services = await link(bench, smtp.port), hurried(bench, per_minute=3)
    impatient = hurried(bench, per_minute=3, confirm_seconds=0.2)
    async with working(services):
        for _ in range(3):
            assert (await send(services, linked.connector.id, DRAFT)).state is SentState.SENT
        held = await send(replace(impatient, sends=services.sends), linked.connector.id, DRAFT)
    assert held.state is SentState.QUEUED
    async with working(impatient):  # a sender that begins anew remembers
        assert (await send(impatient, linked.connector.id, DRAFT)).state is SentState.QUEUED
    assert len(smtp.received) == 3


async def test_a_refused_mail_goes_by_the_relay_where_the_sender_wants_that(bench: Bench, smtp: SmtpServer) -> None:
    with smtp_server() as relay:
        linked, services = await link(bench, smtp.port), hurried(bench, **SLOW)
        services = with_relay(services, relay.port)
        smtp.answers["MAIL"] = "550 5.7.1 not you"
        async with working(services):
            row = await send(services, linked.connector.id, DRAFT, use_fallback=True)
            with pytest.raises(SendRefused):
                await send(services, linked.connector.id, DRAFT)
        assert row.state is SentState.SENT
        assert len(relay.received) == 1
        record = await outbox_list.get(bench.store, row.id)
        assert [one.kind for one in record.tries] == ["SendRefused", ""]


async def test_the_relay_serves_connectors_that_cannot_send_and_those_out_of_reach(bench: Bench) -> None:
    with smtp_server() as relay:
        services = with_relay(hurried(bench, **SLOW), relay.port)
        unable, away = await bench.link(1), await link(bench, free_port())
        async with working(services):
            await send(services, unable.connector.id, DRAFT, use_fallback=True)
            for _ in range(2):
                await send(services, away.connector.id, DRAFT, use_fallback=True)
            with pytest.raises(Conflict):
                await send(services, unable.connector.id, DRAFT)
        assert len(relay.received) == 3


async def test_connector_without_any_address_needs_one_in_the_request(bench: Bench, smtp: SmtpServer) -> None:
    linked = await link(bench, smtp.port)
    await connectors.update(bench.store, replace(linked.connector, email_address=None))
    with pytest.raises(Invalid) as told:
        await accept(bench.services, linked.connector.id, DRAFT)
    assert told.value.field == "from"
    assert (await outbox_list.page(bench.store, WINDOW)).total == 0
    parcel = await prepare(bench.services, linked.connector.id, replace(DRAFT, sender="given@example.com"))
    assert parcel.built.sender == "given@example.com"


async def test_sender_without_an_address_is_the_accounts_name(bench: Bench, smtp: SmtpServer) -> None:
    linked = await link(bench, smtp.port, username=USER)
    await connectors.update(bench.store, replace(linked.connector, email_address=None))
    assert (await prepare(bench.services, linked.connector.id, DRAFT)).built.sender == USER


async def test_what_cannot_be_sent_is_not_accepted(bench: Bench, smtp: SmtpServer) -> None:
    with pytest.raises(NotFound):
        await accept(bench.services, ConnectorId(no_such_id()), DRAFT)
    with pytest.raises(Conflict):
        await accept(bench.services, (await bench.link(1)).connector.id, DRAFT)
    with pytest.raises(Conflict):
        await accept(bench.services, (await link(bench, smtp.port, enabled=False)).connector.id, DRAFT)
    with pytest.raises(Invalid):
        await accept(bench.services, (await link(bench, smtp.port)).connector.id, Draft(sender="", to=()))
    assert (await outbox_list.page(bench.store, WINDOW)).total == 0


async def test_mails_of_a_connector_that_was_deleted_fail_with_that_reason(bench: Bench) -> None:
    linked, services = await link(bench, free_port()), hurried(bench, **SLOW)
    accepted = await accept(services, linked.connector.id, DRAFT)
    await connectors.remove(bench.store, linked.connector.id)
    async with working(services):
        record = await until(services, accepted.id, SentState.FAILED)
    assert "deleted" in (record.entry.reply or "")


async def test_as_many_connections_are_used_as_are_allowed(bench: Bench, smtp: SmtpServer) -> None:
    linked, services = await link(bench, smtp.port), hurried(bench, connections=3, stop_seconds=0.1)
    smtp.answers["DATA"] = Fault.STALL
    for _ in range(9):
        await accept(services, linked.connector.id, DRAFT)
    async with working(services):
        await asyncio.to_thread(smtp.wait_for_command, "DATA", 3)
    assert sum(command.startswith("EHLO") for command in smtp.commands) == 3
    assert sum(command.startswith("DATA") for command in smtp.commands) == 3
    rows = (await outbox_list.page(bench.store, WINDOW)).rows
    assert {row.state for row in rows} == {SentState.QUEUED}


@pytest.mark.parametrize(
    ("sent_copy", "host", "chores"),
    [
        ("auto", "smtp.example.com", (Chore.FILE,)),
        ("auto", "smtp.gmail.com", ()),
        ("auto", "SMTP.Office365.com", ()),
        ("always", "smtp.gmail.com", (Chore.FILE,)),
        ("never", "smtp.example.com", ()),
    ],
)
async def test_copies_are_filed_where_the_provider_does_not_and_the_operator_wants_them(
    bench: Bench, smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch, sent_copy: str, host: str, chores: tuple[Chore]
) -> None:
    real = net.resolve

    async def resolve(name: str, port: int) -> object:
        return await real(LOOPBACK if name == host else name, port)

    monkeypatch.setattr(net, "resolve", resolve)
    linked, services = await link(bench, smtp.port, host=host), hurried(bench, sent_copy=sent_copy)
    async with working(services):
        row = await send(services, linked.connector.id, DRAFT)
    assert (await outbox_list.get(bench.store, row.id)).chores == chores


def test_gmails_daily_limit_depends_on_the_kind_of_account() -> None:
    assert habits("smtp.gmail.com", "ann@gmail.com").per_day == 500
    assert habits("smtp.gmail.com", "ann@company.example").per_day == 2_000
    assert habits("smtp.office365.com", None).per_minute == 30
    assert habits("smtp.office365.com", None).connections == 3


async def test_a_password_kept_outside_is_read_for_each_connection(bench: Bench, tmp_path: Path) -> None:
    """One that is refused may be about to change: the mail waits, and goes once it has."""
    kept = tmp_path / "kept"
    with smtp_server(users={USER: "the first"}) as server:
        await link(bench, server.port, username=USER, password_source=f"file:{kept}")
        services = hurried(bench, smtp={"reuse_seconds": 0.0})
        credentials = CredentialSettings(folders=str(tmp_path))
        services = replace(services, settings=services.settings.model_copy(update={"credentials": credentials}))
        (connector,) = (await connectors.page(bench.store, WINDOW)).rows
        async with working(services):
            kept.write_text("the first\n")
            assert (await send(services, connector.id, DRAFT)).state is SentState.SENT
            server.users[USER] = "the second"
            with pytest.raises(PasswordStale, match="read again"):
                await send(services, connector.id, DRAFT)
            rows = (await outbox_list.page(bench.store, WINDOW)).rows
            (waiting,) = [row for row in rows if row.state is not SentState.SENT]
            kept.write_text("the second\n")
            record = await until(services, waiting.id, SentState.SENT)
    assert record.entry.attempts > 1
    assert [mail.login for mail in server.received] == [USER, USER]
