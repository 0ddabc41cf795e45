"""Keys that are good for one inbox: which operations they open, and what is asked of each so that it stays in there.

An operation that is not listed is closed to them. What belongs to another inbox is answered as if it did not exist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final
from uuid import UUID

from inboxd.api.route import Handler, Route
from inboxd.api.wire.connectors import ConnectorProjection, PageConnector
from inboxd.api.wire.inboxes import InboxDto, InboxIdsResult, InboxListQuery
from inboxd.api.wire.shapes import PageQuery
from inboxd.errors import Invalid, NotFound
from inboxd.model import AttachmentId, ConnectorId, InboxId, MessageId, SentId
from inboxd.services import Services
from inboxd.store import attachments, connectors, inboxes, messages, sent

Arguments = dict[str, Any]
Check = Callable[[Services, InboxId, Arguments], Awaitable[None]]


async def confine(services: Services, route: Route, arguments: Arguments, inbox_id: InboxId) -> Route:
    """The row to carry out with the arguments, which are changed where they would reach out of the inbox.

    NotFound where they name what is not in it, Invalid where a mail would carry an attachment that is not.
    """
    for check in CONFINED[route.operation]:
        await check(services, inbox_id, arguments)
    handler = _INSTEAD.get(route.operation)
    if handler is None:
        return route
    arguments["inbox_id"] = inbox_id
    return replace(route, handler=handler, head=None)


async def _path_inbox(_services: Services, inbox_id: InboxId, arguments: Arguments) -> None:
    _same(inbox_id, arguments["inbox_id"])


async def _query_inbox(_services: Services, inbox_id: InboxId, arguments: Arguments) -> None:
    _same(inbox_id, arguments["query"].inbox_id)


async def _body_inbox(_services: Services, inbox_id: InboxId, arguments: Arguments) -> None:
    _same(inbox_id, arguments["body"].inbox_id)


async def _mail(services: Services, inbox_id: InboxId, arguments: Arguments) -> None:
    email_id = MessageId(arguments["email_id"])
    if (await messages.get(services.store, email_id)).inbox_id != inbox_id:
        raise NotFound(f"there is no message {email_id}")


async def _sent_mail(services: Services, inbox_id: InboxId, arguments: Arguments) -> None:
    sent_id = SentId(arguments["email_id"] if "email_id" in arguments else arguments["id"])
    if (await sent.get(services.store, sent_id)).inbox_id != inbox_id:
        raise NotFound(f"there is no sent mail {sent_id}")


async def _attachment(services: Services, inbox_id: InboxId, arguments: Arguments) -> None:
    attachment_id = AttachmentId(arguments["attachment_id"])
    if (await attachments.get(services.store, attachment_id)).inbox_id != inbox_id:
        raise NotFound(f"there is no attachment {attachment_id}")


async def _connector(services: Services, inbox_id: InboxId, arguments: Arguments) -> None:
    connector_id = ConnectorId(arguments["id"])
    if (await connectors.get(services.store, connector_id)).inbox_id != inbox_id:
        raise NotFound(f"there is no connector {connector_id}")


async def _files(services: Services, inbox_id: InboxId, arguments: Arguments) -> None:
    """Uploads belong to no inbox: who knows the id of one made it."""
    for number, text in enumerate(arguments["body"].attachments):
        try:
            kept = await attachments.get(services.store, AttachmentId(UUID(text)))
        except (ValueError, NotFound):
            continue  # the handler says so
        if kept.message_id is not None and kept.inbox_id != inbox_id:
            raise Invalid(f"attachments.{number}", "no upload or attachment with this id exists in this key's inbox")


def _only(part: str, field: str, *, several: bool = False) -> Check:
    """A list over inboxes is one of this inbox; naming another is naming nothing."""

    async def narrow(_services: Services, inbox_id: InboxId, arguments: Arguments) -> None:
        asked = arguments[part]
        named = getattr(asked, field) or ()
        for one in named if several else [named] if named else []:
            _same(inbox_id, one)
        changes: Arguments = {field: [inbox_id] if several else inbox_id}
        # What is to be included is included whatever inbox it is of.
        changes |= {"include": []} if hasattr(asked, "include") else {}
        arguments[part] = asked.model_copy(update=changes)

    return narrow


def _same(inbox_id: InboxId, named: UUID) -> None:
    if named != inbox_id:
        raise NotFound(f"there is no inbox {named}")


async def _nothing(_services: Services, _inbox_id: InboxId, _arguments: Arguments) -> None:
    pass


async def _get_inboxes(services: Services, inbox_id: InboxId, query: InboxListQuery) -> list[InboxDto]:
    inbox, window = await inboxes.get(services.store, inbox_id), query.window()
    early = window.since is not None and inbox.created_at < window.since
    late = window.before is not None and inbox.created_at >= window.before
    return [] if early or late else [InboxDto.of(inbox, services.user_id)]


async def _get_inbox_ids(services: Services, inbox_id: InboxId) -> InboxIdsResult:
    inbox = await inboxes.get(services.store, inbox_id)
    return InboxIdsResult.of([(inbox.id, inbox.email_address)])


async def _get_connectors(services: Services, inbox_id: InboxId, query: PageQuery) -> PageConnector:
    window = query.window()
    page = await connectors.page(services.store, window, inbox_id)
    return PageConnector.of(window, page, partial(ConnectorProjection.of, user_id=services.user_id))


# Lists that their own handlers cannot narrow.
_INSTEAD: Final[dict[str, Handler]] = {
    "getInboxes": _get_inboxes,
    "getInboxIds": _get_inbox_ids,
    "getConnectors": _get_connectors,
}
_BY_CHECKS: Final[tuple[tuple[tuple[Check, ...], str], ...]] = (
    ((_nothing,), "getInboxes getInboxIds getConnectors uploadAttachment uploadAttachmentBytes getUserInfo"),
    (
        (_path_inbox,),
        """getInbox getEmails getInboxEmailsPaginated getInboxEmailCount getInboxSentEmails getInboxSentCount
        deleteAllInboxEmails""",
    ),
    ((_path_inbox, _files), "sendEmail sendEmailAndConfirm"),
    (
        (_query_inbox,),
        """getLatestEmailInInbox getLatestEmailInInbox1 waitForLatestEmail waitForNthEmail waitForEmailCount
        waitForMatchingEmails waitForMatchingFirstEmail getConnectorByInboxId emptyInbox""",
    ),
    ((_query_inbox, _files), "canSend"),
    ((_body_inbox,), "waitFor"),
    ((_only("query", "inbox_id", several=True),), "getEmailsPaginated getEmailsOffsetPaginated"),
    ((_only("query", "inbox_id", several=True),), "getOrganizationEmailsPaginated"),
    ((_only("query", "inbox_ids", several=True),), "getLatestEmail"),
    ((_only("body", "inbox_ids", several=True),), "searchEmails"),
    ((_only("query", "inbox_id"),), "getEmailCount getUnreadEmailCount markAllAsRead getSentEmails"),
    (
        (_mail,),
        """getEmail getRawEmailContents getRawEmailJson deleteEmail getEmailSummary getEmailPreviewURLs markAsRead
        setEmailFavourited getEmailAttachments downloadAttachment getAttachmentMetaData downloadAttachmentBase64
        getEmailHTML getEmailHTMLJson downloadBody downloadBodyBytes getEmailLinks getEmailTextLines getEmailHTMLQuery
        getEmailContentMatch getEmailContentPart getEmailContentPartContent applyImapFlagOperation forwardEmail""",
    ),
    ((_mail, _files), "replyToEmail"),
    (
        (_sent_mail,),
        """getSentEmail getSentEmailHTMLContent getSentEmailPreviewURLs getRawSentEmailContents getRawSentEmailJson
        deleteSentEmail""",
    ),
    (
        (_attachment,),
        "getAttachment getAttachmentInfo downloadAttachmentAsBytes downloadAttachmentAsBase64Encoded",
    ),
    (
        (_connector,),
        """getConnector getConnectorEvents getConnectorSyncSettings getConnectorImapConnection
        getConnectorSmtpConnection syncConnector""",
    ),
    ((_connector, _files), "sendEmailFromConnector"),
)
# Each operation that such keys open, with what is asked of its arguments.
CONFINED: Final[dict[str, tuple[Check, ...]]] = {
    operation: checks for checks, operations in _BY_CHECKS for operation in operations.split()
}
