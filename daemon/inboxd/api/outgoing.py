"""From the options of a send, an answer or a forward to a draft."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final
from uuid import UUID

from inboxd.api.attachments import contents
from inboxd.api.wire.control import ControlSend
from inboxd.api.wire.sending import ForwardEmailOptions, Outgoing, ReplyToEmailOptions, SendEmailOptions
from inboxd.errors import Conflict, Invalid, NotFound
from inboxd.mail import addresses, answering
from inboxd.mails import Draft, Message
from inboxd.model import AttachmentId, ConnectorId
from inboxd.services import Services
from inboxd.store import connectors, inboxes, messages

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
    draft = await _blank(services, connector_id, options)
    return replace(
        draft,
        to=to,
        subject=options.subject or "",
        sender_name=options.from_name or draft.sender_name,
        cc=_recipients(options, "cc", options.cc),
        bcc=_recipients(options, "bcc", options.bcc),
        reply_to=_mailbox("replyTo", options.reply_to) if options.reply_to else None,
        text=text,
        html=html,
        headers=dict(options.custom_headers),
        attachments=await _attached(services, options.attachments),
        attachment_ids=tuple(options.attachments),
    )


async def reply_of(
    services: Services, connector_id: ConnectorId, message: Message, options: ReplyToEmailOptions
) -> Draft:
    """The answer to a received mail; Invalid likewise, Conflict when the mail names nobody to answer."""
    options.check()
    text, html = options.bodies()
    draft = replace(
        await _blank(services, connector_id, options),
        reply_to=_mailbox("replyTo", options.reply_to) if options.reply_to else None,
        text=text,
        html=html,
        headers=dict(options.custom_headers),
        attachments=await _attached(services, options.attachments),
        attachment_ids=tuple(options.attachments),
    )
    return await asyncio.to_thread(answering.reply, draft, await messages.raw(services.store, message.id))


async def forward_of(
    services: Services, connector_id: ConnectorId, message: Message, options: ForwardEmailOptions
) -> Draft:
    """The received mail passed on; Invalid likewise, Conflict when it is not all here, Unparsable."""
    draft = replace(
        await _blank(services, connector_id, options),
        to=tuple(_mailbox("to", text) for text in options.to),
        cc=tuple(_mailbox("cc", text) for text in options.cc),
        bcc=tuple(_mailbox("bcc", text) for text in options.bcc),
        subject=options.subject or "",
    )
    if not draft.to:
        raise Invalid("to", "is required: a list with at least one address")
    raw = await messages.raw(services.store, message.id)
    if len(raw) < message.size_bytes:
        raise Conflict(
            "the mail was too large to be kept whole (setting imap.max_message_bytes): it stays on its server"
        )
    return await asyncio.to_thread(answering.forward, draft, message.digest, raw)


async def _blank(services: Services, connector_id: ConnectorId, options: Outgoing) -> Draft:
    """A mail that has a sender and nothing else."""
    sender = addresses.mailbox("from", options.from_) if options.from_ else None
    name = await _inbox_name(services, connector_id) if options.use_inbox_name else None
    return Draft(sender=sender.address if sender else "", to=(), sender_name=name or (sender.name if sender else None))


async def _attached(services: Services, ids: Sequence[str]) -> tuple[tuple[str, str, bytes], ...]:
    """The files of uploads and of received attachments; Invalid names the id that is none, or is one too many."""
    files: list[tuple[str, str, bytes]] = []
    room = services.settings.api.max_body_bytes
    for number, text in enumerate(ids):
        field = f"attachments.{number}"
        try:
            file = await contents(services, AttachmentId(_identity(text)))
        except NotFound as error:
            raise Invalid(field, "no upload or attachment with this id exists; POST /attachments makes one") from error
        room -= len(file.content)
        if room < 0:
            most = services.settings.api.max_body_bytes
            raise Invalid(field, f"together they have more than {most} bytes (setting api.max_body_bytes)")
        files.append((file.name, file.content_type, file.content))
    return tuple(files)


def _identity(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound("ids are UUIDs") from error


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
