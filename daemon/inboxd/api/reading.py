"""What several handlers do with received mails: show one whole, mark it as read, sync before reading."""

from __future__ import annotations

import asyncio

from inboxd.api.wire.emails import Email
from inboxd.mail.parse import body as parse_body
from inboxd.mails import Message
from inboxd.services import Services
from inboxd.store import messages


async def whole(services: Services, message: Message) -> Email:
    """The whole mail, as unread as it was."""
    raw = await messages.raw(services.store, message.id)
    return Email.whole(message, await asyncio.to_thread(parse_body, raw), services.user_id)


async def read(services: Services, message: Message) -> Email:
    """The whole mail, which is read from now on."""
    email = await whole(services, message)
    if message.read:
        return email
    marked = await messages.mark_read(services.store, message.id, read=True)
    return email.model_copy(update={"read": marked.read, "updated_at": marked.updated_at})
