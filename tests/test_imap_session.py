"""A logged-in session on a real Dovecot: mailboxes examined, searched and fetched."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

import corpus
from inboxd.errors import CommandRefused, Invalid, MailboxRefused, MailServerError
from inboxd.model import Tls
from servers import Listener
from servers.certs import Certificates
from servers.dovecot import Dovecot, User, quoted
from servers.proxy import Proxy, proxy
from servers.sessions import BOTH_LOOPS, account, examined, limits, session, take_all

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
MEBIBYTE = 1 << 20
HELLO = b"Subject: hello\r\n\r\nbody\r\n"
NAMES = [
    "Two words",
    'My "Folder"',
    "Back\\slash",
    "This & that",
    "&",
    "Entwürfe",
    "台北",
    "🎉 party 🎉",
    "a%b*c",
    "{40}",
    "(parens)",
    "Archive/2024",
    "&AOQ-",
    "Tom's $ mail",
]


@pytest.fixture
def mails() -> list[bytes]:
    """Mails of odd shapes, the malformed ones among them, with CRLF throughout."""
    odd = [mail.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for mail in corpus.malformed().values()]
    return [*corpus.messages(40, small=True), *filter(None, odd)]


# --- mailboxes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
async def test_a_mailbox_of_any_name_is_opened(dovecot: Dovecot, name: str) -> None:
    user = dovecot.user()
    with dovecot.session(user) as other:
        assert other.create(quoted(name))[0] == "OK"
    dovecot.append(user, HELLO, name)
    async with session(account(dovecot.starttls, user)) as opened:
        mailbox = await opened.examine(name)
        assert (mailbox.name, mailbox.exists, mailbox.uidnext) == (name, 1, 2)
        assert mailbox.uidvalidity == dovecot.uidvalidity(user, name)
        assert [bytes(mail.raw) for mail in await take_all(opened, "1:*")] == [HELLO]


@pytest.mark.parametrize("name", ["Missing", 'No "such"', "Fehlt ü", "a\tb", "a" * 300, "{5}"])
async def test_a_missing_mailbox_is_refused_and_the_session_goes_on(dovecot: Dovecot, name: str) -> None:
    async with session(account(dovecot.starttls, dovecot.user())) as opened:
        with pytest.raises((MailboxRefused, CommandRefused)) as told:
            await opened.examine(name)
        assert isinstance(told.value, MailboxRefused) or not name.isprintable() or len(name) > 200
        assert (await opened.examine("INBOX")).exists == 0


@pytest.mark.parametrize("name", ["a\r\nA1 OK done", "a\n* 5 EXISTS", "nul\0"])
async def test_a_name_that_would_forge_an_answer_is_not_sent(dovecot: Dovecot, name: str) -> None:
    """Dovecot repeats the decoded name in its NO, line breaks and all."""
    async with session(account(dovecot.starttls, dovecot.user())) as opened:
        with pytest.raises(Invalid):
            await opened.examine(name)
        assert (await opened.examine("INBOX")).exists == 0


async def test_a_mailbox_that_may_not_be_opened_leaves_none_open(dovecot: Dovecot) -> None:
    user = dovecot.user()
    dovecot.append(user, HELLO)
    async with examined(account(dovecot.starttls, user)) as opened:
        with pytest.raises(MailboxRefused):
            await opened.examine("Missing")
        with pytest.raises(MailServerError):
            await opened.search()


# --- search ----------------------------------------------------------------------------------------------------------


async def test_search_finds_what_is_above_matches_and_is_new_enough(dovecot: Dovecot) -> None:
    user = dovecot.user()
    now = datetime.now(UTC)
    for number, days in enumerate((40, 20, 10, 0, 0)):
        subject = b"Subject: green %d\r\n\r\n" % number if number % 2 else b"Subject: red %d\r\n\r\n" % number
        dovecot.append(user, subject, date=now - timedelta(days=days), flags=["\\Flagged"] if number == 4 else [])
    async with examined(account(dovecot.starttls, user)) as opened:
        assert list(await opened.search()) == [1, 2, 3, 4, 5]
        assert list(await opened.search(above=3)) == [4, 5]
        assert list(await opened.search(above=5)) == [], "n:* names the last message too"
        assert list(await opened.search(above=999)) == []
        assert list(await opened.search(terms='SUBJECT "green"')) == [2, 4]
        assert list(await opened.search(terms="OR FLAGGED SUBJECT green")) == [2, 4, 5]
        assert list(await opened.search(since=now - timedelta(days=15))) == [3, 4, 5]
        assert list(await opened.search(above=3, terms="SUBJECT red", since=now)) == [5]
        assert list(await opened.search(since=datetime.min.replace(tzinfo=UTC))) == [1, 2, 3, 4, 5]
        assert list(await opened.search(since=datetime.max.replace(tzinfo=UTC))) == []


async def test_search_terms_the_server_does_not_know_are_refused(dovecot: Dovecot) -> None:
    async with examined(account(dovecot.starttls, dovecot.user())) as opened:
        with pytest.raises(CommandRefused):
            await opened.search(terms="NO SUCH KEY")
        assert not await opened.search()


@pytest.mark.parametrize("terms", ["ALL\r\nA1 LOGOUT", "ALL\n", "SUBJECT \0", "SUBJECT ü", "\ud800"])
async def test_search_terms_that_cannot_be_sent_are_invalid(dovecot: Dovecot, terms: str) -> None:
    async with examined(account(dovecot.starttls, dovecot.user())) as opened:
        with pytest.raises(Invalid):
            await opened.search(terms=terms)
        assert not await opened.search()


# --- fetch -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [Tls.NONE, Tls.IMPLICIT], ids=lambda tls: tls.value)
async def test_every_octet_of_every_mail_arrives(
    dovecot: Dovecot, trusted: Certificates, mails: list[bytes], tls: Tls
) -> None:
    user = dovecot.user()
    count = dovecot.bulk_load(user, mails)
    held = dovecot.fetch_all(user)
    async with examined(account(dovecot.tls if tls is Tls.IMPLICIT else dovecot.starttls, user, tls)) as opened:
        found = await take_all(opened, "1:*")
    assert {mail.uid: bytes(mail.raw) for mail in found} == held
    assert len(found) == count == len(held)
    assert all(mail.whole and mail.size_bytes == len(mail.raw) for mail in found)
    assert all(mail.received_at is not None for mail in found)


async def through_chunks(relay: Proxy, user: User, size: int | None, coalesce: int | None) -> object:
    """What a session gets to know when the server's octets come in pieces of this size."""
    relay.chunk_bytes, relay.coalesce_bytes = size, coalesce
    async with examined(account(Listener(relay.host, relay.port), user)) as opened:
        mailbox = await opened.examine("INBOX")
        uids = list(await opened.search())
        mails = [(m.uid, bytes(m.raw), m.flags, m.received_at) for m in await take_all(opened, "1:*")]
        return mailbox, uids, mails, await opened.header(1), opened.capabilities


async def test_pieces_of_any_size_give_the_same_session(dovecot: Dovecot) -> None:
    user = dovecot.user()
    dovecot.bulk_load(user, corpus.messages(2, small=True))
    for flags in (["\\Flagged", "$Odd:+'-"], []):
        dovecot.append(user, HELLO, flags=flags)
    async with proxy(dovecot.starttls) as relay:
        whole = await through_chunks(relay, user, None, None)
        for size in (1, 2, 3, 7, 65_536):
            assert await through_chunks(relay, user, size, None) == whole
        assert await through_chunks(relay, user, None, 65_536) == whole


async def test_fetching_marks_nothing_as_seen(dovecot: Dovecot) -> None:
    user = dovecot.user()
    dovecot.append(user, HELLO)
    async with examined(account(dovecot.starttls, user)) as opened:
        assert len(await take_all(opened, "1:*")) == 1
        assert await opened.header(1) == b"Subject: hello\r\n\r\n"
        await opened.log_out()
    with dovecot.session(user) as other:
        other.select("INBOX", readonly=True)
        _, (flags,) = other.uid("FETCH", "1", "(FLAGS)")
    assert isinstance(flags, bytes)
    assert b"Seen" not in flags


async def test_an_expunged_mail_is_never_an_empty_one(dovecot: Dovecot) -> None:
    user = dovecot.user()
    for _ in range(5):
        dovecot.append(user, HELLO)
    async with examined(account(dovecot.starttls, user)) as opened:
        await asyncio.to_thread(dovecot.expunge, user, 2, 4)
        found = await take_all(opened, "1:*")
        assert [mail.uid for mail in found] == [1, 3, 5]
        assert all(bytes(mail.raw) == HELLO for mail in found)
        assert await opened.header(2) == b""
        assert await take_all(opened, "2,4,77") == []
        assert list(await opened.search()) == [1, 3, 5]


async def test_a_mail_over_the_limit_leaves_its_size_and_a_usable_session(dovecot: Dovecot) -> None:
    user = dovecot.user()
    large = HELLO + b"x" * 76 * 40_000 + b"\r\n"
    for mail in (HELLO, large, HELLO):
        dovecot.append(user, mail)
    async with examined(account(dovecot.starttls, user), limits(max_message_bytes=MEBIBYTE)) as opened:
        found = await take_all(opened, "1:*")
        assert [(m.uid, m.whole, m.size_bytes, len(m.raw)) for m in found] == [
            (1, True, len(HELLO), len(HELLO)),
            (2, False, len(large), 0),
            (3, True, len(HELLO), len(HELLO)),
        ]
        assert await opened.header(2) == b"Subject: hello\r\n\r\n"


async def test_flags_and_arrival_come_with_the_mail(dovecot: Dovecot) -> None:
    user = dovecot.user()
    arrived = datetime(2020, 2, 29, 23, 59, 58, tzinfo=UTC)
    dovecot.append(user, HELLO, flags=["\\Flagged", "$Label1", "odd:+'-"], date=arrived)
    async with examined(account(dovecot.starttls, user)) as opened:
        (mail,) = await take_all(opened, "1")
    assert {"\\Flagged", "$Label1", "odd:+'-"} <= set(mail.flags)
    assert mail.received_at == arrived


async def test_messages_are_handed_out_in_batches_of_the_size_asked_for(dovecot: Dovecot) -> None:
    user = dovecot.user()
    dovecot.bulk_load(user, [HELLO] * 50)
    async with examined(account(dovecot.starttls, user)) as opened:
        with opened.fetch("1:*") as stream:
            sizes: list[int] = []
            while batch := await stream.take(10 * len(HELLO), 7, 0.5):
                sizes.append(len(batch))
            assert stream.finished
            assert await stream.take(1, 1, 0) == []
        assert sum(sizes) == 50
        assert max(sizes) <= 7
        with opened.fetch("1:*") as stream:
            while batch := await stream.take(1, 100, 0):
                assert len(batch) == 1, "one mail is handed out though it is larger than asked for"
        assert len(await take_all(opened, "1:50")) == 50


async def test_leaving_a_fetch_early_ends_the_connection(dovecot: Dovecot) -> None:
    """The rest of the answer, or a paused transport, would be the next command's."""
    user = dovecot.user()
    dovecot.bulk_load(user, [HELLO] * 50)
    async with examined(account(dovecot.starttls, user)) as opened:
        with opened.fetch("1:*") as stream:
            assert len(await stream.take(1, 1, 0)) == 1
        with pytest.raises(MailServerError):
            await opened.search()


async def test_a_fetch_the_server_refuses_leaves_the_session_usable(dovecot: Dovecot) -> None:
    user = dovecot.user()
    dovecot.append(user, HELLO)
    async with examined(account(dovecot.starttls, user)) as opened:
        with pytest.raises(CommandRefused):
            await take_all(opened, "not-a-set")
        assert len(await take_all(opened, "1")) == 1
