"""Waiting for mail: subscribe, look, wait for a hint, look again. Those who wait for the same share their looks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from inboxd import matching
from inboxd.mails import Message
from inboxd.matching import Goal, Seen
from inboxd.model import MessageFilter, Window
from inboxd.services import Services
from inboxd.store import messages

T = TypeVar("T")


async def wait_for_nth(
    services: Services, wanted: MessageFilter, window: Window, index: int, timeout_seconds: float
) -> Message | None:
    """The message at `index` (from 0) among those wanted, as soon as there is one; None after `timeout_seconds`.

    `wanted.inbox_ids` names exactly one inbox, here and below. Waiting costs a subscription and no query until
    something arrives. There is a last look when the time is over, so that a timeout of 0 finds what is there.
    """
    find = partial(messages.nth, services.store, wanted, window, index)
    look = partial(services.flights.share, ("nth", wanted, window, index), find)
    return await _until(services, wanted, look, timeout_seconds)


async def wait_for_count(
    services: Services, wanted: MessageFilter, window: Window, count: int, timeout_seconds: float
) -> tuple[Message, ...] | None:
    """The first `count` messages of those wanted, as soon as there are so many; None after `timeout_seconds`."""
    find = partial(_first, services, wanted, window, count)
    look = partial(services.flights.share, ("count", wanted, window, count), find)
    return await _until(services, wanted, look, timeout_seconds)


async def wait_for_matching(services: Services, goal: Goal, timeout_seconds: float) -> tuple[Message, ...] | None:
    """The first `goal.count` messages that fit, as soon as the goal is met; None after `timeout_seconds`.

    The first look goes through what there is however long that takes. Invalid as in `matching.look`.
    """
    seen: Seen | None = None

    async def look() -> tuple[Message, ...] | None:
        nonlocal seen
        find = partial(matching.look, services, goal, seen)
        seen, found = await services.flights.share(("matching", goal, seen), find)
        return found

    return await _until(services, goal.wanted, look, timeout_seconds)


async def _first(services: Services, wanted: MessageFilter, window: Window, count: int) -> tuple[Message, ...] | None:
    """Whether the last of them exists is asked first: it costs one row, however many are there already."""
    if await messages.nth(services.store, wanted, window, count - 1) is None:
        return None
    found = (await messages.page(services.store, wanted, replace(window, page=0, size=count))).rows
    return found if len(found) == count else None


async def _until(
    services: Services, wanted: MessageFilter, look: Callable[[], Awaitable[T | None]], timeout_seconds: float
) -> T | None:
    (inbox_id,) = wanted.inbox_ids
    clock = asyncio.get_running_loop()
    deadline = clock.time() + timeout_seconds
    with services.bus.subscribe(inbox_id) as hint:
        while (found := await look()) is None and clock.time() < deadline:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await hint.wait()
        return found
