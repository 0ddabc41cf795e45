"""The metrics listener."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from inboxd import metrics, scrape


@asynccontextmanager
async def _listener(reason: str | None) -> AsyncGenerator[str]:
    runner = web.AppRunner(scrape.build(lambda: reason), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def _get(url: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, response.headers["Content-Type"], await response.text()


async def test_metrics_are_exposed_in_prometheus_format() -> None:
    metrics.set_up()
    async with _listener(None) as url:
        status, content_type, text = await _get(f"{url}/metrics")
    assert (status, content_type) == (200, metrics.CONTENT_TYPE)
    assert 'inboxd_api_requests_total{status="5xx"}' in text


async def test_livez_is_always_ok_and_readyz_gives_its_reason() -> None:
    async with _listener("the store is busy") as url:
        assert (await _get(f"{url}/livez"))[::2] == (200, "ok")
        assert (await _get(f"{url}/readyz"))[::2] == (503, "the store is busy")
    async with _listener(None) as url:
        assert (await _get(f"{url}/readyz"))[::2] == (200, "ready")
