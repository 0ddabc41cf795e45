"""What aioimaplib 2.0.3 does as a client of a server, shown on its own class, and that our sessions do not."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aioimaplib import aioimaplib

from inboxd.errors import ProtocolError, ServerSaidBye, Throttled
from inboxd.model import Tls
from servers import LOOPBACK
from servers.certs import Certificates
from servers.dovecot import Dovecot
from servers.scripted import Conversation, imap, scripted
from servers.sessions import account, account_on, examined, session

library = cast("Any", aioimaplib)  # it is annotated in parts only
PASSWORD = 'pa"ss\\word-canary'
PATIENCE_SECONDS = 0.5


@asynccontextmanager
async def stock_client(port: int, timeout: float = 5) -> AsyncGenerator[Any]:
    """The library's own client, its connection closed at the end because it never does so itself."""
    client = library.IMAP4(LOOPBACK, port, timeout=timeout)
    try:
        yield client
    finally:
        if client.protocol.transport is not None:
            client.protocol.transport.abort()
        for task in [*client.tasks, *client.protocol.tasks]:
            task.cancel()
        await asyncio.sleep(0)


CAPABLE = {"CAPABILITY": b"* CAPABILITY IMAP4rev1 IDLE\r\n"}


async def test_a_bye_in_answer_to_idle_is_heard() -> None:
    async def say_bye(conversation: Conversation, _tag: str) -> None:
        await conversation.send(b"* BYE Server shutting down.\r\n")
        raise EOFError

    async with scripted(imap({**CAPABLE, "IDLE": say_bye})) as port:
        async with stock_client(port) as stock:
            await stock.wait_hello_from_server()
            await stock.login("user", "password")
            await stock.select("INBOX")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await stock.idle_start(timeout=60)

        async with examined(account_on(port)) as ours, asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(ServerSaidBye, match="Server shutting down"):
                await ours.idle(60, ours.pushes)


async def test_names_are_quoted_and_encoded_on_the_wire() -> None:
    received: list[bytes] = []

    async def script(conversation: Conversation) -> None:
        conversation.received = received
        await imap(CAPABLE)(conversation)

    async with scripted(script) as port:
        async with stock_client(port) as stock:
            await stock.wait_hello_from_server()
            await stock.login("a b", "p")
            await stock.select('My "Folder" für')
        assert [line.partition(b" ")[2] for line in received[-2:]] == [
            b'LOGIN a b "p"',
            'SELECT My "Folder" für'.encode(),
        ]

        async with session(account_on(port, username='a "b"')) as ours:
            await ours.examine('My "Folder" für')
        wire = [line.partition(b" ")[2] for line in received]
        assert rb'LOGIN "a \"b\"" "s3cret-canary"' in wire
        assert wire[-1] == rb'EXAMINE "My \"Folder\" f&APw-r"'


async def test_starttls_is_spoken(dovecot: Dovecot, trusted: Certificates) -> None:
    """The library has it as a name in a table only."""
    assert not [name for name in dir(library.IMAP4) + dir(library.IMAP4ClientProtocol) if "tls" in name.lower()]

    async with session(account(dovecot.strict, dovecot.user(), Tls.STARTTLS, ssl_trust="*")) as ours:
        assert ours.tls == "TLSv1.3"


def locals_of(error: Exception) -> str:
    """The local variables of inboxd's frames in a traceback, as a crash report may show them."""
    stack = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    found = [frame.locals for frame in stack if "inboxd" in frame.filename and "tests" not in frame.filename]
    assert found
    return repr(found)


async def test_the_password_is_in_no_exception_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async def answer_another(conversation: Conversation, _tag: str) -> None:
        await conversation.send(b"ZZ99 OK late\r\n")
        await conversation.closed()

    caplog.set_level(logging.DEBUG)
    for name in ("asyncio", "aioimaplib", "aioimaplib.aioimaplib"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    async with scripted(imap({**CAPABLE, "LOGIN": answer_another})) as port:
        async with stock_client(port, PATIENCE_SECONDS) as stock:
            await stock.wait_hello_from_server()
            with pytest.raises(TimeoutError):
                await stock.login("user", PASSWORD)
        assert "canary" in caplog.text

        caplog.clear()
        trace: list[str] = []
        with pytest.raises(ProtocolError) as failure:
            async with session(account_on(port, password=PASSWORD), trace=trace.append):
                raise AssertionError("logged in")
        assert "canary" not in caplog.text + repr(failure.value) + "".join(trace) + locals_of(failure.value)
        assert any("LOGIN ***" in line for line in trace)


async def test_a_greeting_that_turns_us_away_is_told() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.send(b"* BYE Too many connections, try again later\r\n")

    async with scripted(script) as port:
        async with stock_client(port, PATIENCE_SECONDS) as stock:
            with pytest.raises(TimeoutError) as told:
                await stock.wait_hello_from_server()
            assert "Too many" not in str(told.value)

        with pytest.raises(Throttled, match="Too many connections, try again later"):
            async with session(account_on(port)):
                raise AssertionError("logged in")


async def test_the_connection_is_closed_when_the_session_is_over() -> None:
    ended = asyncio.Event()
    answer = imap(CAPABLE)

    async def script(conversation: Conversation) -> None:
        try:
            await answer(conversation)
            await conversation.closed()
        finally:
            ended.set()

    async with scripted(script) as port:
        async with stock_client(port) as stock:
            await stock.wait_hello_from_server()
            await stock.login("user", "password")
            await stock.logout()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await ended.wait()

        for logs_out in (True, False):
            ended.clear()
            async with session(account_on(port)) as ours:
                if logs_out:
                    await ours.log_out()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await ended.wait()
