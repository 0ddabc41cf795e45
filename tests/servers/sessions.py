"""IMAP sessions for tests, and a pytest plugin that runs a module's tests on both event loops.

A module that says `LOOPS = BOTH_LOOPS` has each of its asynchronous tests run on asyncio's own loop and on uvloop.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from inboxd import net
from inboxd.imap.opening import open_session
from inboxd.imap.protocol import Trace
from inboxd.imap.session import Session
from inboxd.mails import Fetched
from inboxd.model import Account, Kind, Secret, Tls
from inboxd.sections import ImapSettings
from servers import LOOPBACK, Listener
from servers.dovecot import User

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
BOTH_LOOPS: Mapping[str, LoopFactory] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
LIMITS = ImapSettings(connect_seconds=8, command_seconds=8, done_seconds=8)
MANY = 10_000


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    """What pytest-asyncio asks before it makes a test's loop: a module's own LOOPS, or asyncio's."""
    return getattr(getattr(item, "module", None), "LOOPS", {"asyncio": asyncio.new_event_loop})


def limits(**changed: Any) -> ImapSettings:
    """The tests' limits, some of them changed; unchecked, so that a buffer may be small."""
    return LIMITS.model_copy(update=changed)


def account(server: Listener, user: User, tls: Tls = Tls.NONE, **changed: Any) -> Account:
    """How `user` reaches `server`."""
    made = Account(None, Kind.IMAP, server.host, server.port, tls, user.name, Secret(user.password))
    return replace(made, **changed)


def account_on(port: int, tls: Tls = Tls.NONE, username: str = "user", password: str = "s3cret-canary") -> Account:
    """An account on a scripted server."""
    return Account(None, Kind.IMAP, LOOPBACK, port, tls, username, Secret(password))


@asynccontextmanager
async def session(
    to: Account, within: ImapSettings = LIMITS, trace: Trace | None = None, folder: Path | None = None
) -> AsyncGenerator[Session]:
    """A session opened as the workers open theirs."""
    sock = await net.connect(to.host, to.port, within.connect_seconds)
    async with open_session(sock, to, within, net.tls_context(to), trace, folder=folder) as opened:
        yield opened


@asynccontextmanager
async def examined(to: Account, within: ImapSettings = LIMITS, trace: Trace | None = None) -> AsyncGenerator[Session]:
    """As `session`, with INBOX open."""
    async with session(to, within, trace) as opened:
        await opened.examine("INBOX")
        yield opened


async def take_all(opened: Session, uids: str) -> list[Fetched]:
    """Every message a FETCH of `uids` brings."""
    found: list[Fetched] = []
    with opened.fetch(uids) as stream:
        while batch := await stream.take(1 << 20, MANY, 0):
            found += batch
    return found


async def eventually(met: Callable[[], object], seconds: float = 5) -> None:
    """Until a condition holds that nothing announces; TimeoutError when it does not."""
    async with asyncio.timeout(seconds):
        while not met():  # noqa: ASYNC110  # the server's side knows nothing of our events
            await asyncio.sleep(0.001)


async def settled(measure: Callable[[], int]) -> int:
    """A count once it has not changed for a while: what it is when all has come to rest."""
    last, same = measure(), 0
    while same < 30:
        await asyncio.sleep(0.002)
        now = measure()
        last, same = now, same + 1 if now == last else 0
    return last


async def wired(protocol: asyncio.BaseProtocol) -> socket.socket:
    """Connect `protocol` to the socket returned: the server's end, blocking."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    return theirs
