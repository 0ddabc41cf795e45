"""How fast logins may begin: turns in the order they were asked for, so many a second, of all and of each host."""

from __future__ import annotations

import asyncio
from typing import Final, final

from inboxd import providers
from inboxd.sections import ImapSettings

_HOSTS: Final = 1000  # remembered at most, but for those with a queue


@final
class Rate:
    """At most so many turns a second, evenly spread; 0: no limit. Who is cancelled before its turn takes none away."""

    def __init__(self, per_second: float) -> None:
        self._gap_seconds = 1.0 / per_second if per_second else 0.0
        self._next_at = 0.0
        self._queue = asyncio.Lock()

    async def turn(self) -> None:
        """Return when it is the caller's turn."""
        if not self._gap_seconds:
            return
        clock = asyncio.get_running_loop()
        async with self._queue:
            if (wait := self._next_at - clock.time()) > 0:
                await asyncio.sleep(wait)
            # A timer that is late by less than a turn does not slow the row down.
            self._next_at = max(self._next_at, clock.time() - self._gap_seconds) + self._gap_seconds

    def idle(self, now: float) -> bool:
        """Whether nobody waits and the next turn would come at once: it may be forgotten."""
        return not self._queue.locked() and self._next_at <= now


@final
class Logins:
    """The budget of IMAP logins. `under_way` is held during one; `turn` comes before connecting."""

    def __init__(self, limits: ImapSettings) -> None:
        self.under_way = asyncio.Semaphore(limits.logins_at_once)
        self._all = Rate(limits.logins_per_second)
        self._per_host_second = limits.logins_per_host_second
        self._hosts: dict[str, Rate] = {}

    async def turn(self, host: str) -> None:
        """Return when a login at `host` may begin. One that has to wait for its host holds up no other host's."""
        await self._rate(host.lower()).turn()
        await self._all.turn()

    def _rate(self, host: str) -> Rate:
        if host not in self._hosts:
            if len(self._hosts) >= _HOSTS:
                now = asyncio.get_running_loop().time()
                self._hosts = {name: rate for name, rate in self._hosts.items() if not rate.idle(now)}
            self._hosts[host] = Rate(_least(self._per_host_second, providers.logins_per_second(host)))
        return self._hosts[host]


def _least(*rates: float | None) -> float:
    """The lowest of the rates that are limits at all; 0 without any."""
    return min((rate for rate in rates if rate), default=0.0)
