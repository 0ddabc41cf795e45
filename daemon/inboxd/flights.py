"""Work that many ask for at the same moment is done once, by one of them, for all of them ("single flight").

There is no task of its own: whoever asks first carries the work, and when that one is cancelled the next carries it
anew. So work never outlives the last who asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar, final

from inboxd.errors import InboxdError

T = TypeVar("T")


@final
class Flights:
    """The work under way, by key. The key says everything that the work depends on."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, _Lane[Any]] = {}

    async def share(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` makes. It began after this call, so it has seen whatever was committed before.

        What is asked while work of the same key is going on waits for its end, and is then done once for all who
        asked. An InboxdError reaches them all; after any other one, each tries for itself.
        """
        lane: _Lane[T] = self._lanes.setdefault(key, _Lane[Any]())
        lane.users += 1
        try:
            return await lane.fly(work)
        finally:
            lane.users -= 1
            if not lane.users:
                del self._lanes[key]

    def __len__(self) -> int:
        """How many keys are in use."""
        return len(self._lanes)


class _Flight(Generic[T]):
    """One doing of the work: who is aboard gets what comes of it."""

    def __init__(self) -> None:
        self.made: list[T] = []
        self.error: InboxdError | None = None
        self.carried = False
        self.news = asyncio.Event()


class _Lane(Generic[T]):
    """The flights of one key, one after the other."""

    def __init__(self) -> None:
        self.users = 0
        self._boarding: _Flight[T] | None = None
        self._runway = asyncio.Lock()

    async def fly(self, work: Callable[[], Awaitable[T]]) -> T:
        flight = self._boarding = self._boarding or _Flight[T]()
        while not flight.made and flight.error is None:
            if flight.carried:
                await flight.news.wait()
            else:
                await self._carry(flight, work)
        if flight.error is not None:
            raise flight.error
        return flight.made[0]

    async def _carry(self, flight: _Flight[T], work: Callable[[], Awaitable[T]]) -> None:
        flight.carried = True
        try:
            async with self._runway:
                await asyncio.sleep(0)  # those whom the same event woke come aboard
                self._close(flight)
                flight.made.append(await work())
        except InboxdError as error:
            flight.error = error
        finally:
            flight.carried = False
            flight.news.set()
            flight.news = asyncio.Event()

    def _close(self, flight: _Flight[T]) -> None:
        if self._boarding is flight:
            self._boarding = None
