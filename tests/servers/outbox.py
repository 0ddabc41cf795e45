"""The workers of the outbox, run over a bench; connectors that send; and what became of their mails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

from inboxd import chores, sender
from inboxd.accounts import seal_password
from inboxd.mails import Draft
from inboxd.model import Connection, Event, Kind, Secret, SentId, SentState, Tls, Window
from inboxd.outbox import Record
from inboxd.services import Services
from inboxd.store import connectors, events, outbox_list
from servers import LOOPBACK
from servers.mailbox import Bench, Linked
from servers.stores import MORNING

USER, PASSWORD = "user@example.test", "canary-password"
QUICK = {
    "retry_first_seconds": 0.02, "retry_most_seconds": 0.05, "confirm_seconds": 10.0, "copy_delay_seconds": 0.0,
    "sent_copy": "never", "stop_seconds": 5.0,
}  # fmt: skip
DRAFT = Draft(
    sender="", to=("bob@example.com", "eve@example.com"), cc=("carl@example.com",), subject="hi", text="hello"
)


def hurried(bench: Bench, *, smtp: dict[str, Any] | None = None, **outbox: Any) -> Services:
    """The bench's services with an outbox that does not wait long."""
    settings = bench.settings
    changed = settings.model_copy(
        update={
            "outbox": settings.outbox.model_copy(update=QUICK | outbox),
            "smtp": settings.smtp.model_copy(update=smtp or {}),
        }
    )
    return replace(bench.services, settings=changed)


async def link(bench: Bench, port: int, **changed: Any) -> Linked:
    """A connector with an SMTP connection to that port, and an IMAP one to nowhere."""
    linked = await bench.link(1)
    key = uuid4()
    sealed = seal_password(bench.vault, key, Secret(PASSWORD)) if changed.get("username") else None
    connection = Connection(
        id=key, connector_id=linked.connector.id, kind=Kind.SMTP, created_at=MORNING, enabled=True, host=LOOPBACK,
        port=port, tls=Tls.NONE, sealed_password=sealed,
    )  # fmt: skip
    await connectors.put_connection(bench.store, replace(connection, **changed))
    return linked


@asynccontextmanager
async def working(services: Services, *, with_chores: bool = False) -> AsyncGenerator[None]:
    """The sender at work until the block ends; it is stopped as the daemon stops it."""
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(sender.run(services))]
        if with_chores:
            workers.append(group.create_task(chores.run(services)))
        try:
            yield
        finally:
            for worker in workers:
                worker.cancel()


async def until(services: Services, sent_id: SentId, *states: SentState) -> Record:
    """The mail once it is in one of these states."""
    async with asyncio.timeout(20):
        with services.sends.subscribe(sent_id) as hint:
            while (record := await outbox_list.get(services.store, sent_id)).entry.state not in states:
                await hint.wait()
    return record


async def noted(linked: Linked) -> list[Event]:
    """The connector's events with their logs, oldest first."""
    rows = (await events.page(linked.bench.store, Window(size=100), connector_id=linked.connector.id)).rows
    return [await events.get(linked.bench.store, event.id) for event in rows]
