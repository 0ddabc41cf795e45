"""A pass cut off, cancelled, doubled, or let down by the store: what is there is whole, the next pass completes it."""

from __future__ import annotations

import asyncio
import itertools
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from functools import partial, partialmethod
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from inboxd import direct, sync
from inboxd.errors import MailServerError, StoreError
from inboxd.model import Account, EventType, State, Trigger, Window
from inboxd.store import events
from inboxd.store.engine import Store
from servers import Listener
from servers.dovecot import Dovecot
from servers.mailbox import Bench, Linked, mail, make_bench, serving
from servers.proxy import proxy
from servers.sessions import account, eventually, session
from servers.stores import blank_postgresql, blank_sqlite

T = TypeVar("T")


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if getattr(request, "param", "sqlite") == "postgresql":
        return blank_postgresql(request.getfixturevalue("postgres_server"))
    return blank_sqlite(tmp_path)


on_both = pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path)


async def catch_up(linked: Linked, to: Account | None = None, *, push: bool = False) -> sync.Pass:
    """One pass in a session of its own."""
    async with session(to or linked.account) as opened:
        run = await sync.begin(linked.target, opened, await opened.examine("INBOX"), Trigger.START)
        await (sync.take_pushed(run) if push else sync.catch_up(run))
    return run


async def assert_whole(linked: Linked, held: dict[int, bytes]) -> None:
    """What is stored is the server's, and nothing is missing below the cursor."""
    cursor = await linked.cursor() or 0
    stored = await linked.stored()
    assert stored.items() <= held.items()
    assert {uid for uid in held if uid <= cursor} <= stored.keys()


# --- cuts ------------------------------------------------------------------------------------------------------------


@on_both
async def test_sync_cut_after_any_byte_is_resumed_to_exactly_the_servers_messages(
    bench: Bench, dovecot: Dovecot
) -> None:
    user = dovecot.user()
    dovecot.bulk_load(user, [mail(number, 37 * number) for number in range(30)])
    held = await asyncio.to_thread(dovecot.fetch_all, user)
    async with proxy(dovecot.starttls) as path:
        through = account(Listener(path.host, path.port), user)
        linked = await bench.link(path.port)
        await catch_up(linked, through)
        whole = path.passed[next(way for way in path.passed if way.name == "DOWN")]
        for cut in range(100, whole, whole // 24):
            linked = await bench.link(path.port)
            path.cut_after(cut, reset=cut % 2 == 0)
            with pytest.raises(MailServerError):
                await catch_up(linked, through, push=cut % 3 == 0)
            await assert_whole(linked, held)
            await catch_up(linked, through, push=cut % 5 == 0)
            assert await linked.stored() == held, cut
            assert await linked.cursor() == max(held)


# --- cancellation ----------------------------------------------------------------------------------------------------


@types.coroutine
def cancelling(work: Coroutine[Any, Any, T], step: int) -> Generator[Any, Any, T]:
    """Run `work` in this task, which is cancelled as it waits for the `step`-th time."""
    go_on: Callable[[], Any] = partial(work.send, None)
    for count in itertools.count(1):
        try:
            awaited = go_on()
        except StopIteration as end:
            return end.value
        task = asyncio.current_task()
        if count == step and task is not None:
            task.cancel()
        try:
            yield awaited
            go_on = partial(work.send, None)
        except BaseException as error:  # noqa: BLE001  # it is work's
            go_on = partial(work.throw, error)
    raise AssertionError


async def cancelled_at(step: int, work: Coroutine[Any, Any, object]) -> None:
    """`cancelling` as a coroutine."""
    await cancelling(work, step)


@asynccontextmanager
async def told(linked: Linked) -> AsyncGenerator[set[int]]:
    """The UIDs somebody has seen who looks only when told to."""
    seen: set[int] = set()

    async def look() -> None:
        with linked.bench.bus.subscribe(linked.connector.inbox_id) as hint:
            while True:
                await hint.wait()
                seen.update(await linked.stored())

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look())
        await asyncio.sleep(0)
        yield seen
        looking.cancel()


@on_both
@pytest.mark.parametrize("push", [False, True], ids=["looked for", "pushed"])
async def test_pass_cancelled_at_any_await_leaves_the_store_whole_and_everything_told_in_the_end(
    bench: Bench, push: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "WINDOW_COUNT", 3)
    cancelled = 0
    async with serving(*range(1, 9)) as (mailbox, port):
        for step in itertools.count(1):
            linked = await bench.link(port)
            async with told(linked) as seen:
                async with asyncio.TaskGroup() as group:
                    passing = group.create_task(cancelled_at(step, catch_up(linked, push=push)))
                cancelled += passing.cancelled()
                await assert_whole(linked, mailbox.held)
                await catch_up(linked)
                assert await linked.stored() == mailbox.held, step
                assert await linked.cursor() == 8
                await eventually(lambda seen=seen: len(seen) == 8)
            if not passing.cancelled():
                break
    assert cancelled > 10


# --- two at once -----------------------------------------------------------------------------------------------------


@on_both
async def test_two_passes_at_once_store_nothing_twice(bench: Bench) -> None:
    async with serving(*range(1, 301)) as (mailbox, port):
        linked = await bench.link(port)
        async with asyncio.TaskGroup() as group:
            passes = [group.create_task(catch_up(linked, push=number == 0)) for number in range(3)]
        assert await linked.stored() == mailbox.held
        assert sum(len(task.result().ids) for task in passes) == 300
        assert await linked.cursor() == 300


async def test_syncs_asked_for_beside_a_supervisor_store_nothing_twice(bench: Bench) -> None:
    async def ask() -> int:
        report = await direct.sync_now(bench.services, linked.connector.id, since=None, mailbox=None)
        assert report.error is None
        return len(report.stored)

    async with serving(*range(1, 101)) as (mailbox, port):
        linked = await bench.link(port)
        supervisor = linked.supervisor()
        async with asyncio.TaskGroup() as group:
            living = group.create_task(supervisor.run())
            asked = [group.create_task(ask()) for _ in range(10)]
            await eventually(lambda: mailbox.idlers == 1 and all(task.done() for task in asked), 30)
            await mailbox.deliver(101)
            await eventually(lambda: supervisor.status.state is State.IDLE and mailbox.count("IDLE") > 1)
            living.cancel()
        supervisor.leave()
        assert await linked.stored() == mailbox.held


# --- the store fails -------------------------------------------------------------------------------------------------

Write = Callable[..., Awaitable[Any]]


@pytest.mark.parametrize("committed", [False, True], ids=["rolled back", "committed all the same"])
async def test_store_failing_at_any_write_announces_nothing_unstored_and_the_connector_recovers(
    bench: Bench, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: dict[str, Write] = {name: vars(Store)[name] for name in ("write", "write_at_once")}
    monkeypatch.setattr(sync, "WINDOW_COUNT", 4)
    writes = failing_at = 0

    async def write(real: Write, self: Store, fn: Any, **how: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == failing_at and not committed:
            raise StoreError("the disk is full")
        value = await real(self, fn, **how)
        if writes == failing_at:
            raise StoreError("the connection ended in the commit")
        return value

    async with serving(*range(1, 13)) as (mailbox, port):
        for name, real in kinds.items():
            monkeypatch.setattr(Store, name, partialmethod(partial(write, real)))
        for failing_at in range(1, 6):
            writes = -1000
            linked = await bench.link(port)
            writes = 0
            supervisor = linked.supervisor()
            async with told(linked) as seen, asyncio.TaskGroup() as group:
                living = group.create_task(supervisor.run())
                await eventually(lambda seen=seen: len(seen) == 12)
                living.cancel()
            supervisor.leave()
            assert await linked.stored() == mailbox.held
            assert writes >= failing_at


async def test_whoever_is_told_finds_the_message(bench: Bench) -> None:
    async with serving(1) as (mailbox, port):
        linked = await bench.link(port)
        supervisor = linked.supervisor()
        async with asyncio.TaskGroup() as group, told(linked) as seen:
            living = group.create_task(supervisor.run())
            await eventually(lambda: seen == {1} and mailbox.idlers)
            for uid in range(2, 30):
                await mailbox.deliver(uid)
                await eventually(lambda uid=uid: uid in seen)
            living.cancel()
        supervisor.leave()


async def test_direct_sync_that_fails_half_way_is_one_event_and_tells_what_it_stored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "WINDOW_COUNT", 2)
    async with serving(1, 2, 3, 4) as (mailbox, port):
        linked = await bench.link(port)

        async def cut(conversation: Any) -> None:
            if mailbox.count("UID FETCH") == 2:
                conversation.reset()

        mailbox.hooks["UID FETCH"] = cut
        report = await direct.sync_now(bench.services, linked.connector.id, since=None, mailbox=None)
        assert report.error is not None
        assert len(report.stored) == 2
        (event,) = (await events.page(bench.store, Window(), connector_id=linked.connector.id)).rows
        assert (event.id, event.size, event.type) == (report.event_id, 2, EventType.SYNC)
        assert event.message == report.error
