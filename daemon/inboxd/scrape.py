"""The metrics listener: /metrics for Prometheus, /livez and /readyz for whoever supervises the daemon."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from inboxd import metrics


def build(ready: Callable[[], str | None]) -> web.Application:
    """The application. `ready` returns None, or the reason why the daemon cannot do its work."""

    async def scrape(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def answer_ready(_request: web.Request) -> web.Response:
        reason = ready()
        return web.Response(text="ready") if reason is None else web.Response(status=503, text=reason)

    application = web.Application()
    application.router.add_get("/metrics", scrape)
    application.router.add_get("/livez", live)
    application.router.add_get("/readyz", answer_ready)
    return application
