"""Work asked for by many at once is done once, whoever of them gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from inboxd.errors import InUse
from inboxd.flights import Flights
from servers.sessions import BOTH_LOOPS, eventually

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS


class Work:
    """Counts how often it began, and ends when it may."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        mine = self.begun
        await self.may_end.wait()
        return mine


async def test_those_who_ask_together_share_one_doing() -> None:
    flights, work = Flights(), Work()
    work.may_end.set()
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(flights.share("key", work)) for _ in range(100)]
    assert [task.result() for task in asking] == [1] * 100
    assert (work.begun, len(flights)) == (1, 0)


async def test_different_keys_are_done_apart() -> None:
    flights, work = Flights(), Work()
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(flights.share(key, work)) for key in "ab"]
        await eventually(lambda: work.begun == 2)
        work.may_end.set()
    assert {task.result() for task in asking} == {1, 2}


async def test_who_asks_while_it_is_done_gets_what_began_later() -> None:
    flights, work = Flights(), Work()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(flights.share("key", work))
        await eventually(lambda: work.begun)
        late = [group.create_task(flights.share("key", work)) for _ in range(5)]
        await asyncio.sleep(0)
        assert work.begun == 1
        work.may_end.set()
    assert first.result() == 1
    assert [task.result() for task in late] == [2] * 5


@pytest.mark.parametrize("begun", [False, True])
async def test_the_others_get_theirs_when_who_carries_it_is_cancelled(begun: bool) -> None:
    flights, work = Flights(), Work()
    async with asyncio.TaskGroup() as group:
        carrier, *others = [group.create_task(flights.share("key", work)) for _ in range(4)]
        await asyncio.sleep(0)
        assert (len(flights), work.begun) == (1, 0)
        if begun:
            await eventually(lambda: work.begun)
        carrier.cancel()
        others[1].cancel()
        work.may_end.set()
    assert carrier.cancelled()
    assert others[1].cancelled()
    assert others[0].result() == others[2].result() == 1 + begun
    assert len(flights) == 0


async def test_work_ends_with_the_last_who_wants_it() -> None:
    flights, work = Flights(), Work()
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(flights.share("key", work)) for _ in range(3)]
        await eventually(lambda: work.begun)
        for task in asking:
            task.cancel()
    assert len(flights) == 0


async def test_a_second_flight_takes_off_when_nobody_is_left_in_the_first() -> None:
    flights, work = Flights(), Work()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(flights.share("key", work))
        await eventually(lambda: work.begun)
        second = group.create_task(flights.share("key", work))
        await asyncio.sleep(0)
        first.cancel()
        await eventually(lambda: work.begun == 2)
        work.may_end.set()
    assert second.result() == 2


async def _refused(flights: Flights, work: Callable[[], Awaitable[None]]) -> type[Exception]:
    try:
        await flights.share("key", work)
    except (InUse, ZeroDivisionError) as error:
        return type(error)
    raise AssertionError


@pytest.mark.parametrize(("error", "times"), [(InUse("busy"), 1), (ZeroDivisionError(), 5)])
async def test_failures_reach_everybody(error: Exception, times: int) -> None:
    flights, begun = Flights(), 0

    async def fail() -> None:
        nonlocal begun
        begun += 1
        raise error

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(_refused(flights, fail)) for _ in range(5)]
    assert [task.result() for task in asking] == [type(error)] * 5
    assert begun == times
    assert len(flights) == 0
