"""Handlers that send: from an inbox or any, answers and forwards; all of it through the outbox.

Those whose answer is empty answer once the mail is in the outbox, on disk; the others wait for the first outcome, or
answer after `outbox.confirm_seconds` with the mail as it is.
"""

from __future__ import annotations

from typing import Final

from inboxd import accepting, logs
from inboxd.api.outgoing import draft_of, forward_of, reply_of, wire_names
from inboxd.api.wire.sending import (
    CanSendEmailResults,
    CanSendQuery,
    ForwardEmailOptions,
    ReplyToEmailOptions,
    SendEmailOptions,
    SimpleSendEmailOptions,
    SourceQuery,
)
from inboxd.api.wire.sent import SentEmailDto
from inboxd.errors import Conflict, Invalid
from inboxd.mail import addresses
from inboxd.mails import Draft
from inboxd.model import Connector, ConnectorId, InboxId, MessageId
from inboxd.outbox import Accepted, Once
from inboxd.services import Services
from inboxd.store import connectors, inboxes, messages

_HOW: Final = "add an SMTP connection (POST /connectors/{id}/smtp), or enable the connector and its SMTP connection"
_log = logs.logger("api")


async def send_email(services: Services, inbox_id: InboxId, body: SendEmailOptions, once: Once | None) -> None:
    """Send from an inbox.

    It answers once the mail is kept, and inboxd tries until the server has taken or refused it.
    """
    await _accept(services, await _outlet(services, inbox_id, body.from_), body, once)


async def send_email_and_confirm(
    services: Services, inbox_id: InboxId, body: SendEmailOptions, once: Once | None
) -> SentEmailDto:
    """Send from an inbox, and answer after the server did."""
    accepted = await _accept(services, await _outlet(services, inbox_id, body.from_), body, once)
    return await _outcome(services, accepted)


async def send_from_any(services: Services, query: SourceQuery, body: SendEmailOptions, once: Once | None) -> None:
    """Send from the inbox named, else from where `from` belongs, else from the only inbox that can send.

    It answers once the mail is kept, and inboxd tries until the server has taken or refused it.
    """
    inbox_id = query.inbox()
    outlet = (
        await _outlet(services, inbox_id, body.from_)
        if inbox_id is not None
        else await _only_outlet(services, body.from_, "inboxId")
    )
    await _accept(services, outlet, body, once)


async def send_simple(services: Services, body: SimpleSendEmailOptions, once: Once | None) -> None:
    """Send a text to one address.

    It answers once the mail is kept, and inboxd tries until the server has taken or refused it.
    """
    await _accept_simple(services, body, once)


async def send_query(services: Services, query: SimpleSendEmailOptions, once: Once | None) -> None:
    """The same, asked in the query."""
    await _accept_simple(services, query, once)


async def can_send(services: Services, query: CanSendQuery, body: SendEmailOptions) -> CanSendEmailResults:
    """Whether the mail could be handed to a server, and if not, why; nothing is sent."""
    inbox_id = InboxId(query.inbox_id)
    await inboxes.get(services.store, inbox_id)
    try:
        outlet = await _outlet(services, inbox_id, body.from_)
        with wire_names():
            await accepting.prepare(services, outlet.id, await draft_of(services, outlet.id, body))
    except (Invalid, Conflict) as error:
        return CanSendEmailResults(is_sending_permitted=False, message=str(error))
    return CanSendEmailResults(is_sending_permitted=True)


async def reply(services: Services, email_id: MessageId, body: ReplyToEmailOptions, once: Once | None) -> SentEmailDto:
    """Answer a received mail, preferably through the connector that brought it."""
    message = await messages.get(services.store, email_id)
    outlet = await _outlet(services, message.inbox_id, body.from_, message.connector_id)
    draft = await reply_of(services, outlet.id, message, body)
    return await _outcome(services, await _accept_draft(services, outlet, draft, once, answers=message.id))


async def forward(
    services: Services, email_id: MessageId, body: ForwardEmailOptions, once: Once | None
) -> SentEmailDto:
    """Pass a received mail on with its attachments, preferably through the connector that brought it."""
    message = await messages.get(services.store, email_id)
    outlet = await _outlet(services, message.inbox_id, body.from_, message.connector_id)
    draft = await forward_of(services, outlet.id, message, body)
    return await _outcome(services, await _accept_draft(services, outlet, draft, once))


async def _outlet(
    services: Services, inbox_id: InboxId, from_: str | None, likely: ConnectorId | None = None
) -> Connector:
    """The inbox's connector that has the address of `from`, else the likely one, else its oldest that can send.

    NotFound when there is no such inbox, Conflict when none of its connectors can send.
    """
    await inboxes.get(services.store, inbox_id)
    found = await connectors.sending(services.store, inbox_id=inbox_id, address=_address(from_), likely=likely)
    if not found:
        raise Conflict(f"inbox {inbox_id} has no connector that can send: {_HOW}")
    return found[0]


async def _only_outlet(services: Services, from_: str | None, field: str) -> Connector:
    """The connector that has the address of `from`, else the only one that can send; Invalid when there are more."""
    address = _address(from_)
    found = await connectors.sending(services.store, address=address)
    if not found:
        raise Conflict(f"there is no connector that can send: {_HOW}")
    belongs = address is not None and (found[0].email_address or "").lower() == address.lower()
    if len(found) > 1 and not belongs:
        raise Invalid(field, "is required: several connectors can send, so name the inbox of the one that is to")
    return found[0]


def _address(from_: str | None) -> str | None:
    return addresses.mailbox("from", from_).address if from_ else None


async def _accept_simple(services: Services, simple: SimpleSendEmailOptions, once: Once | None) -> None:
    inbox_id = simple.sender()
    outlet = (
        await _outlet(services, inbox_id, None)
        if inbox_id is not None
        else await _only_outlet(services, None, "senderId")
    )
    await _accept(services, outlet, simple.options(), once)


async def _accept(services: Services, outlet: Connector, options: SendEmailOptions, once: Once | None) -> Accepted:
    return await _accept_draft(services, outlet, await draft_of(services, outlet.id, options), once)


async def _accept_draft(
    services: Services, outlet: Connector, draft: Draft, once: Once | None, answers: MessageId | None = None
) -> Accepted:
    _log.debug("send_asked", connector=str(outlet.id), inbox=str(outlet.inbox_id))
    with wire_names():
        return await accepting.accept(services, outlet.id, draft, once=once, answers=answers)


async def _outcome(services: Services, accepted: Accepted) -> SentEmailDto:
    return SentEmailDto.of(await accepting.outcome(services, accepted.id), services.user_id)
