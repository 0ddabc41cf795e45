"""Every operation, one row each. An operation is added by a row here and a handler of a few lines."""

from __future__ import annotations

from typing import Any, Final

from inboxd.api import connections, connectors, control, emails, waits
from inboxd.api.answers import TEXT
from inboxd.api.route import Handler, Route
from inboxd.api.wire.control import Arrival, StepLine, SyncLine

_CONNECTORS: Final = (
    Route("createConnectorWithOptions", "POST", "/connectors/withOptions", connectors.create_with_options, 201),
    Route("createConnector", "POST", "/connectors", connectors.create, 201),
    Route("getConnectors", "GET", "/connectors", connectors.get_all),
    Route("deleteAllConnector", "DELETE", "/connectors", connectors.delete_all, 204),
    Route("getConnectorByName", "GET", "/connectors/by-name", connectors.get_by_name),
    Route("getConnectorByInboxId", "GET", "/connectors/by-inbox-id", connectors.get_by_inbox),
    Route("getConnectorByEmailAddress", "GET", "/connectors/by-email-address", connectors.get_by_address),
    Route("getConnectorProviderSettings", "GET", "/connectors/provider-settings", connectors.get_provider_settings),
    Route("getAllConnectorEvents", "GET", "/connectors/events", connectors.get_all_events),
    Route("getConnectorEvent", "GET", "/connectors/events/{id}", connectors.get_event),
    Route("getConnector", "GET", "/connectors/{id}", connectors.get),
    Route("updateConnector", "PUT", "/connectors/{id}", connectors.update),
    Route("deleteConnector", "DELETE", "/connectors/{id}", connectors.delete, 204),
    Route("syncConnector", "POST", "/connectors/{id}/sync", connectors.sync),
    Route("sendEmailFromConnector", "POST", "/connectors/{id}/send", connectors.send_email),
    Route("getConnectorEvents", "GET", "/connectors/{id}/events", connectors.get_events),
    Route(
        "createConnectorSyncSettings", "POST", "/connectors/{id}/sync-settings", connectors.create_sync_settings, 201
    ),
    Route("getConnectorSyncSettings", "GET", "/connectors/{id}/sync-settings", connectors.get_sync_settings),
    Route(
        "deleteConnectorSyncSettings", "DELETE", "/connectors/{id}/sync-settings", connectors.delete_sync_settings, 204
    ),
    Route("createConnectorImapConnection", "POST", "/connectors/{id}/imap", connections.create_imap, 201),
    Route("getConnectorImapConnection", "GET", "/connectors/{id}/imap", connections.get_imap),
    Route("updateConnectorImapConnection", "PATCH", "/connectors/{id}/imap", connections.update_imap),
    Route("deleteConnectorImapConnection", "DELETE", "/connectors/{id}/imap", connections.delete_imap, 204),
    Route("testConnectorImapConnection", "POST", "/connectors/{id}/imap/test", connections.test_imap),
    Route(
        "testConnectorImapConnectionOptions", "POST", "/connectors/connections/imap/test", connections.test_imap_options
    ),
    Route("createConnectorSmtpConnection", "POST", "/connectors/{id}/smtp", connections.create_smtp, 201),
    Route("getConnectorSmtpConnection", "GET", "/connectors/{id}/smtp", connections.get_smtp),
    Route("updateConnectorSmtpConnection", "PATCH", "/connectors/{id}/smtp", connections.update_smtp),
    Route("deleteConnectorSmtpConnection", "DELETE", "/connectors/{id}/smtp", connections.delete_smtp, 204),
    Route("testConnectorSmtpConnection", "POST", "/connectors/{id}/smtp/test", connections.test_smtp),
    Route(
        "testConnectorSmtpConnectionOptions", "POST", "/connectors/connections/smtp/test", connections.test_smtp_options
    ),
)
_INBOXES: Final = (
    Route("getEmails", "GET", "/inboxes/{inboxId}/emails", emails.get_inbox_emails, held=True),
    Route("getInboxEmailsPaginated", "GET", "/inboxes/{inboxId}/emails/paginated", emails.get_inbox_emails_page),
)
_EMAILS: Final = (
    Route("getEmailsPaginated", "GET", "/emails", emails.get_emails_page),
    Route("getEmail", "GET", "/emails/{emailId}", emails.get, head=emails.peek),
    Route("getRawEmailContents", "GET", "/emails/{emailId}/raw", emails.get_raw, content_type=TEXT),
    Route("getRawEmailJson", "GET", "/emails/{emailId}/raw/json", emails.get_raw_json),
    Route("deleteEmail", "DELETE", "/emails/{emailId}", emails.delete, 204),
)
_WAITS: Final = (
    Route("waitForLatestEmail", "GET", "/waitForLatestEmail", waits.wait_for_latest, held=True, head=waits.peek_latest),
)


def _control(method: str, path: str, handler: Handler, status: int = 200, **kind: Any) -> Route:
    return Route(f"control.{handler.__name__}", method, f"/control{path}", handler, status, socket_only=True, **kind)


_CONTROL: Final = (
    _control("GET", "/status", control.get_status),
    _control("GET", "/watch", control.watch, lines=Arrival),
    _control("POST", "/connectors/{id}/sync", control.sync, lines=SyncLine),
    _control("POST", "/connectors/{id}/test", control.test, lines=StepLine),
    _control("POST", "/connectors/{id}/send", control.send_email),
    _control("POST", "/keys", control.create_key, 201),
    _control("GET", "/keys", control.get_keys),
    _control("DELETE", "/keys/{key}", control.delete_key, 204),
)
ROUTES: Final[tuple[Route, ...]] = (*_CONNECTORS, *_INBOXES, *_EMAILS, *_WAITS, *_CONTROL)
