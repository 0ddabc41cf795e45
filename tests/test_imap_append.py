"""A message filed by APPEND: on a real Dovecot, and on scripts for the servers that Dovecot is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone

import pytest

import corpus
from inboxd.errors import CommandRefused, ConnectionLost, Invalid, MailboxRefused, Stalled
from inboxd.imap.lines import date_time
from inboxd.imap.session import Session
from inboxd.model import Tls
from servers.dovecot import Dovecot, User
from servers.mailbox import sample
from servers.scripted import Conversation, imap, scripted
from servers.sessions import BOTH_LOOPS, account, account_on, limits, session, settled

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
MORNING = datetime(2026, 5, 4, 8, 30, 7, tzinfo=UTC)
HELLO = b"Subject: hello\r\n\r\nbody\r\n"
BIG = corpus.message(3)[:1000] + b"\r\n" + b"0123456789abcdef" * 330_000 + b"\r\n"


def sent_bytes() -> float:
    """What was handed to transports so far."""
    return sample("inboxd_imap_bytes_total", direction="out")


def shown(dovecot: Dovecot, user: User, mailbox: str) -> tuple[str, bytes]:
    """Flags and date of the first mail, and its bytes."""
    with dovecot.session(user) as other:
        other.select(f'"{mailbox}"', readonly=True)
        _, (answer,) = other.fetch("1", "(FLAGS INTERNALDATE)")
    assert isinstance(answer, bytes)
    (raw,) = dovecot.fetch_all(user, mailbox).values()
    return answer.decode(), raw


@pytest.mark.parametrize("raw", [HELLO, b"", b"\xff\x80 no header", BIG], ids=["small", "empty", "8bit", "5MB"])
async def test_a_message_is_filed_byte_for_byte(dovecot: Dovecot, raw: bytes) -> None:
    user = dovecot.user()
    dovecot.doveadm("mailbox", "create", "-u", user.name, "Sent")
    async with session(account(dovecot.starttls, user)) as opened:
        if not raw:
            with pytest.raises(CommandRefused):
                await opened.append("Sent", raw, flags=(), date=MORNING)
            return
        await opened.append("Sent", raw, flags=("\\Seen", "$Work"), date=MORNING)
        assert (await opened.examine("Sent")).exists == 1
    flags, kept = await asyncio.to_thread(shown, dovecot, user, "Sent")
    assert kept == raw
    assert "\\Seen" in flags
    assert "$Work" in flags
    assert "04-May-2026 08:30:07 +0000" in flags


async def test_a_large_message_goes_through_tls(dovecot: Dovecot) -> None:
    user = dovecot.user()
    async with session(account(dovecot.tls, user, Tls.IMPLICIT, ssl_trust="*")) as opened:
        await opened.append("INBOX", BIG, flags=(), date=MORNING)
    assert list(dovecot.fetch_all(user).values()) == [BIG]


async def test_filing_disturbs_no_open_mailbox(dovecot: Dovecot) -> None:
    user = dovecot.user()
    async with session(account(dovecot.starttls, user)) as opened:
        await opened.examine("INBOX")
        await opened.append("INBOX", HELLO, flags=(), date=MORNING)
        assert list(await opened.search()) == [1]
        await opened.append("INBOX", HELLO, flags=("\\Seen",), date=MORNING)
        assert list(await opened.search()) == [1, 2]


async def test_a_missing_mailbox_is_refused_and_the_session_goes_on(dovecot: Dovecot) -> None:
    user = dovecot.user()
    async with session(account(dovecot.starttls, user)) as opened:
        for _ in range(2):
            with pytest.raises(MailboxRefused, match="Missing"):
                await opened.append("Missing", BIG, flags=(), date=MORNING)
        await opened.append("INBOX", HELLO, flags=(), date=MORNING)
    assert list(dovecot.fetch_all(user).values()) == [HELLO]


@pytest.mark.parametrize(
    ("mailbox", "flags"), [("a\r\nb", ()), ("a\0", ()), ("INBOX", ("\\Seen) x",)), ("INBOX", ("a\r\nb",))]
)
async def test_what_would_break_the_command_is_not_sent(mailbox: str, flags: tuple[str, ...]) -> None:
    async with scripted(imap({})) as port, session(account_on(port)) as opened:
        with pytest.raises(Invalid):
            await opened.append(mailbox, HELLO, flags=flags, date=MORNING)


def test_dates_are_written_in_utc() -> None:
    east = datetime(2026, 1, 1, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))
    assert date_time(east) == '"31-Dec-2025 23:02:03 +0000"'
    assert date_time(MORNING) == '"04-May-2026 08:30:07 +0000"'


# --- literals ---------------------------------------------------------------------------------------------------------


class Server:
    """Offers some capabilities and files what it is given; `after` may answer otherwise once it has a literal."""

    def __init__(self, capabilities: str = "") -> None:
        self.capabilities = capabilities
        self.filed: list[tuple[str, bytes]] = []
        self.answer = b"OK [APPENDUID 1 1] filed"
        self.first = b""
        self.lost = False
        self.silent = False
        self.slow = asyncio.Event()
        self.slow.set()

    async def append(self, conversation: Conversation, tag: str) -> None:
        command = conversation.received[-1].decode().partition(" ")[2]
        size, asks = int(command.rpartition("{")[2].rstrip("+}")), not command.endswith("+}")
        if self.first:
            await conversation.send(tag.encode() + b" " + self.first + b"\r\n")
            if asks:
                return
        elif asks:
            await conversation.send(b"+ go ahead\r\n")
        await self.slow.wait()
        raw = await conversation.exactly(size)
        assert await conversation.line() == b""
        if self.lost:
            conversation.reset()
            raise EOFError
        if not self.first:
            self.filed.append((command, raw))
            await (
                conversation.closed() if self.silent else conversation.send(tag.encode() + b" " + self.answer + b"\r\n")
            )

    @asynccontextmanager
    async def open(self, silence_seconds: float = 8) -> AsyncGenerator[Session]:
        """A session with it."""
        capability = f"* CAPABILITY IMAP4rev1 {self.capabilities}\r\n".encode()
        async with (
            scripted(imap({"CAPABILITY": capability, "APPEND": self.append})) as port,
            session(account_on(port), limits(command_seconds=silence_seconds)) as opened,
        ):
            yield opened


@pytest.mark.parametrize(
    ("capabilities", "size", "unasked"),
    [
        ("", 10, False),
        ("LITERAL+", 10, True),
        ("LITERAL+", 300_000, True),
        ("LITERAL-", 4096, True),
        ("LITERAL-", 4097, False),
        ("LITERAL-", 300_000, False),
    ],
)
async def test_a_literal_waits_to_be_asked_for_unless_the_server_offers_otherwise(
    capabilities: str, size: int, unasked: bool
) -> None:
    server = Server(capabilities)
    async with server.open() as opened:
        await opened.append('Sent "1"', b"x" * size, flags=("\\Seen",), date=MORNING)
        plus = "+" if unasked else ""
        command = f'APPEND "Sent \\"1\\"" (\\Seen) "04-May-2026 08:30:07 +0000" {{{size}{plus}}}'
        assert server.filed == [(command, b"x" * size)]
        await opened.examine("INBOX")


@pytest.mark.parametrize("capabilities", ["", "LITERAL+"])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"NO [TRYCREATE] no such mailbox", MailboxRefused),
        (b"NO [NONEXISTENT] no such mailbox", MailboxRefused),
        (b"NO [OVERQUOTA] full", CommandRefused),
        (b"NO [TOOBIG] too big", CommandRefused),
        (b"BAD what", CommandRefused),
    ],
)
@pytest.mark.parametrize("early", [True, False])
async def test_a_refusal_is_told_and_leaves_the_session_usable(
    capabilities: str, answer: bytes, kind: type[Exception], early: bool
) -> None:
    server = Server(capabilities)
    server.first, server.answer = (answer, server.answer) if early else (b"", answer)
    async with server.open() as opened:
        with pytest.raises(kind, match=answer.decode().split()[-1]):
            await opened.append("Sent", b"x" * 200_000, flags=(), date=MORNING)
        server.first, server.answer = b"", b"OK filed"
        server.filed.clear()
        await opened.append("Sent", HELLO, flags=(), date=MORNING)
    assert [raw for _, raw in server.filed] == [HELLO]


async def test_a_server_that_takes_nothing_is_given_little_and_then_left() -> None:
    server = Server()
    server.slow.clear()
    raw = b"x" * 50_000_000
    async with server.open(silence_seconds=0.3) as opened:
        with pytest.raises(Stalled):
            await opened.append("Sent", raw, flags=(), date=MORNING)
        with pytest.raises(Stalled):
            await opened.examine("INBOX")
    assert server.filed == []


async def test_a_slow_server_gets_everything_and_little_of_it_waits_here() -> None:
    server = Server()
    server.slow.clear()
    raw = b"x" * 60_000_000  # the script's reader takes 32 MiB before it stops reading
    async with server.open() as opened, asyncio.TaskGroup() as group:
        before = sent_bytes()
        filing = group.create_task(opened.append("Sent", raw, flags=(), date=MORNING))
        written = await settled(lambda: int(sent_bytes() - before))
        assert 0 < written < len(raw) - 10_000_000
        assert not filing.done()
        server.slow.set()
    assert [filed == raw for _, filed in server.filed] == [True]


async def test_silence_after_the_literal_ends_the_wait() -> None:
    server = Server()
    server.silent = True
    async with server.open(silence_seconds=0.2) as opened:
        with pytest.raises(Stalled):
            await opened.append("Sent", HELLO, flags=(), date=MORNING)
    assert [raw for _, raw in server.filed] == [HELLO], "it may have been filed all the same"


async def test_silence_instead_of_a_go_ahead_ends_the_wait() -> None:
    async def say_nothing(conversation: Conversation, tag: str) -> None:
        await conversation.closed()

    async with (
        scripted(imap({"APPEND": say_nothing})) as port,
        session(account_on(port), limits(command_seconds=0.2)) as opened,
    ):
        with pytest.raises(Stalled):
            await opened.append("Sent", HELLO, flags=(), date=MORNING)


async def test_a_connection_lost_after_the_literal_is_told() -> None:
    server = Server()
    server.lost = True
    async with server.open() as opened:
        with pytest.raises(ConnectionLost):
            await opened.append("Sent", HELLO, flags=(), date=MORNING)


async def test_a_connection_lost_under_the_literal_is_told() -> None:
    async def leave(conversation: Conversation, tag: str) -> None:
        await conversation.send(b"+ go ahead\r\n")
        await conversation.exactly(100_000)
        conversation.reset()
        raise EOFError

    async with scripted(imap({"APPEND": leave})) as port, session(account_on(port)) as opened:
        with pytest.raises(ConnectionLost):
            await opened.append("Sent", BIG, flags=(), date=MORNING)


async def test_what_is_filed_is_not_traced(dovecot: Dovecot) -> None:
    user, said = dovecot.user(), list[str]()
    async with session(account(dovecot.starttls, user), trace=said.append) as opened:
        await opened.append("INBOX", b"Subject: canary\r\n\r\ncanary\r\n", flags=(), date=MORNING)
    assert any("APPEND" in line for line in said)
    assert "canary" not in "".join(said)
