"""Commands written at once (RFC 2920): the answers find their commands however they arrive, and nobody is lied to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from inboxd import errors
from inboxd.errors import MailServerError
from inboxd.outbox import Refusal
from inboxd.smtp.session import Receipt
from servers.scripted import Conversation, Script, scripted
from smtp_talks import ALICE, BOB, CARL, HURRIED, MAIL, account, content, on_both_loops, serving, session

OFFER = b"250-hi\r\n250 PIPELINING\r\n"


def answering(*replies: bytes, chunk: int | None = None, mails: list[bytes], lines: list[bytes]) -> Script:
    """A server that reads as many commands as it has replies, says nothing before the last, and then says it all."""

    async def script(conversation: Conversation) -> None:
        await conversation.send(b"220 hi\r\n")
        await conversation.expect("EHLO")
        await conversation.send(OFFER)
        lines.extend([await conversation.line() for _ in replies])
        await conversation.send(*replies, chunk=chunk)
        mails.append(await content(conversation))
        await conversation.send(b"250-taken\r\n250 indeed\r\n", chunk=chunk)
        await conversation.closed()

    return script


@pytest.mark.parametrize("chunk", [None, 1, 7])
@on_both_loops
async def test_answers_find_their_recipients_however_they_are_cut(chunk: int | None) -> None:
    mails: list[bytes] = []
    lines: list[bytes] = []
    replies = (
        b"250-a\r\n250 b\r\n",
        b"550-no\r\n550 never\r\n",
        b"250 ok\r\n",
        b"451 later\r\n",
        b"354-go\r\n354 on\r\n",
    )
    told: list[dict[str, Refusal]] = []
    server = answering(*replies, chunk=chunk, mails=mails, lines=lines)
    async with scripted(server) as port, session(port, account()) as opened:
        receipt = await opened.send(ALICE, [ALICE, BOB, CARL], MAIL, handing_over=told.append)
    assert receipt.reply == "250 taken | indeed"
    assert receipt.refused == {ALICE: Refusal(550, "550 no | never"), CARL: Refusal(451, "451 later")}
    assert told == [receipt.refused]
    assert mails == [MAIL]
    assert lines == [
        b"MAIL FROM:<a@example.org>",
        *(f"RCPT TO:<{address}>".encode() for address in (ALICE, BOB, CARL)),
        b"DATA",
    ]


@pytest.mark.parametrize("chunk", [None, 1])
@on_both_loops
async def test_mail_that_the_server_wants_for_nobody_is_empty(chunk: int | None) -> None:
    mails: list[bytes] = []
    told: list[dict[str, Refusal]] = []
    refusals = ((b"550 no sender\r\n", b"503 order\r\n", "mail"), (b"250 ok\r\n", b"550 nobody\r\n", "rcpt"))
    for said, told_to_rcpt, stage in refusals:
        server = answering(said, told_to_rcpt, b"354 go\r\n", chunk=chunk, mails=mails, lines=[])
        async with scripted(server) as port, session(port, account(), limits=HURRIED) as opened:
            with pytest.raises(errors.SendRefused) as caught:
                await opened.send(ALICE, [BOB], MAIL, handing_over=told.append)
            assert caught.value.stage == stage
            assert opened.usable
    assert mails == [b"", b""]
    assert told == []


@on_both_loops
async def test_refusal_stands_when_the_connection_breaks_behind_it() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.send(b"220 hi\r\n")
        await conversation.expect("EHLO")
        await conversation.send(OFFER)
        await conversation.expect("MAIL")
        await conversation.send(b"550 5.7.1 no\r\n")

    async with scripted(script) as port, session(port, account()) as opened:
        with pytest.raises(errors.SendRefused) as caught:
            await opened.send(ALICE, [BOB], MAIL)
        assert caught.value.reply == "550 5.7.1 no"
        assert not opened.usable


@on_both_loops
async def test_one_answer_too_many_never_lets_a_mail_go() -> None:
    mails: list[bytes] = []
    told: list[dict[str, Refusal]] = []
    for replies in (
        (b"250 ok\r\n250 extra\r\n", b"250 ok\r\n", b"354 go\r\n"),
        (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n250 extra\r\n"),
        (b"250 ok\r\n", b"354 go\r\n", b"250 ok\r\n"),
        (b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n"),
    ):
        server = answering(*replies, mails=mails, lines=[])
        async with scripted(server) as port, session(port, account()) as opened:
            with pytest.raises(errors.ProtocolError):
                await opened.send(ALICE, [BOB], MAIL, handing_over=told.append)
            assert not opened.usable
    assert (mails, told) == ([], [])


@on_both_loops
async def test_refusal_behind_the_go_ahead_is_heard_before_anything_is_handed_over() -> None:
    told: list[dict[str, Refusal]] = []
    server = answering(b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n452 4.3.1 full\r\n", mails=[], lines=[])
    async with scripted(server) as port, session(port, account()) as opened:
        with pytest.raises(errors.SendDeferred, match="full"):
            await opened.send(ALICE, [BOB], MAIL, handing_over=told.append)
    assert told == []


@on_both_loops
async def test_without_the_extension_each_answer_is_awaited() -> None:
    seen: list[bytes] = []

    async def script(conversation: Conversation) -> None:
        await conversation.send(b"220 hi\r\n")
        await conversation.expect("EHLO")
        await conversation.send(b"250 hi\r\n")
        await conversation.expect("MAIL")
        await conversation.send(b"550 no\r\n")
        seen.extend([await conversation.line()])

    async with scripted(script) as port, session(port, account()) as opened:
        with pytest.raises(errors.SendRefused):
            await opened.send(ALICE, [BOB], MAIL)
    assert seen == [b"QUIT"]


@pytest.mark.parametrize("extension", ["OK", "PIPELINING"])
@on_both_loops
async def test_session_carries_many_mails(extension: str) -> None:
    mails: list[bytes] = []
    many = [f"{number}@example.org" for number in range(300)]
    answers = {f"RCPT {address}": b"550 no\r\n" for address in many[::3]}
    async with scripted(serving(extension, answers=answers, mails=mails)) as port, session(port, account()) as opened:
        receipt = await opened.send(ALICE, many, MAIL)
        assert receipt.refused == {address: Refusal(550, "550 no") for address in many[::3]}
        for number in range(200):
            await opened.send(ALICE, [BOB], b"N: %d\r\n\r\n" % number)
    assert mails == [MAIL, *(b"N: %d\r\n\r\n" % number for number in range(200))]


ACCEPTED, REFUSED, DEFERRED = 250, 550, 450
Mail = tuple[int, list[int], int, int, bytes]
VERDICTS = st.sampled_from([ACCEPTED, ACCEPTED, ACCEPTED, REFUSED, DEFERRED])
OCTETS = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"\r\n.\r\n", b"a", b"\xff", b"QUIT"]), max_size=12)
CONVERSATIONS = st.lists(
    st.tuples(
        VERDICTS,
        st.lists(VERDICTS, min_size=1, max_size=3),
        st.sampled_from([354, 354, 354, REFUSED, DEFERRED]),
        VERDICTS,
        OCTETS.map(b"".join),
    ),
    min_size=1,
    max_size=5,
)


def judging(conversation_of_mails: list[Mail], offer: bytes, chunk: int | None, mails: list[bytes]) -> Script:
    """A strict server with a verdict on each mail at each stage; it fails over commands out of order."""

    async def script(conversation: Conversation) -> None:
        async def say(code: int) -> None:
            await conversation.send(b"%d said\r\n" % code, chunk=chunk)

        await say(220)
        await conversation.expect("EHLO")
        await conversation.send(b"250-hi\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 " + offer + b"\r\n", chunk=chunk)
        begun, left = False, list(conversation_of_mails)
        rcpts, data, dot, taken = iter([ACCEPTED]), 0, 0, 0
        while True:
            command = (await conversation.expect("MAIL|RCPT|DATA|RSET|QUIT"))[0].decode()
            if command == "MAIL":
                assert not begun
                mail, verdicts, data, dot, _ = left.pop(0)
                rcpts, taken, begun = iter(verdicts), 0, mail == ACCEPTED
                await say(mail)
            elif command == "RCPT":
                verdict = next(rcpts) if begun else 503
                taken += verdict == ACCEPTED
                await say(verdict)
            elif command == "DATA":
                await say(data)
                if data == 354:
                    octets = await content(conversation)
                    await say(dot)
                    begun = False
                    if taken:
                        mails.append(octets)
                    else:
                        assert octets == b""
            else:
                begun = False
                await say(250)

    return script


async def converse(conversation_of_mails: list[Mail], offer: bytes, chunk: int | None) -> None:
    mails: list[bytes] = []
    expected: list[bytes] = []
    server = judging(conversation_of_mails, offer, chunk, mails)
    async with scripted(server) as port, session(port, account()) as opened:
        for mail, verdicts, data, dot, octets in conversation_of_mails:
            told: list[dict[str, Refusal]] = []
            recipients = [f"{number}@example.org" for number in range(len(verdicts))]
            refused = {
                recipient: Refusal(verdict, f"{verdict} said")
                for recipient, verdict in zip(recipients, verdicts, strict=True)
                if mail == ACCEPTED != verdict
            }
            codes = [mail, min(verdicts), 250 if data == 354 else data, dot]
            code = next((code for code in codes if code != ACCEPTED), ACCEPTED)
            try:
                outcome = await opened.send(ALICE, recipients, octets, handing_over=told.append)
            except MailServerError as error:
                outcome = error
            assert type(outcome) is {ACCEPTED: Receipt, REFUSED: errors.SendRefused}.get(code, errors.SendDeferred)
            assert outcome.refused == refused
            handed_over = ACCEPTED in verdicts and mail == ACCEPTED and data == 354
            assert told == ([refused] if handed_over else [])
            expected += [normalised(octets)] if handed_over else []
            assert opened.usable
    assert mails == expected


def normalised(octets: bytes) -> bytes:
    """Every line end made CRLF, octet by octet."""
    out, last = b"", 0
    for octet in octets:
        if octet == 0x0D or (octet == 0x0A and last != 0x0D):
            out += b"\r\n"
        elif octet != 0x0A:
            out += bytes([octet])
        last = octet
    return out if out.endswith(b"\r\n") else out + b"\r\n"


@pytest.mark.parametrize("offer", [b"PIPELINING", b"OK"])
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@settings(max_examples=60)
@given(mails=CONVERSATIONS, chunk=st.sampled_from([None, 1, 5]))
def test_any_conversation_ends_as_the_server_meant_it(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], offer: bytes, mails: list[Mail], chunk: int | None
) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(converse(mails, offer, chunk))
