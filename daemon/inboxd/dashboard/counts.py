"""Counts that every page shows, looked up once for all who ask within a moment: each look reads an index whole."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable
from datetime import timedelta
from typing import Any, Final, TypeVar, final

from inboxd.model import InboxId, utc_now
from inboxd.services import Services
from inboxd.store import tallies
from inboxd.store.tallies import Tally

T = TypeVar("T")
HOURS: Final = 24
FRESH_SECONDS: Final = 2.0


@final
class Counts:
    """What the store holds, as of two seconds ago at most; at once after `forget`."""

    def __init__(self, services: Services, clock: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._clock = clock
        self._kept: dict[Hashable, tuple[float, Any]] = {}
        self._changes = 0

    def forget(self) -> None:
        """Somebody changed something: who looks now is to see it."""
        self._kept.clear()
        self._changes += 1

    async def by_inbox(self) -> dict[InboxId, Tally]:
        """What each inbox holds; those without a message are left out."""
        return await self._recent("inboxes", lambda: tallies.of_inboxes(self._services.store))

    async def by_hour(self) -> dict[InboxId, list[int]]:
        """How many messages came in each of the last 24 hours, the oldest first, first loads passed over; inboxes
        without any are left out.
        """
        until = utc_now() + timedelta(seconds=1)
        return await self._recent("hours", lambda: tallies.by_hour(self._services.store, until, HOURS))

    async def unread(self) -> int:
        """How many messages nobody has read."""
        return sum(tally.unread for tally in (await self.by_inbox()).values())

    async def _recent(self, name: str, look: Callable[[], Awaitable[T]]) -> T:
        kept = self._kept.get(name)
        if kept is not None and self._clock() - kept[0] < FRESH_SECONDS:
            return kept[1]
        began, changes = self._clock(), self._changes
        found = await self._services.flights.share(("dashboard", name), look)
        if changes == self._changes:
            self._kept[name] = (began, found)
        return found
