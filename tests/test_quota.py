"""What an account downloads in a day: counted, kept over restarts, and first loads that rest for it and go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from inboxd import metering, sync
from inboxd.budgets import Budgets
from inboxd.connector import Supervisor
from inboxd.model import MessageFilter, State, Window
from inboxd.sections import ApiSettings, ImapSettings, MetricsSettings
from inboxd.serve import open_services
from inboxd.settings import Settings
from inboxd.store import messages, traffic
from inboxd.store.engine import Store
from inboxd.traffic import Traffic
from servers.folders import serving_folders
from servers.mailbox import Bench, Linked, mail, make_bench, sample, serving
from servers.sessions import eventually
from servers.stores import blank_postgresql, blank_sqlite

GMAIL = ("imap.gmail.com", "ada@gmail.com")
LIMIT_BYTES = 300_000
NOON = 1_800_000_000.0


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if getattr(request, "param", "sqlite") == "postgresql":
        return blank_postgresql(request.getfixturevalue("postgres_server"))
    return blank_sqlite(tmp_path)


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Workers with a small budget a day, and loads in small windows, that look again at once."""
    monkeypatch.setattr(sync, "WINDOW_COUNT", 10)
    made = await make_bench(
        store, tmp_path, bytes_per_day=LIMIT_BYTES, idle_seconds=0.2, sweep_seconds=0.2, connections=2
    )
    made.roster.budgets = Budgets(made.settings.imap, clock)
    return made


@asynccontextmanager
async def alive(supervisor: Supervisor) -> AsyncGenerator[None]:
    """The supervisor running; afterwards it is ended and gone."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(supervisor.run())
            yield
            task.cancel()
    finally:
        supervisor.leave()


async def count(linked: Linked, mailbox: str) -> int:
    """How many mails of a mailbox are stored."""
    chosen = MessageFilter(inbox_ids=(linked.connector.inbox_id,))
    rows = (await messages.page(linked.bench.store, chosen, Window(size=1000))).rows
    return sum(row.mailbox == mailbox for row in rows)


# --- counting --------------------------------------------------------------------------------------------------------


def test_bytes_count_for_a_day_and_loads_rest_from_four_fifths_on(clock: Clock) -> None:
    counted, received = Traffic(1000, clock), 0
    with counted.metered(lambda: received):
        received = 700
        assert (counted.used_bytes, counted.rest_seconds()) == (700, 0.0)
        clock.now += 3600
        received = 799
        assert counted.rest_seconds() == 0.0
        received = 800
        assert counted.used_bytes == 800
        assert counted.rest_seconds() == 24 * 3600  # until the hour that began with 700 is a day old
        clock.now += counted.rest_seconds()
        assert (counted.used_bytes, counted.rest_seconds()) == (100, 0.0)
        received = 5000
    assert counted.used_bytes == 4300
    assert not counted.idle
    clock.now += 26 * 3600
    assert counted.take_fresh() == {500_000: 700, 500_001: 100, 500_025: 4200}
    assert counted.take_fresh() == {}
    assert counted.idle


@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
async def test_what_was_counted_survives_a_restart(store: Store, clock: Clock) -> None:
    budgets = Budgets(ImapSettings(), clock)
    gmail, other = budgets.of(*GMAIL), budgets.of("mail.example", "x")
    assert other.traffic is None
    assert gmail.traffic is not None
    for received in (1000, 500):
        with gmail.traffic.metered(lambda: received):  # noqa: B023 - asked before the next round
            await metering.keep(store, budgets)
        await metering.keep(store, budgets)
    clock.now += 3600
    with gmail.traffic.metered(lambda: 70):
        pass
    await metering.keep(store, budgets)
    await metering.keep(store, budgets)
    assert await traffic.since(store, 0) == {GMAIL: {500_000: 1500, 500_001: 70}}
    later = Budgets(ImapSettings(), clock)
    await metering.recall(store, later)
    counted = later.of(*GMAIL).traffic
    assert counted is not None
    assert (counted.used_bytes, counted.take_fresh()) == (1570, {})
    clock.now += 24 * 3600
    with counted.metered(lambda: 1):
        pass
    await metering.keep(store, later)
    assert await traffic.since(store, 0) == {GMAIL: {500_001: 70, 500_025: 1}}


async def test_what_could_not_be_kept_is_kept_with_the_next(store: Store, clock: Clock) -> None:
    budgets = Budgets(ImapSettings(), clock)
    counted = budgets.of(*GMAIL).traffic
    assert counted is not None
    with counted.metered(lambda: 10):
        pass
    await store.close()
    await metering.keep(store, budgets)
    assert counted.take_fresh() == {500_000: 10}


async def test_a_daemon_goes_on_counting_where_the_last_one_ended(tmp_path: Path) -> None:
    settings = Settings(
        state_dir=tmp_path,
        api=ApiSettings(listen="127.0.0.1:0"),
        metrics=MetricsSettings(listen="127.0.0.1:0"),
    )
    for before in (0, 1000):
        async with open_services(settings) as services:
            counted = services.budgets.of(*GMAIL).traffic
            assert counted is not None
            assert counted.used_bytes == before
            with counted.metered(lambda: 1000):
                pass


# --- loads that rest --------------------------------------------------------------------------------------------------


async def test_a_first_load_rests_at_four_fifths_while_new_mail_comes_and_goes_on_by_itself(
    bench: Bench, clock: Clock
) -> None:
    async with serving() as (mailbox, port):
        mailbox.held |= {uid: mail(uid, 10_000) for uid in range(1, 41)}
        linked = await bench.link(port)
        supervisor = linked.supervisor()
        lag = sample("inboxd_message_detection_latency_seconds_count")
        async with alive(supervisor):
            await eventually(lambda: supervisor.status.state is State.IDLE and supervisor.current().reason)
            status = supervisor.current()
            assert await count(linked, "INBOX") == 30
            assert status.budget is not None
            assert 0.8 * LIMIT_BYTES <= status.budget.used_bytes < LIMIT_BYTES * 1.1
            assert status.budget.limit_bytes == LIMIT_BYTES
            assert status.budget.resumes_at is not None
            assert "the first load rests until" in (status.reason or "")
            assert sample("inboxd_backfill_rests", connector=linked.label) == 1
            assert sample("inboxd_backfill_remaining_messages", connector=linked.label) == 10
            assert sample("inboxd_connector_download_budget_ratio", connector=linked.label) >= 0.8
            await mailbox.deliver(41)
            await linked.until_stored(*range(11, 42))
            clock.now += 25 * 3600
            await linked.until_stored(*range(1, 42))
            await eventually(lambda: supervisor.status.state is State.IDLE and not supervisor.current().reason)
            assert sample("inboxd_backfill_rests", connector=linked.label) == 0
            assert sample("inboxd_backfill_remaining_messages", connector=linked.label) == 0
            assert await linked.cursor() == 41
        assert sample("inboxd_message_detection_latency_seconds_count") - lag == 1  # of the new one alone


async def test_a_load_that_rests_is_still_known_of_after_a_restart(bench: Bench, clock: Clock) -> None:
    async with serving() as (mailbox, port):
        mailbox.held |= {uid: mail(uid, 10_000) for uid in range(1, 41)}
        linked = await bench.link(port)
        for _ in range(2):
            supervisor = linked.supervisor()
            async with alive(supervisor):
                await eventually(lambda: supervisor.status.state is State.IDLE and supervisor.current().reason)  # noqa: B023
                assert sample("inboxd_backfill_remaining_messages", connector=linked.label) == 10
        clock.now += 25 * 3600
        async with alive(linked.supervisor()):
            await linked.until_stored(*range(1, 41))


async def test_the_load_of_a_folder_beside_rests_and_goes_on_too(bench: Bench, clock: Clock) -> None:
    async with serving_folders(INBOX=(1,), A=()) as (served, port):
        served.boxes["A"].held |= {uid: mail(uid, 10_000) for uid in range(1, 41)}
        linked = await bench.link(port, folders=("*",))
        supervisor = linked.supervisor()
        async with alive(supervisor):
            await eventually(lambda: supervisor.current().budget and supervisor.current().reason)
            assert await count(linked, "A") == 30
            clock.now += 25 * 3600
            async with asyncio.timeout(10):
                with bench.bus.subscribe(linked.connector.inbox_id) as hint:
                    while await count(linked, "A") < 40:
                        await hint.wait()
            await eventually(lambda: not supervisor.current().reason)
