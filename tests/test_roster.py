"""Which connectors are supervised: one supervisor each, whatever is asked of the roster, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from inboxd import metrics
from inboxd import roster as roster_room
from inboxd.errors import StoreError
from inboxd.model import Kind, State
from inboxd.store import connectors
from inboxd.store.engine import Store
from servers.mailbox import Bench, Linked, make_bench, sample, serving
from servers.scripted import Conversation
from servers.sessions import eventually, settled
from servers.stores import blank_sqlite


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return blank_sqlite(tmp_path)


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path)


def counted() -> float:
    """The connectors in all states together."""
    return sum(sample("inboxd_connectors", state=state.value) for state in State)


@pytest.fixture(autouse=True)
def _nobody_left() -> Generator[None]:
    """After every test no connector is counted."""
    assert counted() == 0
    yield
    assert counted() == 0


@asynccontextmanager
async def supervised(bench: Bench) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.roster.run())
        yield
        task.cancel()


def state(linked: Linked) -> State:
    return linked.bench.roster.status(linked.connector.id).state


def supervisors(bench: Bench) -> dict[Any, Any]:
    return vars(bench.roster)["_supervisors"]


def tasks_of(bench: Bench) -> dict[Any, Any]:
    return vars(bench.roster)["_tasks"]


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20])
async def test_refreshes_by_the_hundred_leave_one_supervisor_and_one_connection(bench: Bench, turns: int) -> None:
    async with serving(1) as (mailbox, port):
        linked = await bench.link(port)
        async with supervised(bench):
            await eventually(lambda: mailbox.idlers == 1)
            for _ in range(100):
                bench.roster.refresh(linked.connector.id)
                for _ in range(turns):
                    await asyncio.sleep(0)
            await eventually(lambda: state(linked) is State.IDLE and mailbox.idlers == mailbox.open == 1)
            assert await settled(lambda: mailbox.open) == 1
            assert counted() == 1
            assert sample("inboxd_connector_up", connector=linked.label) == 1
            assert len(tasks_of(bench)[linked.connector.id]) == 1


async def test_supervisor_that_ends_slowly_is_waited_for_by_every_refresh(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = roster_room.Supervisor.run
    running = most = 0
    let_go = asyncio.Event()

    async def run(self: roster_room.Supervisor) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await real(self)
        finally:
            await let_go.wait()
            running -= 1

    monkeypatch.setattr(roster_room.Supervisor, "run", run)
    async with serving() as (mailbox, port):
        linked = await bench.link(port)
        async with supervised(bench):
            await eventually(lambda: mailbox.idlers == 1)
            for _ in range(5):
                bench.roster.refresh(linked.connector.id)
                await settled(lambda: running)
            let_go.set()
            await eventually(lambda: state(linked) is State.IDLE and mailbox.idlers == 1)
            assert (running, most, counted()) == (1, 1, 1)


async def test_connector_deleted_at_any_moment_of_its_start_is_gone(bench: Bench) -> None:
    async with serving(1) as (mailbox, port), supervised(bench):
        for turns in range(0, 120, 4):
            linked = await bench.link(port)
            bench.roster.refresh(linked.connector.id)
            for _ in range(turns):
                await asyncio.sleep(0)
            await connectors.remove(bench.store, linked.connector.id)
            bench.roster.forget(linked.connector.id)
            await eventually(lambda linked=linked: linked.connector.id not in tasks_of(bench))
            assert state(linked) is State.OFF
            assert linked.label.encode() not in metrics.exposition()
        await eventually(lambda: mailbox.open == 0)
        assert not vars(bench.roster)["_locks"]


async def test_connector_deleted_without_a_word_ends_nobody_elses_supervisor(bench: Bench) -> None:
    async with serving(1) as (mailbox, port):
        gone, other = await bench.link(port), await bench.link(port)
        async with supervised(bench):
            await eventually(lambda: mailbox.idlers == 2)
            await connectors.remove(bench.store, gone.connector.id)
            await mailbox.deliver(2)
            await eventually(lambda: state(gone) is State.PARKED and mailbox.idlers == 1)
            await mailbox.deliver(3)
            await other.until_stored(1, 2, 3)
            bench.roster.forget(gone.connector.id)
            await eventually(lambda: counted() == 1)


async def test_changed_connection_is_used_at_once_even_from_the_middle_of_a_long_wait(bench: Bench) -> None:
    patient = await make_bench(bench.store, bench.settings.state_dir, retry_first_seconds=600.0)
    async with serving(1) as (mailbox, port):
        linked = await patient.link(1)
        async with supervised(patient):
            await eventually(lambda: state(linked) is State.WAITING)
            await connectors.put_connection(patient.store, replace(linked.connection, port=port))
            patient.roster.refresh(linked.connector.id)
            await eventually(lambda: mailbox.idlers == 1)


async def test_disabled_connector_is_ended_and_enabled_again(bench: Bench) -> None:
    async with serving(1) as (mailbox, port):
        linked = await bench.link(port)
        async with supervised(bench):
            await eventually(lambda: mailbox.idlers == 1)
            for enabled in (False, True):
                await connectors.update(bench.store, replace(linked.connector, enabled=enabled))
                bench.roster.refresh(linked.connector.id)
                await eventually(lambda enabled=enabled: mailbox.idlers == mailbox.open == int(enabled))
                assert counted() == int(enabled)
            for enabled in (False, True):
                connection = await connectors.connection(bench.store, linked.connector.id, Kind.IMAP)
                assert connection is not None
                await connectors.put_connection(bench.store, replace(connection, enabled=enabled))
                bench.roster.refresh(linked.connector.id)
                await eventually(lambda enabled=enabled: mailbox.idlers == mailbox.open == int(enabled))


async def test_store_that_cannot_be_read_for_a_while_is_asked_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = connectors.get
    asked = 0

    async def get(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise StoreError("locked")
        return await real(*arguments)

    monkeypatch.setattr(connectors, "get", get)
    monkeypatch.setattr(roster_room, "_RETRY_SECONDS", 0.01)
    async with serving() as (mailbox, port):
        await bench.link(port)
        async with supervised(bench):
            await eventually(lambda: mailbox.idlers == 1)


async def test_start_gate_limits_the_logins_under_way(bench: Bench) -> None:
    narrow = await make_bench(bench.store, bench.settings.state_dir, logins_at_once=3)
    async with serving() as (mailbox, port):
        mailbox.answers["AUTHENTICATE"] = mailbox.slow_login
        for number in range(20):
            await narrow.link(port, f"c{number}")
        async with supervised(narrow):
            await eventually(lambda: mailbox.idlers == 20)
        assert mailbox.most_logins == 3


async def test_logins_that_fail_or_are_cancelled_give_their_place_at_the_gate_back(bench: Bench) -> None:
    narrow = await make_bench(bench.store, bench.settings.state_dir, logins_at_once=1)

    async def hang(conversation: Conversation, _tag: str) -> None:
        await conversation.closed()
        raise EOFError

    async with serving() as (mailbox, port), supervised(narrow):
        mailbox.answers["AUTHENTICATE"] = hang
        linked = await narrow.link(port)
        for count in range(1, 4):
            narrow.roster.refresh(linked.connector.id)
            await eventually(lambda count=count: mailbox.count("AUTHENTICATE") == count)
        del mailbox.answers["AUTHENTICATE"]
        narrow.roster.refresh(linked.connector.id)
        await eventually(lambda: mailbox.idlers == 1)


async def test_start_reads_the_store_as_often_for_many_as_for_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_single(*_: Any) -> None:
        raise AssertionError("read one by one")

    async with serving() as (mailbox, port):
        for number in range(20):
            await bench.link(port, f"c{number}")
        for name in ("get", "connection", "sync_settings"):
            monkeypatch.setattr(connectors, name, no_single)
        async with supervised(bench):
            await eventually(lambda: mailbox.idlers == 20)


async def test_change_during_the_start_is_not_lost(bench: Bench) -> None:
    async with serving(1) as (mailbox, port):
        for number in range(10):
            await bench.link(port, f"c{number}")
        last = await bench.link(port, "last")
        async with supervised(bench):
            await settled(lambda: len(supervisors(bench)))
            await connectors.update(bench.store, replace(last.connector, enabled=False))
            bench.roster.refresh(last.connector.id)
            await eventually(lambda: mailbox.idlers == mailbox.open == 10)
            assert state(last) is State.OFF


@pytest.mark.parametrize("budget", ["logins_per_second", "logins_per_host_second"])
async def test_who_is_over_the_login_budget_has_not_connected_yet(bench: Bench, budget: str) -> None:
    narrow = await make_bench(bench.store, bench.settings.state_dir, **{budget: 0.0001})
    async with serving() as (mailbox, port):
        linked = [await narrow.link(port, f"c{number}") for number in range(10)]
        async with supervised(narrow):
            await eventually(lambda: mailbox.idlers >= 1)
            await settled(lambda: mailbox.connections)
            assert 1 <= mailbox.connections <= 2
            states = [state(one) for one in linked]
            assert states.count(State.CONNECTING) == 10 - mailbox.connections


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def test_200_connectors_start_and_stop_and_leave_no_task_and_no_descriptor(bench: Bench) -> None:
    async with serving(1, 2, 3) as (mailbox, port):
        linked: list[Linked] = []
        left: list[int] = []
        for count in (10, 200):
            linked += [await bench.link(port, f"c{number}") for number in range(len(linked), count)]
            async with supervised(bench):
                await eventually(lambda count=count: mailbox.idlers == count, 30)
                assert counted() == count
                await mailbox.deliver(count)
                for one in linked:
                    await one.until_stored(*mailbox.held)
            await eventually(lambda: mailbox.open == 0)
            assert not supervisors(bench)
            assert not tasks_of(bench)
            left.append(await settled(lambda: descriptors() + 1000 * len(asyncio.all_tasks())))
        # Something kept for each connector would be 190 more; earlier tests leave a descriptor or two in doubt.
        assert left[1] - left[0] < 10
