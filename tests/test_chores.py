"""What is done over IMAP after a send: on a real Dovecot, and on scripts for the servers that Dovecot is not."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from inboxd import chores
from inboxd.mails import Digest, Fetched, Incoming, Place
from inboxd.model import EventStatus, Kind, MessageId, SentState, Window, utc_now
from inboxd.outbox import Chore, Delivery
from inboxd.store import chores as stored_chores
from inboxd.store import connectors, events, messages
from servers.dovecot import Dovecot
from servers.errands import ID, RAW, Counting, Work, account, flags_of
from servers.mailbox import Linked, sample
from servers.scripted import Conversation, Reply, imap, scripted
from servers.sessions import eventually

pytest_plugins = ("servers.errands",)
OTHER = b"Subject: other\r\nMessage-ID: <other@example.com>\r\n\r\nbody\r\n"
SEARCHES = "inboxd_imap_command_duration_seconds_count"
SENT_MAILBOX = b'* LIST () "/" "Sent"\r\n'


# --- the copy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mailbox", ["Sent", "Éléments envoyés"])
async def test_the_copy_is_filed_seen_and_under_its_date(
    work: Work, dovecot: Dovecot, copies: Counting, mailbox: str
) -> None:
    user = account(dovecot, "Archive", mailbox)
    sent_id = await work.send(await work.link(dovecot.starttls.port, user), Chore.FILE)
    record = await work.all_done(sent_id)
    assert record.entry.state is SentState.SENT
    assert list(dovecot.fetch_all(user, mailbox).values()) == [RAW]
    shown = flags_of(dovecot, user, mailbox)
    assert "\\Seen" in shown
    assert f"{datetime.now(UTC):%Y}" in shown
    assert copies("filed") == 1


async def test_a_copy_that_the_provider_filed_is_enough(work: Work, dovecot: Dovecot, copies: Counting) -> None:
    user = account(dovecot, "Sent")
    dovecot.append(user, OTHER, "Sent")
    dovecot.append(user, RAW, "Sent")
    await work.all_done(await work.send(await work.link(dovecot.starttls.port, user), Chore.FILE))
    assert list(dovecot.fetch_all(user, "Sent").values()) == [OTHER, RAW]
    assert (copies("found"), copies("filed")) == (1, 0)


async def test_without_a_sent_mailbox_nothing_is_filed(work: Work, dovecot: Dovecot, copies: Counting) -> None:
    user = account(dovecot, "Projects/Sent")
    record = await work.all_done(await work.send(await work.link(dovecot.starttls.port, user), Chore.FILE))
    assert record.entry.state is SentState.SENT
    assert dovecot.fetch_all(user, "Projects/Sent") == dovecot.fetch_all(user) == {}
    assert copies("no_mailbox") == 1


async def test_without_an_imap_connection_nothing_is_filed_or_found(
    work: Work, copies: Counting, resolutions: Counting
) -> None:
    linked = await work.link(1)
    filed, lost = await work.send(linked, Chore.FILE, Chore.ANSWER), await work.send(linked, Chore.RESOLVE)
    await connectors.remove_connection(work.services.store, linked.connector.id, Kind.IMAP)
    async with work.running():
        assert (await work.done(filed)).entry.state is SentState.SENT
        record = await work.done(lost)
    assert record.entry.state is SentState.UNKNOWN
    assert "no IMAP connection" in (record.entry.reply or "")
    assert (copies("no_mailbox"), resolutions("not_found")) == (1, 1)


async def _over_quota(conversation: Conversation, tag: str) -> None:
    await conversation.send(f"{tag} NO [OVERQUOTA] mailbox is full\r\n".encode())


async def test_a_refused_copy_is_tried_again_until_it_is_too_old(work: Work, copies: Counting) -> None:
    tries: list[str] = []

    async def refuse(conversation: Conversation, tag: str) -> None:
        tries.append(tag)
        await _over_quota(conversation, tag)

    async with scripted(imap({"LIST": SENT_MAILBOX, "UID SEARCH": b"* SEARCH\r\n", "APPEND": refuse})) as port:
        sent_id = await work.send(await work.link(port), Chore.FILE)
        async with work.running():
            await eventually(lambda: len(tries) >= 3)
            assert (await work.record(sent_id)).chores == (Chore.FILE,)
            assert copies("given_up") == 0
        work.settle_for(copy_give_up_seconds=0.001)
        record = await work.all_done(sent_id)
    assert (copies("given_up"), copies("filed")) == (1, 0)
    assert record.entry.state is SentState.SENT, "what becomes of the copy says nothing of the mail"


class Losing:
    """A server that loses the connection of the first APPEND once it has the mail, and keeps the mail."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.sessions = 0

    async def append(self, conversation: Conversation, _tag: str) -> None:
        size = int(conversation.received[-1].rpartition(b"{")[2].rstrip(b"}"))
        await conversation.send(b"+ go ahead\r\n")
        self.kept.append(await conversation.exactly(size))
        conversation.reset()
        raise EOFError

    async def search(self, conversation: Conversation, tag: str) -> None:
        assert f'HEADER Message-ID "<{ID}>"'.encode() in conversation.received[-1]
        found = b"* SEARCH 1\r\n" if self.kept else b"* SEARCH\r\n"
        await conversation.send(found, f"{tag} OK done\r\n".encode())

    async def login(self, conversation: Conversation, tag: str) -> None:
        self.sessions += 1
        await conversation.send(f"{tag} OK in\r\n".encode())

    def replies(self) -> dict[str, Reply | bytes]:
        return {"LOGIN|AUTH": self.login, "LIST": SENT_MAILBOX, "UID SEARCH": self.search, "APPEND": self.append}


async def test_a_connection_lost_while_filing_files_no_second_copy(work: Work, copies: Counting) -> None:
    server = Losing()
    async with scripted(imap(server.replies())) as port:
        await work.all_done(await work.send(await work.link(port), Chore.FILE))
    assert server.kept == [RAW]
    assert server.sessions == 2
    assert (copies("found"), copies("filed")) == (1, 0)


async def test_what_is_due_is_done_in_one_session(work: Work, copies: Counting) -> None:
    server = Losing()
    server.kept.append(RAW)
    async with scripted(imap(server.replies())) as port:
        linked = await work.link(port)
        sent_ids = [await work.send(linked, Chore.FILE) for _ in range(5)]
        async with work.running():
            for sent_id in sent_ids:
                await work.done(sent_id)
            await work.done(await work.send(linked, Chore.FILE))
    assert (server.sessions, copies("found")) == (1, 6)


# --- a mail of unknown outcome ----------------------------------------------------------------------------------------


async def test_a_copy_in_the_sent_mailbox_shows_that_it_was_sent(
    work: Work, dovecot: Dovecot, resolutions: Counting
) -> None:
    user = account(dovecot, "Sent")
    linked = await work.link(dovecot.starttls.port, user)
    sent_id = await work.send(linked, Chore.RESOLVE)
    searches = sample(SEARCHES, command="SEARCH")
    with work.services.sends.subscribe(sent_id) as hint:
        async with work.running():
            await eventually(lambda: sample(SEARCHES, command="SEARCH") > searches)
            assert (await work.record(sent_id)).entry.state is SentState.UNKNOWN
            await asyncio.to_thread(dovecot.append, user, RAW, "Sent")
            record = await work.done(sent_id)
        assert hint.rung
    assert record.entry.state is SentState.SENT
    assert "'Sent'" in (record.entry.reply or "")
    assert [one.state for one in record.recipients] == [Delivery.ACCEPTED]
    assert resolutions("found") == 1
    rows = (await events.page(work.services.store, Window(), connector_id=linked.connector.id)).rows
    assert EventStatus.SUCCESS in {event.status for event in rows}


@pytest.mark.parametrize(
    ("to", "state"), [("work@example.com", SentState.SENT), ("bob@example.org", SentState.UNKNOWN)]
)
async def test_a_mail_to_oneself_is_looked_for_where_it_arrives(
    work: Work, dovecot: Dovecot, to: str, state: SentState
) -> None:
    work.settle_for(resolve_seconds=0.0)
    user = account(dovecot, "Sent")
    dovecot.append(user, RAW)
    sent_id = await work.send(await work.link(dovecot.starttls.port, user), Chore.RESOLVE, to=(to,))
    assert (await work.all_done(sent_id)).entry.state is state


async def test_all_mail_is_looked_through_where_there_is_such_a_mailbox(work: Work) -> None:
    examined: list[str] = []

    async def examine(conversation: Conversation, tag: str) -> None:
        examined.append(conversation.received[-1].decode().partition('"')[2].rstrip('"'))
        gone = examined[-1] == "Sent"
        await conversation.send(f"{tag} {'NO [NONEXISTENT] gone' if gone else 'OK [READ-ONLY] open'}\r\n".encode())

    folders = SENT_MAILBOX + b'* LIST (\\All) "/" "[Gmail]/All Mail"\r\n'
    replies: dict[str, Reply | bytes] = {"LIST": folders, "EXAMINE": examine, "UID SEARCH": b"* SEARCH 9\r\n"}
    async with scripted(imap(replies)) as port:
        record = await work.all_done(await work.send(await work.link(port), Chore.RESOLVE))
    assert record.entry.state is SentState.SENT
    assert "All Mail" in (record.entry.reply or "")
    assert examined == ["Sent", "[Gmail]/All Mail"]


async def test_what_is_not_found_stays_unknown(work: Work, dovecot: Dovecot, resolutions: Counting) -> None:
    work.settle_for(resolve_seconds=0.0, unknown="hold")
    user = account(dovecot, "Sent")
    dovecot.append(user, OTHER, "Sent")
    sent_id = await work.send(await work.link(dovecot.starttls.port, user), Chore.RESOLVE)
    with work.services.sends.subscribe(sent_id) as hint:
        record = await work.all_done(sent_id)
        assert hint.rung
    assert record.entry.state is SentState.UNKNOWN
    assert "not found in 'Sent'" in (record.entry.reply or "")
    assert (resolutions("not_found"), resolutions("resent")) == (1, 0)


async def test_what_is_not_found_is_sent_again_where_that_is_wanted(
    work: Work, dovecot: Dovecot, resolutions: Counting
) -> None:
    work.settle_for(resolve_seconds=0.0, unknown="resend")
    user = account(dovecot, "Sent")
    sent_id = await work.send(await work.link(dovecot.starttls.port, user), Chore.RESOLVE)
    with work.services.sends.subscribe(sent_id) as hint:
        record = await work.all_done(sent_id)
        assert hint.rung
    assert record.entry.state is SentState.QUEUED
    assert record.entry.due_at <= utc_now()
    assert [one.state for one in record.recipients] == [Delivery.PENDING]
    assert (resolutions("not_found"), resolutions("resent")) == (0, 1)


@pytest.mark.parametrize("unknown", ["hold", "resend"])
async def test_a_copy_says_nothing_of_the_rest_when_some_had_the_mail_before(
    work: Work, dovecot: Dovecot, unknown: str
) -> None:
    work.settle_for(unknown=unknown)
    user = account(dovecot, "Sent")
    dovecot.append(user, RAW, "Sent")
    linked = await work.link(dovecot.starttls.port, user)
    record = await work.all_done(await work.send(linked, Chore.RESOLVE, had=("first@example.org",)))
    assert record.entry.state is SentState.UNKNOWN
    assert {one.state for one in record.recipients} == {Delivery.UNKNOWN, Delivery.ACCEPTED}


async def test_a_search_that_is_refused_proves_nothing(work: Work) -> None:
    async def refuse(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"{tag} NO busy\r\n".encode())

    work.settle_for(resolve_seconds=0.0, copy_give_up_seconds=0.001)
    appended: list[str] = []

    async def append(conversation: Conversation, tag: str) -> None:
        appended.append(tag)
        await _over_quota(conversation, tag)

    replies: dict[str, Reply | bytes] = {"LIST": SENT_MAILBOX, "UID SEARCH": refuse, "APPEND": append}
    async with scripted(imap(replies)) as port:
        linked = await work.link(port)
        filed, lost = await work.send(linked, Chore.FILE), await work.send(linked, Chore.RESOLVE)
        async with work.running():
            await work.done(filed)
            assert (await work.done(lost)).entry.state is SentState.UNKNOWN
    assert appended == [], "what was not looked for is not filed"


# --- \\Answered -------------------------------------------------------------------------------------------------------


async def received(work: Work, linked: Linked, uidvalidity: int, uid: int, *flags: str) -> MessageId:
    """A mail that was synced from there."""
    place = Place(linked.connector.id, "INBOX", uidvalidity)
    fetched = Fetched(uid, OTHER, len(OTHER), None, flags)
    incoming = Incoming(fetched, Digest(), hashlib.sha256(OTHER).digest())
    outcome = await messages.add_batch(work.services.store, place, linked.connector.inbox_id, [incoming])
    return outcome.stored[0].id


async def test_the_answered_mail_is_marked_there_and_here(work: Work, dovecot: Dovecot) -> None:
    user = account(dovecot)
    dovecot.append(user, OTHER, flags=["\\Flagged"])
    linked = await work.link(dovecot.starttls.port, user)
    mail = await received(work, linked, dovecot.uidvalidity(user), 1, "\\Flagged")
    sent_id = await work.send(linked, Chore.ANSWER, answers=mail)
    with work.services.bus.subscribe(linked.connector.inbox_id) as hint:
        await work.all_done(sent_id)
        assert hint.rung
    kept = set((await messages.get(work.services.store, mail)).flags) - {"\\Recent"}
    assert kept == {"\\Answered", "\\Flagged"}
    assert "\\Answered" in flags_of(dovecot, user, "INBOX")


@pytest.mark.parametrize("change", ["expunged", "renumbered", "mailbox gone", "forgotten"])
async def test_an_answered_mail_that_is_gone_is_let_be(work: Work, dovecot: Dovecot, change: str) -> None:
    user = account(dovecot)
    dovecot.append(user, OTHER)
    linked = await work.link(dovecot.starttls.port, user)
    uidvalidity = dovecot.uidvalidity(user)
    mail = await received(work, linked, uidvalidity + (change == "renumbered"), 1)
    if change == "expunged":
        dovecot.expunge(user, 1)
    if change == "forgotten":
        await messages.remove(work.services.store, mail)
    if change == "mailbox gone":
        place = Place(linked.connector.id, "Gone", uidvalidity)
        fetched = Fetched(5, RAW, len(RAW), None)
        incoming = Incoming(fetched, Digest(), hashlib.sha256(RAW).digest())
        outcome = await messages.add_batch(work.services.store, place, linked.connector.inbox_id, [incoming])
        mail = outcome.stored[0].id
    await work.all_done(await work.send(linked, Chore.ANSWER, answers=mail))
    if change != "expunged":
        assert "\\Answered" not in flags_of(dovecot, user, "INBOX")


# --- servers that fail ------------------------------------------------------------------------------------------------


async def test_a_broken_connector_delays_no_other(work: Work, dovecot: Dovecot) -> None:
    held = asyncio.Event()

    async def say_nothing(conversation: Conversation) -> None:
        held.set()
        await conversation.closed()

    user = account(dovecot, "Sent")
    async with scripted(say_nothing) as port:
        silent = await work.send(await work.link(port), Chore.FILE)
        refused = await work.send(await work.link(dovecot.starttls.port, dovecot.user(password="else")), Chore.FILE)
        unreachable = await work.send(await work.link(1), Chore.FILE)
        async with work.running():
            await held.wait()
            sent_id = await work.send(await work.link(dovecot.starttls.port, user), Chore.FILE)
            await work.done(sent_id)
            for other in (silent, refused, unreachable):
                assert (await work.record(other)).chores == (Chore.FILE,)
    assert list(dovecot.fetch_all(user, "Sent").values()) == [RAW]


async def test_while_a_server_is_out_of_reach_chores_wait_and_an_unknown_mail_stays_so_in_the_end(
    work: Work, copies: Counting
) -> None:
    linked = await work.link(1)
    filed, lost = await work.send(linked, Chore.FILE), await work.send(linked, Chore.RESOLVE)
    async with work.running():
        await work.tried(linked)
        assert (await work.record(lost)).chores == (Chore.RESOLVE,)
    work.settle_for(resolve_seconds=0.0, copy_give_up_seconds=0.001)
    async with work.running():
        record = await work.done(lost)
        await work.done(filed)
    assert record.entry.state is SentState.UNKNOWN
    assert copies("given_up") == 1


async def test_a_server_that_refuses_the_login_is_not_asked_again_for_each_mail(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chores, "_RETRY_FIRST_SECONDS", 3600.0)
    logins: list[str] = []

    async def refuse(conversation: Conversation, tag: str) -> None:
        logins.append(tag)
        await conversation.send(f"{tag} NO [AUTHENTICATIONFAILED] wrong\r\n".encode())

    async with scripted(imap({"LOGIN|AUTH": refuse})) as port:
        linked = await work.link(port)
        async with work.running():
            for _ in range(3):
                await work.send(linked, Chore.FILE)
                await work.put_off(linked)
                ((_, due_at),) = await stored_chores.due(work.services.store, utc_now())
                assert due_at > utc_now() + timedelta(minutes=10)
    assert len(logins) == 1


async def test_the_looks_for_a_mail_come_less_and_less_often(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores, "_RESOLVE_AFTER_SECONDS", (100.0, 200.0))
    work.settle_for(resolve_seconds=150.0)
    store = work.services.store
    async with scripted(imap({"LIST": SENT_MAILBOX, "UID SEARCH": b"* SEARCH\r\n"})) as port:
        linked = await work.link(port)
        sent_id = await work.send(linked, Chore.RESOLVE)
        for seconds in (100, 150):
            async with work.running():
                await work.put_off(linked)
            ((_, due_at),) = await stored_chores.due(store, utc_now())
            assert abs((due_at - utc_now()).total_seconds() - seconds) < 30
            await stored_chores.again(store, sent_id, Chore.RESOLVE, utc_now(), "")


async def test_a_server_no_code_was_ready_for_delays_no_other(
    work: Work, dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, odd = account(dovecot, "Sent"), account(dovecot, "Sent", "Odd")

    def crash(folders: Any) -> str | None:
        if any(folder.name == "Odd" for folder in folders):
            raise RuntimeError("odd")
        return "Sent"

    monkeypatch.setattr(chores, "find_sent", crash)
    first = await work.send(await work.link(dovecot.starttls.port, odd), Chore.FILE)
    second = await work.send(await work.link(dovecot.starttls.port, user), Chore.FILE)
    async with work.running():
        await work.done(second)
        assert (await work.record(first)).chores == (Chore.FILE,)
        monkeypatch.undo()
        await work.done(first)


async def test_a_stop_in_the_midst_of_filing_leaves_the_chore(work: Work, dovecot: Dovecot) -> None:
    asked = asyncio.Event()

    async def hang(conversation: Conversation, tag: str) -> None:
        asked.set()
        await conversation.closed()

    replies: dict[str, Reply | bytes] = {"LIST": SENT_MAILBOX, "UID SEARCH": b"* SEARCH\r\n", "APPEND": hang}
    async with scripted(imap(replies)) as port:
        sent_id = await work.send(await work.link(port), Chore.FILE)
        async with work.running():
            await asked.wait()
    assert (await work.record(sent_id)).chores == (Chore.FILE,)


async def test_flags_are_kept_for_the_mail_of_that_place_alone(work: Work) -> None:
    store, linked = work.services.store, await work.link(1)
    mail = await received(work, linked, 7, 1, "\\Flagged")
    place = Place(linked.connector.id, "INBOX", 7)
    assert await messages.set_flags_at(store, replace(place, uidvalidity=8), 1, ()) is None
    assert await messages.set_flags_at(store, replace(place, mailbox="Sent"), 1, ()) is None
    assert await messages.set_flags_at(store, place, 2, ()) is None
    assert (await messages.get(store, mail)).flags == ("\\Flagged",)
    assert await messages.set_flags_at(store, place, 1, ("\\Answered",)) == linked.connector.inbox_id
    assert (await messages.get(store, mail)).flags == ("\\Answered",)
    assert await stored_chores.due(store, utc_now()) == []
