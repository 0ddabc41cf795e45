"""From the options of a send to a draft."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from inboxd.api.wire.control import ControlSend
from inboxd.api.wire.sent import SendEmailOptions
from inboxd.errors import Invalid
from inboxd.mail import addresses
from inboxd.mails import Draft
from inboxd.model import ConnectorId
from inboxd.services import Services
from inboxd.store import connectors, inboxes

_WIRE_NAMES: Final = {
    "headers": "customHeaders",
    "reply_to": "replyTo",
    "sender": "from",
    "sender_name": "fromName",
}


async def draft_of(services: Services, connector_id: ConnectorId, options: SendEmailOptions) -> Draft:
    """The mail MailSlurp's options describe; Invalid when they ask for what cannot be had."""
    options.check()
    text, html = options.bodies()
    to = _recipients(options, "to", options.to or [])
    if not to:
        raise Invalid("to", "is required: a list with at least one address")
    sender = addresses.mailbox("from", options.from_) if options.from_ else None
    inbox_name = await _inbox_name(services, connector_id) if options.use_inbox_name else None
    return Draft(
        sender=sender.address if sender else "",
        to=to,
        subject=options.subject or "",
        sender_name=options.from_name or inbox_name or (sender.name if sender else None),
        cc=_recipients(options, "cc", options.cc),
        bcc=_recipients(options, "bcc", options.bcc),
        reply_to=_mailbox("replyTo", options.reply_to) if options.reply_to else None,
        text=text,
        html=html,
        headers=dict(options.custom_headers),
    )


def control_draft_of(options: ControlSend) -> Draft:
    """The mail inboxctl describes."""
    sender = addresses.mailbox("from", options.from_) if options.from_ else None
    return Draft(
        sender=sender.address if sender else "",
        to=tuple(_mailbox("to", text) for text in options.to),
        subject=options.subject or "",
        sender_name=sender.name if sender else None,
        cc=tuple(_mailbox("cc", text) for text in options.cc),
        bcc=tuple(_mailbox("bcc", text) for text in options.bcc),
        reply_to=_mailbox("replyTo", options.reply_to) if options.reply_to else None,
        text=options.text if options.text is not None or options.html is not None else "",
        html=options.html,
        attachments=tuple((file.name, file.content_type, file.content) for file in options.attachments),
    )


@contextmanager
def wire_names() -> Generator[None]:
    """Where building the mail blames a field of the draft, blame the request's instead."""
    try:
        yield
    except Invalid as error:
        words = str(error).removeprefix(f"{error.field}: ")
        raise Invalid(_WIRE_NAMES.get(error.field, error.field), words) from error


def _mailbox(field: str, text: str) -> str:
    """The mailbox as its sender wrote it, name and all; Invalid names `field` when it is none."""
    return addresses.mailbox(field, text).raw


def _is_mailbox(text: str) -> bool:
    try:
        addresses.mailbox("", text)
    except Invalid:
        return False
    return True


def _recipients(options: SendEmailOptions, field: str, given: list[str]) -> tuple[str, ...]:
    """The recipients of one header after the filters the options ask for."""
    chosen = [text for text in given if text.strip() or not options.ignore_empty_recipients]
    if options.validate_email_addresses == "VALIDATE_FILTER_REMOVE_INVALID":
        chosen = [text for text in chosen if _is_mailbox(text)]
    return tuple(_mailbox(field, text) for text in chosen)


async def _inbox_name(services: Services, connector_id: ConnectorId) -> str | None:
    connector = await connectors.get(services.store, connector_id)
    return (await inboxes.get(services.store, connector.inbox_id)).name
