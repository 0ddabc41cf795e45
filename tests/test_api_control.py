"""The control socket's own operations."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest_asyncio

from api_site import MAIL, Site, attention, open_site
from inboxd import __version__
from inboxd.mails import Place
from inboxd.model import ConnectorId, InboxId, utc_now
from inboxd.store import messages
from servers.dovecot import Dovecot
from servers.smtp import smtp_server
from servers.stores import make_incoming


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


@asynccontextmanager
async def _lines(site: Site, method: str, path: str) -> AsyncGenerator[AsyncIterator[Any]]:
    """The JSON lines of a stream as they come; empty ones are None."""
    async with site.control.request(method, f"http://inboxd{path}") as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"].startswith("application/x-ndjson")
        yield _read(response)


async def _read(response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    async for line in response.content:
        yield json.loads(line) if line.strip() else None


async def _all(site: Site, method: str, path: str) -> list[Any]:
    async with _lines(site, method, path) as lines:
        return [line async for line in lines if line is not None]


async def _linked(site: Site, dovecot: Dovecot, mails: int = 0) -> dict[str, Any]:
    user, server = dovecot.user(), dovecot.starttls
    for _ in range(mails):
        await asyncio.to_thread(dovecot.append, user, MAIL)
    made = await site.new_connector(name="linked", emailAddress="me@example.com")
    options = {"imapHost": server.host, "imapPort": server.port, "imapSsl": False, "imapUsername": user.name}
    answer = await site.ask("POST", f"/connectors/{made['id']}/imap", options | {"imapPassword": user.password})
    assert answer.status == 201
    return made


async def test_status_shows_the_daemon_and_its_connectors(site: Site, tmp_path: Path) -> None:
    made = await site.new_connector(name="n", emailAddress="a@example.com")
    await site.deliver(made, MAIL, MAIL)
    status = (await site.ask_control("GET", "/control/status")).json
    assert (status["version"], status["stateDir"]) == (__version__, str(tmp_path))
    assert (status["api"], status["metrics"]) == ("127.0.0.1:8025", "127.0.0.1:9464")
    assert status["store"].startswith("sqlite:///")
    assert status["uptimeSeconds"] >= 0
    assert status["mistakes"] == []
    (row,) = status["connectors"]
    assert (row["id"], row["name"], row["state"], row["messages"]) == (made["id"], "n", "off", 2)
    expected = {
        "id", "name", "emailAddress", "inboxId", "enabled", "state", "reason", "since", "lastSyncAt",
        "lastServerActivityAt", "retryAt", "failures", "messages", "progress", "declared", "budget",
    }  # fmt: skip
    assert set(row) == expected


async def test_watch_shows_each_new_message_once_and_in_order(site: Site) -> None:
    made, other = [await site.new_connector(name=name) for name in ("one", "two")]
    await site.deliver(made, MAIL)
    async with asyncio.timeout(20), _lines(site, "GET", "/control/watch") as lines:
        assert await anext(lines) is None
        stored = await site.deliver(made, *([MAIL] * 3), first_uid=2)
        stored += await site.deliver(other, MAIL)
        shown = [await anext(lines) for _ in range(4)]
        stored += await site.deliver(other, MAIL, first_uid=2)
        shown.append(await anext(lines))
    assert [line["id"] for line in shown] == [str(message.id) for message in stored]
    assert [line["connectorName"] for line in shown] == ["one"] * 3 + ["two"] * 2
    assert (shown[0]["from"], shown[0]["subject"], shown[0]["sizeBytes"]) == (
        "ada@example.com",
        "Hello café",
        len(MAIL),
    )
    assert shown[0]["storedAt"].endswith("Z")
    assert shown[0]["receivedAt"].endswith("Z")


async def test_watch_shows_the_mails_of_a_first_load_although_they_are_created_before(site: Site) -> None:
    made = await site.new_connector(name="one")
    store, connector_id, inbox_id = site.services.store, ConnectorId(UUID(made["id"])), InboxId(UUID(made["inboxId"]))
    place, epoch = Place(connector_id, "INBOX", 7), utc_now() - timedelta(hours=1)
    async with asyncio.timeout(20), _lines(site, "GET", "/control/watch") as lines:
        assert await anext(lines) is None
        for uids in ((8, 9), (6, 7)):
            ready = messages.prepare(store, [make_incoming(uid) for uid in uids])
            stored = (await messages.add_ready(store, place, inbox_id, ready, epoch=epoch)).stored
            site.services.bus.publish(inbox_id)
            assert [(await anext(lines))["id"] for _ in stored] == [str(one.id) for one in stored]


async def test_a_mails_place_on_its_server_is_shown_with_its_labels(site: Site) -> None:
    made = await site.new_connector(name="one")
    store, connector_id, inbox_id = site.services.store, ConnectorId(UUID(made["id"])), InboxId(UUID(made["inboxId"]))
    incoming = make_incoming(8)
    incoming = replace(incoming, fetched=replace(incoming.fetched, flags=("\\Seen",), labels=("Inbox", "Work")))
    outcome = await messages.add_batch(store, Place(connector_id, "[Gmail]/All Mail", 7), inbox_id, [incoming])
    key = str(outcome.stored[0].id)
    assert (await site.ask_control("GET", f"/control/emails/{key}")).json == {
        "id": key,
        "connectorId": made["id"],
        "mailbox": "[Gmail]/All Mail",
        "uid": 8,
        "flags": ["\\Seen"],
        "labels": ["Inbox", "Work"],
    }
    assert (await site.ask_control("GET", f"/control/emails/{uuid4()}")).status == 404


async def test_watch_can_be_limited_to_a_connector(site: Site) -> None:
    made, other = [await site.new_connector(name=name) for name in ("one", "two")]
    async with asyncio.timeout(20), _lines(site, "GET", f"/control/watch?connectorId={made['id']}") as lines:
        assert await anext(lines) is None
        await site.deliver(other, MAIL)
        (stored,) = await site.deliver(made, MAIL)
        assert (await anext(lines))["id"] == str(stored.id)
    assert (await site.ask_control("GET", f"/control/watch?connectorId={uuid4()}")).status == 404


async def test_watch_ends_when_the_daemon_stops(site: Site) -> None:
    async with asyncio.timeout(20), _lines(site, "GET", "/control/watch") as lines:
        assert await anext(lines) is None
        await site.runner.cleanup()
        rest = [line async for line in lines]
    assert [line["status"] for line in rest] == [503]


async def test_a_watcher_that_leaves_is_forgotten(site: Site) -> None:
    made, seen = await site.new_connector(), attention(site)
    async with _lines(site, "GET", "/control/watch") as lines:
        assert await anext(lines) is None
    async with asyncio.timeout(20):
        uid = 0
        while not seen.ceased.is_set():
            await site.deliver(made, MAIL, first_uid=(uid := uid + 1))


async def test_sync_reports_progress_and_ends_with_its_result(site: Site, dovecot: Dovecot) -> None:
    made = await _linked(site, dovecot, mails=3)
    lines = await _all(site, "POST", f"/control/connectors/{made['id']}/sync")
    assert all(set(line) == {"progress"} for line in lines[:-1])
    assert lines[-2]["progress"]["done"] == lines[-2]["progress"]["total"] == 3
    assert lines[-2]["progress"]["receivedBytes"] > 0
    assert lines[-1]["result"]["syncResult"]["emailSyncCount"] == 3
    assert any("CAPABILITY" in line for line in lines[-1]["result"]["syncResult"]["logs"])
    assert (await site.ask_control("POST", f"/control/connectors/{uuid4()}/sync")).status == 404


async def test_a_failed_sync_ends_with_its_exception(site: Site) -> None:
    made = await site.new_connector()
    lines = await _all(site, "POST", f"/control/connectors/{made['id']}/sync?folder=Nowhere&since=2026-01-01")
    assert set(lines[-1]["result"]) == {"exception", "eventId"}


async def test_test_shows_each_step(site: Site, dovecot: Dovecot) -> None:
    made = await _linked(site, dovecot)
    with smtp_server() as server:
        smtp = {"smtpHost": server.host, "smtpPort": server.port, "smtpSsl": False}
        await site.ask("POST", f"/connectors/{made['id']}/smtp", smtp)
        both = await _all(site, "POST", f"/control/connectors/{made['id']}/test")
        alone = await _all(site, "POST", f"/control/connectors/{made['id']}/test?kind=smtp")
    assert {line["kind"] for line in both} == {"imap", "smtp"}
    assert {line["kind"] for line in alone} == {"smtp"}
    assert all(line["ok"] and line["seconds"] >= 0 for line in both)
    assert set(both[0]) == {"kind", "name", "ok", "seconds", "detail", "cause", "fix", "diagnosis"}
    assert (await site.ask_control("POST", f"/control/connectors/{made['id']}/test?kind=pop3")).status == 400


async def test_test_of_a_connector_without_connections_shows_nothing(site: Site) -> None:
    made = await site.new_connector()
    assert await _all(site, "POST", f"/control/connectors/{made['id']}/test") == []
    refused = await site.ask_control("POST", f"/control/connectors/{made['id']}/test?roundtrip=true")
    assert (refused.status, "no IMAP connection" in refused.json["message"]) == (409, True)


async def test_a_round_trip_that_cannot_be_made_ends_the_test_with_the_reason(site: Site, dovecot: Dovecot) -> None:
    made = await _linked(site, dovecot)
    *steps, end = await _all(site, "POST", f"/control/connectors/{made['id']}/test?roundtrip=true")
    assert all(step["ok"] for step in steps)
    assert "no SMTP connection" in end["message"]


async def test_send_delivers_bodies_and_attachments(site: Site) -> None:
    made = await site.new_connector(emailAddress="me@example.com")
    with smtp_server() as server:
        smtp = {"smtpHost": server.host, "smtpPort": server.port, "smtpSsl": False}
        await site.ask("POST", f"/connectors/{made['id']}/smtp", smtp)
        mail = {
            "to": ["Bob <bob@example.com>"], "cc": ["carl@example.com"], "bcc": ["dora@example.com"],
            "subject": "Grüße", "text": "plain", "html": "<p>rich</p>", "replyTo": "Re <reply@example.com>",
            "attachments": [
                {"name": "ä.bin", "contentType": "image/png", "base64": base64.b64encode(bytes(range(256))).decode()}
            ],
        }  # fmt: skip
        sent = await site.ask_control("POST", f"/control/connectors/{made['id']}/send", mail)
        assert sent.status == 200, sent.body
        (received,) = server.received
    assert (sent.json["to"], sent.json["from"]) == (["bob@example.com"], "me@example.com")
    assert sent.json["transport"] == "PUBLIC_EMAIL"
    assert set(received.rcpt_tos) == {"bob@example.com", "carl@example.com", "dora@example.com"}
    parsed = message_from_bytes(received.content, policy=default)
    assert (parsed["Subject"], parsed["Reply-To"], parsed["Bcc"]) == ("Grüße", "Re <reply@example.com>", None)
    (attachment,) = parsed.iter_attachments()
    assert (attachment.get_filename(), attachment.get_content()) == ("ä.bin", bytes(range(256)))


async def test_send_refuses_what_cannot_be_sent(site: Site) -> None:
    made = await site.new_connector(emailAddress="me@example.com")
    path = f"/control/connectors/{made['id']}/send"
    attachment = {"name": "x", "contentType": "text/plain", "base64": "eA=="}
    refused: tuple[dict[str, Any], ...] = (
        {"to": "bob@example.com"},
        {"to": []},
        {"to": ["no address"]},
        {"to": ["a@example.com\r\nBcc: b@example.com"]},
        {"to": ["a@example.com"], "subject": "x\r\nBcc: b@example.com"},
        {"to": ["a@example.com"], "from": "nobody"},
        {"to": ["a@example.com"], "attachments": [attachment | {"base64": "!!"}]},
        {"to": ["a@example.com"], "attachments": [attachment | {"contentType": "nonsense"}]},
        {"to": ["a@example.com"], "attachments": [attachment | {"name": "a\nb"}]},
    )
    for wrong in refused:
        answer = await site.ask_control("POST", path, wrong)
        assert answer.status == 400, (wrong, answer.body)
    assert (await site.ask_control("POST", path, {"to": ["a@example.com"], "text": "x"})).status == 409
