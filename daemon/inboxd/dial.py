"""A logged-in IMAP session from an account: the way every worker opens one; and a look at a server's certificate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Final

from inboxd import certificates, net
from inboxd.errors import AuthRefused, PinRefused, TlsMissing
from inboxd.imap.opening import open_session
from inboxd.imap.protocol import Trace
from inboxd.imap.session import Session
from inboxd.logins import Logins
from inboxd.model import Account, Kind, Secret
from inboxd.settings import Settings
from inboxd.smtp.opening import open_session as open_smtp_session
from inboxd.sources import stale, with_password
from inboxd.tokens import Tokens, usable_seconds
from inboxd.ways import ServerCertificate

_NOBODY: Final = certificates.PREFIX + "0" * 64  # a pin that no certificate has


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
    account = await with_password(account, settings.credentials)
    sock = await net.connect_account(account, limits.connect_seconds, allow_plaintext=settings.network.allow_plaintext)
    async with AsyncExitStack() as stack:
        stack.callback(sock.close)
        async with logins.under_way if logins is not None else nullcontext():
            opening = open_session(sock, account, limits, net.tls_context(account), trace, folder=settings.state_dir)
            try:
                session = await stack.enter_async_context(opening)
            except AuthRefused as error:
                raise stale(account, error) from error
        if account.bearer is not None:
            session.ends_at = asyncio.get_running_loop().time() + usable_seconds(account.bearer)
        yield session


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
            opening = open_smtp_session(sock, stranger, settings.smtp, context, lambda _line: None)
        async with opening:
            raise TlsMissing("tls", f"{account.host} showed no certificate")
    except PinRefused as refused:
        return refused.seen
