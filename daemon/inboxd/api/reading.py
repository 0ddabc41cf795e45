"""What several handlers do with received mails: show one whole, mark it as read.

Those who ask for the same mail at the same moment share one reading of it: one mail may end many waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from inboxd.api.wire.emails import Email
from inboxd.mail.parse import body as parse_body
from inboxd.mails import Message
from inboxd.services import Services
from inboxd.store import messages


async def whole(services: Services, message: Message) -> Email:
    """The whole mail, as unread as it was."""
    return await _share(services, _whole, message)


async def read(services: Services, message: Message) -> Email:
    """The whole mail, which is read from now on."""
    return await _share(services, _read, message)


async def _share(services: Services, work: Callable[[Services, Message], Awaitable[Email]], message: Message) -> Email:
    key = (work, message.id, message.updated_at, message.read)
    return await services.flights.share(key, partial(work, services, message))


async def _whole(services: Services, message: Message) -> Email:
    raw = await messages.raw(services.store, message.id)
    return Email.whole(message, await asyncio.to_thread(parse_body, raw), services.user_id)


async def _read(services: Services, message: Message) -> Email:
    email = await _whole(services, message)
    if message.read:
        return email
    marked = await messages.mark_read(services.store, message.id, read=True)
    services.bus.publish(message.id)  # for the webhooks; who waits for mail of the inbox need not look again
    return email.model_copy(update={"read": marked.read, "updated_at": marked.updated_at})
