"""Held requests: many at once share their work, and each ends with its client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from api_site import KEY, MAIL, Site, open_site
from inboxd.model import MessageId
from inboxd.store import messages
from inboxd.store.engine import Store
from servers.sessions import BOTH_LOOPS, eventually, settled

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


def waiting_for(site: Site, made: dict[str, Any]) -> int:
    """How many wait for mail in the connector's inbox."""
    return sum(
        len(hints) for topic, hints in vars(site.services.bus)["_topics"].items() if str(topic) == made["inboxId"]
    )


async def test_one_mail_for_two_hundred_waits_is_read_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await site.new_connector()
    calls = {"read": 0, "write": 0, "write_at_once": 0}

    def counted(name: str) -> Any:
        real = vars(Store)[name]

        async def run(self: Store, fn: Any, **how: Any) -> Any:
            calls[name] += 1
            return await real(self, fn, **how)

        return run

    connector = aiohttp.TCPConnector(limit=0)
    path = f"{site.url}/waitForLatestEmail?inboxId={made['inboxId']}"

    async with aiohttp.ClientSession(headers={"x-api-key": KEY}, connector=connector) as client:

        async def ask() -> dict[str, Any]:
            async with client.get(path) as answer:
                return await answer.json()

        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(ask()) for _ in range(200)]
            await eventually(lambda: waiting_for(site, made) == 200, 20)
            await settled(lambda: len(site.services.flights))
            for name in calls:
                monkeypatch.setattr(Store, name, counted(name))
            (stored,) = await site.deliver(made, MAIL)
    assert {(mail["id"], mail["read"]) for task in waiting for mail in [task.result()]} == {(str(stored.id), True)}
    # The delivery's own are the write at once and one of the reads.
    assert (calls["write"], calls["write_at_once"]) == (1, 1)
    assert calls["read"] <= 4


async def test_waits_end_with_their_clients(site: Site) -> None:
    made = await site.new_connector()
    inbox = made["inboxId"]
    asked = [("GET", f"/waitForLatestEmail?inboxId={inbox}", None), ("POST", "/waitFor", {"inboxId": inbox})]
    async with aiohttp.ClientSession(
        headers={"x-api-key": KEY}, connector=aiohttp.TCPConnector(limit=0, force_close=True)
    ) as client:
        async with asyncio.TaskGroup() as group:
            waiting = [
                group.create_task(client.request(method, site.url + path, json=body).__aenter__())
                for method, path, body in asked * 500
            ]
            await eventually(lambda: waiting_for(site, made) == 1000, 40)
            for task in waiting:
                task.cancel()
        await eventually(lambda: waiting_for(site, made) == 0, 20)
    assert len(site.services.flights) == 0


async def test_a_connection_goes_on_after_a_wait(site: Site) -> None:
    made = await site.new_connector()
    inbox = made["inboxId"]
    request = f"GET /waitForLatestEmail?inboxId={inbox}&timeout={{}} HTTP/1.1\r\nHost: x\r\nx-api-key: {KEY}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.url.rsplit(":", 1)[1]))
    statuses: list[bytes] = []
    writer.write((request.format(1) + request.format(2) + request.format(60_000)).encode())
    for _ in range(2):
        statuses.append((await reader.readuntil(b"\r\n\r\n"))[:12])
        await reader.readuntil(b"}")
    assert statuses == [b"HTTP/1.1 408"] * 2
    await eventually(lambda: waiting_for(site, made) == 1)
    await site.deliver(made, MAIL)
    assert (await reader.readuntil(b"\r\n"))[:12] == b"HTTP/1.1 200"
    writer.close()
    await writer.wait_closed()


async def test_what_does_not_wait_goes_on_without_its_client(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await site.new_connector()
    (stored,) = await site.deliver(made, MAIL)
    began, gone, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    real = messages.remove

    async def remove(store: Store, message_id: MessageId) -> None:
        began.set()
        await gone.wait()
        await real(store, message_id)
        done.set()

    monkeypatch.setattr(messages, "remove", remove)
    _, writer = await asyncio.open_connection("127.0.0.1", int(site.url.rsplit(":", 1)[1]))
    writer.write(f"DELETE /emails/{stored.id} HTTP/1.1\r\nHost: x\r\nx-api-key: {KEY}\r\n\r\n".encode())
    await began.wait()
    server = site.runner.server
    assert server is not None
    writer.transport.abort()
    await eventually(lambda: any(not connection.connected for connection in server.connections))
    gone.set()
    async with asyncio.timeout(10):
        await done.wait()
    assert await site.count(made) == 0
