"""Who is signed in to the dashboard, for how long, and which forms and which sites are believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from inboxd.api.gate import Refusal
from inboxd.dashboard import guard
from inboxd.dashboard.sessions import IDLE, INVITATION, LONGEST, MOST, Sessions
from inboxd.model import KeyId


class Clock:
    """A time that only tests move."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, span: timedelta) -> None:
        self.now += span


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_session_ends_when_nobody_came_for_long_or_after_a_week(clock: Clock) -> None:
    sessions = Sessions(clock)
    token, begun = sessions.begin(KeyId("one"))
    assert sessions.find(token) is begun
    assert sessions.find("another") is None
    for _ in range(LONGEST // IDLE):
        clock.pass_by(IDLE)
        assert sessions.find(token) is begun
    clock.pass_by(timedelta(seconds=1))
    assert sessions.find(token) is None, "a week is the longest"
    idle, _ = sessions.begin(None)
    clock.pass_by(IDLE + timedelta(seconds=1))
    assert sessions.find(idle) is None


def test_signing_out_ends_one_session_alone(clock: Clock) -> None:
    sessions = Sessions(clock)
    (first, _), (second, _) = sessions.begin(None), sessions.begin(None)
    sessions.end(first)
    assert sessions.find(first) is None
    assert sessions.find(second) is not None


def test_link_signs_in_once_within_two_minutes(clock: Clock) -> None:
    sessions = Sessions(clock)
    code, late = sessions.invite(), sessions.invite()
    assert sessions.redeem(code)
    assert not sessions.redeem(code), "it was used"
    assert not sessions.redeem("guessed")
    clock.pass_by(INVITATION + timedelta(seconds=1))
    assert not sessions.redeem(late)


def test_oldest_session_makes_room(clock: Clock) -> None:
    sessions = Sessions(clock)
    tokens = [sessions.begin(None)[0] for _ in range(MOST + 1)]
    assert sessions.find(tokens[0]) is None
    assert sessions.find(tokens[1]) is not None
    assert sessions.find(tokens[-1]) is not None


def test_form_token_is_another_each_time_and_good_for_its_session_alone(clock: Clock) -> None:
    sessions = Sessions(clock)
    (_, mine), (_, yours) = sessions.begin(None), sessions.begin(None)
    tokens = {mine.token() for _ in range(10)}
    assert len(tokens) == 10
    assert all(mine.agrees(token) for token in tokens)
    assert not any(yours.agrees(token) for token in tokens)
    (one, *_) = tokens
    for wrong in ("", "x", one[:-4], one + "AAAA", "é" * 64, "A" * 64, one.swapcase()):
        assert not mine.agrees(wrong), wrong
    assert one not in repr(mine)


def test_what_was_put_aside_is_there_until_newer_things_push_it_out(clock: Clock) -> None:
    _, session = Sessions(clock).begin(None)
    first = session.put_aside({"password": "hush"})
    assert session.take_up(first) == {"password": "hush"}
    assert "hush" not in repr(session)
    for number in range(8):
        session.put_aside({"name": str(number)})
    assert session.take_up(first) is None


@pytest.mark.parametrize(
    "host", ["localhost:8025", "127.0.0.1", "[::1]:8025", "mail.example.org", "MAIL.example.org.:1"]
)
def test_own_names_are_answered(host: str) -> None:
    guard.check_host(host, {"mail.example.org"})


@pytest.mark.parametrize(
    "host", ["evil.example", "mail.example.org.evil.example", "127.0.0.1.evil.example", "localhost.e"]
)
def test_name_that_is_made_to_point_here_is_refused(host: str) -> None:
    with pytest.raises(Refusal, match=r"dashboard\.hosts"):
        guard.check_host(host, {"mail.example.org"})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://box:8025", "Host": "box:8025"},
        {"Origin": "https://box", "Host": "box"},
    ],
)
def test_own_forms_are_taken(headers: dict[str, str]) -> None:
    guard.check_origin(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example", "Host": "box:8025"},
        {"Origin": "http://box:80", "Host": "box:8025"},
        {"Origin": "null", "Host": "box:8025"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_forms_of_other_sites_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Refusal, match="another site"):
        guard.check_origin(headers)
