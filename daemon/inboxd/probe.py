"""The staged test of a connection: each step with its duration, the server's words, the likely cause and the fix."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from inboxd import net
from inboxd.errors import InboxdError, MailServerError
from inboxd.imap.opening import open_session as open_imap
from inboxd.model import Account, Kind, Step
from inboxd.settings import Settings
from inboxd.smtp import open_session as open_smtp

Trace = Callable[[str], None]

# Which stage of an error belongs to which step of the test, and what most often causes it.
_CAUSES: Final[dict[str, tuple[str, str, str]]] = {
    "resolve": ("resolve", "the host name is misspelt, or this machine cannot resolve names", "check the host name"),
    "connect": ("connect", "wrong port, a firewall, or the server is down", "check host and port, then the firewall"),
    "tls": (
        "tls",
        "wrong TLS mode for the port, or a certificate that cannot be verified",
        "use implicit TLS on 993 and 465, STARTTLS on 143 and 587; mend the certificate or its host name",
    ),
    "starttls": ("tls", "the server offers no STARTTLS on this port", "use implicit TLS (993, 465) or another server"),
    "greeting": ("greeting", "the port speaks another protocol or TLS, or the server is overloaded", "check the port"),
    "ehlo": ("greeting", "the server refuses this client's name or address", "set localHostName to a name it accepts"),
    "login": (
        "login",
        "wrong user name or password; many providers want an app password, or IMAP switched on",
        "make an app password at the provider, or correct the user name and password",
    ),
    "auth": (
        "login",
        "wrong user name or password, or the provider forbids password login over SMTP",
        "make an app password at the provider, or correct the user name and password",
    ),
    "select": ("select", "the mailbox does not exist under that name", "correct the folder's name"),
}


async def probe(account: Account, settings: Settings, trace: Trace) -> AsyncIterator[Step]:
    """Test an account step by step; stops after the first step that fails. Never raises for what a server does."""
    walk = _probe_imap if account.kind is Kind.IMAP else _probe_smtp
    clock = _Clock()
    try:
        async with _closing(walk(account, settings, trace, clock)) as steps:
            async for step in steps:
                yield step
    except InboxdError as error:
        for step in clock.noted():
            yield step
        yield _failed(error, clock)


class _Clock:
    def __init__(self) -> None:
        self._began = time.monotonic()

        self._noted: list[Step] = []

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.monotonic()
        passed, self._began = now - self._began, now
        return passed

    def done(self, name: str, detail: str) -> Step:
        """A step that went well, now."""
        return Step(name, ok=True, seconds=self.lap(), detail=detail)

    def note(self, name: str, detail: str) -> None:
        """Keep such a step for `noted`."""
        self._noted.append(self.done(name, detail))

    def noted(self) -> list[Step]:
        """The steps kept since last asked."""
        steps, self._noted = self._noted, []
        return steps


@asynccontextmanager
async def _closing(steps: AsyncGenerator[Step]) -> AsyncGenerator[AsyncGenerator[Step]]:
    try:
        yield steps
    finally:
        await steps.aclose()


def _failed(error: InboxdError, clock: _Clock) -> Step:
    stage = error.stage if isinstance(error, MailServerError) else "connect"
    name, cause, fix = _CAUSES.get(stage, (stage, "the server did not do what the protocol asks", "see the log"))
    return Step(name, ok=False, seconds=clock.lap(), detail=str(error), cause=cause, fix=fix)


async def _probe_imap(account: Account, settings: Settings, trace: Trace, clock: _Clock) -> AsyncGenerator[Step]:
    limits = settings.imap
    sock = await net.connect_account(account, limits.connect_seconds, allow_plaintext=settings.network.allow_plaintext)
    yield clock.done("connect", f"{account.host} port {account.port}")
    async with open_imap(sock, account, limits, net.tls_context(account), trace, clock.note) as session:
        for step in clock.noted():
            yield step
        mailbox = await session.examine(account.select_folder)
        yield clock.done("select", f"{mailbox.name}: {mailbox.exists} messages")
        offered = "IDLE" in session.capabilities
        yield clock.done("idle", "offered" if offered else "not offered: mail is polled for")
        await session.log_out()


async def _probe_smtp(account: Account, settings: Settings, trace: Trace, clock: _Clock) -> AsyncGenerator[Step]:
    limits = settings.smtp
    sock = await net.connect_account(account, limits.connect_seconds, allow_plaintext=settings.network.allow_plaintext)
    yield clock.done("connect", f"{account.host} port {account.port}")
    async with open_smtp(sock, account, limits, net.tls_context(account), trace) as session:
        size = f"; up to {session.size_limit} bytes" if session.size_limit else ""
        yield clock.done("login", f"{session.tls or 'not encrypted'}{size}")
