"""Waiting for mail: subscribe, look, wait for a hint, look again."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from inboxd.mails import Message
from inboxd.model import MessageFilter, Window
from inboxd.services import Services
from inboxd.store import messages


async def wait_for_nth(
    services: Services, wanted: MessageFilter, window: Window, index: int, timeout_seconds: float
) -> Message | None:
    """The message at `index` (from 0) among those wanted, as soon as there is one; None after `timeout_seconds`.

    `wanted.inbox_ids` names exactly one inbox. Waiting costs a subscription and no query until something arrives. There
    is a last look when the time is over, so that a timeout of 0 finds what is there.
    """
    (inbox_id,) = wanted.inbox_ids
    clock = asyncio.get_running_loop()
    deadline = clock.time() + timeout_seconds
    with services.bus.subscribe(inbox_id) as hint:
        while (found := await messages.nth(services.store, wanted, window, index)) is None and clock.time() < deadline:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await hint.wait()
        return found
