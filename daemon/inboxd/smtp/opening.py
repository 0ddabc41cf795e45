"""Opening a session: TLS, greeting, EHLO, STARTTLS, login; each stage fails closed and says why.

aiosmtplib's client class is not used: it falls back from STARTTLS to clear text, answers a lost connection alike before
and after the final dot, and counts the upload into one time-out.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager, suppress

from aiosmtplib.esmtp import parse_esmtp_extensions

from inboxd import errors
from inboxd.certificates import Seen
from inboxd.errors import Invalid, MailServerError
from inboxd.model import Account, Tls
from inboxd.sections import SmtpSettings
from inboxd.smtp.link import Link, Trace
from inboxd.smtp.login import allowed, log_in
from inboxd.smtp.replies import CLOSING, clean, words
from inboxd.smtp.session import Session
from inboxd.smtp.wire import Wire

NEUTRAL_NAME = "localhost.localdomain"
_QUIT_SECONDS = 2.0
_HOST_NAME = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}\Z")


@asynccontextmanager
async def open_session(
    sock: socket.socket,
    account: Account,
    limits: SmtpSettings,
    context: ssl.SSLContext | None,
    trace: Trace,
    seen: Seen | None = None,
) -> AsyncGenerator[Session]:
    """A session over a connected socket, secured and logged in as the account asks; it owns the socket from now on.

    `seen` hears of the certificate shown, before the trace tells of TLS.
    Without a user name there is no login. A login in clear needs Tls.NONE and no context: whoever hands none over has
    decided that clear text is fine. TlsFailed, TlsMissing, Insecure, AuthRefused, Throttled, CommandRefused,
    ConnectionLost, Stalled, ProtocolError carry the stage; Invalid names a field of the account that cannot be used.
    """
    with ExitStack() as refused:
        refused.callback(sock.close)
        _check(account, context)
        refused.pop_all()
    wire = Wire()
    link = Link(wire, account, limits, trace, seen)
    try:
        implicit = account.tls is Tls.IMPLICIT
        async with link.stage("tls" if implicit else "connect", limits.connect_seconds):
            secured, host = (context, account.host) if implicit else (None, None)
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: wire, sock=sock, ssl=secured, server_hostname=host)
        link.note_tls()
        session = await _greeted(link, account, context)
        if account.username:
            in_clear = account.tls is Tls.NONE and context is None
            await log_in(link, account, session.extensions.get("AUTH", ""), in_clear=in_clear)
        yield session
        with suppress(MailServerError):
            if session.usable:
                await link.ask("quit", b"QUIT", seconds=_QUIT_SECONDS)
            await link.close()
    finally:
        wire.abort()


async def _greeted(link: Link, account: Account, context: ssl.SSLContext | None) -> Session:
    """Greeting, EHLO, and TLS if it is still to begin: STARTTLS and EHLO again (RFC 3207 §4.2)."""
    greeting = await link.hear("greeting", link.limits.greeting_seconds)
    link.expect("greeting", greeting, 220)
    name = account.local_host_name or NEUTRAL_NAME
    extensions = await _say_hello(link, name)
    if account.tls is Tls.STARTTLS and context is not None:
        await _start_tls(link, extensions, context)
        extensions = await _say_hello(link, name)
    return Session(link, clean(greeting.message), extensions)


async def _say_hello(link: Link, name: str) -> dict[str, str]:
    """EHLO, or HELO for servers that do not know it; the extensions offered."""
    reply = await link.ask("ehlo", b"EHLO " + name.encode("ascii"))
    parsed = parse_esmtp_extensions(reply.message)[0] if reply.code // 100 == 2 else {}
    if reply.code // 100 == 5:
        reply = await link.ask("ehlo", b"HELO " + name.encode("ascii"))
    link.expect("ehlo", reply)
    return {keyword.upper(): value for keyword, value in parsed.items()}


async def _start_tls(link: Link, extensions: dict[str, str], context: ssl.SSLContext) -> None:
    if "STARTTLS" not in extensions:
        raise errors.TlsMissing("starttls", "the server does not offer STARTTLS; nothing was sent in clear instead")
    reply = await link.ask("starttls", b"STARTTLS")
    if reply.code == CLOSING:
        link.expect("starttls", reply)
    if reply.code != 220:
        raise errors.TlsFailed("starttls", "the server offers STARTTLS but refuses it", reply=words(reply))
    await link.secure(context)


def _check(account: Account, context: ssl.SSLContext | None) -> None:
    """Refuse what would fail later or send a password in clear against the caller's word."""
    if account.tls is not Tls.NONE and context is None:
        raise errors.Insecure("connect", "TLS is asked for and there is no TLS context")
    if account.local_host_name and not _HOST_NAME.match(account.local_host_name):
        raise Invalid("local_host_name", f"{account.local_host_name[:80]!a} is not a host name")
    if "\0" in account.username or "\0" in account.password.reveal():
        raise Invalid("username", "user name and password must not hold NUL")
    allowed(account)
