"""The daemon's pulse: measures how late the loop runs and whether the store answers, and tells systemd so.

The watchdog is fed by that progress alone: a loop that is stuck, or a store that does not answer, lets it bite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from inboxd import logs, metrics
from inboxd.errors import StoreError
from inboxd.notify import Notifier
from inboxd.store import installation
from inboxd.store.engine import Store

_LAG_SECONDS: Final = 0.5
_SICK_LAG_SECONDS: Final = 5.0
_WRITE_EVERY_SECONDS: Final = 10.0
_WRITE_SECONDS: Final = 15.0
_log = logs.logger("beat")


async def measure_lag() -> None:
    """Observe the event loop's lateness twice a second, for ever."""
    clock = asyncio.get_running_loop()
    while True:
        due = clock.time() + _LAG_SECONDS
        await asyncio.sleep(_LAG_SECONDS)
        lag = max(0.0, clock.time() - due)
        metrics.LOOP_LAG.observe(lag)
        if lag > _SICK_LAG_SECONDS:
            _log.error("event_loop_late", seconds=round(lag, 2))


async def try_writing(store: Store, tell: Callable[[str | None], None]) -> None:
    """Write to the store every ten seconds, for ever; tell what keeps it from taking writes, None when nothing does."""
    while True:
        try:
            async with asyncio.timeout(_WRITE_SECONDS):
                await installation.touch(store)
            tell(None)
        except (TimeoutError, StoreError) as error:
            trouble = f"the store takes no writes: {error}" if str(error) else "the store takes no writes in time"
            _log.error("store_unwritable", reason=trouble)
            tell(trouble)
        await asyncio.sleep(_WRITE_EVERY_SECONDS)


async def feed_watchdog(notifier: Notifier, store: Store, period_seconds: float) -> None:
    """Feed systemd's watchdog while the store answers in time, for ever; `period_seconds` is the unit's limit."""
    while True:
        try:
            async with asyncio.timeout(period_seconds / 2):
                await installation.user_id(store)
            notifier.watchdog()
        except (TimeoutError, StoreError) as error:
            _log.error("store_silent", reason=str(error) or "no answer in time")
        await asyncio.sleep(period_seconds / 3)
