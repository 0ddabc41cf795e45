"""A logged-in IMAP session from an account: the way every worker opens one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from inboxd import net
from inboxd.imap.opening import open_session
from inboxd.imap.protocol import Trace
from inboxd.imap.session import Session
from inboxd.model import Account
from inboxd.settings import Settings


@asynccontextmanager
async def dial(account: Account, settings: Settings, trace: Trace | None = None) -> AsyncGenerator[Session]:
    """Connect, secure, greet and log in; MailServerError with its stage when any of it fails."""
    limits = settings.imap
    sock = await net.connect_account(account, limits.connect_seconds, allow_plaintext=settings.network.allow_plaintext)
    async with open_session(sock, account, limits, net.tls_context(account), trace) as session:
        yield session
