"""Deletes inboxes whose time is over; since that moment nothing has found them any more."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Final

from inboxd import logs
from inboxd.errors import Conflict, StoreError
from inboxd.model import utc_now
from inboxd.store import inboxes
from inboxd.store.engine import Store

_EVERY_SECONDS: Final = 60.0
_log = logs.logger("sweeper")


async def run(store: Store) -> None:
    """Sweep once a minute, for ever; what fails is tried again the next time."""
    while True:
        try:
            await sweep(store, utc_now())
        except (StoreError, Conflict) as error:
            _log.error("sweep_failed", reason=str(error))
        await asyncio.sleep(_EVERY_SECONDS)


async def sweep(store: Store, now: datetime) -> None:
    """Delete every inbox that has expired by `now`, with its mails."""
    while True:
        expired = await inboxes.remove_expired(store, now)
        for inbox_id in expired:
            _log.info("inbox_expired", inbox=str(inbox_id))
        if len(expired) < inboxes.EXPIRED_AT_ONCE:
            return
