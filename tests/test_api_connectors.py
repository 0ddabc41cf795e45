"""MailSlurp's own Python client against the connector operations."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from api_site import MAIL, PASSWORD, SDK, Site, open_site
from inboxd.model import ConnectorId, Event, EventId, EventStatus, EventType, InboxId, utc_now
from inboxd.store import connectors, events, inboxes


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def _call(site: Site, operation: str, *arguments: object, **more: object) -> Any:
    return await site.sdk(lambda client: getattr(SDK.ConnectorControllerApi(client), operation)(*arguments, **more))


async def _refused(site: Site, operation: str, *arguments: object, **more: object) -> int:
    with pytest.raises(SDK.ApiException) as refused:
        await _call(site, operation, *arguments, **more)
    return int(refused.value.status)


def _with_options() -> Any:
    return SDK.CreateConnectorWithOptions(
        create_connector_options=SDK.CreateConnectorOptions(name="Work", email_address="me@example.com", enabled=True),
        create_connector_imap_connection_options=SDK.CreateConnectorImapConnectionOptions(
            imap_host="imap.example.com", imap_port=993, imap_ssl=True, imap_username="me", imap_password=PASSWORD
        ),
        create_connector_smtp_connection_options=SDK.CreateConnectorSmtpConnectionOptions(
            smtp_host="smtp.example.com", smtp_port=465, smtp_ssl=True, start_tls=True, smtp_password=PASSWORD
        ),
        create_connector_sync_settings_options=SDK.CreateConnectorSyncSettingsOptions(
            sync_enabled=True, sync_schedule_type="INTERVAL", sync_interval=5
        ),
    )


async def test_create_with_options_makes_everything_at_once(site: Site) -> None:
    made = await _call(site, "create_connector_with_options", _with_options())
    assert (made.name, made.email_address, made.enabled) == ("Work", "me@example.com", True)
    assert UUID(made.user_id) == site.services.user_id
    imap = await _call(site, "get_connector_imap_connection", made.id)
    assert (imap.present, imap.result.imap_host, imap.result.imap_port) == (True, "imap.example.com", 993)
    assert (imap.result.imap_ssl, imap.result.start_tls, imap.result.imap_password) == (True, False, None)
    smtp = await _call(site, "get_connector_smtp_connection", made.id)
    assert (smtp.result.smtp_ssl, smtp.result.smtp_port, smtp.result.smtp_password) == (True, 465, None)
    sync = await _call(site, "get_connector_sync_settings", made.id)
    assert (sync.result.sync_enabled, sync.result.sync_interval) == (True, 5)
    assert sync.result.sync_schedule_type == "INTERVAL"
    assert ConnectorId(UUID(made.id)) in {one.connector.id for one in await connectors.synced(site.services.store)}


async def test_create_with_options_is_all_or_nothing(site: Site) -> None:
    options = _with_options()
    options.create_connector_imap_connection_options.ssl_trust = "sha256:abc"
    assert await _refused(site, "create_connector_with_options", options) == 400
    assert await site.connector_count() == 0


async def test_a_new_connector_gets_an_inbox_of_its_own(site: Site) -> None:
    named = await _call(site, "create_connector", SDK.CreateConnectorOptions(email_address="a@example.com"))
    inbox = await inboxes.get(site.services.store, InboxId(UUID(named.inbox_id)))
    assert (inbox.email_address, inbox.connected) == ("a@example.com", True)
    nameless = await _call(site, "create_connector", SDK.CreateConnectorOptions())
    inbox = await inboxes.get(site.services.store, InboxId(UUID(nameless.inbox_id)))
    assert inbox.email_address == f"{inbox.id}@inboxd.local"


async def test_a_new_connector_can_be_attached_to_an_inbox(site: Site) -> None:
    first = await _call(site, "create_connector", SDK.CreateConnectorOptions())
    await _call(site, "delete_connector", first.id)
    second = await _call(site, "create_connector", SDK.CreateConnectorOptions(), inbox_id=first.inbox_id)
    assert second.inbox_id == first.inbox_id
    assert await _refused(site, "create_connector", SDK.CreateConnectorOptions(), inbox_id=str(uuid4())) == 404


async def test_lists_are_paged_and_ordered(site: Site) -> None:
    made = [await _call(site, "create_connector", SDK.CreateConnectorOptions(name=f"c{n}")) for n in range(5)]
    page = await _call(site, "get_connectors", page=1, size=2, sort="ASC")
    assert [row.name for row in page.content] == ["c2", "c3"]
    assert (page.total_elements, page.total_pages, page.size, page.number) == (5, 3, 2, 1)
    assert (page.first, page.last, page.empty, page.number_of_elements) == (False, False, False, 2)
    assert (page.pageable.offset, page.pageable.page_number, page.pageable.page_size) == (2, 1, 2)
    newest = await _call(site, "get_connectors", sort="DESC", size=1)
    assert newest.content[0].id == made[-1].id
    beyond = await _call(site, "get_connectors", page=9)
    assert (beyond.content, beyond.empty, beyond.last, beyond.total_elements) == ([], True, True, 5)


async def test_lists_are_limited_by_dates_of_every_form(site: Site) -> None:
    await _call(site, "create_connector", SDK.CreateConnectorOptions())
    now = datetime.now(UTC)
    for early in (now - timedelta(days=1), (now - timedelta(days=1)).replace(tzinfo=None), datetime(2020, 1, 1)):  # noqa: DTZ001
        assert (await _call(site, "get_connectors", since=early)).total_elements == 1
        assert (await _call(site, "get_connectors", before=early)).total_elements == 0
    later = (now + timedelta(hours=1)).astimezone(timezone(timedelta(hours=-11)))
    assert (await _call(site, "get_connectors", since=later)).total_elements == 0
    for text in ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00.123456Z", "2020-01-01", "2020-01-01T00:00:00+02:00"):
        assert (await site.ask("GET", f"/connectors?since={text}")).json["totalElements"] == 1


async def test_get_and_update_and_delete(site: Site) -> None:
    made = await _call(site, "create_connector", SDK.CreateConnectorOptions(name="old", email_address="a@example.com"))
    changed = await _call(site, "update_connector", made.id, SDK.CreateConnectorOptions(name="new", enabled=False))
    assert (changed.name, changed.enabled, changed.email_address) == ("new", False, "a@example.com")
    got = await _call(site, "get_connector", made.id)
    assert (got.name, got.enabled, got.id, got.inbox_id) == ("new", False, made.id, made.inbox_id)
    assert got.created_at.tzinfo is not None
    await _call(site, "delete_connector", made.id)
    for operation in ("get_connector", "delete_connector", "get_connector_imap_connection", "get_connector_events"):
        assert await _refused(site, operation, made.id) == 404
    assert await _refused(site, "update_connector", made.id, SDK.CreateConnectorOptions()) == 404


async def test_deleting_connectors_keeps_inboxes_and_mails(site: Site) -> None:
    made = [await site.new_connector(name=f"c{n}") for n in range(3)]
    await site.deliver(made[0], MAIL)
    await _call(site, "delete_all_connector")
    assert await site.connector_count() == 0
    assert await site.count(made[0]) == 1


async def test_connectors_are_found_by_name_inbox_and_address(site: Site) -> None:
    made = await _call(site, "create_connector", SDK.CreateConnectorOptions(name="n", email_address="Me@example.com"))
    for operation, given in (
        ("get_connector_by_name", "n"),
        ("get_connector_by_inbox_id", made.inbox_id),
        ("get_connector_by_email_address", "me@EXAMPLE.com"),
    ):
        assert (await _call(site, operation, given)).result.id == made.id
    assert (await site.ask("GET", "/connectors/by-name?name=other")).json == {"present": False}
    assert (await site.ask("GET", f"/connectors/by-inbox-id?inboxId={uuid4()}")).json == {"present": False}
    assert (await site.ask("GET", "/connectors/by-name")).status == 400


async def test_provider_settings_are_those_of_google_and_microsoft(site: Site) -> None:
    presets = await _call(site, "get_connector_provider_settings")
    google, microsoft = presets.google_settings, presets.microsoft_settings
    assert (google.mail_provider, google.imap_host, google.imap_port) == ("GOOGLE", "imap.gmail.com", 993)
    assert (google.imap_ssl, google.imap_start_tls, google.smtp_ssl, google.smtp_start_tls) == (True, False, True, True)
    assert (google.smtp_host, google.smtp_port) == ("smtp.gmail.com", 465)
    assert (microsoft.imap_host, microsoft.smtp_port) == ("outlook.office365.com", 587)
    assert (microsoft.smtp_ssl, microsoft.smtp_start_tls) == (False, True)


async def test_sync_settings_are_made_replaced_and_deleted(site: Site) -> None:
    made = await _call(site, "create_connector", SDK.CreateConnectorOptions())
    assert (await site.ask("GET", f"/connectors/{made.id}/sync-settings")).json == {"present": False}
    options = SDK.CreateConnectorSyncSettingsOptions(sync_enabled=False, sync_interval=90)
    await _call(site, "create_connector_sync_settings", made.id, SDK.CreateConnectorSyncSettingsOptions())
    replaced = await _call(site, "create_connector_sync_settings", made.id, options)
    stored = (await _call(site, "get_connector_sync_settings", made.id)).result
    assert (stored.id, stored.sync_enabled, stored.sync_interval) == (replaced.id, False, 90)
    for _ in range(2):
        await _call(site, "delete_connector_sync_settings", made.id)
    assert not (await _call(site, "get_connector_sync_settings", made.id)).present
    for wrong in ({"syncInterval": 0}, {"syncInterval": "x"}, {"syncScheduleType": "CRON"}, {"syncEnabled": 7}):
        assert (await site.ask("POST", f"/connectors/{made.id}/sync-settings", wrong)).status == 400


async def test_events_are_listed_filtered_and_shown_with_logs(site: Site) -> None:
    made = [await _call(site, "create_connector", SDK.CreateConnectorOptions(name=f"c{n}")) for n in range(2)]
    stored = [
        Event(
            EventId(uuid4()),
            ConnectorId(UUID(row.id)),
            kind,
            status,
            3,
            utc_now(),
            "words",
            "line 1\nline 2",
            duration=lasted,
        )
        for row in made
        for kind, status, lasted in (
            (EventType.SYNC, EventStatus.SUCCESS, timedelta(seconds=2.5)),
            (EventType.SEND, EventStatus.CONNECTION_ERROR, None),
        )
    ]
    for event in stored:
        await events.add(site.services.store, event)
    own = await _call(site, "get_connector_events", made[0].id, sort="DESC")
    assert [row.id for row in own.content] == [str(stored[1].id), str(stored[0].id)]
    assert (await _call(site, "get_all_connector_events")).total_elements == 4
    assert (await _call(site, "get_all_connector_events", id=made[1].id)).total_elements == 2
    sends = await _call(site, "get_all_connector_events", event_type="SEND")
    assert {row.status for row in sends.content} == {"CONNECTION_ERROR"}
    assert not {"logs", "seconds"} & (await site.ask("GET", "/connectors/events")).json["content"][0].keys()
    timed = (await site.ask_control("GET", f"/control/connectors/{made[0].id}/events?sort=DESC")).json["content"]
    assert [(row["id"], row["seconds"]) for row in timed] == [(str(stored[1].id), None), (str(stored[0].id), 2.5)]
    whole = (await site.ask_control("GET", f"/control/events/{stored[0].id}")).json
    assert (whole["seconds"], whole["logs"]) == (2.5, "line 1\nline 2")
    one = await _call(site, "get_connector_event", str(stored[0].id))
    assert (one.logs, one.message, one.size, one.event_type) == ("line 1\nline 2", "words", 3, "SYNC")
    assert await _refused(site, "get_connector_event", str(uuid4())) == 404
    assert (await site.ask("GET", "/connectors/events?eventType=OTHER")).status == 400


async def test_a_failed_sync_is_a_good_answer_with_the_reason(site: Site) -> None:
    made = await _call(site, "create_connector", SDK.CreateConnectorOptions(name="lonely"))
    failed = await _call(site, "sync_connector", made.id, logging=True, since=datetime(2020, 1, 1))  # noqa: DTZ001
    assert "IMAP" in failed.exception
    assert failed.sync_result is None
    event = await _call(site, "get_connector_event", failed.event_id)
    assert (event.event_type, event.status) == ("SYNC", "INTERNAL_ERROR")
    assert "syncResult" not in (await site.ask("POST", f"/connectors/{made.id}/sync")).json
    assert await _refused(site, "sync_connector", str(uuid4())) == 404


async def test_changes_reach_the_roster(site: Site) -> None:
    told: list[str] = []
    site.services.roster.refresh = lambda connector_id: told.append(str(connector_id))  # type: ignore[method-assign]
    made = await site.new_connector(name="x")
    path = f"/connectors/{made['id']}"
    for method, tail, body in (
        ("PUT", "", {"enabled": False}),
        ("POST", "/imap", {"imapHost": "h"}),
        ("PATCH", "/imap", {"selectFolder": "Archive"}),
        ("DELETE", "/imap", None),
        ("POST", "/sync-settings", {}),
        ("DELETE", "/sync-settings", None),
        ("DELETE", "", None),
    ):
        before = len(told)
        assert (await site.ask(method, path + tail, body)).status < 300
        assert told[before:] == [made["id"]], (method, tail)
