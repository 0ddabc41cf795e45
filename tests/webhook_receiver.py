"""A webhook's receiver on loopback: keeps what it is posted, and answers as it is told."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Posted:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


@dataclass
class Receiver:
    """`answers` are given one after another, then 200. `gate` holds every answer back while it is clear."""

    url: str = ""
    answers: deque[int] = field(default_factory=deque[int])
    body: bytes = b"thanks"
    headers: dict[str, str] = field(default_factory=dict[str, str])
    posted: asyncio.Queue[Posted] = field(default_factory=asyncio.Queue[Posted])
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: int = 0
    most_at_once: int = 0

    async def next(self) -> Posted:
        """The next request that came, or comes within 20 seconds."""
        async with asyncio.timeout(20):
            return await self.posted.get()

    async def answer(self, request: web.Request) -> web.Response:
        """Take a request."""
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            body = await request.read()
            self.posted.put_nowait(Posted(request.method, request.path, dict(request.headers), body))
            await self.gate.wait()
            return web.Response(
                status=self.answers.popleft() if self.answers else 200, body=self.body, headers=self.headers
            )
        finally:
            self.under_way -= 1


@asynccontextmanager
async def open_receiver(context: ssl.SSLContext | None = None, port: int = 0) -> AsyncGenerator[Receiver]:
    """A receiver that answers until the block ends."""
    receiver = Receiver()
    receiver.gate.set()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, reuse_address=True).start()
        host, bound = runner.addresses[0][:2]
        receiver.url = f"{'https' if context else 'http'}://{host}:{bound}"
        yield receiver
    finally:
        receiver.gate.set()
        await runner.cleanup()


async def until(met: Callable[[], Awaitable[bool]]) -> None:
    """Return once `met` is true; TimeoutError after 20 seconds."""
    async with asyncio.timeout(20):
        while not await met():  # noqa: ASYNC110 the store rings no bell
            await asyncio.sleep(0.01)
