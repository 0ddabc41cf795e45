"""Server-sent events: a hint that something changed; the page then loads itself anew and shows what is different.

Each carries how many mails are unread, and the number of the last one stored.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from aiohttp import web

from inboxd.bus import Hint
from inboxd.dashboard import guard
from inboxd.dashboard.page import Visit
from inboxd.store import messages

_LEAST_SECONDS: Final = 1.0  # between two hints
_TICK_SECONDS: Final = 5.0  # states of connectors change without a word on the bus


async def stream(visit: Visit) -> web.StreamResponse:
    """`here` at once, `mail` when some was stored or something became of one sent, else `tick` every so often.

    It lasts until the browser goes. With `now` among the parameters: the figures alone, once.
    """
    if visit.given("now"):
        return web.Response(body=await _figures(visit), content_type="application/json")
    response = web.StreamResponse(headers={**guard.HEADERS, "Content-Type": "text/event-stream"})
    await response.prepare(visit.request)
    kind = b"here"
    hint = Hint()
    with visit.services.bus.subscribe(None, hint), visit.services.sends.subscribe(None, hint):
        while True:
            try:
                await response.write(b"event: " + kind + b"\ndata: " + await _figures(visit) + b"\n\n")
            except ConnectionResetError:
                return response
            await asyncio.sleep(_LEAST_SECONDS)
            try:
                async with asyncio.timeout(_TICK_SECONDS):
                    await hint.wait()
                kind = b"mail"
                visit.counts.forget()
            except TimeoutError:
                kind = b"tick"


async def _figures(visit: Visit) -> bytes:
    last = await messages.last_seq(visit.services.store)
    return json.dumps({"unread": await visit.counts.unread(), "last": last}).encode()
