"""Waiting for mails that match: each is examined once, and what is returned is there and as it was wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import update

from inboxd import matching, patterns
from inboxd.errors import Invalid
from inboxd.mails import Address, Digest, Message, Place
from inboxd.match import Part, Should, Wishes, rule
from inboxd.matching import Goal
from inboxd.model import MessageFilter, Window
from inboxd.store import messages
from inboxd.store.engine import Store
from inboxd.store.schema import MESSAGES
from inboxd.waiter import wait_for_matching
from servers.mailbox import Linked, make_bench
from servers.sessions import eventually, settled
from servers.stores import make_incoming

LONG = 30.0


@pytest_asyncio.fixture
async def linked(store: Store, tmp_path: Path) -> Linked:
    return await (await make_bench(store, tmp_path)).link(1)


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of every mail that is compared from now on."""
    real: Callable[..., Any] = vars(matching)["_sift"]
    seen: list[int] = []

    def sift(some: Any, fits: Any) -> Any:
        seen.extend(one.seq for one in some)
        return real(some, fits)

    monkeypatch.setattr(matching, "_sift", sift)
    return seen


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


async def keep(linked: Linked, *uids: int, tell: bool = True, subject: str = "mail") -> None:
    """Store mails as a sync does, with their UIDs in their subjects."""
    place = Place(linked.connector.id, "INBOX", 1)
    batch = [
        make_incoming(
            uid,
            b"Subject: %s %d\r\nX-Number: %d\r\n\r\n" % (subject.encode(), uid, uid),
            Digest(subject=f"{subject} {uid}", to=(Address("b@x.org", "b@x.org"),)),
        )
        for uid in uids
    ]
    await messages.add_batch(linked.bench.store, place, linked.connector.inbox_id, batch)
    if tell:
        linked.bench.bus.publish(linked.connector.inbox_id)


def goal(linked: Linked, value: str, count: int = 1, part: Part = Part.SUBJECT, **more: Any) -> Goal:
    wanted = MessageFilter((linked.connector.inbox_id,), unread_only=more.pop("unread_only", False))
    wishes = Wishes((rule("", part, Should.MATCH, value),))
    return Goal(wanted, Window(ascending=more.pop("ascending", True)), wishes, count, **more)


async def hunt(linked: Linked, wanted: Goal, seconds: float = LONG) -> list[int | None] | None:
    """The UIDs found."""
    found = await wait_for_matching(linked.bench.services, wanted, seconds)
    return None if found is None else [message.uid for message in found]


async def numbered(linked: Linked, uid: int) -> Message:
    found = await messages.page(linked.bench.store, MessageFilter((linked.connector.inbox_id,)), Window(size=1000))
    return next(message for message in found.rows if message.uid == uid)


@pytest.mark.parametrize("ascending", [True, False])
async def test_stored_mails_are_found_in_order_over_many_pages(
    linked: Linked, monkeypatch: pytest.MonkeyPatch, ascending: bool
) -> None:
    monkeypatch.setattr(matching, "PAGE", 7)
    await keep(linked, *range(1, 60), tell=False)
    expected = [uid for uid in range(1, 60) if uid % 10 == 3]
    wanted = goal(linked, "3$", 6, ascending=ascending)
    assert await hunt(linked, wanted, 0) == (expected if ascending else expected[::-1])
    assert await hunt(linked, replace(wanted, count=2), 0) == (expected[:2] if ascending else expected[:-3:-1])
    assert await hunt(linked, replace(wanted, count=7), 0) is None


async def test_the_walk_ends_when_enough_is_found(
    linked: Linked, monkeypatch: pytest.MonkeyPatch, examined: list[int]
) -> None:
    monkeypatch.setattr(matching, "PAGE", 10)
    await keep(linked, *range(1, 101), tell=False)
    assert await hunt(linked, goal(linked, "mail 5$"), 0) == [5]
    assert len(examined) == 10


async def test_each_mail_is_examined_once(
    linked: Linked, monkeypatch: pytest.MonkeyPatch, examined: list[int], reads: list[Any]
) -> None:
    monkeypatch.setattr(matching, "PAGE", 10)
    monkeypatch.setattr(matching, "LOOK_BACK", 5)
    await keep(linked, *range(1, 26), tell=False)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(hunt(linked, goal(linked, "mail 9\\d", 3)))
        await eventually(lambda: len(examined) == 25)
        for uid in (91, 26, 27, 92, 28):
            await keep(linked, uid)
            await settled(lambda: len(reads))
        await keep(linked, *range(29, 80), 93)
    assert waiting.result() == [91, 92, 93]
    assert len(examined) == len(set(examined)) == 25 + 5 + 52


async def test_mails_that_arrive_at_any_moment_are_found(linked: Linked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "PAGE", 2)
    for turn in range(40):
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            waiting = group.create_task(hunt(linked, goal(linked, f"^new{turn} ")))
            for _ in range(turn * 3):
                await asyncio.sleep(0)
            await keep(linked, 1000 + turn, subject=f"new{turn}")
        assert waiting.result() == [1000 + turn]


async def test_a_mail_with_a_lower_number_that_is_committed_later_is_found(linked: Linked, reads: list[Any]) -> None:
    await keep(linked, 1, 2, tell=False)
    late = await numbered(linked, 1)
    moved = update(MESSAGES).where(MESSAGES.c.seq == late.seq)
    elsewhere = await linked.bench.link(2)

    async def move(linked: Linked) -> None:
        await linked.bench.store.write(lambda on: on.execute(moved.values(inbox_id=linked.connector.inbox_id)))

    await move(elsewhere)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(hunt(linked, goal(linked, "mail 1$")))
        await eventually(lambda: linked.connector.inbox_id in vars(linked.bench.bus)["_topics"])
        await settled(lambda: len(reads))
        await move(linked)
        linked.bench.bus.publish(linked.connector.inbox_id)
    assert waiting.result() == [1]


async def test_deleted_and_read_mails_are_not_returned(linked: Linked, reads: list[Any]) -> None:
    store = linked.bench.store
    await keep(linked, 1, 2, tell=False)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(hunt(linked, goal(linked, "mail", 3, unread_only=True)))
        await eventually(lambda: linked.connector.inbox_id in vars(linked.bench.bus)["_topics"])
        await settled(lambda: len(reads))
        await messages.remove(store, (await numbered(linked, 1)).id)
        await messages.mark_read(store, (await numbered(linked, 2)).id, read=True)
        await keep(linked, 3)
        await settled(lambda: len(reads))
        assert not waiting.done()
        await messages.mark_read(store, (await numbered(linked, 2)).id, read=False)
        await keep(linked, 4)
    assert waiting.result() == [2, 3, 4]


async def test_exactly_so_many_are_awaited(linked: Linked, reads: list[Any]) -> None:
    wanted = goal(linked, "mail", 2, exactly=True)
    await keep(linked, 1, 2, 3, tell=False)
    assert await hunt(linked, wanted, 0) is None
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(hunt(linked, wanted))
        await eventually(lambda: linked.connector.inbox_id in vars(linked.bench.bus)["_topics"])
        await settled(lambda: len(reads))
        await messages.remove(linked.bench.store, (await numbered(linked, 1)).id)
        linked.bench.bus.publish(linked.connector.inbox_id)
    assert waiting.result() == [2, 3]
    assert await hunt(linked, goal(linked, "nothing", 0, exactly=True), 0) == []
    assert await hunt(linked, goal(linked, "mail", 0, exactly=True), 0) is None
    assert await hunt(linked, goal(linked, "mail", 0), 0) == []


async def test_headers_are_read_only_when_a_rule_asks(
    linked: Linked, monkeypatch: pytest.MonkeyPatch, reads: list[Any]
) -> None:
    monkeypatch.setattr(matching, "HEADS", 3)
    loaded: list[int] = []
    real = messages.heads

    async def heads(store: Store, seqs: Any, most: int) -> dict[int, bytes]:
        loaded.extend(seqs)
        return await real(store, seqs, most)

    monkeypatch.setattr(messages, "heads", heads)
    await keep(linked, *range(1, 12), tell=False)
    assert await hunt(linked, goal(linked, "mail 11"), 0) == [11]
    assert loaded == []
    assert await hunt(linked, goal(linked, r"^X-Number: \d\d$", 2, Part.HEADERS), 0) == [10, 11]
    assert len(loaded) == 11
    both = Wishes((*goal(linked, "mail 7").wishes.rules, rule("", Part.HEADERS, Should.CONTAIN, "x-number: 7")))
    assert await hunt(linked, replace(goal(linked, ""), wishes=both), 0) == [7]
    assert len(loaded) == 12


async def test_the_same_hunt_is_shared_and_different_ones_share_what_they_read(
    linked: Linked, examined: list[int], reads: list[Any]
) -> None:
    same = [goal(linked, "mail 1$") for _ in range(200)]
    others = [goal(linked, f"mail 1$|never{number}") for number in range(50)]
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(hunt(linked, wanted)) for wanted in (*same, *others)]
        await eventually(lambda: len(vars(linked.bench.bus)["_topics"].get(linked.connector.inbox_id, ())) == 250)
        before = await settled(lambda: len(reads))
        await keep(linked, 1)
    assert [task.result() for task in waiting] == [[1]] * 250
    assert len(examined) == 51
    assert len(reads) - before < 20


async def test_an_expression_that_takes_too_long_ends_the_wait(linked: Linked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SEARCH_SECONDS", 0.01)
    await keep(linked, 1, subject="a" * 60, tell=False)
    slow = Wishes((rule("matches.0.value", Part.SUBJECT, Should.MATCH, r"(?:a|aa)+[^a 0-9]"),))
    with pytest.raises(Invalid, match=r"matches\.0\.value"):
        await hunt(linked, replace(goal(linked, ""), wishes=slow), 0)
