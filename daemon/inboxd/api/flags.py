"""The handler that changes a mail's flags in its external mailbox."""

from __future__ import annotations

from inboxd.api.wire.emails import EmailPreview
from inboxd.api.wire.flags import ImapFlagOperationOptions
from inboxd.flags import mark_seen
from inboxd.model import MessageId
from inboxd.services import Services
from inboxd.store import messages


async def apply(services: Services, email_id: MessageId, body: ImapFlagOperationOptions) -> EmailPreview:
    """Mark a mail as seen or unseen on its server and here; without flags to change it stays as it is."""
    message, seen = await messages.get(services.store, email_id), body.seen()
    if seen is not None:
        message = await mark_seen(services, message, seen=seen)
    return EmailPreview.of(message)
