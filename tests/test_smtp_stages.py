"""A server that breaks off at each stage, in each way: the error it is, who was told, and what may be done next."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, final

import pytest

from inboxd import errors, net
from inboxd.errors import MailServerError
from inboxd.model import Tls
from inboxd.outbox import Refusal
from inboxd.smtp.opening import open_session
from servers import LOOPBACK
from servers.certs import Certificates
from servers.scripted import Conversation, Script, scripted
from servers.sessions import eventually
from servers.smtp import USER
from smtp_talks import ALICE, BOB, CARL, LIMITS, MAIL, account, content, on_both_loops, seconds, serving, session

FAULTS: Final = {
    "4xx": b"451 4.3.0 later\r\n",
    "5xx": b"554 5.7.1 no\r\n",
    "421": b"421 4.3.2 closing\r\n",
    "nonsense": b"2\x00 what?\r\n",
    "silence": b"",
    "close": b"",
}
REFUSALS: Final = frozenset({"4xx", "5xx"})
LOST: Final = {"nonsense": errors.ProtocolError, "silence": errors.Stalled, "close": errors.ConnectionLost}
BUSY: Final = {"4xx": errors.Throttled, "421": errors.Throttled} | LOST
SENDING: Final = {"4xx": errors.SendDeferred, "421": errors.SendDeferred, "5xx": errors.SendRefused} | LOST
OPENING: Final[dict[str, Mapping[str, type[MailServerError]]]] = {
    "greeting": BUSY | {"5xx": errors.CommandRefused},
    "ehlo": BUSY | {"5xx": errors.CommandRefused},
    "starttls": LOST | {"4xx": errors.TlsFailed, "5xx": errors.TlsFailed, "421": errors.Throttled},
    "auth": BUSY | {"5xx": errors.AuthRefused},
}
MAILING: Final[dict[str, Mapping[str, type[MailServerError]]]] = {
    "mail": SENDING | {"421": errors.Throttled},
    "rcpt": SENDING,
    "data": SENDING,
    "body": SENDING,
    "dot": SENDING | dict.fromkeys(LOST, errors.SendUnknown),
}
IDLING: Final = dict.fromkeys(FAULTS, errors.ProtocolError) | {"421": errors.Throttled, "close": errors.ConnectionLost}
# Which of the settings ends the wait at a stage; all others are long.
DEADLINES: Final = {"greeting": "greeting", "data": "start", "body": "block", "dot": "data"}
# More than the sockets' and the false server's own buffers hold.
LARGE_LINES: Final = 600_000
LARGE_LINE: Final = b"x" * 78 + b"\r\n"


def cells(table: Mapping[str, Mapping[str, object]]) -> list[tuple[str, str]]:
    return [(stage, fault) for stage, kinds in table.items() for fault in kinds]


@final
class Fragile:
    """A good server but for one moment: instead of the reply at `stage` comes the fault. It goes on after refusals."""

    def __init__(self, stage: str, fault: str, context: ssl.SSLContext, extension: bytes = b"OK") -> None:
        self.mails: list[bytes] = []
        self.connections = 0
        self._stage = stage
        self._fault = fault
        self._context = context
        self._replies = {
            "ehlo": b"250-hi\r\n250-STARTTLS\r\n250-AUTH PLAIN\r\n250 " + extension + b"\r\n",
            "helo": b"502 5.5.1 no\r\n",
            "starttls": b"220 go\r\n",
            "auth": b"235 ok\r\n",
            "data": b"354 go\r\n",
        }
        self._waiting = True

    async def __call__(self, conversation: Conversation) -> None:
        self.connections += 1
        await self._say(conversation, "greeting", b"220 hi\r\n")
        while True:
            command = (await conversation.line()).decode().partition(" ")[0].lower()
            reply = await self._say(conversation, command, self._replies.get(command, b"250 ok\r\n"))
            if command == "starttls" and reply.startswith(b"220"):
                await conversation.start_tls(self._context)
            if command == "data" and reply.startswith(b"354"):
                if self._stage == "body":
                    await conversation.exactly(100_000)
                    await self._say(conversation, "body", b"")
                self.mails.append(await content(conversation))
                await self._say(conversation, "dot", b"250 taken\r\n")
                await self._say(conversation, "idle", b"")

    async def _say(self, conversation: Conversation, stage: str, reply: bytes) -> bytes:
        if stage != self._stage or not self._waiting:
            await conversation.send(reply)
            return reply
        self._waiting = False
        await conversation.send(FAULTS[self._fault])
        if self._fault == "silence" and stage == "idle":
            return b""
        if self._fault == "silence" and stage == "body":
            await asyncio.Event().wait()  # it does not even read
        if self._fault == "close":
            conversation.close()
        elif self._fault not in REFUSALS or stage == "body":
            await conversation.closed()
        else:
            return FAULTS[self._fault]
        raise EOFError


@pytest.mark.parametrize(("stage", "fault"), cells(OPENING))
@on_both_loops
async def test_opening_ends_with_the_error_of_the_stage(certificates: Certificates, stage: str, fault: str) -> None:
    fragile = Fragile(stage, fault, certificates.good.server_context())
    limits = seconds(100, **{DEADLINES.get(stage, "command"): 0.3 if fault == "silence" else 100})
    async with scripted(fragile) as port, asyncio.timeout(25):
        with pytest.raises(MailServerError) as caught:
            async with session(port, account(Tls.STARTTLS, user=USER), certificates.client_context(), limits=limits):
                pass
    assert type(caught.value) is OPENING[stage][fault]
    assert caught.value.stage == stage


@pytest.mark.parametrize(
    ("extension", "tls"),
    [(b"OK", Tls.NONE), (b"PIPELINING", Tls.NONE), (b"PIPELINING", Tls.STARTTLS)],
    ids=["in turn", "at once", "at once in TLS"],
)
@pytest.mark.parametrize(("stage", "fault"), cells(MAILING))
@on_both_loops
async def test_sending_ends_with_the_error_of_the_stage(
    certificates: Certificates, stage: str, fault: str, extension: bytes, tls: Tls
) -> None:
    fragile = Fragile(stage, fault, certificates.good.server_context(), extension)
    limits = seconds(100, **{DEADLINES.get(stage, "command"): 0.3 if fault == "silence" else 100})
    context = certificates.client_context() if tls is Tls.STARTTLS else None
    raw = MAIL + LARGE_LINE * LARGE_LINES if stage == "body" else MAIL
    told: list[dict[str, Refusal]] = []
    async with (
        asyncio.timeout(25),
        scripted(fragile) as port,
        session(port, account(tls), context, limits=limits) as opened,
    ):
        with pytest.raises(MailServerError) as caught:
            await opened.send(ALICE, [BOB], raw, handing_over=told.append)
        assert type(caught.value) is MAILING[stage][fault]
        assert caught.value.stage == ("data" if stage in ("body", "dot") else stage)
        assert told == ([{}] if stage == "dot" else [])
        assert opened.usable is (stage != "body" and fault in REFUSALS)
        if opened.usable:
            receipt = await opened.send(ALICE, [BOB], MAIL + b"again\r\n", handing_over=told.append)
            assert receipt.reply == "250 taken"
            assert fragile.mails[-1] == MAIL + b"again\r\n"
        else:
            calls = len(told)
            with pytest.raises(errors.ConnectionLost) as gone:
                await opened.send(ALICE, [BOB], MAIL, handing_over=told.append)
            assert (gone.value.stage, len(told)) == ("mail", calls)
    assert fragile.connections == 1


@pytest.mark.parametrize("extension", [b"OK", b"PIPELINING"])
@pytest.mark.parametrize("fault", FAULTS)
@on_both_loops
async def test_what_is_said_between_two_mails_is_no_answer(
    certificates: Certificates, fault: str, extension: bytes
) -> None:
    fragile = Fragile("idle", fault, certificates.good.server_context(), extension)
    told: list[dict[str, Refusal]] = []
    async with scripted(fragile) as port, session(port, account()) as opened:
        await opened.send(ALICE, [BOB], MAIL)
        if fault == "silence":
            assert opened.usable
            await opened.send(ALICE, [BOB], MAIL)
            return
        await eventually(lambda: not opened.usable)
        with pytest.raises(MailServerError) as caught:
            await opened.send(ALICE, [BOB], MAIL, handing_over=told.append)
    assert type(caught.value) is IDLING[fault]
    assert (caught.value.stage, told, len(fragile.mails)) == ("mail", [], 1)


@pytest.mark.parametrize(
    "extra", [b"250 again\r\n", b"421 bye\r\n", b"2", b"250-half\r\n", b"\r\n", b"250 x\r\n" * 1000]
)
@on_both_loops
async def test_what_comes_behind_the_answer_spoils_the_session_at_once(extra: bytes) -> None:
    mails: list[bytes] = []
    script = serving("PIPELINING", answers={"DOT": b"250 taken\r\n" + extra}, mails=mails)
    async with scripted(script) as port, session(port, account()) as opened:
        receipt = await opened.send(ALICE, [BOB], MAIL)
        assert receipt.reply == "250 taken"
        assert not opened.usable
        with pytest.raises(errors.Throttled if extra[:3] == b"421" else errors.ProtocolError):
            await opened.send(ALICE, [BOB], MAIL)
    assert len(mails) == 1


@pytest.mark.parametrize("extension", ["OK", "PIPELINING"])
@on_both_loops
async def test_hook_hears_who_was_refused_and_is_called_once(extension: str) -> None:
    answers = {f"RCPT {BOB}": b"550 5.1.1 nobody\r\n", f"RCPT {ALICE}": b"450 4.2.0 later\r\n"}
    told: list[dict[str, Refusal]] = []
    mails: list[bytes] = []
    async with scripted(serving(extension, answers=answers, mails=mails)) as port, session(port, account()) as opened:
        receipt = await opened.send(ALICE, [BOB, CARL, ALICE, BOB], MAIL, handing_over=told.append)
    expected = {BOB: Refusal(550, "550 5.1.1 nobody"), ALICE: Refusal(450, "450 4.2.0 later")}
    assert told == [expected]
    assert receipt.refused == expected
    assert mails == [MAIL]


@on_both_loops
async def test_hook_is_called_when_all_but_the_last_block_has_left() -> None:
    arrived = asyncio.Event()
    told: list[bool] = []

    async def script(conversation: Conversation) -> None:
        await greeted(conversation)
        await conversation.exactly(1_000_000)
        arrived.set()
        await conversation.exactly(len(LARGE_LINE) * LARGE_LINES - 1_000_000)
        await conversation.expect(r"\.$")
        await conversation.send(b"250 taken\r\n")
        await conversation.expect("QUIT")

    async with scripted(script) as port, session(port, account()) as opened:
        raw = LARGE_LINE * LARGE_LINES
        await opened.send(ALICE, [BOB], raw, handing_over=lambda _: told.append(arrived.is_set()))
    assert told == [True]


async def greeted(conversation: Conversation) -> None:
    """Everything up to the mail itself."""
    await conversation.send(b"220 hi\r\n")
    for answer in (b"250 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        await conversation.line()
        await conversation.send(answer)


@asynccontextmanager
async def narrow(script: Script) -> AsyncGenerator[socket.socket]:
    """A client's socket, connected to a server without room for a block that it does not read."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(EOFError, ConnectionError):
                await script(Conversation(reader, writer))
            writer.close()

        server = await asyncio.start_server(run, sock=listener, limit=1_024)
        async with server:
            sock = await net.connect(LOOPBACK, int(listener.getsockname()[1]), 5)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            yield sock


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (b"", errors.Stalled),
        (None, errors.ConnectionLost),
        (b"552 too big\r\n", errors.SendRefused),
        (b"452 full\r\n", errors.SendDeferred),
        (b"250 taken\r\n", errors.ProtocolError),
    ],
)
@on_both_loops
async def test_mail_whose_end_never_left_was_not_taken(fault: bytes | None, kind: type[MailServerError]) -> None:
    told: list[dict[str, Refusal]] = []
    handed_over, over = asyncio.Event(), asyncio.Event()

    def hand_over(refused: dict[str, Refusal]) -> None:
        told.append(refused)
        handed_over.set()

    async def script(conversation: Conversation) -> None:
        await greeted(conversation)
        await handed_over.wait()
        if fault is None:
            conversation.reset()
        else:
            await conversation.send(fault)
            await over.wait()

    async with narrow(script) as sock:
        limits = seconds(30, block=0.3 if fault == b"" else 30)
        async with open_session(sock, account(), limits, None, print) as opened:
            with pytest.raises(MailServerError) as caught:
                await opened.send(ALICE, [BOB], b"x" * 120_000, handing_over=hand_over)
            assert not opened.usable
        over.set()
    assert type(caught.value) is kind
    assert (caught.value.stage, told) == ("data", [{}])


@pytest.mark.parametrize("kind", [OSError, errors.StoreError, asyncio.CancelledError])
@pytest.mark.parametrize("lines", [0, 3_000])
@on_both_loops
async def test_hook_that_fails_stops_the_mail(kind: type[BaseException], lines: int) -> None:
    octets: list[bytes] = []

    async def script(conversation: Conversation) -> None:
        await greeted(conversation)
        while True:
            octets.append(await conversation.line())

    def fail(refused: dict[str, Refusal]) -> None:
        raise kind("disk full")

    async with scripted(script) as port, session(port, account()) as opened:
        with pytest.raises(kind, match="disk full"):
            await opened.send(ALICE, [BOB], MAIL + LARGE_LINE * lines, handing_over=fail)
        assert not opened.usable
    assert b"." not in octets


@pytest.mark.parametrize("extension", ["OK", "PIPELINING"])
@on_both_loops
async def test_refusal_of_the_whole_mail_keeps_those_of_recipients_apart(extension: str) -> None:
    refused = {BOB: Refusal(550, "550 5.1.1 nobody")}
    for moment, reply in (("DATA", b"451 4.3.0 later\r\n"), ("DOT", b"554 5.6.0 spam\r\n")):
        answers = {f"RCPT {BOB}": b"550 5.1.1 nobody\r\n", moment: reply}
        async with scripted(serving(extension, answers=answers)) as port, session(port, account()) as opened:
            with pytest.raises(errors.SendDeferred if reply[:1] == b"4" else errors.SendRefused) as caught:
                await opened.send(ALICE, [BOB, CARL], MAIL)
            assert caught.value.refused == refused
            assert caught.value.stage == "data"


@pytest.mark.parametrize("extension", ["OK", "PIPELINING"])
@on_both_loops
async def test_refusal_of_everybody_names_what_each_was_told(extension: str) -> None:
    answers = {f"RCPT {BOB}": b"550 5.1.1 nobody\r\n", f"RCPT {CARL}": b"452 4.2.2 full\r\n", "DATA": b"554 none\r\n"}
    async with scripted(serving(extension, answers=answers)) as port, session(port, account()) as opened:
        with pytest.raises(errors.SendRefused) as caught:
            await opened.send(ALICE, [BOB], MAIL)
        assert caught.value.refused == {BOB: Refusal(550, "550 5.1.1 nobody")}
        with pytest.raises(errors.SendDeferred) as later:
            await opened.send(ALICE, [BOB, CARL], MAIL)
        assert later.value.reply == "452 4.2.2 full"
        assert {address: told.temporary for address, told in later.value.refused.items()} == {BOB: False, CARL: True}
        assert opened.usable


@on_both_loops
async def test_server_that_cannot_put_a_mail_away_gets_no_other() -> None:
    for reply, kind in ((b"502 5.5.1 what\r\n", errors.ProtocolError), (b"421 bye\r\n", errors.Throttled)):
        script = serving("PIPELINING", answers={f"RCPT {BOB}": b"550 no\r\n", "DATA": b"554 none\r\n", "RSET": reply})
        async with scripted(script) as port, session(port, account()) as opened:
            with pytest.raises(errors.SendRefused):
                await opened.send(ALICE, [BOB], MAIL)
            with pytest.raises(kind) as caught:
                await opened.send(ALICE, [CARL], MAIL)
            assert (caught.value.stage, opened.usable) == ("mail", False)


@on_both_loops
async def test_server_without_ehlo_is_greeted_the_old_way() -> None:
    script = serving(answers={"EHLO": b"502 5.5.1 unknown\r\n", "HELO": b"250 hi\r\n"})
    async with scripted(script) as port, session(port, account(), limits=LIMITS) as opened:
        assert opened.extensions == {}
        assert (await opened.send(ALICE, [BOB], MAIL)).reply == "250 taken"
