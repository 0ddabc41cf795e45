"""A logged-in IMAP session from an account: the way every worker opens one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext

from inboxd import net
from inboxd.budgets import Budgets, Purpose
from inboxd.errors import Throttled
from inboxd.imap.opening import open_session
from inboxd.imap.places import placed
from inboxd.imap.protocol import Trace
from inboxd.imap.session import Session
from inboxd.model import Account
from inboxd.settings import Settings


@asynccontextmanager
async def dial(
    account: Account,
    settings: Settings,
    budgets: Budgets,
    purpose: Purpose = Purpose.DIRECT,
    trace: Trace | None = None,
) -> AsyncGenerator[Session]:
    """Connect, secure, greet and log in; MailServerError with its stage when any of it fails.

    NoRoom when the account's budget has no place for the connection, and none comes free in time. Where a server has
    room for fewer than the budget thought, what will soon be over is tried once more, in the place of one that listens.
    """
    async with AsyncExitStack() as stack:
        try:
            session = await stack.enter_async_context(_dialled(account, settings, budgets, purpose, trace))
        except Throttled as error:
            crowded = error.crowded and budgets.of(account.host, account.username).crowded()
            if not crowded or purpose not in (Purpose.DIRECT, Purpose.CHORE):
                raise
            session = await stack.enter_async_context(_dialled(account, settings, budgets, purpose, trace))
        yield session


@asynccontextmanager
async def _dialled(
    account: Account, settings: Settings, budgets: Budgets, purpose: Purpose, trace: Trace | None
) -> AsyncGenerator[Session]:
    """One try. Somebody waits for a direct one: it goes before the turns of all the others.

    The turn is awaited before connecting, since servers do not wait long for a login; the place under way is held from
    the connected socket to the login, so that servers out of reach hold none.
    """
    limits = settings.imap
    budget = budgets.of(account.host, account.username)
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(budget.place(purpose))
        await budget.login()
        hurried = purpose is Purpose.DIRECT
        if not hurried:
            await budgets.logins.turn(account.host)
        sock = await net.connect_account(
            account, limits.connect_seconds, allow_plaintext=settings.network.allow_plaintext
        )
        stack.callback(sock.close)
        async with nullcontext() if hurried else budgets.logins.under_way:
            opening = open_session(sock, account, limits, net.tls_context(account), trace, folder=settings.state_dir)
            session = await stack.enter_async_context(opening)
        stack.enter_context(placed(session, place))
        yield session
