"""The budget of logins: how many begin in a second, of all and of one host, on a clock that jumps."""

from __future__ import annotations

import asyncio
import selectors
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import pytest

from inboxd.backoff import Backoff
from inboxd.logins import Logins, Rate
from inboxd.providers import logins_per_second
from inboxd.sections import ImapSettings
from servers.sessions import LoopFactory


class Leaping(selectors.DefaultSelector):
    """Waits for nothing: the time until the next timer passes at once."""

    passed_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found:
            self.passed_seconds += timeout or 0.0
        return found


class LeapingLoop(asyncio.SelectorEventLoop):
    """A loop on that clock."""

    def __init__(self) -> None:
        self._clock = Leaping()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.passed_seconds


pytest_plugins = ("servers.sessions",)
LOOPS: Mapping[str, LoopFactory] = {"leaping": LeapingLoop}
UNHURRIED = 1e-6  # of rounding


def limits(all_seconds: float, host_seconds: float) -> ImapSettings:
    return ImapSettings(logins_per_second=all_seconds, logins_per_host_second=host_seconds)


async def moments(logins: Logins, *hosts: str) -> list[tuple[float, str]]:
    """When each of these, all come at once, got its turn."""
    clock, took = asyncio.get_running_loop(), list[tuple[float, str]]()

    async def one(host: str) -> None:
        await logins.turn(host)
        took.append((clock.time(), host))

    async with asyncio.TaskGroup() as group:
        for host in hosts:
            group.create_task(one(host))
    return took


def most_in_a_second(times: list[float]) -> int:
    return max(bisect_right(times, at + 1.0 - UNHURRIED) - number for number, at in enumerate(times))


async def test_two_thousand_of_one_host_are_let_through_within_a_minute_and_never_faster() -> None:
    took = [at for at, _ in await moments(Logins(ImapSettings()), *["mail.example"] * 2000)]
    assert most_in_a_second(took) <= 41
    assert took == sorted(took)
    assert 49 < took[-1] < 60


async def test_all_hosts_together_keep_to_the_whole_budget() -> None:
    took = await moments(Logins(limits(50, 40)), *(f"h{number % 20}" for number in range(1000)))
    assert most_in_a_second([at for at, _ in took]) <= 51
    assert took[-1][0] == pytest.approx(999 / 50)


async def test_queue_of_one_host_holds_up_no_other_host() -> None:
    took = await moments(Logins(limits(0, 2)), *["slow"] * 100, "quick")
    assert next(at for at, host in took if host == "quick") == 0
    assert took[-1] == (pytest.approx(99 / 2), "slow")


async def test_large_providers_see_less_whatever_is_set_and_however_they_are_spelt() -> None:
    for setting in (0.0, 40.0):
        took = await moments(Logins(limits(0, setting)), *["imap.gmail.com", "IMAP.Gmail.com"] * 10)
        assert most_in_a_second([at for at, _ in took]) <= 6
    assert logins_per_second("mail.example") is None


async def test_lower_setting_goes_before_the_providers_rate() -> None:
    took = await moments(Logins(limits(0, 1)), *["imap.gmail.com"] * 3)
    assert [at for at, _ in took] == pytest.approx([0, 1, 2])


async def test_without_limits_nobody_waits() -> None:
    assert {at for at, _ in await moments(Logins(limits(0, 0)), *["mail.example"] * 1000)} == {0}


async def test_cancelled_before_its_turn_takes_none_away() -> None:
    rate, clock = Rate(1.0), asyncio.get_running_loop()
    await rate.turn()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(rate.turn()) for _ in range(100)]
        await asyncio.sleep(0.5)
        for task in waiting:
            task.cancel()
    begun = clock.time()
    await rate.turn()
    assert begun == pytest.approx(0.5)
    assert clock.time() == pytest.approx(1.0)


async def test_turns_not_taken_are_not_saved_up() -> None:
    rate, clock = Rate(10.0), asyncio.get_running_loop()
    await asyncio.sleep(100)
    begun = clock.time()
    for _ in range(21):
        await rate.turn()
    assert clock.time() - begun == pytest.approx(2.0, abs=0.11)


async def test_hosts_that_nobody_waits_for_are_forgotten() -> None:
    logins = Logins(limits(0, 10))
    for number in range(5000):
        await logins.turn(f"host{number}")
        await asyncio.sleep(0.01)
    assert len(vars(logins)["_hosts"]) <= 1000


def test_crowd_cut_off_at_one_moment_comes_back_spread_over_half_the_wait() -> None:
    for failures, wait_seconds in ((0, 1.0), (3, 8.0), (20, 600.0)):
        waits: list[float] = []
        for _ in range(2000):
            backoff = Backoff(1.0, 600.0)
            backoff.failures = failures
            waits.append(backoff.next_seconds())
        tenths = [0] * 10
        for wait in waits:
            tenths[int((wait - wait_seconds / 2) / (wait_seconds / 2) * 10 - UNHURRIED)] += 1
        assert min(tenths) > 100, tenths  # of 200 on the average
