"""A logged-in session from an account: the way every worker opens one; and a look at a server's certificate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Final

from inboxd import certificates, net
from inboxd.budgets import Budgets, Purpose
from inboxd.errors import AuthRefused, PinRefused, Throttled, TlsMissing
from inboxd.imap.opening import open_session
from inboxd.imap.places import placed
from inboxd.imap.protocol import Trace
from inboxd.imap.session import Session
from inboxd.model import Account, Kind, Secret
from inboxd.settings import Settings
from inboxd.smtp.opening import open_session as open_smtp_session
from inboxd.smtp.session import Session as SmtpSession
from inboxd.sources import stale, with_password
from inboxd.tokens import Tokens, usable_seconds
from inboxd.ways import ServerCertificate

_NOBODY: Final = certificates.PREFIX + "0" * 64  # a pin that no certificate has


@asynccontextmanager
async def dial(
    account: Account,
    settings: Settings,
    budgets: Budgets,
    purpose: Purpose = Purpose.DIRECT,
    trace: Trace | None = None,
    tokens: Tokens | None = None,
) -> AsyncGenerator[Session]:
    """Connect, secure, greet and log in; MailServerError with its stage when any of it fails.

    NoRoom when the account's budget has no place for the connection, and none comes free in time. Where a server has
    room for fewer than the budget thought, what will soon be over is tried once more, in the place of one that listens.
    `tokens` give an account with a grant what it logs in with; the session then knows when it is to end.
    """

    def opening(dressed: Account) -> AbstractAsyncContextManager[Session]:
        return _dialled(dressed, settings, budgets, purpose, trace)

    async with AsyncExitStack() as stack:
        try:
            session = await _enter(stack, account, tokens, opening)
        except Throttled as error:
            crowded = error.crowded and budgets.of(account.host, account.username).crowded()
            if not crowded or purpose not in (Purpose.DIRECT, Purpose.CHORE):
                raise
            session = await _enter(stack, account, tokens, opening)
        yield session


async def _enter(
    stack: AsyncExitStack,
    account: Account,
    tokens: Tokens | None,
    opening: Callable[[Account], AbstractAsyncContextManager[Session]],
) -> Session:
    if tokens is None:
        return await stack.enter_async_context(opening(account))
    return await tokens.enter(stack, account, opening)


@asynccontextmanager
async def _dialled(
    account: Account, settings: Settings, budgets: Budgets, purpose: Purpose, trace: Trace | None
) -> AsyncGenerator[Session]:
    """One try. Somebody waits for a direct one: it goes before the turns of all the others.

    The turn is awaited before connecting, since servers do not wait long for a login; the place under way is held from
    the connected socket to the login, so that servers out of reach hold none.
    """
    limits, plain = settings.imap, settings.network.allow_plaintext
    budget = budgets.of(account.host, account.username)
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(budget.place(purpose))
        await budget.login()
        hurried = purpose is Purpose.DIRECT
        if not hurried:
            await budgets.logins.turn(account.host)
        account = await with_password(account, settings.credentials)
        sock = await net.connect_account(account, limits.connect_seconds, allow_plaintext=plain)
        stack.callback(sock.close)
        async with nullcontext() if hurried else budgets.logins.under_way:
            opening = open_session(sock, account, limits, net.tls_context(account), trace, folder=settings.state_dir)
            try:
                session = await stack.enter_async_context(opening)
            except AuthRefused as error:
                raise stale(account, error) from error
        if account.bearer is not None:
            session.ends_at = asyncio.get_running_loop().time() + usable_seconds(account.bearer)
        stack.enter_context(placed(session, place))
        yield session


@asynccontextmanager
async def dial_smtp(account: Account, settings: Settings, trace: Trace | None = None) -> AsyncGenerator[SmtpSession]:
    """As `dial`, to the account's SMTP server, without a budget. A grant's token is put into the account before."""
    account = await with_password(account, settings.credentials)
    context, plain = net.tls_context(account), settings.network.allow_plaintext
    sock = await net.connect_account(account, settings.smtp.connect_seconds, allow_plaintext=plain)
    async with AsyncExitStack() as stack:
        try:
            session = await stack.enter_async_context(
                open_smtp_session(sock, account, settings.smtp, context, trace or _ignore)
            )
        except AuthRefused as error:
            raise stale(account, error) from error
        yield session


def _ignore(_line: str) -> None:
    pass


async def shown_certificate(account: Account, settings: Settings) -> ServerCertificate:
    """The certificate the account's server shows, whoever vouches for it or not; nothing is sent to it but STARTTLS.

    MailServerError when there is none to be seen.
    """
    stranger = replace(account, ssl_trust=_NOBODY, ca_file=None, password=Secret(""), password_source=None)
    context = net.tls_context(stranger)
    if context is None:
        raise TlsMissing("tls", f"the connection to {account.host} uses no TLS, and so no certificate")
    limits = settings.imap if account.kind is Kind.IMAP else settings.smtp
    plain = settings.network.allow_plaintext
    sock = await net.connect_account(stranger, limits.connect_seconds, allow_plaintext=plain)
    try:
        if account.kind is Kind.IMAP:
            opening = open_session(sock, stranger, settings.imap, context)
        else:
            opening = open_smtp_session(sock, stranger, settings.smtp, context, _ignore)
        async with opening:
            raise TlsMissing("tls", f"{account.host} showed no certificate")
    except PinRefused as refused:
        return refused.seen
