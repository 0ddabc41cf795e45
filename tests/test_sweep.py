"""Several mailboxes of one account: each kept current, on two connections, whatever one of them is like."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from inboxd.accounts import seal_password
from inboxd.connector import Supervisor
from inboxd.direct import sync_now
from inboxd.model import Event, EventStatus, MessageFilter, Secret, State, Window
from inboxd.store import connectors, events, messages
from inboxd.store.engine import Store
from servers.dovecot import Dovecot, User, quoted
from servers.folders import serving_folders
from servers.mailbox import Bench, Linked, mail, make_bench, sample
from servers.sessions import eventually, settled
from servers.stores import blank_sqlite

RARELY: dict[str, Any] = {"sweep_seconds": 600.0, "idle_seconds": 600.0}
OFTEN: dict[str, Any] = {"sweep_seconds": 0.05}


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return blank_sqlite(tmp_path)


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path)


@asynccontextmanager
async def alive(linked: Linked, **imap: Any) -> AsyncGenerator[Supervisor]:
    """The connector supervised; afterwards it is ended and gone."""
    supervisor = linked.supervisor(**imap)
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(supervisor.run())
            yield supervisor
            task.cancel()
    finally:
        supervisor.leave()


async def link(bench: Bench, dovecot: Dovecot, user: User, *folders: str) -> Linked:
    """A connector to a user's account that follows these folders."""
    linked = await bench.link(dovecot.starttls.port, username=user.name, folders=folders)
    sealed = seal_password(bench.vault, linked.connection.id, Secret(user.password))
    connection = replace(linked.connection, sealed_password=sealed)
    await connectors.put_connection(bench.store, connection)
    return replace(linked, connection=connection)


def account(dovecot: Dovecot, *names: str) -> User:
    """A user with these mailboxes beside INBOX."""
    user = dovecot.user()
    with dovecot.session(user) as other:
        for name in names:
            assert other.create(quoted(name))[0] == "OK", name
    return user


async def stored(linked: Linked) -> dict[str, int]:
    """How many mails the store holds of each mailbox."""
    chosen = MessageFilter(inbox_ids=(linked.connector.inbox_id,))
    page = await messages.page(linked.bench.store, chosen, Window(size=10_000))
    assert len({(row.mailbox, row.uid) for row in page.rows}) == len(page.rows)
    return dict(Counter(row.mailbox or "" for row in page.rows))


async def until_stored(linked: Linked, **counts: int) -> None:
    """Return once the store holds exactly so many mails of each mailbox, looking only when told to."""
    async with asyncio.timeout(10):
        with linked.bench.bus.subscribe(linked.connector.inbox_id) as hint:
            while await stored(linked) != counts:
                await hint.wait()


async def events_of(linked: Linked) -> list[Event]:
    return list((await events.page(linked.bench.store, Window(size=100), connector_id=linked.connector.id)).rows)


async def is_swept(supervisor: Supervisor) -> None:
    """Return once all mailboxes are known to be current."""
    await eventually(lambda: supervisor.status.last_sync_at is not None, 10)


# --- on Dovecot, which has NOTIFY and LIST-STATUS ---------------------------------------------------------------------


async def test_mail_of_every_folder_is_stored_and_then_announced(bench: Bench, dovecot: Dovecot) -> None:
    user = account(dovecot, "Sent", "Räume/Süd", "Trash")
    for mailbox, count in (("INBOX", 2), ("Sent", 3), ("Räume/Süd", 1), ("Trash", 1)):
        for number in range(count):
            dovecot.append(user, mail(number), mailbox)
    linked = await link(bench, dovecot, user, "*")
    before = sample("inboxd_imap_sessions")
    async with alive(linked, **RARELY) as supervisor:
        await until_stored(linked, **{"INBOX": 2, "Sent": 3, "Räume/Süd": 1})
        await is_swept(supervisor)
        assert sample("inboxd_imap_sessions") == before + 2
        await eventually(lambda: supervisor.status.state is State.IDLE)
        dovecot.append(user, mail(10), "Räume/Süd")
        await until_stored(linked, **{"INBOX": 2, "Sent": 3, "Räume/Süd": 2})
        dovecot.append(user, mail(11), "Sent")
        dovecot.append(user, mail(12))
        dovecot.append(user, mail(13), "Räume/Süd")
        await until_stored(linked, **{"INBOX": 3, "Sent": 4, "Räume/Süd": 3})
        assert sample("inboxd_connector_last_sync_timestamp_seconds", connector=linked.label) > 0
    said = {event.message for event in await events_of(linked)}
    assert {"2 new messages in INBOX", "3 new messages in Sent", "1 new message in Räume/Süd"} <= said


async def test_what_came_while_nobody_looked_is_found_and_nothing_is_stored_twice(
    bench: Bench, dovecot: Dovecot
) -> None:
    user = account(dovecot, "Sent", "Work")
    dovecot.append(user, mail(1), "Sent")
    linked = await link(bench, dovecot, user, "INBOX", "Sent", "Work")
    async with alive(linked, **RARELY):
        await until_stored(linked, Sent=1)
    dovecot.append(user, mail(2), "Sent")
    dovecot.append(user, mail(3), "Work")
    async with alive(linked, **RARELY) as supervisor:
        await until_stored(linked, Sent=2, Work=1)
        await is_swept(supervisor)
        dovecot.kick(user)
        dovecot.append(user, mail(4), "Work")
        await until_stored(linked, Sent=2, Work=2)
    assert await stored(linked) == {"Sent": 2, "Work": 2}


async def test_a_folder_made_later_is_followed_and_a_renumbered_one_is_read_anew(
    bench: Bench, dovecot: Dovecot
) -> None:
    user = account(dovecot, "Work")
    dovecot.append(user, mail(1), "Work")
    linked = await link(bench, dovecot, user, "*")
    async with alive(linked, sweep_seconds=0.1, idle_seconds=0.2):
        await until_stored(linked, Work=1)
        with dovecot.session(user) as other:
            other.create("Later")
        dovecot.append(user, mail(2), "Later")
        await until_stored(linked, Work=1, Later=1)
        dovecot.renumber(user, "Work")
        dovecot.append(user, mail(3), "Work")
        await until_stored(linked, Work=2, Later=1)


async def test_a_sync_asked_for_reads_all_folders(bench: Bench, dovecot: Dovecot) -> None:
    user = account(dovecot, "Sent", "Work")
    for mailbox in ("INBOX", "Sent", "Work"):
        dovecot.append(user, mail(1), mailbox)
    linked = await link(bench, dovecot, user, "*", "Gone")
    report = await sync_now(bench.services, linked.connector.id, since=None, mailbox=None)
    assert (len(report.stored), await stored(linked)) == (3, {"INBOX": 1, "Sent": 1, "Work": 1})
    assert "Gone" in (report.error or "")
    kept = await events_of(linked)
    assert Counter(event.status for event in kept) == {EventStatus.SUCCESS: 3, EventStatus.CONNECTION_ERROR: 1}
    assert report.event_id in {event.id for event in kept if event.message == "1 new message in INBOX"}
    dovecot.append(user, mail(2), "Work")
    report = await sync_now(bench.services, linked.connector.id, since=None, mailbox="Work")
    assert (len(report.stored), report.error) == (1, None)


async def test_an_account_with_none_of_the_folders_parks(bench: Bench, dovecot: Dovecot) -> None:
    linked = await link(bench, dovecot, dovecot.user(), "Nothing/*")
    async with alive(linked) as supervisor:
        await eventually(lambda: supervisor.status.state is State.PARKED)
        assert "none of the folders Nothing/*" in (supervisor.status.reason or "")


# --- on servers that have less ----------------------------------------------------------------------------------------

KINDS = ["IMAP4rev1 IDLE AUTH=PLAIN SASL-IR", "IMAP4rev1 IDLE AUTH=PLAIN SASL-IR LIST-EXTENDED LIST-STATUS"]


@pytest.mark.parametrize("capabilities", KINDS)
async def test_servers_without_notify_are_asked_every_so_often(bench: Bench, capabilities: str) -> None:
    async with serving_folders(capabilities=capabilities, INBOX=(1,), A=(1, 2), B=(), C=(5,)) as (served, port):
        linked = await bench.link(port, folders=("*",))
        async with alive(linked, **OFTEN) as supervisor:
            await until_stored(linked, INBOX=1, A=2, C=1)
            await is_swept(supervisor)
            opened = served.count("EXAMINE")
            served.boxes["B"].put(1)
            await until_stored(linked, INBOX=1, A=2, B=1, C=1)
            assert served.count("EXAMINE") == opened + 1
            del served.boxes["A"].held[1], served.boxes["A"].held[2]
            served.boxes["A"].put(3)  # the count alone would not show that
            await until_stored(linked, INBOX=1, A=3, B=1, C=1)
        assert served.most_open == 2
        assert served.count("NOTIFY") == 0
        assert (served.count("LIST") > served.count("STATUS")) == ("LIST-STATUS" in capabilities)


async def test_a_folder_that_cannot_be_opened_stops_no_other_and_is_tried_again(bench: Bench) -> None:
    async with serving_folders(INBOX=(1,), A=(1,), B=(1,), C=(1,)) as (served, port):
        served.refused |= {"A", "Gone"}
        linked = await bench.link(port, folders=("*", "Gone"))
        async with alive(linked, sweep_seconds=0.05, retry_most_seconds=0.2) as supervisor:
            await until_stored(linked, INBOX=1, B=1, C=1)
            await is_swept(supervisor)
            assert supervisor.status.state is not State.PARKED
            assert "left out: A (" in (supervisor.current().reason or "")
            assert sample("inboxd_connector_folders_left_out", connector=linked.label) == 2
            served.refused.discard("A")
            await until_stored(linked, INBOX=1, A=1, B=1, C=1)
            await eventually(lambda: sample("inboxd_connector_folders_left_out", connector=linked.label) == 1)
            assert "left out: A" not in (supervisor.current().reason or "")
    failures = [event.message or "" for event in await events_of(linked) if event.status is not EventStatus.SUCCESS]
    assert sorted(message.partition(":")[0] for message in failures) == ["A is left out", "Gone is left out"]
    assert all("keep out" in message for message in failures)


async def test_a_connection_too_many_is_no_trouble_for_the_first_mailbox(bench: Bench) -> None:
    async with serving_folders(INBOX=(1,), A=(1,)) as (served, port):
        inbox = served.boxes["INBOX"]
        served.most = 1
        linked = await bench.link(port, folders=("*",))
        async with alive(linked, **OFTEN) as supervisor:
            await until_stored(linked, INBOX=1)
            await eventually(lambda: inbox.idlers == 1 and served.turned_away > 1)
            assert "other folders: " in (supervisor.current().reason or "")
            assert supervisor.status.last_sync_at is None, "not complete without the other folders"
            await inbox.deliver(2)
            await until_stored(linked, INBOX=2)
            served.most = 2
            await until_stored(linked, INBOX=2, A=1)
            await is_swept(supervisor)
            assert supervisor.current().reason is None


async def test_a_server_that_says_nothing_of_its_mailboxes_is_looked_at_each_time_but_not_without_end(
    bench: Bench,
) -> None:
    async with serving_folders(untold=True, INBOX=(1,), A=(1,)) as (served, port):
        linked = await bench.link(port, folders=("*",))
        async with alive(linked, sweep_seconds=0.1) as supervisor:
            await is_swept(supervisor)
            served.boxes["A"].put(2)
            await until_stored(linked, INBOX=1, A=2)
        async with alive(linked, **RARELY) as supervisor:
            await is_swept(supervisor)
            assert await settled(lambda: len(served.lines)) < 200


async def test_the_chosen_mailbox_is_the_one_that_is_listened_to(bench: Bench) -> None:
    async with serving_folders(INBOX=(1,), A=(1,), B=(1,)) as (served, port):
        linked = await bench.link(port, folders=("A", "B"), select_folder="B")
        async with alive(linked, **RARELY) as supervisor:
            await until_stored(linked, A=1, B=1)
            await is_swept(supervisor)
            await eventually(lambda: served.boxes["B"].idlers == 1)
            await served.boxes["B"].deliver(2)
            await until_stored(linked, A=1, B=2)
        assert 'EXAMINE "INBOX"' not in served.lines


async def test_a_first_sync_that_broke_off_goes_on_where_it_was(bench: Bench) -> None:
    async with serving_folders(INBOX=(), A=tuple(range(1, 31)), B=(1,)) as (served, port):
        whole = served.boxes["A"].hand_over
        broken = asyncio.Event()

        def cut(uid: int, raw: bytes) -> bytes:
            if uid > 10 and not broken.is_set():
                broken.set()
                return b"* BYE not today\r\n"
            return served.boxes["A"].response(uid, raw)

        served.boxes["A"].hand_over = cut
        linked = await bench.link(port, folders=("*",))
        async with alive(linked, **RARELY):
            await until_stored(linked, A=30, B=1)
        served.boxes["A"].hand_over = whole
    assert broken.is_set()
