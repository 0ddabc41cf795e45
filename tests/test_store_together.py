"""Events of a crowd of connectors that fail at one moment: few transactions, and every event kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inboxd.model import Window
from inboxd.store import connectors, events
from inboxd.store.engine import Store
from servers.stores import Linked, link, make_event

ALL = Window(size=1000)


@pytest.fixture
def written(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the store has been asked to write."""
    asked: list[Any] = []
    write = Store.write

    async def note(self: Store, work: Any) -> Any:
        asked.append(work)
        return await write(self, work)

    monkeypatch.setattr(Store, "write", note)
    return asked


async def test_events_of_a_crowd_are_kept_in_few_transactions(store: Store, linked: Linked, written: list[Any]) -> None:
    made = [make_event(linked.connector.id, minutes=number) for number in range(200)]
    async with asyncio.TaskGroup() as group:
        for event in made:
            group.create_task(events.add_soon(store, event))
    assert [row.id for row in (await events.page(store, ALL)).rows] == [event.id for event in made]
    assert len(written) <= 3
    await events.add_soon(store, make_event(linked.connector.id))
    assert (await events.page(store, ALL)).total == 201


async def test_event_of_a_removed_connector_takes_no_other_with_it(store: Store, linked: Linked) -> None:
    gone = await link(store, "gone")
    await connectors.remove(store, gone.connector.id)
    mine = make_event(linked.connector.id)
    async with asyncio.TaskGroup() as group:
        for event in (make_event(gone.connector.id), mine, make_event(gone.connector.id)):
            group.create_task(events.add_soon(store, event))
    assert [row.id for row in (await events.page(store, ALL)).rows] == [mine.id]


@pytest.mark.parametrize("turns", range(6))
async def test_who_is_cancelled_takes_no_others_event_with_it(store: Store, linked: Linked, turns: int) -> None:
    made = [make_event(linked.connector.id, minutes=number) for number in range(10)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(events.add_soon(store, event)) for event in made]
        for _ in range(turns):
            await asyncio.sleep(0)
        tasks[0].cancel()
    kept = [row.id for row in (await events.page(store, ALL)).rows]
    assert [one for one in kept if one != made[0].id] == [event.id for event in made[1:]]
