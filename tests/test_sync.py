"""A pass over a mailbox: whatever the server says or leaves out, the store ends with its messages, each once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from inboxd import sync
from inboxd.model import Progress, Trigger
from inboxd.store.engine import Store
from servers.mailbox import Bench, Linked, Mailbox, mail, make_bench, sample, serving
from servers.scripted import Conversation
from servers.sessions import LIMITS, session
from servers.stores import blank_sqlite

Fate = Callable[[int, bytes], bytes]
ONCE = 5.0


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return blank_sqlite(tmp_path)


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path)


@asynccontextmanager
async def passing(linked: Linked, trigger: Trigger = Trigger.START) -> AsyncGenerator[sync.Pass]:
    """A pass over the examined INBOX, begun."""
    async with session(linked.account) as opened:
        yield await sync.begin(linked.target, opened, await opened.examine("INBOX"), trigger)


async def catch_up(linked: Linked, **options: Any) -> sync.Pass:
    """One pass in a session of its own."""
    async with passing(linked) as run:
        await sync.catch_up(run, **options)
    return run


# --- arrivals in every gap -------------------------------------------------------------------------------------------


@asynccontextmanager
async def watching(linked: Linked, **imap: Any) -> AsyncGenerator[None]:
    supervisor = linked.supervisor(**imap)
    async with asyncio.TaskGroup() as group:
        living = group.create_task(supervisor.run())
        yield
        living.cancel()
    supervisor.leave()


@pytest.mark.parametrize("gap", ["EXAMINE", "UID SEARCH", "UID FETCH", "IDLE", "DONE"])
async def test_mail_arriving_in_any_gap_is_stored_without_another_push(bench: Bench, gap: str) -> None:
    async def arrive(conversation: Conversation) -> None:
        if mailbox.count(gap) == 1:
            mailbox.put(2)
            await mailbox.announce(conversation)

    async def idle(conversation: Conversation, tag: str) -> None:
        await conversation.send(b"+ idling\r\n")
        if mailbox.count("IDLE") == 1:
            await mailbox.announce(conversation)
        await conversation.expect("DONE")
        mailbox.commands.append("DONE")
        if gap == "DONE":
            await arrive(conversation)
        await conversation.send(f"{tag} OK done\r\n".encode())

    async with serving(1) as (mailbox, port):
        if gap == "DONE":
            mailbox.answers["IDLE"] = idle
        else:
            mailbox.hooks[gap] = arrive
        linked = await bench.link(port)
        async with watching(linked):
            await linked.until_stored(1, 2)


async def test_mail_put_after_the_search_and_announced_before_the_fetch_ends_is_stored(bench: Bench) -> None:
    async def answer(conversation: Conversation, tag: str) -> None:
        del mailbox.answers["UID FETCH"]
        mailbox.put(2, 3)
        await mailbox.announce(conversation)
        await conversation.send(mailbox.response(1, mail(1)), f"{tag} OK done\r\n".encode())

    async with serving(1) as (mailbox, port):
        mailbox.answers["UID FETCH"] = answer
        linked = await bench.link(port)
        async with watching(linked):
            await linked.until_stored(1, 2, 3)


# --- strange answers -------------------------------------------------------------------------------------------------


async def answered(bench: Bench, order: Callable[[Mailbox], bytes], push: bool) -> tuple[Linked, sync.Pass]:
    """Five mails, their first FETCH answered so; a pass over them, and what it left."""

    async def answer(conversation: Conversation, tag: str) -> None:
        del mailbox.answers["UID FETCH"]
        await conversation.send(order(mailbox), f"{tag} OK done\r\n".encode())

    async with serving(1, 2, 3, 4, 5) as (mailbox, port):
        mailbox.answers["UID FETCH"] = answer
        linked = await bench.link(port)
        async with passing(linked, Trigger.PUSH if push else Trigger.START) as run:
            await (sync.take_pushed(run) if push else sync.catch_up(run))
            await sync.catch_up(again := run.again(Trigger.POLL, None))
            run.note_stored(again.stored, again.ids)
    return linked, run


def _all(mailbox: Mailbox, *uids: int) -> bytes:
    return b"".join(mailbox.response(uid, mailbox.held[uid]) for uid in uids or sorted(mailbox.held))


STRANGE: dict[str, Callable[[Mailbox], bytes]] = {
    "backwards": lambda box: _all(box, 5, 4, 3, 2, 1),
    "twice": lambda box: _all(box, 1, 1, 2, 3, 3, 4, 5, 1),
    "without a UID": lambda box: _all(box, 1, 2, 4, 5) + _all(box, 3).replace(b"UID 3 ", b""),
    "of other UIDs": lambda box: _all(box) + _all(box, 5).replace(b"UID 5 ", b"UID 0 "),
    "with NIL": lambda box: _all(box, 1, 2, 4, 5) + b"* 3 FETCH (UID 3 BODY[] NIL)\r\n",
    "with flags between": lambda box: _all(box, 1, 2) + b"* 1 FETCH (UID 9 FLAGS (\\Seen))\r\n" + _all(box, 3, 4, 5),
    "missing one": lambda box: _all(box, 1, 2, 4, 5),
    "missing the last": lambda box: _all(box, 1, 2, 3, 4),
    "empty": lambda _box: b"",
}


@pytest.mark.parametrize("push", [False, True], ids=["looked for", "pushed"])
@pytest.mark.parametrize("order", STRANGE)
async def test_strange_fetch_answers_lose_and_double_nothing(bench: Bench, order: str, push: bool) -> None:
    linked, run = await answered(bench, STRANGE[order], push)
    assert await linked.stored() == {uid: mail(uid) for uid in range(1, 6)}
    assert len(run.ids) == 5
    assert await linked.cursor() == 5


async def test_uid_that_was_not_asked_for_is_not_stored(bench: Bench) -> None:
    async with serving(1, 2, 3) as (mailbox, port):
        linked = await bench.link(port)
        mailbox.hand_over = lambda uid, raw: mailbox.response(uid, raw).replace(b"UID 2 ", b"UID 77 ")
        await catch_up(linked)
        assert (await linked.stored()).keys() == {1, 3}
        assert await linked.cursor() == 0


def withholding(mailbox: Mailbox, *uids: int) -> Fate:
    return lambda uid, raw: b"* 1 FETCH (UID %d BODY[] NIL)\r\n" % uid if uid in uids else mailbox.response(uid, raw)


@pytest.mark.parametrize("push", [False, True], ids=["looked for", "pushed"])
async def test_message_not_handed_over_stays_a_hole_until_it_is(bench: Bench, push: bool) -> None:
    async with serving(1, 2, 3, 4) as (mailbox, port):
        linked = await bench.link(port)
        mailbox.hand_over = withholding(mailbox, 2)
        async with passing(linked, Trigger.PUSH) as run:
            await (sync.take_pushed(run) if push else sync.catch_up(run))
            assert (await linked.stored()).keys() == {1, 3, 4}
            assert (await linked.cursor() or 0) < 2
            mailbox.hand_over = None
            mailbox.put(5)
            again = run.again(Trigger.PUSH, None)
            await (sync.take_pushed(again) if push else sync.catch_up(again))
        assert (await linked.stored()).keys() == {1, 2, 3, 4, 5}
        assert await linked.cursor() == 5
        assert len(again.ids) == 2


async def test_pushes_behind_a_hole_do_not_fetch_everything_again(bench: Bench) -> None:
    async with serving(*range(1, 51)) as (mailbox, port):
        linked = await bench.link(port)
        handed: list[int] = []
        refuse = withholding(mailbox, 2)

        def hand_over(uid: int, raw: bytes) -> bytes:
            handed.append(uid)
            return refuse(uid, raw)

        mailbox.hand_over = hand_over
        async with passing(linked) as run:
            await sync.catch_up(run)
            handed.clear()
            mailbox.put(51)
            await sync.take_pushed(run.again(Trigger.PUSH, None))
        assert set(handed) == {2, 51}
        assert 51 in await linked.stored()


async def test_hole_that_is_expunged_is_not_waited_for(bench: Bench) -> None:
    async with serving(1, 2, 3) as (mailbox, port):
        linked = await bench.link(port)
        mailbox.hand_over = withholding(mailbox, 2)
        await catch_up(linked)
        del mailbox.held[2]
        await catch_up(linked)
        assert await linked.cursor() == 3


async def test_star_that_names_an_old_message_stores_nothing(bench: Bench) -> None:
    async with serving(1, 2, 3) as (_, port):
        linked = await bench.link(port)
        async with passing(linked) as run:
            await sync.catch_up(run)
            again = run.again(Trigger.PUSH, None)
            await sync.take_pushed(again)
            assert again.ids == []
            assert await linked.cursor() == 3


async def test_message_over_the_limit_is_kept_as_its_header_and_tried_again_until_it_is_handed_over(
    bench: Bench,
) -> None:
    limits = LIMITS.model_copy(update={"max_message_bytes": 1000})
    async with serving(1, 2, 3) as (mailbox, port):
        linked = await bench.link(port)
        mailbox.held[2] = mail(2, 2 << 20)
        refused = True

        async def no_header(conversation: Conversation, tag: str) -> None:
            if refused and mailbox.count("UID FETCH") % 2 == 0:
                await conversation.send(f"{tag} NO not now\r\n".encode())
            else:
                await mailbox.answer(
                    conversation, tag, "UID FETCH", conversation.received[-1].decode().split(" ", 3)[3]
                )

        mailbox.answers["UID FETCH"] = no_header
        async with session(linked.account, limits) as opened:
            run = await sync.begin(linked.target, opened, await opened.examine("INBOX"), Trigger.START)
            await sync.catch_up(run)
            assert (await linked.stored()).keys() == {1, 3}
            assert (await linked.cursor() or 0) < 2
            refused = False
            await sync.catch_up(run.again(Trigger.POLL, None))
        stored = await linked.stored()
        assert stored[2] == mail(2).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        assert await linked.cursor() == 3


# --- incarnations ----------------------------------------------------------------------------------------------------


async def test_mailbox_without_uidvalidity_and_uidnext_is_read(bench: Bench) -> None:
    async with serving(1, 2, uidvalidity=None) as (mailbox, port):
        linked = await bench.link(port)
        await catch_up(linked)
        mailbox.put(3)
        assert len((await catch_up(linked)).ids) == 1
        assert (await linked.stored()).keys() == {1, 2, 3}


async def test_uidvalidity_changing_back_and_forth_neither_doubles_nor_loses(bench: Bench) -> None:
    async with serving(1, 2, 3) as (mailbox, port):
        linked = await bench.link(port)
        before = sample("inboxd_uidvalidity_resets_total")
        for number, uidvalidity in enumerate((1, 7, 1, None, 7, 2, 1)):
            mailbox.uidvalidity = uidvalidity
            mailbox.put(10 + number)
            assert len((await catch_up(linked)).ids) == (4 if number == 0 else 1)
            assert await linked.stored() == mailbox.held
        assert sample("inboxd_uidvalidity_resets_total") == before + 6


async def test_renumbering_in_the_middle_of_a_pass_is_made_good(bench: Bench) -> None:
    async with serving(*range(1, 11)) as (mailbox, port):
        linked = await bench.link(port)
        mailbox.hand_over = withholding(mailbox, *range(6, 11))
        await catch_up(linked)
        mailbox.uidvalidity = 2
        mailbox.held = {uid + 100: mail(uid) for uid in range(1, 11)}
        mailbox.hand_over = withholding(mailbox, *range(101, 104))
        await catch_up(linked)
        mailbox.hand_over = None
        await catch_up(linked)
        assert await linked.stored() == mailbox.held


# --- search and since ------------------------------------------------------------------------------------------------


async def test_since_and_terms_go_to_the_server_and_since_leaves_the_cursor(bench: Bench) -> None:
    asked: list[str] = []

    async def search(conversation: Conversation, tag: str) -> None:
        asked.append(conversation.received[-1].decode().split(" ", 1)[1])
        await conversation.send(b"* SEARCH 2\r\n", f"{tag} OK\r\n".encode())

    async with serving(1, 2, 3) as (mailbox, port):
        linked = await bench.link(port)
        mailbox.answers["UID SEARCH"] = search
        await catch_up(linked, terms="UNSEEN", since=datetime(2026, 5, 5, tzinfo=UTC))
        assert asked == ["UID SEARCH UID 1:* SINCE 4-May-2026 (UNSEEN)"]
        assert (await linked.cursor(), set(await linked.stored())) == (0, {2})
        await catch_up(linked, terms="UNSEEN")
        assert (await linked.cursor(), set(await linked.stored())) == (2, {2})


async def test_report_never_shows_more_done_than_planned(bench: Bench) -> None:
    seen: list[Progress] = []
    async with serving(*range(1, 1201)) as (mailbox, port), asyncio.timeout(30):
        linked = await bench.link(port)
        async with session(linked.account) as opened:
            examined = await opened.examine("INBOX")
            run = await sync.begin(linked.target, opened, examined, Trigger.START, report=seen.append)
            await sync.catch_up(run)
    assert (seen[-1].done, seen[-1].total) == (1200, 1200)
    assert seen[-1].received_bytes == sum(map(len, mailbox.held.values()))
    assert all(a.done < b.done <= b.total for a, b in itertools.pairwise(seen))
