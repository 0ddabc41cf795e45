"""Flags changed and mails deleted in the external mailbox: the stored mails follow, and nothing is lost by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from inboxd import following
from inboxd.accounts import seal_password
from inboxd.connector import Supervisor
from inboxd.direct import sync_now
from inboxd.mails import Message
from inboxd.model import Event, EventStatus, EventType, MessageFilter, Secret, State, Window
from inboxd.store import connectors, events, messages
from inboxd.store.engine import Store
from servers.dovecot import Dovecot, User, quoted
from servers.mailbox import Bench, Linked, Mailbox, mail, make_bench, sample, serving
from servers.scripted import Conversation
from servers.sessions import eventually

CONDSTORE = "IMAP4rev1 IDLE CONDSTORE AUTH=PLAIN SASL-IR"
QRESYNC = "IMAP4rev1 IDLE ENABLE CONDSTORE QRESYNC AUTH=PLAIN SASL-IR"


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inboxd.db'}"


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path, idle_seconds=600.0)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bursts are awaited for a moment only."""
    monkeypatch.setattr(following, "_SETTLE_SECONDS", 0.02)


@asynccontextmanager
async def alive(linked: Linked, **imap: Any) -> AsyncGenerator[Supervisor]:
    """The connector supervised, and idle when it is yielded; afterwards it is ended and gone."""
    supervisor = linked.supervisor(**imap)
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(supervisor.run())
            await eventually(lambda: supervisor.status.state is State.IDLE, 10)
            yield supervisor
            task.cancel()
    finally:
        supervisor.leave()


async def link(bench: Bench, dovecot: Dovecot, user: User, **changed: Any) -> Linked:
    """A connector to a user's account."""
    linked = await bench.link(dovecot.starttls.port, username=user.name, **changed)
    sealed = seal_password(bench.vault, linked.connection.id, Secret(user.password))
    connection = replace(linked.connection, sealed_password=sealed)
    await connectors.put_connection(bench.store, connection)
    return replace(linked, connection=connection)


async def rows(linked: Linked) -> dict[tuple[str, int], Message]:
    """What is stored, by mailbox and UID."""
    chosen = MessageFilter(inbox_ids=(linked.connector.inbox_id,))
    page = await messages.page(linked.bench.store, chosen, Window(size=10_000))
    return {(row.mailbox or "", row.uid or 0): row for row in page.rows}


async def kept(linked: Linked, mailbox: str = "INBOX") -> dict[int, set[str] | None]:
    """The flags of each stored mail by UID, None for those gone from the mailbox."""
    return {
        uid: None if row.vanished_at else set(row.flags) - {"\\Recent"}
        for (name, uid), row in (await rows(linked)).items()
        if name == mailbox
    }


async def until_kept(linked: Linked, wanted: dict[int, set[str] | None], mailbox: str = "INBOX") -> None:
    """Return once that is what is stored, looking only when told to."""
    async with asyncio.timeout(10):
        with linked.bench.bus.subscribe(linked.connector.inbox_id) as hint:
            while await kept(linked, mailbox) != wanted:
                await hint.wait()


async def told(linked: Linked) -> list[Event]:
    """The events that tell of something else than new mail, oldest first."""
    page = await events.page(linked.bench.store, Window(size=100), connector_id=linked.connector.id)
    return [event for event in page.rows if "new message" not in (event.message or "new message")]


async def until_told(linked: Linked, *said: str) -> None:
    """Return once exactly this was told, looking only when told to."""
    async with asyncio.timeout(10):
        with linked.bench.bus.subscribe(linked.connector.inbox_id) as hint:
            while [event.message for event in await told(linked)] != list(said):
                await hint.wait()


def store_flags(dovecot: Dovecot, user: User, uids: str, flags: str, mailbox: str = "INBOX") -> None:
    """Add flags as another client does."""
    with dovecot.session(user) as other:
        assert other.select(quoted(mailbox))[0] == "OK"
        assert other.uid("STORE", uids, "+FLAGS", f"({flags})")[0] == "OK"


def filled(dovecot: Dovecot, count: int) -> User:
    """An account with so many mails, UIDs from 1."""
    user = dovecot.user()
    dovecot.bulk_load(user, (mail(number) for number in range(1, count + 1)))
    return user


async def subjects(linked: Linked) -> list[bytes]:
    """Which mails are stored."""
    page = await messages.page(
        linked.bench.store, MessageFilter(inbox_ids=(linked.connector.inbox_id,)), Window(size=100)
    )
    raws = [await messages.raw(linked.bench.store, row.id) for row in page.rows]
    return sorted(raw.partition(b"\r\n")[0].removeprefix(b"Subject: ") for raw in raws)


# --- Dovecot, which has CONDSTORE and QRESYNC -------------------------------------------------------------------------


async def test_what_another_client_does_is_followed_while_the_connector_listens(bench: Bench, dovecot: Dovecot) -> None:
    user = filled(dovecot, 4)
    linked = await link(bench, dovecot, user)
    before = sample("inboxd_message_flags_changed_total"), sample("inboxd_messages_vanished_total")
    async with alive(linked):
        assert await kept(linked) == {1: set(), 2: set(), 3: set(), 4: set()}
        both = {"\\Seen", "$Todo"}
        store_flags(dovecot, user, "1:3", "\\Seen $Todo")
        await until_kept(linked, {1: both, 2: both, 3: both, 4: set()})
        dovecot.expunge(user, 2, 4)
        await until_kept(linked, {1: both, 2: None, 3: both, 4: None})
        dovecot.append(user, mail(9))
        await linked.until_stored(1, 2, 3, 4, 5)
        await until_told(linked, "flags of 3 messages changed in INBOX", "2 deleted upstream in INBOX")
    assert {(event.type, event.status, event.size) for event in await told(linked)} == {
        (EventType.SYNC, EventStatus.SUCCESS, 0)
    }
    assert sample("inboxd_message_flags_changed_total") == before[0] + 3
    assert sample("inboxd_messages_vanished_total") == before[1] + 2
    assert not any(row.read for row in (await rows(linked)).values())  # \Seen is the mailbox's, `read` the API's


async def test_what_happened_meanwhile_is_asked_for_by_its_mark_and_nothing_else_is(
    bench: Bench, dovecot: Dovecot
) -> None:
    user = filled(dovecot, 5)
    linked = await link(bench, dovecot, user)
    async with alive(linked):
        pass
    store_flags(dovecot, user, "5", "\\Flagged")
    dovecot.expunge(user, 1, 3)
    dovecot.append(user, mail(6))
    async with alive(linked):
        await until_kept(linked, {1: None, 2: set(), 3: None, 4: set(), 5: {"\\Flagged"}, 6: set()})
        await until_told(linked, "flags of 1 message changed, 2 deleted upstream in INBOX")
    [event] = await told(linked)
    logs = (await events.get(bench.store, event.id)).logs or ""
    assert "UID FETCH 1:5 (UID FLAGS) (CHANGEDSINCE" in logs
    assert "SEARCH RETURN (ALL) UID 1:*" not in logs
    async with alive(linked) as supervisor:  # and nothing is asked when nothing has happened
        assert not any("CHANGEDSINCE" in line for line in vars(supervisor)["_transcript"])
    assert len(await told(linked)) == 1


async def test_a_sync_asked_for_follows_too(bench: Bench, dovecot: Dovecot) -> None:
    user = filled(dovecot, 2)
    linked = await link(bench, dovecot, user)
    assert len((await sync_now(bench.services, linked.connector.id, since=None, mailbox=None)).stored) == 2
    store_flags(dovecot, user, "1", "\\Answered")
    dovecot.expunge(user, 2)
    report = await sync_now(bench.services, linked.connector.id, since=None, mailbox=None)
    assert (report.stored, report.error) == ((), None)
    assert await kept(linked) == {1: {"\\Answered"}, 2: None}
    assert [event.message for event in await told(linked)] == [
        "flags of 1 message changed, 1 deleted upstream in INBOX"
    ]


async def test_the_other_folders_follow_and_a_moved_mail_is_stored_where_it_went(
    bench: Bench, dovecot: Dovecot
) -> None:
    user = filled(dovecot, 1)
    with dovecot.session(user) as other:
        assert other.create("Work")[0] == "OK"
    for number in (2, 3):
        dovecot.append(user, mail(number), "Work")
    linked = await link(bench, dovecot, user, folders=("*",))
    async with alive(linked, sweep_seconds=600.0):
        await until_kept(linked, {1: set(), 2: set()}, "Work")
        store_flags(dovecot, user, "2", "\\Flagged", "Work")
        await until_kept(linked, {1: set(), 2: {"\\Flagged"}}, "Work")
        dovecot.expunge(user, 1, mailbox="Work")
        await until_kept(linked, {1: None, 2: {"\\Flagged"}}, "Work")
        dovecot.doveadm("move", "-u", user.name, "Work", "mailbox", "INBOX", "all")
        await until_kept(linked, {1: None})
        await until_kept(linked, {1: None, 2: {"\\Flagged"}, 3: set()}, "Work")
    store_flags(dovecot, user, "3", "\\Seen", "Work")
    async with alive(linked, sweep_seconds=600.0):
        await until_kept(linked, {1: None, 2: {"\\Flagged"}, 3: {"\\Seen"}}, "Work")


async def test_a_mirror_deletes_what_was_deleted_but_nothing_that_was_renumbered(
    bench: Bench, dovecot: Dovecot
) -> None:
    user = filled(dovecot, 3)
    linked = await link(bench, dovecot, user, mirror=True)
    async with alive(linked):
        dovecot.expunge(user, 2)
        await until_kept(linked, {1: set(), 3: set()})
        await until_told(linked, "1 deleted upstream, 1 deleted here in INBOX")
    dovecot.expunge(user, 1)
    dovecot.renumber(user)
    async with alive(linked):
        assert await subjects(linked) == [b"mail 1", b"mail 3"]  # that of the old incarnation stays
        dovecot.expunge(user, 1)  # the last one, and named
        await until_told(linked, *["1 deleted upstream, 1 deleted here in INBOX"] * 2)
        assert await subjects(linked) == [b"mail 1"]
    assert (await kept(linked)) == {1: set()}


# --- servers that tell less -------------------------------------------------------------------------------------------


async def test_without_condstore_all_is_compared_when_it_is_due_and_the_newest_alone_for_their_flags(
    bench: Bench,
) -> None:
    async with serving(1, 2, 3, 4) as (mailbox, port):
        linked = await bench.link(port)
        async with alive(linked, compare_seconds=0.05, compare_count=2):
            mailbox.flags |= {1: "\\Seen", 3: "\\Seen", 4: "\\Flagged kept"}
            await until_kept(linked, {1: set(), 2: set(), 3: {"\\Seen"}, 4: {"\\Flagged", "kept"}})
            del mailbox.held[2], mailbox.held[4]
            await mailbox.say(b"* 4 EXPUNGE")
            await mailbox.say(b"* 2 EXPUNGE")
            await until_kept(linked, {1: {"\\Seen"}, 2: None, 3: {"\\Seen"}, 4: None})
            mailbox.put(2)  # a server that had lost it for a while
            await mailbox.announce_all()
            await until_kept(linked, {1: {"\\Seen"}, 2: set(), 3: {"\\Seen"}, 4: None})
        assert mailbox.count("UID FETCH") - mailbox.count("UID SEARCH") < 5
        commands = list(mailbox.commands)
        async with alive(linked):  # compared lately
            assert mailbox.commands[len(commands) :].count("UID SEARCH") == 1


async def test_a_server_that_lies_about_what_it_holds_makes_a_mirror_delete_nothing(bench: Bench) -> None:
    async with serving(1, 2, 3) as (mailbox, port):
        linked = await bench.link(port, mirror=True)
        async with alive(linked, compare_seconds=0.05) as supervisor:
            searches = mailbox.count("UID SEARCH")
            mailbox.answers["UID SEARCH"] = partly  # 3 messages, it says, and lists one of them
            await eventually(lambda: mailbox.count("UID SEARCH") > searches + 3)
            assert await kept(linked) == {1: set(), 2: set(), 3: set()}
            del mailbox.answers["UID SEARCH"]
            mailbox.held.clear()  # and now none at all, which may be or not: it is marked, and stays
            await mailbox.say(b"* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE")
            await until_kept(linked, {1: None, 2: None, 3: None})
            await eventually(lambda: supervisor.status.state is State.IDLE)
        async with alive(linked, compare_seconds=0.05):
            assert await kept(linked) == {1: None, 2: None, 3: None}
            mailbox.put(2)
            mailbox.uidvalidity = 1
            await mailbox.deliver(7)  # it holds something again: what it still does not list goes
            await until_kept(linked, {2: set(), 7: set()})
        assert ([event.message for event in await told(linked)][-1] or "").endswith("2 deleted here in INBOX")


async def partly(conversation: Conversation, tag: str) -> None:
    await conversation.send(f"* SEARCH 1\r\n{tag} OK done\r\n".encode())


async def test_with_condstore_alone_flags_are_asked_for_by_their_mark_and_deletions_found_by_listing(
    bench: Bench,
) -> None:
    async with serving(1, 2, 3, capabilities=CONDSTORE) as (mailbox, port):
        counting(mailbox, 100)
        linked = await bench.link(port)
        async with alive(linked, compare_seconds=0.05):
            counting(mailbox, 105)
            mailbox.flags[1] = "\\Seen"
            del mailbox.held[3]
            await mailbox.say(b"* 1 FETCH (FLAGS (\\Seen) MODSEQ (105))\r\n* 3 EXPUNGE")
            await until_kept(linked, {1: {"\\Seen"}, 2: set(), 3: None})
        asked = [line for line in mailbox.lines if "CHANGEDSINCE" in line]
        assert {*asked} == {"UID FETCH 1:* (UID FLAGS) (CHANGEDSINCE 100)"}
        assert any(line == 'EXAMINE "INBOX" (CONDSTORE)' for line in mailbox.lines)


@pytest.mark.parametrize("lost", [b"* OK [HIGHESTMODSEQ 7] ok\r\n", b"* OK [NOMODSEQ] none\r\n"])
async def test_a_server_that_lost_count_is_compared_with(bench: Bench, lost: bytes) -> None:
    async with serving(1, 2, 3, capabilities=QRESYNC) as (mailbox, port):
        counting(mailbox, 100)
        linked = await bench.link(port)
        async with alive(linked):
            pass
        mailbox.extra = lost
        mailbox.flags[1] = "\\Seen"
        del mailbox.held[2]
        async with alive(linked, compare_seconds=0.05):
            await until_kept(linked, {1: {"\\Seen"}, 2: None, 3: set()})


async def test_a_connection_lost_amid_the_answer_is_made_good_for(bench: Bench) -> None:
    async with serving(*range(1, 6), capabilities=QRESYNC) as (mailbox, port):
        counting(mailbox, 100)
        linked = await bench.link(port)
        async with alive(linked):
            pass
        counting(mailbox, 110)
        mailbox.flags[4] = "\\Seen"
        del mailbox.held[2]
        cut = [True]

        async def answer(conversation: Conversation, tag: str) -> None:
            await conversation.send(b"* VANISHED (EARLIER) 2\r\n* 3 FETCH (UID 4 MODSEQ (110) FLAGS (\\Seen))\r\n")
            if cut:
                cut.clear()
                conversation.reset()
            else:
                await conversation.send(f"{tag} OK done\r\n".encode())

        mailbox.answers["UID FETCH"] = answer
        async with alive(linked):
            await until_kept(linked, {1: set(), 2: None, 3: set(), 4: {"\\Seen"}, 5: set()})
        assert mailbox.lines.count("UID FETCH 1:5 (UID FLAGS) (CHANGEDSINCE 100 VANISHED)") == 2


async def test_vanished_without_bounds_costs_nothing_and_a_mirror_asks_first(bench: Bench) -> None:
    async with serving(*range(1, 31), capabilities=QRESYNC) as (mailbox, port):
        counting(mailbox, 100)
        linked = await bench.link(port, mirror=True)

        async def answer(conversation: Conversation, tag: str) -> None:
            await conversation.send(b"* VANISHED (EARLIER) 1:4294967295\r\n", f"{tag} OK done\r\n".encode())

        async with alive(linked):
            mailbox.answers["UID FETCH"] = answer
            await mailbox.say(b"* VANISHED 1:4294967295")
            await eventually(lambda: "UID FETCH 1:* (UID FLAGS) (CHANGEDSINCE 100 VANISHED)" in mailbox.lines)
            await until_told(linked, "30 deleted upstream in INBOX")
        assert len(await rows(linked)) == 30  # an empty mailbox takes none of them
        counting(mailbox, 101)
        async with alive(linked):  # nor one that lists them all
            await until_kept(linked, {uid: set() for uid in range(1, 31)})


async def test_a_server_that_refuses_to_be_asked_for_changes_is_read_all_the_same(bench: Bench) -> None:
    async with serving(1, 2, capabilities=QRESYNC) as (mailbox, port):
        counting(mailbox, 100)

        async def refuse(conversation: Conversation, tag: str) -> None:
            line = conversation.received[-1].decode()
            if "CHANGEDSINCE" in line:
                await conversation.send(f"{tag} BAD what\r\n".encode())
            else:
                await mailbox.answer(conversation, tag, "UID FETCH", line.partition("UID FETCH ")[2])

        mailbox.answers["UID FETCH"] = refuse
        linked = await bench.link(port)
        async with alive(linked, compare_seconds=0.05):
            mailbox.flags[1] = "\\Seen"
            await mailbox.say(b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (105))")
            await until_kept(linked, {1: {"\\Seen"}, 2: set()})
            await mailbox.deliver(3)
            await linked.until_stored(1, 2, 3)


async def test_changes_announced_without_end_do_not_keep_mail_waiting(bench: Bench) -> None:
    async with serving(1, capabilities=QRESYNC) as (mailbox, port):
        counting(mailbox, 100)

        async def chatter(_conversation: Conversation) -> None:
            mailbox.chatter = b"* 1 FETCH (UID 1 FLAGS (\\Recent) MODSEQ (100))\r\n"

        mailbox.hooks["IDLE"] = chatter
        linked = await bench.link(port)
        async with alive(linked):
            await eventually(lambda: mailbox.count("IDLE") > 3)
            await mailbox.deliver(2)
            await linked.until_stored(1, 2)
            looks = mailbox.count("IDLE")
        assert looks < 20  # each look in vain makes the next one wait longer
        assert await told(linked) == []


def counting(mailbox: Mailbox, modseq: int) -> None:
    """From now on the mailbox says that its last change was this one."""
    mailbox.extra = b"* OK [HIGHESTMODSEQ %d] ok\r\n" % modseq
