"""An account's budget: how many connections and logins it may have, who goes first, and who makes room for whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from inboxd import budgets as budgets_module
from inboxd.budgets import Budget, Budgets, Place, Purpose
from inboxd.errors import NoRoom
from inboxd.sections import ImapSettings
from servers.sessions import LoopFactory
from test_logins import LeapingLoop

pytest_plugins = ("servers.sessions",)
LOOPS: Mapping[str, LoopFactory] = {"leaping": LeapingLoop}
LISTEN, DIRECT, CHORE, SWEEP, AHEAD = Purpose


def budget(host: str = "mail.example", **settings: Any) -> Budget:
    return Budgets(ImapSettings(**settings)).of(host, "user")


@asynccontextmanager
async def held(budget: Budget, *purposes: Purpose) -> AsyncGenerator[list[Place]]:
    """Places taken for these purposes, one after the other."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(budget.place(purpose)) for purpose in purposes]


async def listen(budget: Budget, purpose: Purpose, told: list[Purpose], *, settled: asyncio.Event) -> None:
    """Hold a place as a listener does: until asked for it, and then again, unless it only was ahead."""
    while True:
        async with budget.place(purpose) as place:
            asked = asyncio.Event()
            place.settle(asked.set)
            settled.set()
            await asked.wait()
            if place.wanted:
                told.append(purpose)
        if purpose is AHEAD:
            return


@asynccontextmanager
async def listening(budget: Budget, *purposes: Purpose) -> AsyncGenerator[list[Purpose]]:
    """Listeners for these purposes; in which order they gave way."""
    told: list[Purpose] = []
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        for purpose in purposes:
            settled = asyncio.Event()
            tasks.append(group.create_task(listen(budget, purpose, told, settled=settled)))
            await settled.wait()
        yield told
        for task in tasks:
            task.cancel()


def test_the_provider_sets_the_connections_unless_the_operator_has() -> None:
    assert budget().connections == 3
    assert budget("imap.gmail.com").connections == 15
    assert budget("imap.gmail.com", connections=3).connections == 3
    assert budget("imap.gmail.com").traffic is not None
    assert budget("imap.gmail.com", bytes_per_day=7).traffic is not None
    assert budget().traffic is None


def test_hosts_of_one_provider_and_spellings_of_one_user_share_a_budget() -> None:
    every = Budgets(ImapSettings())
    assert every.of("imap.gmail.com", "a@example.com") is every.of("IMAP.GoogleMail.com", "A@example.com")
    assert every.of("imap.gmail.com", "a@example.com") is not every.of("imap.gmail.com", "b@example.com")


async def test_no_more_connections_are_open_than_the_budget_has_places() -> None:
    one = budget(connections=2)
    open_now = most = 0

    async def work() -> None:
        nonlocal open_now, most
        async with one.place(DIRECT):
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0.1)
            open_now -= 1

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(work())
    assert most == 2
    assert one.idle


async def test_who_waits_is_served_by_importance_and_then_in_turn() -> None:
    one, served = budget(connections=1), list[str]()

    async def want(name: str, purpose: Purpose) -> None:
        async with one.place(purpose):
            served.append(name)

    async with asyncio.TaskGroup() as group, held(one, DIRECT):
        for name, purpose in (("chore", CHORE), ("first", DIRECT), ("second", DIRECT), ("main", LISTEN)):
            group.create_task(want(name, purpose))
            await asyncio.sleep(0)
    assert served == ["main", "first", "second", "chore"]


async def test_without_a_place_in_time_the_words_say_why_and_ahead_does_not_wait() -> None:
    one = budget(connections=1)
    clock = asyncio.get_running_loop()
    async with held(one, DIRECT):
        began = clock.time()
        with pytest.raises(NoRoom, match=r"mail\.example: all connections .* \(imap\.connections: 1\)"):
            async with one.place(AHEAD):
                pass
        assert clock.time() == began
        with pytest.raises(NoRoom):
            async with one.place(DIRECT):
                pass
        assert clock.time() - began == pytest.approx(budgets_module.WAIT_SECONDS)
    assert one.idle


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_whoever_is_cancelled_takes_no_place_away(after: int) -> None:
    one = budget(connections=1)
    async with asyncio.TaskGroup() as group:
        async with held(one, DIRECT):
            tasks = [group.create_task(hold_for_ever(one)) for _ in range(3)]
            await asyncio.sleep(0)
        for _ in range(after):  # cancelled while waiting, just granted, and holding
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
    assert one.idle
    async with held(one, DIRECT):
        pass


async def hold_for_ever(one: Budget) -> None:
    async with one.place(DIRECT):
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("connections", "listeners", "gave_way"),
    [
        (3, (LISTEN, SWEEP, AHEAD), [AHEAD]),
        (2, (LISTEN, SWEEP), [SWEEP]),
        (2, (LISTEN, AHEAD), [AHEAD]),
        (1, (LISTEN,), [LISTEN]),
        (1, (LISTEN, SWEEP), [SWEEP, LISTEN]),
        (2, (LISTEN, LISTEN), [LISTEN]),
        (3, (LISTEN, SWEEP), []),
    ],
)
async def test_a_direct_sync_gets_the_place_of_the_least_important_that_only_listens(
    connections: int, listeners: tuple[Purpose, ...], gave_way: list[Purpose]
) -> None:
    one = budget(connections=connections)
    clock = asyncio.get_running_loop()
    async with listening(one, *listeners) as told:
        began = clock.time()
        for _ in range(2):
            async with one.place(DIRECT):
                await asyncio.sleep(1.0)
        assert clock.time() - began == pytest.approx(2.0)
    assert told[: len(gave_way)] == gave_way
    assert bool(told) is bool(gave_way)


async def test_many_who_want_the_only_place_let_the_listener_back_in_between() -> None:
    one, rounds = budget(connections=1), 5

    async def work() -> None:
        async with one.place(DIRECT):
            await asyncio.sleep(1.0)

    async with listening(one, LISTEN) as told, asyncio.TaskGroup() as group:
        for _ in range(rounds):
            group.create_task(work())
    assert told == [LISTEN] * rounds


async def test_an_asked_listener_stays_when_nobody_waits_any_more() -> None:
    one = budget(connections=1)
    async with held(one, LISTEN) as (place,):
        asked: list[None] = []
        place.settle(lambda: asked.append(None))
        with pytest.raises(NoRoom):
            async with one.place(DIRECT):
                pass
        assert asked
        assert not place.wanted


async def test_a_server_that_had_no_room_is_believed_for_a_while() -> None:
    one = budget(connections=4)
    async with held(one, LISTEN, SWEEP) as places:
        assert not one.crowded()  # nobody is logged in: what fills the server is not ours
        for place in places:
            place.settle(lambda: None)
        assert one.crowded()
        assert one.connections == 2
        with pytest.raises(NoRoom, match=r"imap\.connections: 4, of which its server was seen to allow 2"):
            async with one.place(AHEAD):
                pass
        await asyncio.sleep(601)
        assert one.connections == 4


async def test_logins_a_minute_are_limited_and_a_long_wait_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets_module, "WAIT_SECONDS", 0.0)
    one = budget(logins_per_minute=2)
    await one.login()
    await one.login()
    with pytest.raises(NoRoom, match=r"2 logins a minute .* \(imap\.logins_per_minute\)") as raised:
        await one.login()
    assert 59 <= (raised.value.hint_seconds or 0) <= 60
    unlimited = budget(logins_per_minute=0)
    for _ in range(100):
        await unlimited.login()
