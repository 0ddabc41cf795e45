"""Brings the search index up to the stored mails, while nobody is in a hurry to write.

Searches are complete without it (see store.searching), only slower; so it stands back while mails arrive one upon the
other, as in a first sync.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from inboxd import logs
from inboxd.bus import Bus, Hint
from inboxd.errors import StoreError
from inboxd.store import searching
from inboxd.store.engine import Store

# Removals publish nothing: they are found when this is over.
_LOOK_AGAIN_SECONDS: Final = 60.0
_MOST_WAITING_SECONDS: Final = 30.0
_ROUND_SECONDS: Final = 2.0
_log = logs.logger("indexer")


async def run(store: Store, bus: Bus, quiet_seconds: float = 1.0) -> None:
    """Index what is there, then what comes once no mail came for `quiet_seconds`; returns where no index lags behind.

    While mails keep coming it works for two seconds in thirty.
    """
    if not await searching.is_deferred(store):
        return
    with bus.subscribe() as hint:
        while True:
            try:
                await _round(store, hint)
            except StoreError as error:
                _log.warning("index_not_written", reason=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                    await hint.wait()
            await _quiet(hint, quiet_seconds)


async def _round(store: Store, hint: Hint) -> None:
    """Until nothing is left, or mails come and two seconds are over. Others write as long as this does."""
    clock = asyncio.get_running_loop()
    begun = clock.time()
    while True:
        started = clock.time()
        if not await searching.follow(store):
            return
        ended = clock.time()
        if hint.rung and ended - begun > _ROUND_SECONDS:
            return
        await asyncio.sleep(ended - started)


async def _quiet(hint: Hint, seconds: float) -> None:
    """Until there was no hint for so long, or half a minute is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_MOST_WAITING_SECONDS):
            while True:
                try:
                    async with asyncio.timeout(seconds):
                        await hint.wait()
                except TimeoutError:
                    return
