"""New mail while a mailbox is loaded for the first time: on a second connection, where one is to be had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from inboxd import ahead, sync
from inboxd.connector import Supervisor
from inboxd.model import State, Window
from inboxd.store import events, messages
from inboxd.store.engine import Store
from servers.mailbox import Bench, Linked, Mailbox, make_bench, sample, serving
from servers.scripted import Conversation
from servers.sessions import eventually


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inboxd.db'}"


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(sync, "WINDOW_COUNT", 10)


class Held:
    """A load that stands still at its third window, on its own connection, until told to go on."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self.loading: Conversation | None = None
        self.mailbox = mailbox
        self._windows = 0
        mailbox.greet = self._greet
        mailbox.hooks["UID FETCH"] = self._wait

    async def _greet(self, conversation: Conversation) -> None:
        self.loading = self.loading or conversation

    async def _wait(self, conversation: Conversation) -> None:
        self._windows += conversation is self.loading
        if conversation is self.loading and self._windows == 3:
            self.reached.set()
            await self.go_on.wait()


@asynccontextmanager
async def loading(linked: Linked, held: Held, supervisor: Supervisor) -> AsyncGenerator[None]:
    """Within the block the load stands still; after it, it is done and the mailbox listened to on one connection."""
    async with asyncio.TaskGroup() as group:
        living = group.create_task(supervisor.run())
        await held.reached.wait()
        yield
        held.go_on.set()
        await eventually(lambda: supervisor.status.state is State.IDLE and held.mailbox.idlers == 1)
        await eventually(lambda: held.mailbox.open == 1)
        living.cancel()
    supervisor.leave()
    assert await linked.stored() == held.mailbox.held
    cursor = await messages.cursor(linked.bench.store, linked.connector.id, "INBOX")
    assert cursor is not None
    assert (cursor.last_uid, cursor.backfill_below) == (max(held.mailbox.held), None)


async def sizes(linked: Linked) -> list[int]:
    kept = (await events.page(linked.bench.store, Window(), connector_id=linked.connector.id)).rows
    return sorted(event.size for event in kept)


async def has(linked: Linked, uid: int) -> None:
    """Until this mail is stored."""
    async with asyncio.timeout(10):
        with linked.bench.bus.subscribe(linked.connector.inbox_id) as hint:
            while uid not in await linked.stored():
                await hint.wait()


async def test_mail_that_arrives_in_the_middle_of_a_window_is_stored_before_the_window_is_over(bench: Bench) -> None:
    async with serving(*range(1, 101)) as (mailbox, port):
        held = Held(mailbox)
        linked = await bench.link(port)
        pushes = sample("inboxd_push_to_stored_seconds_count")
        async with loading(linked, held, linked.supervisor()):
            for uid in (101, 102):
                await eventually(lambda: mailbox.idlers == 1)
                await mailbox.deliver(uid)
                await has(linked, uid)
            assert len(await linked.stored()) < 40
            assert sample("inboxd_push_to_stored_seconds_count") == pushes + 2
        assert mailbox.connections == 2
        assert await sizes(linked) == [1, 1, 100]


async def test_a_second_connection_that_is_refused_is_not_asked_for_again(bench: Bench) -> None:
    async def only_one(conversation: Conversation, tag: str) -> None:
        first = mailbox.count("AUTHENTICATE") == 1
        await conversation.send(f"{tag} {'OK in' if first else 'NO [LIMIT] too many connections'}\r\n".encode())

    async with serving(*range(1, 101)) as (mailbox, port):
        mailbox.answers["AUTHENTICATE"] = only_one
        held = Held(mailbox)
        linked = await bench.link(port)
        async with loading(linked, held, linked.supervisor()):
            await eventually(lambda: mailbox.count("AUTHENTICATE") == 2 and mailbox.open == 1)
            assert held.loading is not None
            mailbox.put(101)
            await mailbox.announce(held.loading)
        assert mailbox.connections == 2
        assert await sizes(linked) == [1, 100]


async def test_a_second_connection_that_is_lost_leaves_what_it_heard_of_to_the_load(bench: Bench) -> None:
    async def drop(conversation: Conversation) -> None:
        if held.loading is not None and conversation is not held.loading and not held.go_on.is_set():
            conversation.reset()

    async with serving(*range(1, 101)) as (mailbox, port):
        held = Held(mailbox)
        linked = await bench.link(port)
        async with loading(linked, held, linked.supervisor(retry_first_seconds=60.0, retry_most_seconds=60.0)):
            await eventually(lambda: mailbox.idlers == 1)
            real = mailbox.hooks["UID FETCH"]
            mailbox.hooks["UID FETCH"] = drop
            assert held.loading is not None
            mailbox.put(101)
            await mailbox.announce(held.loading)
            await mailbox.deliver()
            await eventually(lambda: mailbox.open == 1)
            mailbox.hooks["UID FETCH"] = real
            handed: list[int] = []
            mailbox.hand_over = lambda uid, raw: handed.append(uid) or mailbox.response(uid, raw)
        assert handed.index(101) < 20
        assert await sizes(linked) == [1, 100]


@pytest.mark.parametrize("allowed", [1, 2])
async def test_the_budget_of_connections_is_kept(bench: Bench, allowed: int) -> None:
    async with serving(*range(1, 101)) as (mailbox, port):
        held = Held(mailbox)
        linked = await bench.link(port)
        async with loading(linked, held, linked.supervisor(connections=allowed)):
            await eventually(lambda: mailbox.open == allowed)
        assert mailbox.connections == allowed


async def test_a_server_without_idle_is_left_to_the_load(bench: Bench) -> None:
    async with serving(*range(1, 41), capabilities="IMAP4rev1 AUTH=PLAIN SASL-IR") as (mailbox, port):
        held = Held(mailbox)
        linked = await bench.link(port)
        supervisor = linked.supervisor()
        async with asyncio.TaskGroup() as group:
            living = group.create_task(supervisor.run())
            await held.reached.wait()
            await eventually(lambda: mailbox.connections == 2 and mailbox.open == 1)
            held.go_on.set()
            await eventually(lambda: supervisor.status.state is State.POLLING)
            living.cancel()
        supervisor.leave()
        assert (await linked.stored(), mailbox.connections) == (mailbox.held, 2)
