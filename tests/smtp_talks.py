"""What the tests of SMTP sessions share: accounts, limits, sessions on both event loops, and servers that break off."""

from __future__ import annotations

import asyncio
import base64
import functools
import inspect
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from inboxd import net
from inboxd.model import Account, Kind, Secret, Tls
from inboxd.sections import SmtpSettings
from inboxd.smtp.opening import open_session
from inboxd.smtp.session import Session
from servers import LOOPBACK
from servers.scripted import Conversation, Script
from servers.smtp import PASSWORD, USER

MAIL = b"From: a@example.org\r\nSubject: x\r\n\r\nbody\r\n"
ALICE, BOB, CARL = "a@example.org", "b@example.org", "c@example.org"
FORMS = (
    PASSWORD,
    base64.b64encode(PASSWORD.encode()).decode(),
    base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode(),
)

Talk = Callable[[Conversation], Awaitable[None]]


def seconds(every: float, **changed: float) -> SmtpSettings:
    """Limits with the same deadline for every wait, but for those named."""
    waits = ("connect", "greeting", "command", "start", "block", "data")
    return SmtpSettings.model_validate({f"{wait}_seconds": changed.get(wait, every) for wait in waits})


LIMITS = seconds(5)
HURRIED = seconds(0.3)


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on asyncio's own loop and on uvloop, whose transports behave differently."""

    @functools.wraps(test)
    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **arguments: object) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test(**arguments))

    signature = inspect.signature(test)
    loop = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), loop])  # type: ignore[attr-defined]
    factories = [asyncio.new_event_loop, uvloop.new_event_loop]
    return pytest.mark.parametrize("loop_factory", factories, ids=["asyncio", "uvloop"])(run)


def account(tls: Tls = Tls.NONE, *, user: str = "", password: str = PASSWORD, **changes: object) -> Account:
    made = {"connector_id": None, "kind": Kind.SMTP, "host": "localhost", "port": 0, "tls": tls}
    return Account(**made, username=user, password=Secret(password), **changes)  # type: ignore[arg-type]


@asynccontextmanager
async def session(
    port: int,
    who: Account,
    context: ssl.SSLContext | None = None,
    *,
    limits: SmtpSettings = LIMITS,
    trace: list[str] | None = None,
) -> AsyncGenerator[Session]:
    """A session with the server on `port`; its trace must not show the password."""
    sock = await net.connect(LOOPBACK, port, 5)
    lines: list[str] = [] if trace is None else trace
    async with open_session(sock, who, limits, context, lines.append) as opened:
        yield opened
    for line in lines:
        assert not any(form in line for form in FORMS), lines


async def content(conversation: Conversation) -> bytes:
    """The mail after DATA, read octet by octet up to the one end that RFC 5321 knows, its doubled dots undone."""
    octets = bytearray(b"\r\n")
    while not octets.endswith(b"\r\n.\r\n"):
        octets += await conversation.exactly(1)
    lines = bytes(octets[2:-3]).split(b"\r\n")
    return b"\r\n".join(line.removeprefix(b".") for line in lines)


def serving(*extensions: str, answers: dict[str, bytes] | None = None, mails: list[bytes] | None = None) -> Script:
    """A server that offers these extensions and takes every mail, each into `mails`.

    `answers` overrides replies, by a command's first word, "RCPT address", or DOT for the whole mail.
    """

    async def script(conversation: Conversation) -> None:
        told = answers or {}
        offer = b"".join(b"250-%b\r\n" % extension.encode() for extension in extensions)
        replies = {"EHLO": b"250-hi\r\n" + offer + b"250 OK\r\n", "DATA": b"354 go\r\n", "QUIT": b"221 bye\r\n"} | told
        await conversation.send(b"220 hi\r\n")
        while True:
            line = (await conversation.line()).decode()
            command = line.partition(" ")[0]
            reply = replies.get(command, b"250 ok\r\n")
            if command == "RCPT":
                reply = replies.get(f"RCPT {line.partition('<')[2].partition('>')[0]}", reply)
            await conversation.send(reply)
            if command == "DATA" and reply.startswith(b"354"):
                mail = await content(conversation)
                if mails is not None:
                    mails.append(mail)
                await conversation.send(replies.get("DOT", b"250 taken\r\n"))

    return script
