"""Every operation, one row each. An operation is added by a row here and a handler of a few lines."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from inboxd.api import (
    attachments,
    connections,
    connectors,
    contents,
    control,
    declared,
    discovery,
    emails,
    flags,
    inboxes,
    oauth,
    outbox,
    sending,
    sent,
    waits,
    webhooks,
)
from inboxd.api.answers import HTML, OCTETS, TEXT
from inboxd.api.documents import described
from inboxd.api.gate import MAIL_SERVER_REFUSALS
from inboxd.api.route import Handler, Route
from inboxd.api.scopes import scopes_of
from inboxd.api.wire.control import Arrival, StepLine, SyncLine
from inboxd.api.wire.declared import PlanLine

_UNKNOWN: Final = frozenset({HTTPStatus.NOT_FOUND})
_CONFLICT: Final = frozenset({HTTPStatus.CONFLICT})
_UNPARSABLE: Final = frozenset({HTTPStatus.UNPROCESSABLE_ENTITY})
_NO_OUTLET: Final = _UNKNOWN | _CONFLICT
_MAIL_SERVER: Final = _UNKNOWN | _CONFLICT | MAIL_SERVER_REFUSALS

_CONNECTORS: Final = (
    Route(
        "createConnectorWithOptions",
        "POST",
        "/connectors/withOptions",
        connectors.create_with_options,
        201,
        refuses=_UNKNOWN,
    ),
    Route("createConnector", "POST", "/connectors", connectors.create, 201, refuses=_UNKNOWN),
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
    Route("sendEmailFromConnector", "POST", "/connectors/{id}/send", connectors.send_email, refuses=_MAIL_SERVER),
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
    Route(
        "createInboxWithOptions", "POST", "/inboxes/withOptions", inboxes.create_with_options, 201, refuses=_CONFLICT
    ),
    Route("createInboxWithDefaults", "POST", "/inboxes/withDefaults", inboxes.create_with_defaults, 201),
    Route("createInbox", "POST", "/inboxes", inboxes.create, 201, refuses=_CONFLICT),
    Route("getInboxes", "GET", "/inboxes", inboxes.get_first),
    Route("deleteAllInboxes", "DELETE", "/inboxes", inboxes.delete_all, 204),
    Route("getAllInboxes", "GET", "/inboxes/paginated", inboxes.get_page),
    Route("getAllInboxesOffsetPaginated", "GET", "/inboxes/offset-paginated", inboxes.get_page),
    Route("searchInboxes", "POST", "/inboxes/search", inboxes.search),
    Route("getInboxByEmailAddress", "GET", "/inboxes/byEmailAddress", inboxes.get_by_address),
    Route("getInboxByName", "GET", "/inboxes/byName", inboxes.get_by_name),
    Route("doesInboxExist", "GET", "/inboxes/exists", inboxes.exists),
    Route("getInboxIds", "GET", "/inboxes/ids", inboxes.get_ids),
    Route("getInboxCount", "GET", "/inboxes/count", inboxes.get_count),
    Route("getInbox", "GET", "/inboxes/{inboxId}", inboxes.get),
    Route("updateInbox", "PATCH", "/inboxes/{inboxId}", inboxes.update, refuses=_CONFLICT),
    Route("deleteInbox", "DELETE", "/inboxes/{inboxId}", inboxes.delete, 204, refuses=_CONFLICT),
    Route("setInboxFavourited", "PUT", "/inboxes/{inboxId}/favourite", inboxes.set_favourite),
    Route("getEmails", "GET", "/inboxes/{inboxId}/emails", emails.get_inbox_emails, held=True),
    Route("getInboxEmailsPaginated", "GET", "/inboxes/{inboxId}/emails/paginated", emails.get_inbox_emails_page),
    Route("getInboxEmailCount", "GET", "/inboxes/{inboxId}/emails/count", emails.get_inbox_count),
    Route(
        "getLatestEmailInInbox",
        "GET",
        "/inboxes/getLatestEmail",
        emails.await_latest,
        held=True,
        head=emails.peek_awaited,
        refuses=_UNKNOWN,
    ),
    Route("deleteAllInboxEmails", "DELETE", "/inboxes/{inboxId}/deleteAllInboxEmails", emails.delete_of_inbox, 204),
    Route("sendEmail", "POST", "/inboxes/{inboxId}", sending.send_email, 201, refuses=_NO_OUTLET),
    Route(
        "sendEmailAndConfirm",
        "POST",
        "/inboxes/{inboxId}/confirm",
        sending.send_email_and_confirm,
        201,
        refuses=_MAIL_SERVER,
    ),
    Route("getInboxSentEmails", "GET", "/inboxes/{inboxId}/sent", sent.get_of_inbox),
    Route("getInboxSentCount", "GET", "/inboxes/{inboxId}/sent/count", sent.count_of_inbox),
)
_EMAILS: Final = (
    Route("getEmailsPaginated", "GET", "/emails", emails.get_emails_page),
    Route("getEmailsOffsetPaginated", "GET", "/emails/offset-paginated", emails.get_emails_offset_page),
    Route("getOrganizationEmailsPaginated", "GET", "/emails/organization", emails.get_emails_page),
    Route("searchEmails", "POST", "/emails/search", emails.search),
    Route("getEmailCount", "GET", "/emails/emails/count", emails.get_count),
    Route("getUnreadEmailCount", "GET", "/emails/unreadCount", emails.get_unread_count),
    Route("getLatestEmail", "GET", "/emails/latest", emails.get_latest, head=emails.peek_latest, refuses=_UNKNOWN),
    Route(
        "getLatestEmailInInbox1",
        "GET",
        "/emails/latestIn",
        emails.get_latest_in,
        head=emails.peek_latest_in,
        refuses=_UNKNOWN,
    ),
    Route("markAllAsRead", "PATCH", "/emails/read", emails.mark_all_read, 204, refuses=_UNKNOWN),
    Route("deleteAllEmails", "DELETE", "/emails", emails.delete_all, 204),
    Route("getEmail", "GET", "/emails/{emailId}", emails.get, head=emails.peek),
    Route("getRawEmailContents", "GET", "/emails/{emailId}/raw", emails.get_raw, content_type=TEXT),
    Route("getRawEmailJson", "GET", "/emails/{emailId}/raw/json", emails.get_raw_json),
    Route("deleteEmail", "DELETE", "/emails/{emailId}", emails.delete, 204),
    Route("getEmailSummary", "GET", "/emails/{emailId}/summary", emails.get_summary),
    Route("getEmailPreviewURLs", "GET", "/emails/{emailId}/urls", emails.get_urls),
    Route("markAsRead", "PATCH", "/emails/{emailId}/read", emails.mark_read),
    Route("setEmailFavourited", "PUT", "/emails/{emailId}/favourite", emails.set_favourite, 204),
    Route("getEmailAttachments", "GET", "/emails/{emailId}/attachments", attachments.get_of_email),
    Route(
        "downloadAttachment",
        "GET",
        "/emails/{emailId}/attachments/{attachmentId}",
        attachments.download_of_email,
        content_type=OCTETS,
        refuses=_UNPARSABLE,
    ),
    Route(
        "getAttachmentMetaData",
        "GET",
        "/emails/{emailId}/attachments/{attachmentId}/metadata",
        attachments.get_metadata_of_email,
    ),
    Route(
        "downloadAttachmentBase64",
        "GET",
        "/emails/{emailId}/attachments/{attachmentId}/base64",
        attachments.download_base64_of_email,
        refuses=_UNPARSABLE,
    ),
)
_ATTACHMENTS: Final = (
    Route("uploadAttachment", "POST", "/attachments", attachments.upload, 201),
    Route("uploadAttachmentBytes", "POST", "/attachments/bytes", attachments.upload_bytes, 201, in_headers=True),
    Route("getAttachments", "GET", "/attachments", attachments.get_all),
    Route("deleteAllAttachments", "DELETE", "/attachments", attachments.delete_all, 204),
    Route("getAttachment", "GET", "/attachments/{attachmentId}", attachments.get),
    Route("deleteAttachment", "DELETE", "/attachments/{attachmentId}", attachments.delete, 204),
    Route("getAttachmentInfo", "GET", "/attachments/{attachmentId}/metadata", attachments.get_metadata),
    Route(
        "downloadAttachmentAsBytes",
        "GET",
        "/attachments/{attachmentId}/bytes",
        attachments.download,
        content_type=OCTETS,
        refuses=_UNPARSABLE,
    ),
    Route(
        "downloadAttachmentAsBase64Encoded",
        "GET",
        "/attachments/{attachmentId}/base64",
        attachments.download_base64,
        refuses=_UNPARSABLE,
    ),
)
_SENDING: Final = (
    Route("sendEmailSourceOptional", "POST", "/emails", sending.send_from_any, 201, refuses=_NO_OUTLET),
    Route("canSend", "POST", "/emails/can-send", sending.can_send, refuses=_UNKNOWN),
    Route("replyToEmail", "PUT", "/emails/{emailId}", sending.reply, refuses=_MAIL_SERVER),
    Route("forwardEmail", "POST", "/emails/{emailId}/forward", sending.forward, 201, refuses=_MAIL_SERVER),
    Route("applyImapFlagOperation", "POST", "/emails/{emailId}/imap-flag-operation", flags.apply, refuses=_MAIL_SERVER),
)
_SENT: Final = (
    Route("getSentEmails", "GET", "/sent", sent.get_all),
    Route("deleteAllSentEmails", "DELETE", "/sent", sent.delete_all, 204),
    Route("getSentEmail", "GET", "/sent/{id}", sent.get),
    Route("deleteSentEmail", "DELETE", "/sent/{id}", sent.delete, 204, refuses=_CONFLICT),
    Route("getSentEmailHTMLContent", "GET", "/sent/{id}/html", sent.get_html, content_type=HTML),
    Route("getSentEmailPreviewURLs", "GET", "/sent/{id}/urls", sent.get_urls),
    Route("getRawSentEmailContents", "GET", "/sent/{emailId}/raw", sent.get_raw, content_type=TEXT),
    Route("getRawSentEmailJson", "GET", "/sent/{emailId}/raw/json", sent.get_raw_json),
)
_WAITS: Final = (
    Route(
        "waitForLatestEmail",
        "GET",
        "/waitForLatestEmail",
        waits.wait_for_latest,
        held=True,
        head=waits.peek_latest,
        refuses=_UNKNOWN,
    ),
    Route(
        "waitForNthEmail",
        "GET",
        "/waitForNthEmail",
        waits.wait_for_nth_email,
        held=True,
        head=waits.peek_nth,
        refuses=_UNKNOWN,
    ),
    Route("waitForEmailCount", "GET", "/waitForEmailCount", waits.wait_for_email_count, held=True, refuses=_UNKNOWN),
    Route(
        "waitForMatchingEmails",
        "POST",
        "/waitForMatchingEmails",
        waits.wait_for_matching_emails,
        held=True,
        refuses=_UNKNOWN,
    ),
    Route(
        "waitForMatchingFirstEmail",
        "POST",
        "/waitForMatchingFirstEmail",
        waits.wait_for_matching_first_email,
        held=True,
        refuses=_UNKNOWN,
    ),
    Route("waitFor", "POST", "/waitFor", waits.wait_for, held=True, refuses=_UNKNOWN),
)
_COMMON: Final = (
    Route("emptyInbox", "DELETE", "/emptyInbox", emails.empty_inbox, 204, refuses=_UNKNOWN),
    Route("createNewEmailAddress", "POST", "/newEmailAddress", inboxes.create, 201, refuses=_CONFLICT),
    Route("createRandomInbox", "POST", "/createInbox", inboxes.create, 201, refuses=_CONFLICT),
    Route(
        "deleteEmailAddress", "DELETE", "/deleteEmailAddress", inboxes.delete_named, 204, refuses=_UNKNOWN | _CONFLICT
    ),
    Route("sendEmailSimple", "POST", "/sendEmail", sending.send_simple, 201, refuses=_NO_OUTLET),
    Route("sendEmailQuery", "POST", "/sendEmailQuery", sending.send_query, 201, refuses=_NO_OUTLET),
)
_USER: Final = (Route("getUserInfo", "GET", "/user/info", inboxes.get_user),)
_WEBHOOKS: Final = (
    Route("createWebhook", "POST", "/inboxes/{inboxId}/webhooks", webhooks.create, 201),
    Route("getWebhooks", "GET", "/inboxes/{inboxId}/webhooks", webhooks.get_of_inbox),
    Route("getInboxWebhooksPaginated", "GET", "/inboxes/{inboxId}/webhooks/paginated", webhooks.get_inbox_page),
    Route("deleteWebhook", "DELETE", "/inboxes/{inboxId}/webhooks/{webhookId}", webhooks.delete_of_inbox, 204),
    Route("createAccountWebhook", "POST", "/webhooks", webhooks.create_account_wide, 201),
    Route("getAllWebhooks", "GET", "/webhooks/paginated", webhooks.get_page),
    Route("getWebhook", "GET", "/webhooks/{webhookId}", webhooks.get),
    Route("updateWebhook", "PATCH", "/webhooks/{webhookId}", webhooks.update),
    Route("deleteWebhookById", "DELETE", "/webhooks/{webhookId}", webhooks.delete),
    Route("sendTestData", "POST", "/webhooks/{webhookId}/test", webhooks.test, 201),
    Route("getWebhookResults", "GET", "/webhooks/{webhookId}/results", webhooks.get_results),
)


_CONTENTS: Final = (
    Route("getEmailHTML", "GET", "/emails/{emailId}/html", contents.get_html, content_type=HTML, refuses=_UNPARSABLE),
    Route("getEmailHTMLJson", "GET", "/emails/{emailId}/html/json", contents.get_html_json, refuses=_UNPARSABLE),
    Route("downloadBody", "GET", "/emails/{emailId}/body", contents.download_body, content_type=TEXT),
    Route(
        "downloadBodyBytes", "GET", "/emails/{emailId}/body-bytes", contents.download_body_bytes, content_type=OCTETS
    ),
    Route("getEmailLinks", "GET", "/emails/{emailId}/links", contents.get_links, refuses=_UNPARSABLE),
    Route("getEmailTextLines", "GET", "/emails/{emailId}/textLines", contents.get_text_lines),
    Route("getEmailHTMLQuery", "GET", "/emails/{emailId}/htmlQuery", contents.query_html, refuses=_UNPARSABLE),
    Route("getEmailContentMatch", "POST", "/emails/{emailId}/contentMatch", contents.match_content),
    Route("getEmailContentPart", "GET", "/emails/{emailId}/contentPart", contents.get_part, refuses=_UNPARSABLE),
    Route(
        "getEmailContentPartContent",
        "GET",
        "/emails/{emailId}/contentPart/raw",
        contents.get_part_content,
        content_type=TEXT,
        refuses=_UNPARSABLE,
    ),
)


def _control(method: str, path: str, handler: Handler, status: int = 200, **kind: Any) -> Route:
    return Route(f"control.{handler.__name__}", method, f"/control{path}", handler, status, socket_only=True, **kind)


_CONTROL: Final = (
    _control("GET", "/status", control.get_status),
    _control("GET", "/discover", discovery.discover_settings),
    _control("GET", "/watch", control.watch, lines=Arrival),
    _control("POST", "/connectors/{id}/sync", control.sync, lines=SyncLine),
    _control("POST", "/connectors/{id}/test", control.test, lines=StepLine),
    _control("POST", "/connectors/{id}/send", control.send_email),
    _control("GET", "/connectors/{id}/usage", control.get_usage),
    _control("GET", "/connectors/{id}/events", control.get_events),
    _control("GET", "/events/{id}", control.get_event),
    _control("GET", "/emails/{id}", control.get_place),
    _control("GET", "/declared/plan", declared.plan, lines=PlanLine),
    _control("POST", "/declared/apply", declared.apply),
    _control("GET", "/outbox", outbox.get_outbox),
    _control("GET", "/outbox/{id}", outbox.get_outbox_mail),
    _control("POST", "/outbox/{id}/retry", outbox.retry),
    _control("POST", "/outbox/{id}/cancel", outbox.cancel),
    _control("POST", "/outbox/{id}/drop", outbox.drop),
    _control("POST", "/connectors/{id}/oauth", oauth.begin_login),
    _control("GET", "/connectors/{id}/oauth", oauth.get_grant),
    _control("DELETE", "/connectors/{id}/oauth", oauth.remove_grant, 204),
    _control("POST", "/oauth/{login}", oauth.finish_login, held=True),
    _control("GET", "/oauth", oauth.get_grants),
    _control("POST", "/keys", control.create_key, 201),
    _control("GET", "/keys", control.get_keys),
    _control("DELETE", "/keys/{key}", control.delete_key, 204),
)
# MailSlurp's controllers; a new group of rows needs its line here.
_CONTROLLERS: Final = {
    "ConnectorController": _CONNECTORS,
    "InboxController": _INBOXES,
    "EmailController": (*_EMAILS, *_CONTENTS, *_SENDING),
    "AttachmentController": _ATTACHMENTS,
    "SentEmailsController": _SENT,
    "WaitForController": _WAITS,
    "WebhookController": _WEBHOOKS,
    "CommonActionsController": _COMMON,
    "UserController": _USER,
}
_SERVED: Final = tuple(
    replace(row, controller=name, scopes=scopes_of(row)) for name, rows in _CONTROLLERS.items() for row in rows
)
ROUTES: Final[tuple[Route, ...]] = (*described(_SERVED), *_CONTROL)
