"""The flow that the connectors' documentation shows, through the official Python SDK against the running daemon."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, cast

import mailslurp_client
import pytest
from mailslurp_client.exceptions import ApiException

from servers import LOOPBACK
from servers.daemon import KEY, Daemon
from servers.dovecot import Dovecot, User
from servers.javascript import walk
from servers.smtp import Received, SmtpServer

slurp = cast("Any", mailslurp_client)  # generated without usable annotations
MAIL = b"From: a@example.test\r\nTo: b@example.test\r\nSubject: first\r\n\r\nhello\r\n"


@pytest.fixture
def client(daemon: Daemon) -> Generator[Any]:
    """The SDK's client, pointed at a running daemon by its base URL and key alone."""
    daemon.start()
    configuration = slurp.Configuration(host=f"http://{LOOPBACK}:{daemon.api_port}")
    configuration.api_key["x-api-key"] = KEY
    with slurp.ApiClient(configuration) as client:
        yield client


@pytest.fixture
def user(dovecot: Dovecot, smtp: SmtpServer) -> User:
    """A mailbox with one mail, into which the SMTP server delivers what is sent to it."""
    made = dovecot.user()
    dovecot.append(made, MAIL)

    def deliver(mail: Received) -> None:
        if made.name in mail.rcpt_tos:
            dovecot.append(made, mail.content)

    smtp.deliver = deliver
    smtp.users[made.name] = made.password
    return made


def create(client: Any, user: User, dovecot: Dovecot, smtp: SmtpServer) -> Any:
    """A connector made with options: address and name, IMAP and SMTP, no automatic sync."""
    return slurp.ConnectorControllerApi(client).create_connector_with_options(
        slurp.CreateConnectorWithOptions(
            create_connector_options=slurp.CreateConnectorOptions(
                email_address=user.name, name="example-connector", enabled=True
            ),
            create_connector_imap_connection_options=slurp.CreateConnectorImapConnectionOptions(
                enabled=True,
                imap_host=dovecot.starttls.host,
                imap_port=dovecot.starttls.port,
                imap_username=user.name,
                imap_password=user.password,
                imap_ssl=False,
                start_tls=False,
            ),
            create_connector_smtp_connection_options=slurp.CreateConnectorSmtpConnectionOptions(
                enabled=True,
                smtp_host=smtp.host,
                smtp_port=smtp.port,
                smtp_username=user.name,
                smtp_password=user.password,
                smtp_ssl=False,
                start_tls=True,
            ),
        )
    )


def test_connector_is_tested_synced_with_logs_and_sent_from(
    client: Any, user: User, dovecot: Dovecot, smtp: SmtpServer
) -> None:
    connectors = slurp.ConnectorControllerApi(client)
    connector = create(client, user, dovecot, smtp)
    assert connector.email_address == user.name

    assert connectors.test_connector_imap_connection(connector.id).success
    assert connectors.test_connector_smtp_connection(connector.id).success

    result = connectors.sync_connector(connector.id, logging=True).sync_result
    assert result.email_sync_count == 1
    assert len(result.email_ids) == 1
    assert any("CAPABILITY IMAP4rev1" in line for line in result.logs)
    email = slurp.EmailControllerApi(client).get_email(result.email_ids[0])
    assert (email.subject, email.body.strip(), email.read) == ("first", "hello", True)

    sent = connectors.send_email_from_connector(
        connector.id,
        slurp.SendEmailOptions(to=[user.name], subject="Grüße", body="<b>out and back</b>", is_html=True),
    )
    assert sent.subject == "Grüße"
    assert sent.transport == "PUBLIC_EMAIL"
    (mail,) = smtp.received
    assert (mail.mail_from, mail.rcpt_tos, mail.secured) == (user.name, (user.name,), True)
    assert sent.message_id.encode() in mail.content

    again = connectors.sync_connector(connector.id).sync_result
    assert again.email_sync_count == 1
    back = slurp.WaitForControllerApi(client).wait_for_latest_email(
        inbox_id=connector.inbox_id, timeout=10_000, unread_only=True
    )
    assert (back.subject, back.body.strip(), back.is_html) == ("Grüße", "<b>out and back</b>", True)
    events = connectors.get_connector_events(connector.id, sort="DESC").content
    assert [(e.event_type, e.status, e.size) for e in events] == [
        ("SYNC", "SUCCESS", 1),
        ("SEND", "SUCCESS", 1),
        ("SYNC", "SUCCESS", 1),
    ]
    assert "CAPABILITY" in connectors.get_connector_event(events[-1].id).logs


def test_latest_email_is_waited_for_over_an_idle_session(
    client: Any, daemon: Daemon, user: User, dovecot: Dovecot, smtp: SmtpServer
) -> None:
    connector = create(client, user, dovecot, smtp)
    settings = slurp.CreateConnectorSyncSettingsOptions(sync_enabled=True, sync_interval=10)
    slurp.ConnectorControllerApi(client).create_connector_sync_settings(connector.id, settings)
    wait = slurp.WaitForControllerApi(client)
    first = wait.wait_for_latest_email(inbox_id=connector.inbox_id, timeout=30_000, unread_only=True)
    assert first.subject == "first"
    daemon.await_state({"id": connector.id}, "idle")
    with pytest.raises(ApiException) as refused:
        wait.wait_for_latest_email(inbox_id=connector.inbox_id, timeout=200, unread_only=True)
    answer = cast("Any", refused.value)
    assert answer.status == 408
    assert "Failed to satisfy email query for inbox" in answer.body
    assert connector.inbox_id in answer.body
    dovecot.append(user, MAIL.replace(b"first", b"second"))
    second = wait.wait_for_latest_email(inbox_id=connector.inbox_id, timeout=30_000, unread_only=True)
    assert second.subject == "second"


def test_failures_of_the_servers_come_back_in_their_own_words(
    client: Any, user: User, dovecot: Dovecot, smtp: SmtpServer
) -> None:
    connectors = slurp.ConnectorControllerApi(client)
    connector = create(client, user, dovecot, smtp)
    wrong = slurp.CreateConnectorImapConnectionOptions(
        imap_host=dovecot.starttls.host,
        imap_port=dovecot.starttls.port,
        imap_username=user.name,
        imap_password="no",
        imap_ssl=False,
        start_tls=True,
    )
    tested = connectors.test_connector_imap_connection_options(wrong)
    assert not tested.success
    assert "AUTHENTICATIONFAILED" in tested.error
    connectors.update_connector_imap_connection(connector.id, wrong)
    synced = connectors.sync_connector(connector.id)
    assert synced.sync_result is None
    assert "AUTHENTICATIONFAILED" in synced.exception
    assert connectors.get_connector_event(synced.event_id).status == "CONNECTION_ERROR"
    smtp.answers["RCPT"] = "550 5.1.1 no such user here"
    with pytest.raises(ApiException) as refused:
        connectors.send_email_from_connector(connector.id, slurp.SendEmailOptions(to=["x@example.test"], subject="x"))
    assert "no such user here" in cast("Any", refused.value).body
    (event,) = connectors.get_connector_events(connector.id, event_type="SEND").content
    assert event.status == "CONNECTION_ERROR"


def test_snippets_run_as_the_documentation_has_them(
    daemon: Daemon, user: User, dovecot: Dovecot, smtp: SmtpServer
) -> None:
    daemon.start()
    walk("page.ts", daemon, user, dovecot, smtp)
    _, page = daemon.http("GET", "/connectors/events")
    (sync,) = page["content"]
    assert (sync["eventType"], sync["status"], sync["size"]) == ("SYNC", "SUCCESS", 1)
