"""The bus: no wake-up is lost between a look and the wait after it, and many fold into one."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from inboxd.bus import Bus, Hint

INBOX = uuid4()


async def rings(hint: Hint) -> bool:
    """Whether the hint is rung by now: everything ready has run before the answer."""
    try:
        async with asyncio.timeout(0):
            await hint.wait()
    except TimeoutError:
        return False
    return True


async def test_publish_between_look_and_wait_is_not_lost() -> None:
    bus = Bus()
    with bus.subscribe(INBOX) as hint:
        bus.publish(INBOX)
        async with asyncio.timeout(5):
            await hint.wait()


async def test_publish_wakes_a_waiting_subscriber() -> None:
    bus = Bus()
    woken: list[str] = []

    async def wait(hint: Hint) -> None:
        await hint.wait()
        woken.append("yes")

    with bus.subscribe(INBOX) as hint:
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(wait(hint))
            await asyncio.sleep(0)
            assert woken == []
            bus.publish(INBOX)
    assert woken == ["yes"]


async def test_several_publishes_fold_into_one() -> None:
    bus = Bus()
    with bus.subscribe(INBOX) as hint:
        for _ in range(1_000):
            bus.publish(INBOX)
        assert await rings(hint)
        assert not await rings(hint)


async def test_publish_after_a_return_wakes_again() -> None:
    bus = Bus()
    with bus.subscribe(INBOX) as hint:
        for _ in range(3):
            bus.publish(INBOX)
            assert await rings(hint)


async def test_other_inboxes_are_not_heard_but_everything_is_with_none() -> None:
    bus = Bus()
    with bus.subscribe(INBOX) as one, bus.subscribe() as everything, bus.subscribe(INBOX) as same:
        bus.publish(uuid4())
        assert not await rings(one)
        assert await rings(everything)
        bus.publish(INBOX)
        assert await rings(one)
        assert await rings(same)
        assert await rings(everything)


async def test_publish_without_subscribers_leaves_nothing_behind() -> None:
    bus = Bus()
    bus.publish(INBOX)
    with bus.subscribe(INBOX) as hint:
        assert not await rings(hint)


async def test_end_of_subscription_forgets_the_topic_even_after_an_error() -> None:
    bus = Bus()
    with pytest.raises(LookupError), bus.subscribe(INBOX), bus.subscribe():
        raise LookupError
    assert not bus._topics  # pyright: ignore[reportPrivateUsage]


async def test_cancelled_wait_keeps_the_wake_up() -> None:
    bus = Bus()
    with bus.subscribe(INBOX) as hint:
        bus.publish(INBOX)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hint.wait()).cancel()
        assert await rings(hint)


async def test_every_commit_is_seen_by_a_look_wait_loop() -> None:
    """The pattern the waiter uses: subscribe, look, wait, look again. The store is a counter here."""
    bus = Bus()
    committed = 0
    seen = 0

    async def look_until(last: int) -> None:
        nonlocal seen
        with bus.subscribe(INBOX) as hint:
            while (seen := committed) < last:
                await hint.wait()

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(look_until(2_000))
        for count in range(1, 2_001):
            committed = count
            bus.publish(INBOX)
            if count % 7 == 0:
                await asyncio.sleep(0)
    assert seen == 2_000
