"""Search by substring, with the index at any distance behind the mails."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from inboxd.mails import Address, Digest
from inboxd.model import MessageFilter, MessageId, Window
from inboxd.store import messages, searching
from inboxd.store.engine import Store, open_store
from servers.postgres import PostgresServer
from servers.stores import Linked, link, make_incoming

ALL = Window(size=1000)
ALPHABET = "abAB%_\"*'^-/\\ßé日\N{PARTY POPPER} \n"


@pytest_asyncio.fixture
async def local(tmp_path: Path) -> AsyncGenerator[Store]:
    """A store on SQLite."""
    async with open_store(f"sqlite:///{tmp_path / 'inboxd.db'}") as opened:
        yield opened


def saying(words: str, subject: str | None = None) -> Digest:
    return Digest(subject=subject, sender=Address("x", "ann@example.com", "Ann"), words=words)


async def put(store: Store, linked: Linked, *texts: str, first: int = 1) -> list[MessageId]:
    """Store mails with these bodies."""
    batch = [make_incoming(uid, b"%d" % uid, saying(words)) for uid, words in enumerate(texts, first)]
    outcome = await messages.add_batch(store, linked.place, linked.inbox.id, batch)
    return [stored.id for stored in outcome.stored]


async def uids(store: Store, search: str, window: Window = ALL, **more: object) -> list[int | None]:
    """The UIDs of what a search finds, whose total must agree with it and with `count`."""
    chosen = MessageFilter(search=search, **more)  # type: ignore[arg-type]
    page = await messages.page(store, chosen, window)
    if window is ALL:
        assert page.total == len(page.rows)
    assert page.total == await messages.count(store, chosen)
    return [one.uid for one in page.rows]


async def catch_up(store: Store) -> int:
    """Follow to the end; in how many steps."""
    steps = 0
    while await searching.is_deferred(store) and await searching.follow(store):
        steps += 1
    return steps


async def scalar(store: Store, query: str) -> int:
    async def look(connection: AsyncConnection) -> int:
        return int((await connection.execute(text(query))).scalar_one())

    return await store.read(look)


async def check_index(store: Store) -> None:
    """FTS5 raises when the index does not agree with itself."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("INSERT INTO search_index (search_index) VALUES ('integrity-check')"))

    await store.write(work)


async def test_search_looks_into_the_text_of_the_mail(store: Store, linked: Linked) -> None:
    await put(store, linked, "Your order 4711 has SHIPPED today", "nothing of the kind")
    for _ in range(2):
        assert await uids(store, "shipped TODAY") == [1]
        assert await uids(store, "r 471") == [1]
        assert await uids(store, "ann@example.com") == [1, 2]
        assert await uids(store, "shipped yesterday") == []
        await catch_up(store)


@pytest.mark.parametrize("indexed", [False, True], ids=["scanned", "indexed"])
async def test_search_finds_what_python_finds(store: Store, linked: Linked, indexed: bool) -> None:
    rng = random.Random(4)
    texts = ["".join(rng.choices(ALPHABET, k=rng.randint(0, 60))) for _ in range(150)]
    await put(store, linked, *texts)
    if indexed:
        await catch_up(store)
    held = await held_texts(store)
    for _ in range(150):
        source = rng.choice(held)
        start = rng.randrange(len(source))
        wanted = source[start : start + rng.choice((1, 2, 3, 4, 5, 9, 40))].upper()
        expected = [uid for uid, words in enumerate(held, 1) if wanted.casefold() in words]
        assert await uids(store, wanted) == expected


async def held_texts(store: Store) -> list[str]:
    """What is looked through, oldest first."""

    async def look(connection: AsyncConnection) -> list[str]:
        return list((await connection.execute(text("SELECT text FROM searched ORDER BY seq"))).scalars())

    return await store.read(look)


async def test_operators_of_the_index_are_plain_text(store: Store, linked: Linked) -> None:
    texts = ["alpha beta", 'alpha" OR "beta', "NOT alpha", "alph*", "text:alpha", "alpha NEAR beta", "^alpha", "al%ha"]
    await put(store, linked, *texts)
    await catch_up(store)
    for uid, words in enumerate(texts, 1):
        assert await uids(store, words) == [uid]
    assert await uids(store, "alpha AND beta") == []
    assert await uids(store, '"') == [2]
    assert await uids(store, '"""') == []


async def test_words_longer_than_the_index_is_asked_for_are_compared_to_the_end(store: Store, linked: Linked) -> None:
    long = "0123456789" * 20
    await put(store, linked, long + "a", long + "b")
    await catch_up(store)
    assert await uids(store, long) == [1, 2]
    assert await uids(store, long + "B") == [2]
    assert await uids(store, long * 400) == []


async def test_search_is_complete_while_the_index_is_being_made(local: Store) -> None:
    linked = await link(local)
    await put(local, linked, *(f"needle {number} {'hay ' * 500}" for number in range(60)))
    everything = list(range(1, 61))
    steps = 0
    while True:
        assert await uids(local, "needle") == everything
        assert await uids(local, "needle 59 ") == [60]
        if not await searching.follow(local):
            break
        steps += 1
    assert steps > 3
    await put(local, linked, "needle again", first=61)
    assert await uids(local, "needle") == [*everything, 61]
    await check_index(local)


async def test_removed_mails_leave_the_index(local: Store) -> None:
    linked = await link(local)
    ids = await put(local, linked, "one needle", "two needles", "three needles")
    await catch_up(local)
    (above,) = await put(local, linked, "four needles", first=4)
    for gone in (ids[0], above):
        await messages.remove(local, gone)
    assert await uids(local, "needle") == [2, 3]
    assert await scalar(local, "SELECT count(*) FROM search_index WHERE search_index MATCH '\"needle\"'") == 3
    await catch_up(local)
    assert await scalar(local, "SELECT count(*) FROM search_index WHERE search_index MATCH '\"needle\"'") == 2
    assert await scalar(local, "SELECT count(*) FROM search_removed") == 0
    assert await uids(local, "needle") == [2, 3]
    await check_index(local)


async def test_many_mails_removed_at_once_leave_the_index_in_steps(local: Store) -> None:
    linked = await link(local)
    await put(local, linked, *(f"needle {'hay ' * 500}" for _ in range(60)))
    kept = await link(local, "kept")
    await put(local, kept, "needle")
    await catch_up(local)

    async def empty(connection: AsyncConnection) -> None:
        await connection.execute(text("DELETE FROM messages WHERE uid > 1 OR seq = 1"))

    await local.write(empty)
    assert await uids(local, "needle") == [1]
    assert await catch_up(local) > 3
    assert await uids(local, "needle") == [1]
    assert await scalar(local, "SELECT count(*) FROM search_index WHERE search_index MATCH '\"needle\"'") == 1


async def test_pages_of_a_search_neither_repeat_nor_miss(store: Store, linked: Linked) -> None:
    await put(store, linked, *("common rare" if number % 10 == 0 else "common" for number in range(50)))
    await catch_up(store)
    for words, expected in (
        ("common", list(range(1, 51))),
        ("rare", list(range(1, 51, 10))),
        ("om", list(range(1, 51))),
    ):
        for ascending in (True, False):
            seen: list[int | None] = []
            for number in range(len(expected) // 4 + 2):
                seen += await uids(store, words, Window(page=number, size=4, ascending=ascending))
            assert seen == (expected if ascending else expected[::-1])


async def test_a_search_that_is_not_counted_to_its_end_has_the_same_pages(store: Store, linked: Linked) -> None:
    await put(store, linked, *("common rare" if number % 10 == 0 else "common" for number in range(100)))
    await catch_up(store)
    for words, ascending in (("common", True), ("common", False), ("rare", False)):
        for number in range(6):
            window, chosen = Window(page=number, size=4, ascending=ascending), MessageFilter(search=words)
            cut = await messages.page(store, chosen, window, count_to=(number + 1) * 4 + 1)
            whole = await messages.page(store, chosen, window)
            assert cut.rows == whole.rows
            assert cut.total >= min(whole.total, (number + 1) * 4 + 2)
            assert cut.total == whole.total or cut.total > (number + 1) * 4 + 1


async def test_search_goes_with_the_other_filters(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    ids = await put(store, linked, "needle", "needle", "hay")
    await put(store, other, "needle")
    await messages.mark_read(store, ids[0], read=True)
    await catch_up(store)
    assert await uids(store, "needle", inbox_ids=(linked.inbox.id,)) == [1, 2]
    assert await uids(store, "needle", inbox_ids=(linked.inbox.id,), unread_only=True) == [2]
    assert await uids(store, "needle", favourite_only=True) == []
    assert await uids(store, "needle", inbox_ids=(other.inbox.id, linked.inbox.id)) == [1, 2, 1]
    moment = (await messages.get(store, ids[1])).created_at
    page = await messages.page(store, MessageFilter(search="needle"), Window(since=moment + timedelta(microseconds=1)))
    assert (page.total, [one.inbox_id for one in page.rows]) == (1, [other.inbox.id])
    found = await messages.nth(store, MessageFilter(search="needle"), Window(ascending=False), 2)
    assert found is not None
    assert found.id == ids[0]


async def test_postgresql_without_the_extension_searches_all_the_same(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    for statement in (
        "DROP ROLE IF EXISTS plain",
        "CREATE ROLE plain LOGIN",
        "GRANT CREATE ON SCHEMA public TO plain",
    ):
        postgres_server.run("psql", url, "--command", statement)
    with capture_logs() as logged:
        async with open_store(url.replace("//inboxd@", "//plain@")) as store:
            await put(store, await link(store), "a needle", "hay")
            assert await uids(store, "NEEDLE") == [1]
    assert [one["event"] for one in logged] == ["search_without_index"]
