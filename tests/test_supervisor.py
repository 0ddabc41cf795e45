"""One connector's life, seen from its status, its metrics, its events and its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from inboxd import connector as connector_room
from inboxd import metrics
from inboxd.connector import Supervisor
from inboxd.errors import StoreError
from inboxd.model import Event, EventStatus, State, Status, Window
from inboxd.providers import Quirks
from inboxd.store import connectors, events
from inboxd.store.engine import Store
from servers.mailbox import Bench, Linked, Mailbox, make_bench, sample, serving
from servers.scripted import Conversation, Reply
from servers.sessions import eventually, settled
from servers.stores import blank_sqlite


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return blank_sqlite(tmp_path)


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path)


@pytest.fixture(autouse=True)
def _zeroed() -> Generator[None]:
    """Every test starts and ends with no connector counted."""
    for state in State:
        metrics.CONNECTORS.labels(state.value).set(0)
    yield
    assert not any(in_states().values())


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[Status]:
    """Each state as it is entered."""
    real: Callable[..., None] = vars(Supervisor)["_enter"]
    seen: list[Status] = []

    def enter(self: Supervisor, *arguments: Any, **more: Any) -> None:
        real(self, *arguments, **more)
        seen.append(self.status)
        assert sum(in_states().values()) >= 1

    monkeypatch.setattr(Supervisor, "_enter", enter)
    return seen


@asynccontextmanager
async def alive(supervisor: Supervisor) -> AsyncGenerator[asyncio.Task[None]]:
    """The supervisor running; afterwards it is ended and gone."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(supervisor.run())
            yield task
            task.cancel()
    finally:
        supervisor.leave()


def in_states() -> dict[str, float]:
    return {state.value: sample("inboxd_connectors", state=state.value) for state in State}


def says(answer: str) -> Reply:
    async def reply(conversation: Conversation, tag: str) -> None:
        await conversation.send(answer.replace("TAG", tag).encode())

    return reply


def waits(entered: list[Status]) -> list[float]:
    return [
        (status.retry_at - status.since).total_seconds()
        for status in entered
        if status.state in (State.WAITING, State.THROTTLED) and status.retry_at
    ]


async def events_of(linked: Linked) -> list[Event]:
    return list((await events.page(linked.bench.store, Window(size=100), connector_id=linked.connector.id)).rows)


# --- trying again ----------------------------------------------------------------------------------------------------


async def test_failures_wait_longer_and_longer_and_make_one_event(bench: Bench, entered: list[Status]) -> None:
    async with serving() as (mailbox, port):
        mailbox.answers["EXAMINE"] = says("TAG NO [SERVERBUG] out of order\r\n")
        linked = await bench.link(port)
        supervisor = linked.supervisor()
        async with alive(supervisor):
            await eventually(lambda: mailbox.connections > 8)
    taken = waits(entered)
    for before, after, ceiling in zip(taken, taken[1:], (0.01, 0.02, 0.04), strict=False):
        assert ceiling / 2 <= before <= ceiling
        assert after > before / 2
    assert all(0.025 <= wait <= 0.05 for wait in taken[3:])
    assert [status.failures for status in entered if status.state is State.WAITING] == list(range(1, len(taken) + 1))
    (event,) = await events_of(linked)
    assert (event.status, event.size) == (EventStatus.CONNECTION_ERROR, 0)
    assert "out of order" in (event.message or "")


@pytest.mark.parametrize("stable_seconds", [0.0, 100.0])
async def test_only_a_session_that_lived_long_resets_the_backoff(
    bench: Bench, entered: list[Status], stable_seconds: float
) -> None:
    async def drop(conversation: Conversation) -> None:
        conversation.reset()

    async with serving() as (mailbox, port):
        mailbox.hooks["IDLE"] = drop
        linked = await bench.link(port)
        async with alive(linked.supervisor(stable_seconds=stable_seconds)):
            await eventually(lambda: mailbox.connections > 5)
    failures = [status.failures for status in entered if status.state is State.WAITING]
    assert failures == ([1] * len(failures) if stable_seconds == 0 else list(range(1, len(failures) + 1)))


async def test_time_spent_on_a_session_that_never_opened_resets_nothing(bench: Bench, entered: list[Status]) -> None:
    async with serving() as (mailbox, port):
        mailbox.answers["AUTHENTICATE"] = says("TAG NO [UNAVAILABLE] later\r\n")
        linked = await bench.link(port)
        async with alive(linked.supervisor(stable_seconds=0.0)):
            await eventually(lambda: mailbox.connections > 4)
    failures = [status.failures for status in entered if status.state is State.THROTTLED]
    assert failures == list(range(1, len(failures) + 1))


@pytest.mark.parametrize(
    ("command", "answer", "reason"),
    [
        ("AUTHENTICATE", "TAG NO [AUTHENTICATIONFAILED] no\r\n", "auth"),
        ("EXAMINE", "TAG NO [NONEXISTENT] no\r\n", "mailbox"),
        ("EXAMINE", "TAG NO Mailbox doesn't exist: INBOX\r\n", "mailbox"),
    ],
)
async def test_permanent_error_parks_with_the_servers_words(
    bench: Bench, command: str, answer: str, reason: str
) -> None:
    async with serving() as (mailbox, port):
        mailbox.answers[command] = says(answer)
        linked = await bench.link(port)
        supervisor = linked.supervisor()
        async with alive(supervisor) as task:
            await eventually(task.done)
            status = supervisor.current()
            assert status.state is State.PARKED
            assert answer[7:-2] in (status.reason or "")
            assert (status.retry_at, status.progress) == (None, None)
            assert sample("inboxd_connector_parked", connector=linked.label, reason=reason) == 1
            assert sample("inboxd_connectors", state="parked") == 1
            assert sample("inboxd_connector_up", connector=linked.label) == 0
            assert mailbox.connections == 1
        assert len(await events_of(linked)) == 1


async def test_throttled_server_is_left_alone_for_its_pause_and_no_longer_than_the_longest_wait(
    bench: Bench, entered: list[Status]
) -> None:
    async with serving() as (mailbox, port):
        mailbox.answers["AUTHENTICATE"] = says("TAG NO [LIMIT] too many connections\r\n")
        for most, expected in ((600.0, (60.0, 75.0)), (30.0, (30.0, 37.5))):
            linked = await bench.link(port)
            async with alive(linked.supervisor(retry_most_seconds=most)):
                await eventually(lambda: entered and entered[-1].state is State.THROTTLED)
            (wait,) = waits(entered)
            assert expected[0] <= wait <= expected[1]
            entered.clear()


async def test_unexpected_exception_is_counted_retried_and_disturbs_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = connector_room.dial
    broken: set[int] = set()

    def dial(account: Any, *arguments: Any) -> Any:
        if account.connector_id in broken:
            raise ZeroDivisionError("nobody thought of this")
        return real(account, *arguments)

    monkeypatch.setattr(connector_room, "dial", dial)
    before = sample("inboxd_imap_disconnects_total", reason="error")
    async with serving(1) as (mailbox, port):
        bad, good = await bench.link(port), await bench.link(port)
        broken.add(bad.connector.id)  # pyright: ignore[reportArgumentType]
        first, second = bad.supervisor(), good.supervisor()
        async with alive(first) as failing, alive(second):
            await eventually(lambda: sample("inboxd_imap_disconnects_total", reason="error") > before + 3)
            await eventually(lambda: mailbox.idlers == 1)
            assert not failing.done()
            assert "ZeroDivisionError" in (first.status.reason or "internal error (ZeroDivisionError)")
            await mailbox.deliver(2)
            broken.clear()
            await eventually(lambda: mailbox.idlers == 2)
        assert set(await bad.stored()) == set(await good.stored()) == {1, 2}
        (failure, *_) = await events_of(bad)
        assert "ZeroDivisionError" in (failure.message or "")


async def test_connector_deleted_under_a_failing_session_harms_no_other(bench: Bench) -> None:
    async with serving() as (mailbox, port):
        linked = await bench.link(port)
        supervisor = linked.supervisor()
        async with alive(supervisor) as task:
            await eventually(lambda: mailbox.idlers == 1)
            await connectors.remove(bench.store, linked.connector.id)
            await mailbox.deliver(1)
            await eventually(task.done)
            assert task.exception() is None
            assert supervisor.status.state is State.PARKED


async def test_store_failing_while_the_failure_is_noted_is_survived(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise StoreError("the disk is full")

    async with serving() as (mailbox, port):
        mailbox.answers["EXAMINE"] = says("TAG NO later\r\n")
        linked = await bench.link(port)
        monkeypatch.setattr(events, "add_soon", full)
        async with alive(linked.supervisor()):
            await eventually(lambda: mailbox.connections > 2)
            del mailbox.answers["EXAMINE"]
            await eventually(lambda: mailbox.idlers == 1)


# --- listening -------------------------------------------------------------------------------------------------------


async def test_server_without_idle_is_polled_by_noop(bench: Bench, entered: list[Status]) -> None:
    async with serving(1, capabilities="IMAP4rev1 AUTH=PLAIN SASL-IR") as (mailbox, port):
        linked = await bench.link(port)
        async with alive(linked.supervisor(poll_seconds=0.02)):
            await eventually(lambda: mailbox.count("NOOP") > 1)
            mailbox.put(2)
            await linked.until_stored(1, 2)
        assert mailbox.count("IDLE") == 0
        assert State.IDLE not in {status.state for status in entered}
        assert State.POLLING in {status.state for status in entered}


@pytest.mark.parametrize(
    "answer", ["TAG NO not for you\r\n", "TAG BAD what\r\n", "+ ok\r\nTAG OK over\r\n", "TAG OK\r\n"]
)
async def test_server_that_refuses_or_ends_idle_at_once_is_polled_for_the_rest_of_the_session(
    bench: Bench, answer: str
) -> None:
    async with serving(1) as (mailbox, port):
        mailbox.answers["IDLE"] = says(answer)
        linked = await bench.link(port)
        async with alive(linked.supervisor(poll_seconds=0.02)) as task:
            await eventually(lambda: mailbox.count("NOOP") > 2)
            mailbox.put(2)
            await linked.until_stored(1, 2)
            assert not task.done()
        assert (mailbox.count("IDLE"), mailbox.connections) == (1, 1)


@pytest.mark.parametrize("command", ["IDLE", "UID SEARCH", "UID FETCH"])
async def test_server_that_says_exists_with_every_answer_is_not_asked_without_end(bench: Bench, command: str) -> None:
    async def chatter(conversation: Conversation) -> None:
        await mailbox.announce(conversation)

    async with serving(1) as (mailbox, port):
        mailbox.hooks[command] = chatter
        linked = await bench.link(port)
        async with alive(linked.supervisor(poll_seconds=600.0)):
            await linked.until_stored(1)
            asked = await settled(lambda: len(mailbox.commands))
            assert asked < 60
            await mailbox.deliver(2)
            await linked.until_stored(1, 2)


async def test_server_that_takes_no_command_behind_done_gets_none_from_then_on(bench: Bench) -> None:
    listening: asyncio.Queue[Conversation] = asyncio.Queue()

    async def strict(conversation: Conversation, tag: str) -> None:
        await conversation.send(b"+ idling\r\n")
        listening.put_nowait(conversation)
        await conversation.expect("DONE$")
        try:
            async with asyncio.timeout(0.05):
                await conversation.line()
        except TimeoutError:
            await conversation.send(f"{tag} OK done\r\n".encode())
        else:
            conversation.reset()

    async with serving(1) as (mailbox, port):
        mailbox.answers["IDLE"] = strict
        linked = await bench.link(port)
        async with alive(linked.supervisor()):
            for uid in (2, 3):
                conversation = await listening.get()
                mailbox.put(uid)
                await mailbox.announce(conversation)
                await linked.until_stored(*range(1, uid + 1))
        assert mailbox.connections == 2


async def test_missed_push_is_counted_once_and_an_announced_one_never(bench: Bench) -> None:
    async with serving(1) as (mailbox, port):
        linked = await bench.link(port)
        before = sample("inboxd_imap_missed_pushes_total")
        supervisor = linked.supervisor(idle_seconds=0.1)
        async with alive(supervisor):
            await eventually(lambda: mailbox.idlers == 1)
            await mailbox.deliver(2)
            await linked.until_stored(1, 2)
            await eventually(lambda: mailbox.idlers == 1)
            del mailbox.held[1]
            await mailbox.deliver(3)  # the count has not changed, yet it was announced
            await linked.until_stored(1, 2, 3)
            assert sample("inboxd_imap_missed_pushes_total") == before
            await eventually(lambda: mailbox.idlers == 1)
            idles = mailbox.count("IDLE")
            mailbox.silent = True
            mailbox.put(4)
            await linked.until_stored(1, 2, 3, 4)
            await eventually(lambda: mailbox.count("IDLE") > idles + 3)
        assert sample("inboxd_imap_missed_pushes_total") == before + 1
        assert len(supervisor.delays) == 2


async def test_idle_is_renewed_before_the_provider_forgets_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(_host: str) -> Quirks:
        return Quirks(idle_seconds=0.05)

    monkeypatch.setattr(connector_room.providers, "quirks", forgetful)
    async with serving(1) as (mailbox, port):
        linked = await bench.link(port)
        async with alive(linked.supervisor(idle_seconds=600.0)):
            await eventually(lambda: mailbox.count("IDLE") > 3)


# --- what is seen of it ----------------------------------------------------------------------------------------------


async def test_status_and_metrics_follow_a_session_from_start_to_end(bench: Bench, entered: list[Status]) -> None:
    async with serving(1, 2, 3) as (mailbox, port):
        linked = await bench.link(port)
        supervisor = linked.supervisor()
        assert in_states()["off"] == 1
        async with alive(supervisor):
            await eventually(lambda: supervisor.status.state is State.IDLE and mailbox.idlers)
            status = supervisor.current()
            assert status.last_sync_at is not None
            assert status.last_activity_at is not None
            assert status.last_activity_at >= entered[0].since
            assert (status.reason, status.retry_at, status.failures, status.progress) == (None, None, 0, None)
            assert in_states() == {state.value: float(state is State.IDLE) for state in State}
            assert sample("inboxd_connector_up", connector=linked.label) == 1
            assert sample("inboxd_connector_consecutive_failures", connector=linked.label) == 0
            assert sample("inboxd_connector_last_sync_timestamp_seconds", connector=linked.label) > 0
            assert sample("inboxd_connector_last_server_activity_timestamp_seconds", connector=linked.label) > 0
    assert [status.state for status in entered] == [State.CONNECTING, State.SYNCING, State.IDLE, State.OFF]
    assert linked.label.encode() not in metrics.exposition()


async def test_failing_connector_shows_its_reason_and_when_it_tries_again(bench: Bench) -> None:
    async with serving() as (mailbox, port):
        mailbox.answers["EXAMINE"] = says("TAG NO later please\r\n")
        linked = await bench.link(port)
        supervisor = linked.supervisor(retry_first_seconds=60.0, retry_most_seconds=60.0)
        async with alive(supervisor):
            await eventually(lambda: supervisor.status.state is State.WAITING)
            status = supervisor.current()
            assert "later please" in (status.reason or "")
            assert status.retry_at is not None
            assert status.retry_at > status.since
            assert sample("inboxd_connector_up", connector=linked.label) == 0
            assert sample("inboxd_connector_consecutive_failures", connector=linked.label) == 1


Moment = Callable[[Mailbox], Awaitable[object]]


@pytest.mark.parametrize("command", ["", "CAPABILITY", "AUTHENTICATE", "EXAMINE", "UID SEARCH", "UID FETCH", "IDLE"])
async def test_cancellation_ends_it_at_once_and_closes_the_socket(bench: Bench, command: str) -> None:
    reached = asyncio.Event()

    async def hang(conversation: Conversation, _tag: str = "") -> None:
        reached.set()
        await conversation.closed()
        raise EOFError

    async with serving(1) as (mailbox, port):
        mailbox.answers[command] = hang
        if not command:
            mailbox.greet = hang
        linked = await bench.link(port)
        supervisor = linked.supervisor()
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            task = group.create_task(supervisor.run())
            await reached.wait()
            task.cancel()
        assert task.cancelled()
        assert supervisor.status.state is State.OFF
        await eventually(lambda: mailbox.open == 0)
        supervisor.leave()
