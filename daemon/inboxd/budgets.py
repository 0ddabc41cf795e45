"""What is taken of each account at its server: connections at a time, logins a minute, bytes a day.

Every IMAP connection has a place in its account's budget. Where none is free, who came for more important work is
served first, and whoever only listens is asked to give its place up for a while; it comes back for it in turn.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, final

from inboxd import providers
from inboxd.allowance import Allowance
from inboxd.errors import NoRoom
from inboxd.logins import Logins
from inboxd.model import Share, utc_now
from inboxd.sections import ImapSettings
from inboxd.traffic import KEPT_HOURS, Clock, Traffic, this_hour

WAIT_SECONDS: Final = 30.0  # for a place, or for a login's turn
_SEEN_SECONDS: Final = 600.0  # a server that had no room for one more is believed so long
_MINUTE: Final = 60.0
_ACCOUNTS: Final = 1000  # remembered at most, but for those in use


class Purpose(enum.IntEnum):
    """What a connection is for, the most important first. AHEAD is content with a place that nobody else wants."""

    LISTEN = 0
    DIRECT = 1
    CHORE = 2
    SWEEP = 3
    AHEAD = 4


@final
class Place:
    """One connection's place, which its budget may ask for again once it is logged in."""

    def __init__(self, budget: Budget, purpose: Purpose) -> None:
        self.budget = budget
        self.purpose = purpose
        self.dismiss: Callable[[], None] | None = None
        self.dismissed = False
        self.logged_in = False

    def settle(self, dismiss: Callable[[], None]) -> None:
        """The connection is logged in; `dismiss` asks it to make room as soon as it can do without."""
        self.dismiss, self.logged_in = dismiss, True
        self.budget.ask()

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for the place that it was asked for; else it was not asked."""
        self.dismissed = self.dismissed and self.budget.has_queue
        return self.dismissed


@final
@dataclass(frozen=True, slots=True, order=True)
class _Wait:
    purpose: Purpose
    number: int
    place: Place
    granted: asyncio.Future[None]


@final
class Budget:
    """One account's. `traffic` is None where no limit of bytes is known."""

    def __init__(self, limits: ImapSettings, host: str, clock: Clock) -> None:
        self._host = host
        self._set = limits.connections
        quirks = providers.quirks(host)
        if "connections" not in limits.model_fields_set and quirks.connections is not None:
            self._set = quirks.connections
        self._seen: tuple[int, float] | None = None
        self._open: list[Place] = []
        self._queue: list[_Wait] = []
        self._numbers = itertools.count()
        self._per_minute = limits.logins_per_minute
        self._logins = Allowance([(self._per_minute, _MINUTE)] if self._per_minute else [])
        limit_bytes = limits.bytes_per_day or quirks.bytes_per_day
        self.traffic = Traffic(limit_bytes, clock) if limit_bytes else None

    @property
    def connections(self) -> int:
        """How many at a time: as set, or fewer where the server was seen to allow fewer."""
        return self._most(Purpose.DIRECT)

    @property
    def open(self) -> int:
        """How many connections have a place now."""
        return len(self._open)

    @property
    def logins(self) -> Share | None:
        """Those that began in the last minute; None where they are not limited, and so not counted."""
        return Share(self._logins.used(utc_now(), _MINUTE), self._per_minute) if self._per_minute else None

    @property
    def has_queue(self) -> bool:
        """Whether anybody waits for a place."""
        return any(not wait.granted.done() for wait in self._queue)

    @property
    def idle(self) -> bool:
        """Whether it may be forgotten."""
        unused = not self._open and not self._queue and (self.traffic is None or self.traffic.idle)
        return unused and self._logins.free(utc_now(), 1)[0] > 0 and self._seen is None

    @asynccontextmanager
    async def place(self, purpose: Purpose) -> AsyncGenerator[Place]:
        """A place for a connection; NoRoom when none comes free in time."""
        place = Place(self, purpose)
        await self._enter(place)
        try:
            yield place
        finally:
            self._leave(place)

    async def login(self) -> None:
        """Return when a login may begin; NoRoom when that takes too long."""
        ends_at = asyncio.get_running_loop().time() + WAIT_SECONDS
        while True:
            count, wait = self._logins.free(utc_now(), 1)
            if count:
                self._logins.spend(utc_now())
                return
            if asyncio.get_running_loop().time() + wait > ends_at:
                words = f"{self._per_minute} logins a minute as this user have been used up (imap.logins_per_minute)"
                raise NoRoom("connect", f"{self._host}: {words}", hint_seconds=wait)
            await asyncio.sleep(wait)

    def crowded(self) -> bool:
        """The server had no room for one more: whether it has for those that are logged in now, and no more."""
        others = sum(place.logged_in for place in self._open)
        if others:
            self._seen = (others, asyncio.get_running_loop().time() + _SEEN_SECONDS)
        return others > 0

    def _most(self, purpose: Purpose) -> int:
        # To follow folders takes two, whatever is set: a server that has no room for them is asked now and then.
        least = 2 if purpose is Purpose.SWEEP else 1
        if self._seen is not None and self._seen[1] <= asyncio.get_running_loop().time():
            self._seen = None
        return max(least, self._set if self._seen is None else min(self._set, self._seen[0]))

    def _has_room(self, purpose: Purpose) -> bool:
        return len(self._open) < self._most(purpose)

    async def _enter(self, place: Place) -> None:
        purpose = place.purpose
        before = any(wait.purpose <= purpose for wait in self._queue)
        if self._has_room(purpose) and not before:
            self._open.append(place)
            return
        if purpose is Purpose.AHEAD:
            raise self._no_room()
        wait = _Wait(purpose, next(self._numbers), place, asyncio.get_running_loop().create_future())
        self._queue = sorted([*self._queue, wait])
        self.ask()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await wait.granted
        except TimeoutError as error:
            self._leave(place)
            raise self._no_room() from error
        except BaseException:
            self._leave(place)
            raise
        finally:
            self._queue = [other for other in self._queue if other is not wait]
            self._serve()

    def _leave(self, place: Place) -> None:
        self._open = [other for other in self._open if other is not place]
        self._serve()

    def _serve(self) -> None:
        """Places that are free go to those who wait, in order; whoever is left waiting asks."""
        self._queue = [wait for wait in self._queue if not wait.granted.done()]
        while self._queue and self._has_room(self._queue[0].purpose):
            wait = self._queue.pop(0)
            self._open.append(wait.place)
            wait.granted.set_result(None)
        self.ask()

    def ask(self) -> None:
        """Ask one connection to make room for the first who waits, unless that was done already."""
        if not self._queue:
            return
        purpose = self._queue[0].purpose
        if len(self._open) - sum(place.wanted for place in self._open) < self._most(purpose):
            return
        others = [place for place in self._open if place.dismiss is not None and not place.dismissed]
        spare = [place for place in others if place.purpose > max(purpose, Purpose.CHORE)]
        if not spare and purpose in (Purpose.DIRECT, Purpose.CHORE):
            # Nothing else ends: one that listens is away for as long as that takes, and looks when it is back.
            spare = others if all(place.purpose is Purpose.LISTEN for place in self._open) else []
        chosen = max(spare, key=lambda place: place.purpose, default=None)
        if chosen is not None and chosen.dismiss is not None:
            chosen.dismissed = True
            chosen.dismiss()

    def _no_room(self) -> NoRoom:
        most = self.connections
        seen = "" if most == self._set else f", of which its server was seen to allow {most}"
        return NoRoom(
            "connect",
            f"{self._host}: all connections that may be open at a time as this user are in use"
            f" (imap.connections: {self._set}{seen}); try again later",
        )


@final
class Budgets:
    """The budgets of all accounts, and how fast logins may begin."""

    def __init__(self, limits: ImapSettings, clock: Clock = time.time) -> None:
        self.logins = Logins(limits)
        self._limits = limits
        self._clock = clock
        self._accounts: dict[tuple[str, str], Budget] = {}
        self._most = _ACCOUNTS

    def of(self, host: str, username: str) -> Budget:
        """The account's at this host; a provider's hosts are one."""
        known = providers.by_host(host)
        key = (known.imap.host if known is not None else host.lower(), username.lower())
        if key not in self._accounts:
            if len(self._accounts) >= self._most:
                self._accounts = {name: one for name, one in self._accounts.items() if not one.idle}
                self._most = max(_ACCOUNTS, 2 * len(self._accounts))
            self._accounts[key] = Budget(self._limits, host, self._clock)
        return self._accounts[key]

    @property
    def oldest_hour(self) -> int:
        """The first hour that still counts."""
        return this_hour(self._clock) - KEPT_HOURS

    def traffic(self) -> Iterator[tuple[tuple[str, str], Traffic]]:
        """Each account whose bytes are limited, by host and user name."""
        for key, budget in self._accounts.items():
            if budget.traffic is not None:
                yield key, budget.traffic
