"""Waiting for mail: nothing that was committed is missed, and waiting costs nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from inboxd.errors import StoreError
from inboxd.mails import Message, Place
from inboxd.model import MessageFilter, Window
from inboxd.store import messages
from inboxd.store.engine import Store
from inboxd.waiter import wait_for_count, wait_for_nth
from servers.mailbox import Bench, Linked, make_bench
from servers.sessions import eventually, settled
from servers.stores import make_incoming

LONG = 30.0


@pytest_asyncio.fixture
async def linked(store: Store, tmp_path: Path) -> Linked:
    bench: Bench = await make_bench(store, tmp_path)
    return await bench.link(1)


async def keep(linked: Linked, *uids: int, tell: bool = True) -> None:
    """Store mails as a sync does: commit, then tell."""
    place = Place(linked.connector.id, "INBOX", 1)
    await messages.add_batch(linked.bench.store, place, linked.connector.inbox_id, [make_incoming(uid) for uid in uids])
    if tell:
        linked.bench.bus.publish(linked.connector.inbox_id)


def topics(linked: Linked) -> dict[Any, Any]:
    """Who waits, by inbox."""
    return vars(linked.bench.bus)["_topics"]


async def wait(linked: Linked, index: int = 0, seconds: float = LONG, **chosen: Any) -> Message | None:
    wanted = MessageFilter(inbox_ids=(linked.connector.inbox_id,), **chosen)
    return await wait_for_nth(linked.bench.services, wanted, Window(), index, seconds)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry for each query from now on."""
    real: Callable[..., Awaitable[Any]] = vars(Store)["read"]
    seen: list[Any] = []

    async def read(self: Store, fn: Any) -> Any:
        seen.append(fn)
        return await real(self, fn)

    monkeypatch.setattr(Store, "read", read)
    return seen


async def test_mail_that_is_there_is_found_at_once_even_without_patience(linked: Linked) -> None:
    await keep(linked, 1)
    assert (found := await wait(linked, seconds=0)) is not None
    assert found.uid == 1


async def test_timeout_returns_none(linked: Linked) -> None:
    await keep(linked, 1)
    assert await wait(linked, 1, seconds=0.05) is None
    assert await wait(linked, 1, seconds=0) is None


async def test_mail_stored_at_any_moment_of_the_wait_is_found(linked: Linked) -> None:
    for turns in range(60):
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            waiting = group.create_task(wait(linked, turns))
            for _ in range(turns):
                await asyncio.sleep(0)
            await keep(linked, turns + 1)
        found = waiting.result()
        assert found is not None
        assert found.uid == turns + 1


async def test_mail_committed_and_told_between_the_look_and_the_wait_is_found(
    linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = messages.nth
    looks = itertools.count(1)

    async def nth(*arguments: Any) -> Message | None:
        found = await real(*arguments)
        if next(looks) == 1:
            await keep(linked, 1)
        return found

    monkeypatch.setattr(messages, "nth", nth)
    async with asyncio.timeout(10):
        assert await wait(linked) is not None
    assert next(looks) == 3


async def test_mail_nobody_told_of_is_found_when_the_time_is_over(linked: Linked) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(wait(linked, seconds=0.2))
        await keep(linked, 1, tell=False)
    assert waiting.result() is not None


async def test_waiting_asks_the_store_nothing_until_it_is_told(linked: Linked, reads: list[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(wait(linked, index)) for index in range(50)]
        await eventually(lambda: len(reads) == 50)
        assert await settled(lambda: len(reads)) == 50
        linked.bench.bus.publish(linked.connector.id)
        assert await settled(lambda: len(reads)) == 50
        await keep(linked, *range(1, 51))
    assert all(task.result() for task in waiting)
    assert len(reads) == 100


async def test_those_who_wait_for_the_same_share_one_look(linked: Linked, reads: list[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(wait(linked)) for _ in range(1000)]
        await eventually(lambda: len(reads) and len(topics(linked)[linked.connector.inbox_id]) == 1000)
        before = await settled(lambda: len(reads))
        await keep(linked, 1)
    assert {found.uid for task in waiting if (found := task.result())} == {1}
    assert (before, len(reads)) == (1, 2)
    assert not topics(linked)


async def test_the_others_find_their_mail_when_those_who_look_are_cancelled(linked: Linked) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(wait(linked)) for _ in range(20)]
        await eventually(lambda: len(topics(linked).get(linked.connector.inbox_id, ())) == 20)
        await keep(linked, 1)
        for turn, task in enumerate(waiting[:-1]):
            if turn % 3 == 0:
                await asyncio.sleep(0)
            task.cancel()
    assert waiting[-1].result() is not None
    assert not topics(linked)


async def test_a_count_of_mails_is_awaited_and_returned(linked: Linked, reads: list[Any]) -> None:
    wanted = MessageFilter((linked.connector.inbox_id,))
    async with asyncio.TaskGroup() as group:
        waiting = [
            group.create_task(wait_for_count(linked.bench.services, wanted, Window(ascending=up), 3, LONG))
            for up in (True, False) * 10
        ]
        await keep(linked, 1, 2)
        await settled(lambda: len(reads))
        assert not any(task.done() for task in waiting)
        await keep(linked, 3, 4)
    for up, task in zip((True, False) * 10, waiting, strict=True):
        assert [message.uid for message in task.result() or ()] == ([1, 2, 3] if up else [4, 3, 2])
    assert await wait_for_count(linked.bench.services, wanted, Window(), 5, 0) is None


async def test_hints_that_bring_nothing_are_looked_at_and_waited_on(linked: Linked) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(wait(linked, 2, search="mail 7"))
        for uid in (7, 1, 70, 2):
            await keep(linked, uid)
            await settled(lambda: 0)
            assert not waiting.done()
        await keep(linked, 71)
    found = waiting.result()
    assert found is not None
    assert found.uid == 71


async def test_failing_store_ends_the_wait_and_leaves_no_subscription(linked: Linked) -> None:
    async with asyncio.TaskGroup() as group:
        closing = group.create_task(linked.bench.store.close())
    assert closing.done()
    with pytest.raises(StoreError):
        await wait(linked)
    assert not vars(linked.bench.bus)["_topics"]


async def test_waiter_that_is_cancelled_leaves_no_subscription(linked: Linked, reads: list[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(wait(linked))
        await eventually(lambda: reads and vars(linked.bench.bus)["_topics"])
        await settled(lambda: len(reads))
        waiting.cancel()
    assert not vars(linked.bench.bus)["_topics"]
