"""A logged-in IMAP session from an account: the way every worker opens one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext

from inboxd import net
from inboxd.imap.opening import open_session
from inboxd.imap.protocol import Trace
from inboxd.imap.session import Session
from inboxd.model import Account
from inboxd.settings import Settings


@asynccontextmanager
async def dial(
    account: Account, settings: Settings, trace: Trace | None = None, turns: asyncio.Semaphore | None = None
) -> AsyncGenerator[Session]:
    """Connect, secure, greet and log in; MailServerError with its stage when any of it fails.

    `turns` is held from the connected socket to the login: servers that are out of reach hold up nobody's turn.
    """
    limits = settings.imap
    sock = await net.connect_account(account, limits.connect_seconds, allow_plaintext=settings.network.allow_plaintext)
    async with AsyncExitStack() as stack:
        stack.callback(sock.close)
        async with turns or nullcontext():
            opening = open_session(sock, account, limits, net.tls_context(account), trace)
            session = await stack.enter_async_context(opening)
        yield session
