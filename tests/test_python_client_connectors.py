"""MailSlurp's Python client through every operation of the ConnectorController, on real servers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest

from servers.python import SDK, Walk, refused, walks


def imap(walk: Walk, **changed: object) -> Any:
    """The options of an IMAP connection to the mailbox."""
    listener = walk.dovecot.starttls
    options = {
        "imap_host": listener.host,
        "imap_port": listener.port,
        "imap_username": walk.user.name,
        "imap_password": walk.user.password,
        "imap_ssl": False,
        "start_tls": True,
        "enabled": True,
    }
    return SDK.CreateConnectorImapConnectionOptions(**(options | changed))


def smtp(walk: Walk, **changed: object) -> Any:
    """The options of an SMTP connection for the mailbox."""
    options = {
        "smtp_host": walk.smtp.host,
        "smtp_port": walk.smtp.port,
        "smtp_username": walk.user.name,
        "smtp_password": walk.user.password,
        "smtp_ssl": False,
        "start_tls": True,
        "enabled": True,
    }
    return SDK.CreateConnectorSmtpConnectionOptions(**(options | changed))


@walks("createConnectorWithOptions", "createConnector", "getConnector", "updateConnector", "createInbox", "getInbox")
def test_connectors_are_created_and_changed(walk: Walk) -> None:
    connectors, inboxes = walk.client.connectors, walk.client.inboxes
    whole = connectors.create_connector_with_options(
        SDK.CreateConnectorWithOptions(
            create_connector_options=SDK.CreateConnectorOptions(email_address=walk.user.name, name="whole"),
            create_connector_imap_connection_options=imap(walk),
            create_connector_smtp_connection_options=smtp(walk),
            create_connector_sync_settings_options=SDK.CreateConnectorSyncSettingsOptions(sync_enabled=False),
        )
    )
    assert (whole.name, whole.email_address, whole.enabled) == ("whole", walk.user.name, True)
    assert whole.created_at.utcoffset() == timedelta(0)
    inbox = inboxes.get_inbox(whole.inbox_id)
    assert (inbox.functions_as, inbox.email_address) == ("CONNECTOR", walk.user.name)
    assert inbox.user_id == whole.user_id

    chosen = inboxes.create_inbox(name="chosen")
    options = SDK.CreateConnectorOptions(name="bare", enabled=False)
    bare = connectors.create_connector(options, inbox_id=chosen.id)
    assert (bare.inbox_id, bare.enabled, bare.email_address) == (chosen.id, False, None)
    changed = connectors.update_connector(bare.id, SDK.CreateConnectorOptions(name="renamed", enabled=True))
    assert (changed.id, changed.name, changed.enabled) == (bare.id, "renamed", True)
    kept = connectors.update_connector(bare.id, SDK.CreateConnectorOptions(email_address="x@example.com"))
    assert (kept.name, kept.enabled, kept.email_address) == ("renamed", True, "x@example.com")
    assert connectors.get_connector(bare.id) == kept

    refused(404, connectors.create_connector, options, inbox_id=str(uuid4()))
    assert "inboxId" in refused(400, connectors.create_connector, options, inbox_id="nonsense")
    nonsense = SDK.CreateConnectorOptions(email_address="nonsense")
    assert "emailAddress" in refused(400, connectors.create_connector, nonsense)
    assert "emailAddress" in refused(400, connectors.update_connector, bare.id, nonsense)
    broken = SDK.CreateConnectorWithOptions(
        create_connector_options=options,
        create_connector_imap_connection_options=imap(walk, imap_port=0),
    )
    assert "imapPort" in refused(400, connectors.create_connector_with_options, broken)


@walks(
    "getConnectors", "getConnectorByName", "getConnectorByInboxId", "getConnectorByEmailAddress",
    "getConnectorProviderSettings",
)  # fmt: skip
def test_connectors_are_found(walk: Walk) -> None:
    connectors = walk.client.connectors
    first = walk.connector
    second = walk.daemon.http("POST", "/connectors", {"name": "second"})[1]
    page = connectors.get_connectors(page=0, size=1, sort="DESC")
    assert (page.total_elements, page.total_pages, page.number_of_elements) == (2, 2, 1)
    assert (page.first, page.last, page.empty, page.number, page.size) == (True, False, False, 0, 1)
    assert page.pageable.page_size == 1
    assert page.content[0].id == second["id"]
    assert [row.id for row in connectors.get_connectors(page=1, size=1, sort="DESC").content] == [first["id"]]
    assert connectors.get_connectors(before=datetime(2020, 1, 1, tzinfo=UTC)).content == []

    assert connectors.get_connector_by_name("second").result.id == second["id"]
    nobody = connectors.get_connector_by_name("nobody")
    assert (nobody.present, nobody.result) == (False, None)
    assert connectors.get_connector_by_inbox_id(first["inboxId"]).result.id == first["id"]
    assert connectors.get_connector_by_inbox_id(str(uuid4())).present is False
    assert connectors.get_connector_by_email_address(walk.user.name.upper()).result.id == first["id"]
    assert connectors.get_connector_by_email_address("nobody@example.com").present is False

    presets = connectors.get_connector_provider_settings()
    google, microsoft = presets.google_settings, presets.microsoft_settings
    assert (google.mail_provider, google.imap_host, google.imap_port) == ("GOOGLE", "imap.gmail.com", 993)
    assert (google.smtp_port, google.smtp_ssl, google.smtp_start_tls) == (465, True, True)
    assert (microsoft.mail_provider, microsoft.smtp_port, microsoft.smtp_ssl) == ("MICROSOFT", 587, False)

    assert "sort" in refused(400, connectors.get_connectors, sort="SIDEWAYS")
    assert "size" in refused(400, connectors.get_connectors, size="many")
    assert "since" in refused(400, connectors.get_connectors, since="yesterday")


@walks(
    "createConnectorImapConnection", "getConnectorImapConnection", "updateConnectorImapConnection",
    "deleteConnectorImapConnection", "testConnectorImapConnection", "testConnectorImapConnectionOptions",
)  # fmt: skip
def test_imap_connections_are_kept_and_tested(walk: Walk) -> None:
    connectors = walk.client.connectors
    identity = walk.daemon.http("POST", "/connectors", {"name": "bare"})[1]["id"]
    assert connectors.get_connector_imap_connection(identity).present is False
    nothing = connectors.test_connector_imap_connection(identity)
    assert (nothing.success, bool(nothing.error)) == (False, True)

    made = connectors.create_connector_imap_connection(identity, imap(walk, mechanisms=["PLAIN"]))
    assert (made.connector_id, made.imap_host, made.imap_port) == (
        identity,
        walk.dovecot.starttls.host,
        walk.dovecot.starttls.port,
    )
    assert (made.imap_password, made.imap_ssl, made.start_tls, made.mechanisms) == (None, False, True, ["PLAIN"])
    changed = connectors.update_connector_imap_connection(
        identity,
        SDK.CreateConnectorImapConnectionOptions(imap_host=made.imap_host, select_folder="INBOX", search_terms="SEEN"),
    )
    assert (changed.select_folder, changed.search_terms, changed.imap_username) == ("INBOX", "SEEN", walk.user.name)
    assert connectors.get_connector_imap_connection(identity).result == changed

    stored = connectors.test_connector_imap_connection(identity)
    assert (stored.success, stored.error) == (True, None)
    assert stored.logs
    overridden = connectors.test_connector_imap_connection(
        identity, create_connector_imap_connection_options=imap(walk, imap_password="wrong")
    )
    assert not overridden.success
    assert "AUTHENTICATIONFAILED" in overridden.error
    assert connectors.test_connector_imap_connection(identity).success
    assert connectors.test_connector_imap_connection_options(imap(walk)).success
    assert connectors.test_connector_imap_connection_options(imap(walk, imap_password="wrong")).success is False

    elsewhere = SDK.CreateConnectorImapConnectionOptions(imap_host="elsewhere.example.com")
    assert "imapPassword" in refused(400, connectors.update_connector_imap_connection, identity, elsewhere)
    unknown = imap(walk, mechanisms=["KERBEROS"])
    assert "mechanisms" in refused(400, connectors.create_connector_imap_connection, identity, unknown)
    injected = imap(walk, search_terms="SEEN\r\nA1 LOGOUT")
    assert "searchTerms" in refused(400, connectors.test_connector_imap_connection_options, injected)
    assert connectors.delete_connector_imap_connection(identity) is None
    assert connectors.get_connector_imap_connection(identity).present is False


@walks(
    "createConnectorSmtpConnection", "getConnectorSmtpConnection", "updateConnectorSmtpConnection",
    "deleteConnectorSmtpConnection", "testConnectorSmtpConnection", "testConnectorSmtpConnectionOptions",
)  # fmt: skip
def test_smtp_connections_are_kept_and_tested(walk: Walk) -> None:
    connectors = walk.client.connectors
    identity = walk.daemon.http("POST", "/connectors", {"name": "bare"})[1]["id"]
    assert connectors.get_connector_smtp_connection(identity).present is False
    assert connectors.test_connector_smtp_connection(identity).success is False

    made = connectors.create_connector_smtp_connection(identity, smtp(walk))
    assert (made.connector_id, made.smtp_port, made.smtp_username) == (identity, walk.smtp.port, walk.user.name)
    assert (made.smtp_password, made.smtp_ssl, made.start_tls) == (None, False, True)
    changed = connectors.update_connector_smtp_connection(
        identity,
        SDK.CreateConnectorSmtpConnectionOptions(smtp_host=walk.smtp.host, local_host_name="walk.example.com"),
    )
    assert (changed.local_host_name, changed.smtp_username) == ("walk.example.com", walk.user.name)
    assert connectors.get_connector_smtp_connection(identity).result == changed

    assert connectors.test_connector_smtp_connection(identity).success
    assert "EHLO walk.example.com" in walk.smtp.commands
    overridden = connectors.test_connector_smtp_connection(
        identity, create_connector_smtp_connection_options=smtp(walk, smtp_password="wrong")
    )
    assert not overridden.success
    assert "5.7.8" in overridden.error
    assert connectors.test_connector_smtp_connection_options(smtp(walk)).success
    assert connectors.test_connector_smtp_connection_options(smtp(walk, smtp_password="wrong")).success is False

    assert "smtpPassword" in refused(
        400, connectors.update_connector_smtp_connection, identity,
        SDK.CreateConnectorSmtpConnectionOptions(smtp_host="elsewhere.example.com"),
    )  # fmt: skip
    unknown = smtp(walk, ssl_protocols=["SSLv3"])
    assert "sslProtocols" in refused(400, connectors.create_connector_smtp_connection, identity, unknown)
    crooked = smtp(walk, smtp_port=70_000)
    assert "smtpPort" in refused(400, connectors.test_connector_smtp_connection_options, crooked)
    assert connectors.delete_connector_smtp_connection(identity) is None
    assert connectors.get_connector_smtp_connection(identity).present is False


@walks("createConnectorSyncSettings", "getConnectorSyncSettings", "deleteConnectorSyncSettings")
def test_sync_settings_are_kept(walk: Walk) -> None:
    connectors, identity = walk.client.connectors, walk.connector["id"]
    assert connectors.get_connector_sync_settings(identity).present is False
    options = SDK.CreateConnectorSyncSettingsOptions(
        sync_enabled=False, sync_schedule_type="INTERVAL", sync_interval=10
    )
    made = connectors.create_connector_sync_settings(identity, options)
    assert (made.connector_id, made.sync_enabled, made.sync_schedule_type) == (identity, False, "INTERVAL")
    assert made.sync_interval == 10
    assert connectors.get_connector_sync_settings(identity).result == made
    none = SDK.CreateConnectorSyncSettingsOptions(sync_interval=0)
    assert "syncInterval" in refused(400, connectors.create_connector_sync_settings, identity, none)
    with pytest.raises(ValueError, match="sync_schedule_type"):
        SDK.CreateConnectorSyncSettingsOptions(sync_schedule_type="CRON")
    assert connectors.delete_connector_sync_settings(identity) is None
    assert connectors.get_connector_sync_settings(identity).present is False


@walks("syncConnector", "sendEmailFromConnector", "getConnectorEvents", "getAllConnectorEvents", "getConnectorEvent")
def test_syncs_and_sends_leave_events(walk: Walk) -> None:
    connectors, identity = walk.client.connectors, walk.connector["id"]
    astray = connectors.sync_connector(identity, folder="No such folder", logging=False)
    assert (bool(astray.exception), astray.sync_result) == (True, None)
    future = datetime.now(timezone(timedelta(hours=5, minutes=30))) + timedelta(days=2)
    assert connectors.sync_connector(identity, since=future).sync_result.email_sync_count == 0
    synced = connectors.sync_connector(identity, since=datetime(2020, 1, 1), logging=True)  # noqa: DTZ001 as users do
    result = synced.sync_result
    assert (synced.exception, result.email_sync_count, len(result.email_ids)) == (None, 1, 1)
    assert any("CAPABILITY" in line for line in result.logs)

    options = SDK.SendEmailOptions(to=[walk.user.name], subject="From the connector", body="Hello")
    sent = connectors.send_email_from_connector(identity, options, use_fallback=True)
    assert (sent.inbox_id, sent.subject, sent.transport) == (walk.inbox_id, "From the connector", "PUBLIC_EMAIL")
    assert sent.message_id.encode() in walk.smtp.received[-1].content
    walk.smtp.answers["RCPT"] = "550 5.1.1 no such user here"
    assert "no such user here" in refused(422, connectors.send_email_from_connector, identity, options)
    assert "to" in refused(400, connectors.send_email_from_connector, identity, SDK.SendEmailOptions(to=[]))

    syncs = connectors.get_connector_events(identity, event_type="SYNC", sort="DESC")
    assert [event.status for event in syncs.content] == ["SUCCESS", "SUCCESS", "CONNECTION_ERROR"]
    assert [event.size for event in syncs.content] == [1, 0, 0]
    assert {event.connector_id for event in syncs.content} == {identity}
    sends = connectors.get_all_connector_events(id=identity, event_type="SEND", page=0, size=1)
    assert (sends.total_elements, sends.content[0].status) == (2, "SUCCESS")
    assert connectors.get_all_connector_events(before=datetime(2020, 1, 1, tzinfo=UTC)).total_elements == 0
    event = connectors.get_connector_event(synced.event_id)
    assert (event.event_type, event.connector_id) == ("SYNC", identity)
    assert "CAPABILITY" in event.logs
    assert walk.user.password not in event.logs
    assert connectors.get_connector_event(astray.event_id).status == "CONNECTION_ERROR"

    assert "eventType" in refused(400, connectors.get_connector_events, identity, event_type="READ")
    assert "id" in refused(400, connectors.get_all_connector_events, id="nonsense")
    assert "since" in refused(400, connectors.sync_connector, identity, since="yesterday")
    assert "logging" in refused(400, connectors.sync_connector, identity, logging="perhaps")


@walks("deleteConnector", "deleteAllConnector", "getConnectors", "getInbox")
def test_connectors_are_deleted_and_their_inboxes_stay(walk: Walk) -> None:
    connectors = walk.client.connectors
    assert walk.daemon.http("POST", "/connectors", {"name": "second"})[0] == 201
    assert connectors.delete_connector(walk.connector["id"]) is None
    refused(404, connectors.delete_connector, walk.connector["id"])
    assert connectors.get_connectors().total_elements == 1
    assert walk.client.inboxes.get_inbox(walk.inbox_id).functions_as is None
    assert connectors.delete_all_connector() is None
    assert connectors.get_connectors().content == []
    assert connectors.delete_all_connector() is None
