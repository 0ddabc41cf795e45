"""The peer of the benchmark of waits: a bare aiohttp server holds requests on an event and answers a fixed body."""

from __future__ import annotations

import asyncio
import sys
import time

from aiohttp import web


async def main() -> None:
    """Serve until killed: GET /wait is held, POST /go lets all go; bodies tell when that was."""
    port, size = int(sys.argv[1]), int(sys.argv[2])
    event = asyncio.Event()
    body = b""

    async def wait(_request: web.Request) -> web.Response:
        await event.wait()
        return web.Response(body=body, content_type="application/json")

    async def go(_request: web.Request) -> web.Response:
        nonlocal event, body
        body = f'{{"createdAt":{time.time()},"pad":"'.encode().ljust(size - 2, b"x") + b'"}'
        waiting, event = event, asyncio.Event()
        waiting.set()
        return web.Response()

    application = web.Application()
    application.router.add_get("/wait", wait)
    application.router.add_post("/go", go)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=2048).start()
    await asyncio.Event().wait()


asyncio.run(main())
