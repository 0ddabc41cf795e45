"""What accounts have downloaded is kept, so that nobody begins to count anew with the program."""

from __future__ import annotations

import asyncio
from typing import Final

from inboxd import logs
from inboxd.budgets import Budgets
from inboxd.errors import StoreError
from inboxd.store import traffic
from inboxd.store.engine import Store

_KEEP_SECONDS: Final = 60.0  # a crash forgets as much
_log = logs.logger("metering")


async def recall(store: Store, budgets: Budgets) -> None:
    """Go on counting where the last program ended."""
    for (host, username), hours in (await traffic.since(store, budgets.oldest_hour)).items():
        counted = budgets.of(host, username).traffic
        if counted is not None:
            counted.restore(hours)


async def run(store: Store, budgets: Budgets) -> None:
    """Keep what was counted every minute, until cancelled."""
    while True:
        await asyncio.sleep(_KEEP_SECONDS)
        await keep(store, budgets)


async def keep(store: Store, budgets: Budgets) -> None:
    """Write what was counted since the last time; what cannot be written is, with the next."""
    fresh = {account: hours for account, counted in budgets.traffic() if (hours := counted.take_fresh())}
    try:
        await traffic.add(store, fresh, budgets.oldest_hour)
    except StoreError as error:
        _log.error("traffic_not_kept", reason=str(error))
        for account, counted in budgets.traffic():
            counted.put_back(fresh.get(account, {}))
