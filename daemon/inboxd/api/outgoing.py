"""From the options of a send to a draft."""

from __future__ import annotations

from inboxd.api.wire.control import ControlSend
from inboxd.api.wire.sent import SendEmailOptions
from inboxd.api.wire.shapes import is_email_address
from inboxd.errors import Invalid
from inboxd.mail import addresses
from inboxd.mails import Address, Draft
from inboxd.model import ConnectorId
from inboxd.services import Services
from inboxd.store import connectors, inboxes


async def draft_of(services: Services, connector_id: ConnectorId, options: SendEmailOptions) -> Draft:
    """The mail MailSlurp's options describe; Invalid when they ask for what cannot be had."""
    options.check()
    text, html = options.bodies()
    to = _recipients(options, "to", options.to or [])
    if not to:
        raise Invalid("to", "is required: a list with at least one address")
    inbox_name = await _inbox_name(services, connector_id) if options.use_inbox_name else None
    return Draft(
        sender=_bare("from", options.from_) if options.from_ else "",
        to=to,
        subject=options.subject or "",
        sender_name=options.from_name or inbox_name or _name(options.from_),
        cc=_recipients(options, "cc", options.cc),
        bcc=_recipients(options, "bcc", options.bcc),
        reply_to=_bare("replyTo", options.reply_to) if options.reply_to else None,
        text=text,
        html=html,
        headers=dict(options.custom_headers),
    )


def control_draft_of(options: ControlSend) -> Draft:
    """The mail inboxctl describes."""
    return Draft(
        sender=_bare("from", options.from_) if options.from_ else "",
        to=tuple(_bare("to", text) for text in options.to),
        subject=options.subject or "",
        sender_name=_name(options.from_),
        cc=tuple(_bare("cc", text) for text in options.cc),
        bcc=tuple(_bare("bcc", text) for text in options.bcc),
        reply_to=_bare("replyTo", options.reply_to) if options.reply_to else None,
        text=options.text if options.text is not None or options.html is not None else "",
        html=options.html,
        attachments=tuple((file.name, file.content_type, file.content) for file in options.attachments),
    )


def _mailbox(text: str | None) -> Address | None:
    """The one mailbox of `name@example.com` or `Name <name@example.com>`; None when it is anything else."""
    found = addresses.read([text]) if text else ()
    return found[0] if len(found) == 1 and is_email_address(found[0].address) else None


def _bare(field: str, text: str) -> str:
    """The address alone of one mailbox; Invalid names `field`."""
    if (mailbox := _mailbox(text)) is None:
        raise Invalid(field, f"{text[:100]!r} is not a mail address; write it as name@example.com")
    return mailbox.address


def _name(text: str | None) -> str | None:
    """The display name of one mailbox."""
    mailbox = _mailbox(text)
    return mailbox.name if mailbox is not None else None


def _recipients(options: SendEmailOptions, field: str, given: list[str]) -> tuple[str, ...]:
    """The recipients of one header after the filters the options ask for."""
    chosen = [text for text in given if text.strip() or not options.ignore_empty_recipients]
    if options.validate_email_addresses == "VALIDATE_FILTER_REMOVE_INVALID":
        chosen = [text for text in chosen if _mailbox(text) is not None]
    return tuple(_bare(field, text) for text in chosen)


async def _inbox_name(services: Services, connector_id: ConnectorId) -> str | None:
    connector = await connectors.get(services.store, connector_id)
    return (await inboxes.get(services.store, connector.inbox_id)).name
