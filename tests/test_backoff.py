"""Back-off: it grows, is bounded, spreads a crowd, and never comes back before the server allows it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.backoff import Backoff


def test_waits_double_up_to_the_ceiling() -> None:
    backoff = Backoff(first_seconds=1.0, most_seconds=60.0)
    for ceiling in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
        assert ceiling / 2 <= backoff.next_seconds() <= ceiling


def test_a_thousand_failures_stay_under_the_ceiling() -> None:
    backoff = Backoff(first_seconds=0.5, most_seconds=600.0)
    assert max(backoff.next_seconds() for _ in range(1_000)) <= 600.0
    assert backoff.failures == 1_000


def test_first_wait_above_the_ceiling_is_cut_to_it() -> None:
    assert Backoff(first_seconds=10.0, most_seconds=2.0).next_seconds() <= 2.0


def test_waits_of_a_crowd_are_spread() -> None:
    waits = [Backoff(first_seconds=100.0).next_seconds() for _ in range(500)]
    assert max(waits) - min(waits) > 40.0
    assert len({round(wait) for wait in waits}) > 30


def test_reset_starts_small_again() -> None:
    backoff = Backoff(first_seconds=1.0)
    for _ in range(9):
        backoff.next_seconds()
    backoff.reset()
    assert backoff.failures == 0
    assert backoff.next_seconds() <= 1.0


@given(
    failures=st.integers(min_value=0, max_value=40),
    at_least=st.floats(min_value=0.0, max_value=5_000.0),
    most=st.floats(min_value=0.1, max_value=2_000.0),
)
def test_never_sooner_than_asked_and_never_much_later(failures: int, at_least: float, most: float) -> None:
    backoff = Backoff(first_seconds=1.0, most_seconds=most)
    backoff.failures = failures
    wait = backoff.next_seconds(at_least=at_least)
    assert at_least <= wait <= max(most, at_least * 1.25) * (1 + 1e-9)


@pytest.mark.parametrize("at_least", [30.0, 500.0, 900.0])
def test_a_floor_spreads_the_crowd_too(at_least: float) -> None:
    backoff = Backoff(first_seconds=1.0, most_seconds=600.0)
    backoff.failures = 20
    waits = [backoff.next_seconds(at_least=at_least) for _ in range(300)]
    assert min(waits) >= at_least
    assert max(waits) - min(waits) > at_least * 0.1
