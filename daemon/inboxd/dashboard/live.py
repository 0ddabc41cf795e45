"""Server-sent events: a hint that something changed; the page then loads itself anew and shows what is different."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from inboxd.bus import Hint
from inboxd.dashboard import guard
from inboxd.dashboard.page import Visit

_LEAST_SECONDS: Final = 1.0  # between two hints
_TICK_SECONDS: Final = 5.0  # states of connectors change without a word on the bus


async def stream(visit: Visit) -> web.StreamResponse:
    """`mail` when some was stored or something became of one sent, else `tick` every so often, until the browser goes."""
    response = web.StreamResponse(headers={**guard.HEADERS, "Content-Type": "text/event-stream"})
    await response.prepare(visit.request)
    hint = Hint()
    with visit.services.bus.subscribe(None, hint), visit.services.sends.subscribe(None, hint):
        while True:
            try:
                async with asyncio.timeout(_TICK_SECONDS):
                    await hint.wait()
                kind = b"mail"
            except TimeoutError:
                kind = b"tick"
            try:
                await response.write(b"event: " + kind + b"\ndata:\n\n")
            except ConnectionResetError:
                return response
            await asyncio.sleep(_LEAST_SECONDS)
