"""Every operation, one row each. An operation is added by a row here and a handler of a few lines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, get_type_hints

from inboxd.api import connections, connectors, control, emails
from inboxd.api.answers import JSON, TEXT
from inboxd.api.wire.control import Arrival, StepLine, SyncLine
from inboxd.api.wire.shapes import Answer, Request


@dataclass(frozen=True, slots=True)
class Route:
    """An operation: called as `handler(services, path ids by name, query=…, body=…)`.

    `status`: of a good answer. `lines`: the handler gets `emit` too, and answers with a stream of such JSON lines.
    `held`: it may wait long, and is ended when the daemon stops. `socket_only`: it does not exist on TCP. `head`:
    called for HEAD where GET leaves a trace.
    """

    operation: str
    method: str
    path: str
    handler: Callable[..., Awaitable[object]]
    status: int = 200
    content_type: str = JSON
    lines: type[Answer] | None = None
    held: bool = False
    socket_only: bool = False
    head: Callable[..., Awaitable[object]] | None = None

    @property
    def query(self) -> type[Request] | None:
        """The model of the query, as the handler declares it."""
        return _declared(self.handler).get("query")

    @property
    def body(self) -> type[Request] | None:
        """The model of the body, as the handler declares it."""
        return _declared(self.handler).get("body")

    @property
    def answer(self) -> Any:
        """What the handler declares to return: a model, a list of models, bytes, or NoneType."""
        return _declared(self.handler)["return"]


@cache
def _declared(handler: Callable[..., Awaitable[object]]) -> dict[str, Any]:
    return get_type_hints(handler)


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
    Route(
        "waitForLatestEmail", "GET", "/waitForLatestEmail", emails.wait_for_latest, held=True, head=emails.peek_latest
    ),
)


def _control(
    method: str, path: str, handler: Callable[..., Awaitable[object]], status: int = 200, **kind: Any
) -> Route:
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

# Where MailSlurp's other products begin, by the first segment of their paths, and what they are.
OTHER_PRODUCTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("agent", "ai", "ai-transformers", "waitForAIMessage", "waitForAIMessages"), "AI"),
    **dict.fromkeys(("phone", "sms", "missed-sms", "waitForSms", "waitForLatestSms"), "phone numbers and SMS"),
    **dict.fromkeys(("bounce", "missed-emails", "spam-emails"), "records of bounced, missed and spam mails"),
    **dict.fromkeys(("domains", "domain-monitor"), "domains"),
    **dict.fromkeys(("email-audits", "email-verification", "tools"), "checks of addresses and mails"),
    **dict.fromkeys(("campaign-probe", "device-preview-targets", "inbox-placement-tests"), "campaign tests"),
    **dict.fromkeys(("guest-portal", "scim", "auth", "mfa", "audit-logs", "consent"), "accounts and sign-in"),
    **dict.fromkeys(("imap", "mail-server"), "hosted mail servers"),
    **dict.fromkeys(("mcp", ".well-known"), "MCP"),
    **dict.fromkeys(("rulesets", "forwarders", "repliers"), "rules, forwarders and repliers"),
    "aliases": "aliases",
    "bulk": "bulk actions",
    "contacts": "contacts",
    "expired": "expired inboxes",
    "export": "exports",
    "forms": "forms",
    "groups": "groups",
    "sending-connections": "sending connections",
    "templates": "templates",
    "test": "deliverability tests",
    "tracking": "tracking pixels",
}
