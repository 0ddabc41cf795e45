"""A server with room for two connections of an account, and a connector that would have more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from inboxd.accounts import seal_password
from inboxd.budgets import Budgets, Purpose
from inboxd.connector import Supervisor
from inboxd.direct import sync_now
from inboxd.flags import mark_seen
from inboxd.model import MessageFilter, Secret, State, Window
from inboxd.store import connectors, messages
from inboxd.store.engine import Store
from servers.dovecot import Dovecot, User
from servers.mailbox import Bench, Linked, mail, make_bench, serving
from servers.sessions import eventually
from servers.stores import blank_sqlite


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return blank_sqlite(tmp_path)


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path, sweep_seconds=0.2)


@asynccontextmanager
async def alive(linked: Linked) -> AsyncGenerator[Supervisor]:
    """The connector supervised; afterwards it is ended and gone."""
    supervisor = linked.supervisor()
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(supervisor.run())
            yield supervisor
            task.cancel()
    finally:
        supervisor.leave()


async def link(bench: Bench, dovecot: Dovecot, user: User, **changed: Any) -> Linked:
    """A connector to a user's account at the server's small entrance."""
    linked = await bench.link(dovecot.capped.port, host=dovecot.capped.host, username=user.name, **changed)
    sealed = seal_password(bench.vault, linked.connection.id, Secret(user.password))
    connection = replace(linked.connection, sealed_password=sealed)
    await connectors.put_connection(bench.store, connection)
    return replace(linked, connection=connection)


async def held(linked: Linked) -> list[str | None]:
    """The mailboxes of the stored mails."""
    chosen = MessageFilter(inbox_ids=(linked.connector.inbox_id,))
    rows = (await messages.page(linked.bench.store, chosen, Window(size=100))).rows
    return sorted((row.mailbox for row in rows), key=str)


async def test_direct_work_borrows_the_place_of_the_connection_that_only_follows_folders(
    bench: Bench, dovecot: Dovecot
) -> None:
    user = dovecot.user()
    dovecot.append(user, mail(1))
    with dovecot.session(user) as other:
        assert other.create("Work")[0] == "OK"
    dovecot.append(user, mail(2), mailbox="Work")
    linked = await link(bench, dovecot, user, folders=("*",))
    budget = bench.roster.budgets.of(dovecot.capped.host, user.name)
    async with alive(linked) as supervisor:
        await eventually(lambda: supervisor.status.state is State.IDLE and supervisor.status.last_sync_at, 20)
        assert await held(linked) == ["INBOX", "Work"]
        assert budget.connections == 3
        report = await sync_now(bench.services, linked.connector.id, since=None, mailbox=None)
        assert report.error is None
        assert budget.connections == 2
        chosen = MessageFilter(inbox_ids=(linked.connector.inbox_id,))
        row, *_ = (await messages.page(bench.store, chosen, Window(size=1))).rows
        assert "\\Seen" in (await mark_seen(bench.services, row, seen=True)).flags
        assert supervisor.status.state is State.IDLE  # the main mailbox was listened to all the while
        dovecot.append(user, mail(3), mailbox="Work")
        with bench.bus.subscribe(linked.connector.inbox_id) as hint:
            async with asyncio.timeout(20):
                while await held(linked) != ["INBOX", "Work", "Work"]:
                    await hint.wait()
        assert supervisor.current().reason is None
    assert budget.idle is False  # for a while the server is believed
    assert not budget.has_queue


async def test_a_full_server_throttles_the_connector_until_another_program_leaves(
    bench: Bench, dovecot: Dovecot
) -> None:
    user = dovecot.user()
    dovecot.append(user, mail(1))
    linked = await link(bench, dovecot, user)
    host, port = dovecot.capped.host, dovecot.capped.port
    async with AsyncExitStack() as phones:
        for _ in range(2):
            await phones.enter_async_context(phone(host, port, user))
        async with alive(linked) as supervisor:
            await eventually(lambda: supervisor.status.state is State.THROTTLED, 20)
            assert "Maximum number of connections" in (supervisor.status.reason or "")
            await phones.aclose()
            await eventually(lambda: supervisor.status.state is State.IDLE, 20)


@asynccontextmanager
async def phone(host: str, port: int, user: User) -> AsyncGenerator[None]:
    """Another program of the user's, logged in."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        await reader.readline()
        writer.write(f'a LOGIN "{user.name}" "{user.password}"\r\n'.encode())
        while not (line := await reader.readline()).startswith(b"a "):
            assert line
        assert line.startswith(b"a OK")
        yield
    finally:
        writer.close()
        await writer.wait_closed()


async def test_with_one_connection_the_listener_leaves_for_a_direct_sync_and_is_back(
    bench: Bench,
) -> None:
    async with serving(1) as (mailbox, port):
        linked = await bench.link(port)
        bench.roster.budgets = Budgets(bench.settings.imap.model_copy(update={"connections": 1}))
        async with alive(linked) as supervisor:
            await eventually(lambda: supervisor.status.state is State.IDLE and mailbox.idlers)
            mailbox.put(2)
            report = await sync_now(bench.services, linked.connector.id, since=None, mailbox=None)
            assert (report.error, mailbox.most_open) == (None, 1)
            await eventually(lambda: supervisor.status.state is State.IDLE and mailbox.idlers)
            assert (await linked.stored()).keys() == {1, 2}
            assert supervisor.status.failures == 0


async def test_a_sync_that_finds_no_place_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inboxd.budgets.WAIT_SECONDS", 0.05)
    async with serving(1) as (mailbox, port):
        linked = await bench.link(port)
        budget = bench.roster.budgets.of(linked.connection.host, linked.connection.username or "")
        async with budget.place(Purpose.DIRECT), budget.place(Purpose.DIRECT), budget.place(Purpose.DIRECT):
            report = await sync_now(bench.services, linked.connector.id, since=None, mailbox=None)
        assert "imap.connections: 3" in (report.error or "")
        assert mailbox.connections == 0
