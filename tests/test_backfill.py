"""The first load of a mailbox: newest first, resumed at the message, behind new mail, and seen while it goes on."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import pytest_asyncio

from inboxd import direct, sync
from inboxd.errors import MailServerError, SessionSpent
from inboxd.imap.stream import Stream
from inboxd.mails import Cursor, Loaded
from inboxd.model import MessageFilter, Progress, State, Trigger, Window
from inboxd.pace import Pace
from inboxd.store import cursors, events, messages
from inboxd.store.engine import Store
from servers.dovecot import Dovecot
from servers.mailbox import Bench, Linked, Mailbox, mail, make_bench, sample, serving
from servers.scripted import Conversation
from servers.sessions import account, eventually, session
from servers.stores import blank_postgresql, blank_sqlite


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if getattr(request, "param", "sqlite") == "postgresql":
        return blank_postgresql(request.getfixturevalue("postgres_server"))
    return blank_sqlite(tmp_path)


on_both = pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "WINDOW_COUNT", 10)


async def catch_up(linked: Linked, seen: list[Progress] | None = None) -> sync.Pass:
    """One pass in a session of its own."""
    report = seen.append if seen is not None else None
    async with session(linked.account) as opened:
        run = await sync.begin(linked.target, opened, await opened.examine("INBOX"), Trigger.START, report=report)
        await sync.catch_up(run)
    return run


async def marks(linked: Linked) -> tuple[int, int | None]:
    """The cursor, and below which UID the load is still to go on."""
    found = await messages.cursor(linked.bench.store, linked.connector.id, "INBOX")
    assert found is not None
    return found.last_uid, found.backfill_below


def handing(mailbox: Mailbox) -> list[int]:
    """The UIDs in the order in which they are handed over from now on."""
    handed: list[int] = []

    def hand_over(uid: int, raw: bytes) -> bytes:
        handed.append(uid)
        return mailbox.response(uid, raw)

    mailbox.hand_over = hand_over
    return handed


def cutting(mailbox: Mailbox, at_fetch: int) -> None:
    """The server ends the connection instead of answering this FETCH."""

    async def cut(conversation: Conversation) -> None:
        if mailbox.count("UID FETCH") == at_fetch:
            conversation.reset()

    mailbox.hooks["UID FETCH"] = cut


# --- newest first ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_windows")
async def test_the_newest_mails_come_first_and_are_listed_in_the_mailboxs_order_all_the_same(bench: Bench) -> None:
    async with serving(*range(1, 36)) as (mailbox, port):
        linked = await bench.link(port)
        handed = handing(mailbox)
        await catch_up(linked)
        assert handed == [*range(26, 36), *range(16, 26), *range(6, 16), *range(1, 6)]
        mailbox.put(36)
        await catch_up(linked)
        page = await messages.page(bench.store, MessageFilter((linked.connector.inbox_id,)), Window(size=100))
        assert [row.uid for row in page.rows] == list(range(1, 37))
        assert await marks(linked) == (36, None)


async def test_windows_grow_with_what_a_second_brings(bench: Bench) -> None:
    async with serving(*range(1, 1001)) as (mailbox, port):
        linked = await bench.link(port)
        await catch_up(linked)
        assert await linked.stored() == mailbox.held
        assert 3 <= mailbox.count("UID FETCH") <= 10


@pytest.mark.usefixtures("small_windows")
async def test_a_session_that_is_to_end_ends_between_two_windows_and_the_next_goes_on(bench: Bench) -> None:
    async with serving(*range(1, 36)) as (mailbox, port):
        linked = await bench.link(port)
        handed = handing(mailbox)
        async with session(linked.account) as opened:
            run = await sync.begin(linked.target, opened, await opened.examine("INBOX"), Trigger.START)
            opened.ends_at = asyncio.get_running_loop().time()
            with pytest.raises(SessionSpent):
                await sync.catch_up(run)
        assert handed == [*range(26, 36)]
        assert await marks(linked) == (35, 26)
        await catch_up(linked)
        assert await linked.stored() == mailbox.held
        assert sorted(handed) == sorted(mailbox.held)


# --- resumed ---------------------------------------------------------------------------------------------------------


@on_both
@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("at_fetch", [1, 2, 3, 4])
async def test_a_load_cut_off_goes_on_below_what_is_stored_and_new_mail_comes_first(
    bench: Bench, at_fetch: int
) -> None:
    async with serving(*range(1, 36)) as (mailbox, port):
        linked = await bench.link(port)
        cutting(mailbox, at_fetch)
        with pytest.raises(MailServerError):
            await catch_up(linked)
        taken = 10 * (at_fetch - 1)
        assert (await linked.stored()).keys() == set(range(36 - taken, 36))
        assert await marks(linked) == (35, 36 - taken)
        mailbox.put(36, 37)
        handed, seen = handing(mailbox), list[Progress]()
        await catch_up(linked, seen)
        assert handed[:2] == [36, 37]
        assert sorted(handed) == [*range(1, 36 - taken), 36, 37]
        assert await linked.stored() == mailbox.held
        assert await marks(linked) == (37, None)
        assert (seen[-1].done, seen[-1].total, seen[-1].backfill) == (37, 37, True)


async def test_a_load_cut_off_within_a_window_fetches_nothing_twice(bench: Bench) -> None:
    async def half(conversation: Conversation, _tag: str) -> None:
        await conversation.send(b"".join(mailbox.response(uid, mailbox.held[uid]) for uid in range(1, 31)))
        conversation.reset()

    async with serving(*range(1, 61)) as (mailbox, port):
        linked = await bench.link(port)
        mailbox.answers["UID FETCH"] = half
        with pytest.raises(MailServerError):
            await catch_up(linked)
        stored = set(await linked.stored())
        del mailbox.answers["UID FETCH"]
        handed = handing(mailbox)
        await catch_up(linked)
        assert set(handed) == set(range(1, 61)) - stored
        assert len(handed) == 60 - len(stored)
        assert await linked.stored() == mailbox.held


@pytest.mark.usefixtures("small_windows")
async def test_a_hole_keeps_the_mark_above_it_and_is_tried_again(bench: Bench) -> None:
    async with serving(*range(1, 36)) as (mailbox, port):
        linked = await bench.link(port)
        refused = {22}
        mailbox.hand_over = lambda uid, raw: (
            b"* 1 FETCH (UID %d BODY[] NIL)\r\n" % uid if uid in refused else mailbox.response(uid, raw)
        )
        async with session(linked.account) as opened:
            run = await sync.begin(linked.target, opened, await opened.examine("INBOX"), Trigger.START)
            await sync.catch_up(run)
            assert (await linked.stored()).keys() == set(mailbox.held) - refused
            assert await marks(linked) == (35, 26)
            assert run.backfill_remaining == 1
            refused.clear()
            await sync.take_pushed(again := run.again(Trigger.PUSH, None))
            assert (len(again.ids), again.backfill_remaining) == (1, 0)
        assert await marks(linked) == (35, None)


@pytest.mark.usefixtures("small_windows")
async def test_a_mailbox_renumbered_in_the_middle_of_its_load_is_loaded_anew(bench: Bench) -> None:
    async with serving(*range(1, 36)) as (mailbox, port):
        linked = await bench.link(port)
        cutting(mailbox, 3)
        with pytest.raises(MailServerError):
            await catch_up(linked)
        mailbox.uidvalidity = 2
        mailbox.held = {uid + 100: raw for uid, raw in mailbox.held.items()}
        assert len((await catch_up(linked)).ids) == 15
        assert await linked.stored() == mailbox.held
        assert await marks(linked) == (135, None)


# --- the marks -------------------------------------------------------------------------------------------------------


@on_both
async def test_the_mark_goes_down_only_where_it_joins_what_was_considered(bench: Bench) -> None:
    async with serving() as (_, port):
        linked = await bench.link(port)
    store, place = bench.store, sync.Place(linked.connector.id, "INBOX", 1)

    async def lower(first: int, end: int) -> int | None:
        await messages.add_ready(store, place, linked.connector.inbox_id, [], loaded=Loaded(first, end))
        return (await marks(linked))[1]

    assert (await cursors.begin(store, place)).last_uid == 0
    begun = await cursors.begin(store, place, 100)
    assert (begun.last_uid, begun.backfill_below) == (100, 101)
    assert await cursors.begin(store, place, 200) == begun
    assert await lower(90, 96) == 101  # 96 to 100 are another's, and may be missing
    assert await lower(90, 101) == 90
    assert await lower(95, 101) == 90
    assert await lower(0, 90) is None
    assert await lower(50, 101) is None
    await messages.add_ready(store, place, linked.connector.inbox_id, [], cursor=Cursor(1, 120, 50))
    assert await marks(linked) == (120, None)
    await messages.add_ready(store, place, linked.connector.inbox_id, [], cursor=Cursor(2, 7, 5))
    assert await marks(linked) == (7, 5)
    assert await messages.rewind(store, linked.connector.id)
    assert await marks(linked) == (0, None)


# --- new mail --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_windows")
async def test_mail_that_arrives_during_a_load_is_stored_before_the_load_goes_on(bench: Bench) -> None:
    async def arrive(conversation: Conversation) -> None:
        if mailbox.count("UID FETCH") == 2:
            mailbox.put(101)
            await mailbox.announce(conversation)

    async with serving(*range(1, 101)) as (mailbox, port):
        mailbox.hooks["UID FETCH"] = arrive
        handed = handing(mailbox)
        linked = await bench.link(port)
        pushes = sample("inboxd_push_to_stored_seconds_count")
        supervisor = linked.supervisor()
        async with asyncio.TaskGroup() as group:
            living = group.create_task(supervisor.run())
            await eventually(lambda: supervisor.status.state is State.IDLE and mailbox.idlers, 20)
            living.cancel()
        supervisor.leave()
        assert handed.index(101) == 20
        assert await linked.stored() == mailbox.held
        assert await marks(linked) == (101, None)
        assert sample("inboxd_push_to_stored_seconds_count") == pushes + 1
        kept = (await events.page(bench.store, Window(), connector_id=linked.connector.id)).rows
        assert sorted(event.size for event in kept) == [1, 100]


@pytest.mark.usefixtures("small_windows")
async def test_a_sync_asked_for_counts_what_arrives_during_its_load(bench: Bench) -> None:
    met: list[float] = []

    async def arrive(conversation: Conversation) -> None:
        met.append(time.monotonic())
        if mailbox.count("UID FETCH") in (2, 5):
            mailbox.put(max(mailbox.held) + 1)
            await mailbox.announce(conversation)

    async with serving(*range(1, 101)) as (mailbox, port):
        mailbox.hooks["UID FETCH"] = arrive
        linked = await bench.link(port)
        began = time.monotonic()
        report = await direct.sync_now(bench.services, linked.connector.id, since=None, mailbox=None)
        took = time.monotonic() - began
        assert (report.error, len(report.stored)) == (None, 102)
        (event,) = (await events.page(bench.store, Window(), connector_id=linked.connector.id)).rows
        assert event.size == 102
        assert event.duration is not None
        assert met[-1] - met[0] <= event.duration.total_seconds() <= took


@pytest.mark.usefixtures("small_windows")
async def test_mail_delivered_to_a_real_server_during_a_load_does_not_wait_for_its_end(
    bench: Bench, dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = dovecot.user()
    dovecot.bulk_load(user, [mail(number) for number in range(200)])
    linked = await bench.link(dovecot.starttls.port)
    windows = 0

    async with session(account(dovecot.starttls, user)) as opened:
        fetch = opened.fetch

        def deliver(uids: str) -> AbstractContextManager[Stream]:
            nonlocal windows
            windows += 1
            if windows == 2:
                dovecot.append(user, mail(1000))
            return fetch(uids)

        monkeypatch.setattr(opened, "fetch", deliver)
        run = await sync.begin(linked.target, opened, await opened.examine("INBOX"), Trigger.START)
        await sync.catch_up(run)
    order = [(await messages.get(linked.bench.store, key)).uid or 0 for key in run.ids]
    page = await messages.page(bench.store, MessageFilter((linked.connector.inbox_id,)), Window(size=1000))
    by_storing = [row.uid for row in sorted(page.rows, key=lambda row: row.seq)]
    held = sorted(await asyncio.to_thread(dovecot.fetch_all, user))
    assert len(held) == len(order) == 201
    assert [row.uid for row in page.rows] == held
    assert by_storing[0] == held[190]
    assert by_storing.index(held[-1]) < 150


async def test_a_load_writes_little_at_a_time_while_somebody_is_in_a_hurry(bench: Bench) -> None:
    async def nothing(_connection: object) -> None:
        """A write of somebody who will not wait."""

    assert not bench.store.hurried
    await bench.store.write_at_once(nothing)
    assert bench.store.hurried
    seen: list[Progress] = []
    async with serving(*range(1, 601)) as (mailbox, port):
        linked = await bench.link(port)
        await catch_up(linked, seen)
        assert await linked.stored() == mailbox.held
    assert max(b.done - a.done for a, b in itertools.pairwise(seen)) <= 64


# --- what is seen of it ----------------------------------------------------------------------------------------------


async def test_progress_has_a_rate_and_the_time_left(bench: Bench) -> None:
    seen: list[Progress] = []
    async with serving(*range(1, 1201)) as (_, port):
        linked = await bench.link(port)
        await catch_up(linked, seen)
    assert all(one.backfill and one.messages_per_second > 0 and one.bytes_per_second > 0 for one in seen)
    assert all(a.done < b.done <= b.total for a, b in itertools.pairwise(seen))
    left = [one.eta_seconds for one in seen]
    assert left[-1] == 0
    assert all(seconds is not None and seconds > 0 for seconds in left[:-1])


def test_a_pace_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    pace.note(0.0, 0, 0)
    assert (pace.messages_per_second, pace.seconds_for(10)) == (0.0, None)
    for second in range(1, 31):
        pace.note(float(second), second * 100, second * 5000)
    assert (pace.messages_per_second, pace.bytes_per_second) == (100.0, 5000.0)
    for second in range(31, 51):
        pace.note(float(second), 3000 + (second - 30) * 10, 150_000)
    assert (pace.messages_per_second, pace.bytes_per_second, pace.seconds_for(55)) == (10.0, 0.0, 5.5)


@pytest.mark.usefixtures("small_windows")
async def test_status_and_metrics_show_how_far_a_load_is(bench: Bench) -> None:
    held, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_conversation: Conversation) -> None:
        if mailbox.count("UID FETCH") == 3:
            held.set()
            await go_on.wait()

    async with serving(*range(1, 41)) as (mailbox, port):
        mailbox.hooks["UID FETCH"] = wait
        linked = await bench.link(port)
        supervisor = linked.supervisor()

        def remaining() -> float:
            return sample("inboxd_backfill_remaining_messages", connector=linked.label)

        async with asyncio.TaskGroup() as group:
            living = group.create_task(supervisor.run())
            await held.wait()
            await eventually(lambda: remaining() == 20)
            progress = supervisor.status.progress
            assert progress is not None
            assert (progress.done, progress.total, progress.backfill) == (20, 40, True)
            assert progress.eta_seconds is not None
            go_on.set()
            await eventually(lambda: supervisor.status.state is State.IDLE)
            assert (remaining(), supervisor.status.progress) == (0, None)
            living.cancel()
        supervisor.leave()
        assert remaining() == 0
