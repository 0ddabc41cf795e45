"""How many mails may go now, under limits a minute and a day."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from inboxd.allowance import Allowance
from servers.stores import MORNING


def after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def test_without_limits_as_many_go_as_are_asked_for() -> None:
    allowance = Allowance([])
    allowance.spend(MORNING)
    assert allowance.free(MORNING, 50) == (50, 0.0)


def test_limit_is_reached_and_frees_when_the_oldest_leaves_the_window() -> None:
    allowance = Allowance([(2, 60.0)])
    for second in (0, 10):
        assert allowance.free(MORNING + after(second), 5)[0] > 0
        allowance.spend(MORNING + after(second))
    assert allowance.free(MORNING + after(20), 5) == (0, 40.0)
    assert allowance.free(MORNING + after(60), 5) == (1, 0.0)


def test_the_tighter_of_two_limits_decides_and_past_mails_count() -> None:
    past = [MORNING + after(second) for second in range(3)]
    allowance = Allowance([(10, 60.0), (4, 86_400.0)], past)
    assert allowance.free(MORNING + after(5), 9) == (1, 0.0)
    allowance.spend(MORNING + after(5))
    assert allowance.free(MORNING + after(3600), 9) == (0, 86_400.0 - 3600)


@given(st.lists(st.floats(0, 500), max_size=60), st.integers(1, 5), st.floats(1, 100))
def test_no_window_ever_holds_more_than_the_limit(pauses: list[float], most: int, span: float) -> None:
    allowance, gone, now = Allowance([(most, span)]), [MORNING - after(10_000)], MORNING
    for pause in pauses:
        now += after(pause / 10)
        free, wait = allowance.free(now, 3)
        assert (free == 0) == (wait > 0)
        for _ in range(free):
            allowance.spend(now)
            gone.append(now)
    for end in gone:
        assert sum(end - after(span) < at <= end for at in gone) <= most
