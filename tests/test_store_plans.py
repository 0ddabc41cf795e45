"""Lists are counted and paged out of an index alone, on both databases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.mails import Digest
from inboxd.model import InboxId, MessageFilter, Window, utc_now
from inboxd.store import messages, tallies
from inboxd.store.engine import Store
from servers.stores import Linked, make_incoming

Asked = list[tuple[str, Any]]


@contextmanager
def listening() -> Generator[Asked]:
    """The queries that are sent meanwhile, with their values."""
    asked: Asked = []

    def note(_c: object, _cursor: object, statement: str, values: Any, _context: object, _many: bool) -> None:
        if statement.startswith(("SELECT", "WITH")):
            asked.append((statement, values))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


# With few rows PostgreSQL reads them all; so it is kept from what it would not do with many.
LISTING = ("seqscan", "bitmapscan", "sort")
SEARCHING = ("seqscan", "indexscan", "nestloop")


async def plan(store: Store, statement: str, values: Any, without: tuple[str, ...]) -> str:
    """How the database goes about a query."""

    async def explain(connection: AsyncConnection) -> str:
        if connection.dialect.name == "sqlite":
            rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            return "\n".join(rows.scalars("detail"))
        for way in without:
            await connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
        return "\n".join((await connection.exec_driver_sql(f"EXPLAIN {statement}", values)).scalars())

    return await store.read(explain)


async def plans(store: Store, work: Callable[[], Awaitable[object]], without: tuple[str, ...] = LISTING) -> list[str]:
    """How the queries of `work` are gone about."""
    with listening() as asked:
        await work()
    return [await plan(store, statement, values, without) for statement, values in asked]


FILTERS: dict[str, Callable[[InboxId], tuple[MessageFilter, Window]]] = {
    "an inbox": lambda inbox: (MessageFilter((inbox,)), Window()),
    "newest first": lambda inbox: (MessageFilter((inbox,)), Window(ascending=False)),
    "its second half": lambda inbox: (MessageFilter((inbox,)), Window(page=1, size=2)),
    "its unread": lambda inbox: (MessageFilter((inbox,), unread_only=True), Window()),
    "its favourites": lambda inbox: (MessageFilter((inbox,), favourite_only=True), Window()),
    "a span of it": lambda inbox: (MessageFilter((inbox,)), Window(before=utc_now())),
    "all": lambda _inbox: (MessageFilter(), Window()),
    "all unread": lambda _inbox: (MessageFilter(unread_only=True), Window(ascending=False)),
}


@pytest.mark.parametrize("name", FILTERS)
async def test_count_and_page_come_from_the_index(store: Store, linked: Linked, name: str) -> None:
    batch = [make_incoming(uid) for uid in range(1, 4)]
    await messages.add_batch(store, linked.place, linked.inbox.id, batch)
    chosen, window = FILTERS[name](linked.inbox.id)
    counted, paged = (await plans(store, lambda: messages.page(store, chosen, window)))[:2]
    index = "ix_messages_of_inbox" if chosen.inbox_ids else "ix_messages_of_all"
    for way in (counted, paged):
        assert ("COVERING INDEX" in way) or ("Index Only Scan" in way), way
    assert index in paged
    assert "TEMP B-TREE" not in paged
    assert "Sort" not in paged


async def test_mails_of_the_last_hours_are_counted_within_them_alone(store: Store, linked: Linked) -> None:
    await messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(uid) for uid in range(1, 4)])
    (way,) = await plans(store, lambda: tallies.by_hour(store, utc_now(), 24))
    if "SEARCH" in way:
        assert (
            "messages USING COVERING INDEX ix_messages_of_inbox (inbox_id=? AND created_at>? AND created_at<?)" in way
        )
    else:
        assert "Index Only Scan using ix_messages_of" in way
        assert "Index Cond: " in way


async def test_the_nth_comes_from_the_index(store: Store, linked: Linked) -> None:
    chosen = MessageFilter((linked.inbox.id,), unread_only=True)
    (way,) = await plans(store, lambda: messages.nth(store, chosen, Window(ascending=False), 0))
    assert "ix_messages_of_inbox" in way
    assert "TEMP B-TREE" not in way
    assert "Sort" not in way


async def test_search_begins_in_its_index(store: Store, linked: Linked) -> None:
    batch = [make_incoming(uid, None, Digest(words="a needle")) for uid in range(1, 4)]
    await messages.add_batch(store, linked.place, linked.inbox.id, batch)
    chosen = MessageFilter((linked.inbox.id,), search="needle")
    ways = await plans(store, lambda: messages.count(store, chosen), SEARCHING)
    assert "search_index" in ways[0]
    if "SCAN" in ways[0]:
        assert [line.split()[:2] for line in ways[0].splitlines()] == [["SCAN", "search_index"], ["SEARCH", "messages"]]
