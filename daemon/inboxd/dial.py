"""A logged-in IMAP session from an account: the way every worker opens one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext

from inboxd import net
from inboxd.imap.opening import open_session
from inboxd.imap.protocol import Trace
from inboxd.imap.session import Session
from inboxd.logins import Logins
from inboxd.model import Account
from inboxd.settings import Settings
from inboxd.tokens import Tokens, usable_seconds


@asynccontextmanager
async def dial(
    account: Account,
    settings: Settings,
    trace: Trace | None = None,
    logins: Logins | None = None,
    tokens: Tokens | None = None,
) -> AsyncGenerator[Session]:
    """Connect, secure, greet and log in; MailServerError with its stage when any of it fails.

    `logins` is the budget: its turn is awaited before connecting, since servers do not wait long for a login; its place
    under way is held from the connected socket to the login, so that servers out of reach hold none. `tokens` give an
    account with a grant what it logs in with; the session then knows when it is to end.
    """
    async with AsyncExitStack() as stack:
        if tokens is None:
            yield await stack.enter_async_context(_dialled(account, settings, trace, logins))
        else:
            yield await tokens.enter(stack, account, lambda dressed: _dialled(dressed, settings, trace, logins))


@asynccontextmanager
async def _dialled(
    account: Account, settings: Settings, trace: Trace | None, logins: Logins | None
) -> AsyncGenerator[Session]:
    limits = settings.imap
    if logins is not None:
        await logins.turn(account.host)
    sock = await net.connect_account(account, limits.connect_seconds, allow_plaintext=settings.network.allow_plaintext)
    async with AsyncExitStack() as stack:
        stack.callback(sock.close)
        async with logins.under_way if logins is not None else nullcontext():
            opening = open_session(sock, account, limits, net.tls_context(account), trace)
            session = await stack.enter_async_context(opening)
        if account.bearer is not None:
            session.ends_at = asyncio.get_running_loop().time() + usable_seconds(account.bearer)
        yield session
