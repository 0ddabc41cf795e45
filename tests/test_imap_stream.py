"""FETCH from servers that answer oddly, slowly, too much or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from inboxd.errors import CommandRefused, ConnectionLost, MailServerError, ProtocolError, ServerSaidBye, Stalled
from inboxd.imap.session import Session
from inboxd.imap.stream import Stream
from inboxd.model import Tls
from inboxd.sections import ImapSettings
from servers.certs import Certificates
from servers.scripted import Conversation, Reply, Script, imap, scripted
from servers.sessions import (
    BOTH_LOOPS,
    LIMITS,
    MANY,
    account_on,
    eventually,
    examined,
    limits,
    settled,
    take_all,
)

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
MEBIBYTE = 1 << 20


def answer(uid: int, body: bytes) -> bytes:
    """A FETCH response as Dovecot writes it."""
    return b"* %d FETCH (UID %d FLAGS () BODY[] {%d}\r\n%b)\r\n" % (uid, uid, len(body), body)


def says(*pieces: bytes) -> Reply:
    """Answer a command with these octets; TAG replaced."""

    async def reply(conversation: Conversation, tag: str) -> None:
        await conversation.send(*(piece.replace(b"TAG", tag.encode()) for piece in pieces))

    return reply


@asynccontextmanager
async def fetching_from(*octets: bytes, within: ImapSettings = LIMITS) -> AsyncGenerator[Session]:
    """A session on a server that answers FETCH so."""
    async with scripted(imap({"UID FETCH": says(*octets)})) as port, examined(account_on(port), within) as opened:
        yield opened


# --- odd answers -----------------------------------------------------------------------------------------------------


async def test_a_mail_of_no_octets_is_a_mail() -> None:
    async with fetching_from(answer(1, b""), answer(2, b"x"), b"TAG OK\r\n") as opened:
        assert [(m.uid, bytes(m.raw), m.size_bytes, m.whole) for m in await take_all(opened, "1:2")] == [
            (1, b"", 0, True),
            (2, b"x", 1, True),
        ]


@pytest.mark.parametrize(
    "odd",
    [
        b"* 1 FETCH (FLAGS (\\Seen))\r\n",
        b"* 1 FETCH (UID 1 FLAGS ())\r\n",
        b"* 1 FETCH (UID 1 BODY[] NIL)\r\n",
        b"* 1 FETCH (BODY[] {1}\r\nx)\r\n",
        b"* 1 FETCH (UID 0 BODY[] {1}\r\nx)\r\n",
        b"* 1 FETCH (UID 99999999999 BODY[] {1}\r\nx)\r\n",
        b"* 1 FETCH ()\r\n",
        b"* 1 FETCH (UID\r\n",
        b"* 1 EXPUNGE\r\n* OK [HIGHESTMODSEQ 3] x\r\n* 5 EXISTS\r\n",
        b"* NO one message is broken {3}\r\n",
        b"* 1 FETCH (ENVELOPE (NIL \"(\" ((\"UID\" NIL \"9\" \"x\"))) BODY[] NIL)\r\n",
    ],
)  # fmt: skip
async def test_answers_that_are_no_mail_do_not_become_one(odd: bytes) -> None:
    async with fetching_from(odd, answer(7, b"mail"), odd, b"TAG OK\r\n") as opened:
        assert [(m.uid, bytes(m.raw)) for m in await take_all(opened, "1:7")] == [(7, b"mail")]


async def test_a_body_may_come_as_a_quoted_string_and_before_the_uid() -> None:
    octets = b'* 1 FETCH (BODY[] "a \\"quoted\\" :( body" UID 3)\r\n'
    async with fetching_from(octets, b"TAG OK\r\n") as opened:
        assert [(m.uid, bytes(m.raw)) for m in await take_all(opened, "3")] == [(3, b'a "quoted" :( body')]


async def test_mails_that_look_like_answers_are_only_mails() -> None:
    bodies = [b"A1 OK done\r\n", b")\r\n* 1 FETCH (UID 9 BODY[] {3}\r\n", b"* BYE\r\n", b"+ go\r\n", b"{5}\r\n"]
    octets = [answer(uid, body) for uid, body in enumerate(bodies, 1)]
    async with fetching_from(*octets, b"TAG OK\r\n") as opened:
        found = await take_all(opened, "1:*")
    assert [m.uid for m in found] == [1, 2, 3, 4, 5]
    assert [bytes(m.raw) for m in found] == bodies


async def test_no_means_that_some_mails_are_gone_and_bad_is_refused() -> None:
    async with fetching_from(answer(1, b"x"), b"TAG NO some messages are gone\r\n") as opened:
        assert [m.uid for m in await take_all(opened, "1:2")] == [1]
        assert [m.uid for m in await take_all(opened, "1:2")] == [1]
    async with fetching_from(answer(1, b"x"), b"TAG BAD what\r\n") as opened:
        with pytest.raises(CommandRefused, match="what"):
            await take_all(opened, "1:2")


async def test_a_list_of_every_uid_there_is_is_not_believed() -> None:
    script = imap({"CAPABILITY": b"* CAPABILITY ESEARCH\r\n", "UID SEARCH": b"* ESEARCH UID ALL 1:4294967295\r\n"})
    async with scripted(script) as port, examined(account_on(port)) as opened:
        with pytest.raises(ProtocolError):
            await opened.search()


# --- silence and loss ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start", [b"", b"* 1 FETCH (UID 1 BODY[] {10}\r\n", b"* 1 FETCH (UID 1 BODY[] {10}\r\nhal", b"* 1 FE"]
)
async def test_a_server_that_falls_silent_is_dropped(start: bytes) -> None:
    async with fetching_from(start, within=limits(command_seconds=0.2)) as opened:
        with pytest.raises(Stalled):
            await take_all(opened, "1")
        with pytest.raises(MailServerError):
            await opened.search()


async def test_a_mail_in_single_octets_is_dropped_at_its_total_deadline() -> None:
    async def drip(conversation: Conversation, _tag: str) -> None:
        await conversation.send(b"* 1 FETCH (UID 1 BODY[] {100000}\r\n")
        while True:
            await conversation.send(b"x")
            await asyncio.sleep(0.01)

    async with (
        scripted(imap({"UID FETCH": drip})) as port,
        examined(account_on(port), limits(command_seconds=0.05)) as opened,
    ):
        began = asyncio.get_running_loop().time()
        with pytest.raises(Stalled):
            await take_all(opened, "1")
        assert asyncio.get_running_loop().time() - began < 2


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_what_came_whole_before_the_loss_is_handed_out(end: str) -> None:
    async def leave(conversation: Conversation, _tag: str) -> None:
        await conversation.send(answer(1, b"whole"), b"* 2 FETCH (UID 2 BODY[] {10}\r\nhal")
        if end == "close":
            conversation.close()
        await conversation.closed()

    async with scripted(imap({"UID FETCH": leave})) as port, examined(account_on(port)) as opened:
        with opened.fetch("1:2") as stream:
            found = await stream.take(MEBIBYTE, MANY, 0)
            assert [bytes(m.raw) for m in found] == [b"whole"]
            if end == "close":
                with pytest.raises(ConnectionLost):
                    await stream.take(MEBIBYTE, MANY, 0)


async def test_a_bye_in_the_middle_ends_the_stream_after_what_came() -> None:
    async with fetching_from(answer(1, b"whole"), b"* BYE shutting down\r\n") as opened:
        with opened.fetch("1:2") as stream:
            assert len(await stream.take(MEBIBYTE, MANY, 0)) == 1
            with pytest.raises(ServerSaidBye):
                await stream.take(MEBIBYTE, MANY, 0)


# --- back-pressure ---------------------------------------------------------------------------------------------------


def mailbox_of(count: int, size: int, sent: list[int]) -> Script:
    """A server whose mails all have `size` octets; `sent[0]` counts the mails it got rid of."""

    async def pour(conversation: Conversation, tag: str) -> None:
        for uid in range(1, count + 1):
            await conversation.send(answer(uid, b"%07d" % uid + b"x" * (size - 7)))
            sent[0] = uid
        await conversation.send(f"{tag} OK done\r\n".encode())

    return imap({"UID FETCH": pour})


@pytest.mark.parametrize("tls", [Tls.NONE, Tls.IMPLICIT], ids=lambda tls: tls.value)
async def test_what_nobody_takes_stays_at_the_server(trusted: Certificates, tls: Tls) -> None:
    sent, count, size = [0], 600, 100_000
    context = trusted.good.server_context() if tls is Tls.IMPLICIT else None
    async with (
        scripted(mailbox_of(count, size, sent), context=context) as port,
        examined(account_on(port, tls), limits(buffer_bytes=MEBIBYTE, command_seconds=0.5)) as opened,
    ):
        with opened.fetch("1:*") as stream:
            await eventually(lambda: sent[0] > 20)
            assert await settled(lambda: sent[0]) < count // 2, "the rest waits in the server"
            held = opened.last_received
            async with asyncio.timeout(5):
                while asyncio.get_running_loop().time() - held < 0.7:  # longer than a server may be silent
                    assert opened.last_received == held
                    await asyncio.sleep(0.01)
            uids: list[int] = []
            most = 0
            while batch := await stream.take(64 << 20, MANY, 0):
                most = max(most, sum(len(m.raw) for m in batch))
                assert all(bytes(m.raw)[:7] == b"%07d" % m.uid and len(m.raw) == size for m in batch)
                uids += [m.uid for m in batch]
        assert uids == list(range(1, count + 1))
        assert most <= MEBIBYTE + (256 << 10) + size, "no more than the buffer, one read and one mail"
        assert not await opened.search()


async def test_any_number_of_empty_mails_stays_at_the_server_too() -> None:
    batches = [0]
    batch = b"".join(answer(uid, b"") for uid in range(1, 10_001))

    async def pour(conversation: Conversation, _tag: str) -> None:
        for number in range(1, 101):
            await conversation.send(batch)
            batches[0] = number

    async with (
        scripted(imap({"UID FETCH": pour})) as port,
        examined(account_on(port), limits(buffer_bytes=MEBIBYTE)) as opened,
    ):
        with opened.fetch("1:*") as stream:
            await eventually(lambda: batches[0])
            assert await settled(lambda: batches[0]) < 60
            assert len(await stream.take(MEBIBYTE, 1_000_000, 0)) < 20_000


async def test_a_full_buffer_and_then_nonsense_is_handed_out_and_then_told() -> None:
    octets = [*(answer(uid, bytes(40_000)) for uid in range(1, 4)), b"nonsense\r\n"]
    loop = asyncio.get_running_loop()
    raised: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: raised.append(context))
    async with fetching_from(*octets, within=limits(buffer_bytes=65_536)) as opened:
        with opened.fetch("1:*") as stream:
            found = [m.uid for _ in range(3) for m in await stream.take(1, 1, 0)]
            with pytest.raises(ProtocolError):
                await stream.take(1, 1, 0)
        assert found == [1, 2, 3]
    assert not raised


async def test_a_connection_reset_while_the_buffer_is_full_is_told_afterwards() -> None:
    sent = [0]
    script = mailbox_of(1000, 100_000, sent)
    dropped = asyncio.Event()

    async def pour(conversation: Conversation) -> None:
        await script(conversation)

    async def leaving(conversation: Conversation) -> None:
        async with asyncio.TaskGroup() as tasks:
            pouring = tasks.create_task(pour(conversation))
            await dropped.wait()
            pouring.cancel()
        conversation.reset()

    async with scripted(leaving) as port, examined(account_on(port), limits(buffer_bytes=MEBIBYTE)) as opened:
        with opened.fetch("1:*") as stream:
            await eventually(lambda: sent[0] > 20)
            await settled(lambda: sent[0])
            dropped.set()
            found = [m.uid for m in await stream.take(MEBIBYTE, MANY, 0)]
            assert found == list(range(1, len(found) + 1))
            assert len(found) >= 10
            with pytest.raises(ConnectionLost):
                await exhaust(stream)


async def exhaust(stream: Stream) -> None:
    """Take all there is."""
    while await stream.take(MEBIBYTE, MANY, 0):
        pass
