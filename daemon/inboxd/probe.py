"""The staged test of a connection: each step with its duration, the server's words, the likely cause and the fix."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from inboxd import net
from inboxd.budgets import Budgets, Purpose
from inboxd.errors import AuthRefused, InboxdError, Insecure, Invalid, MailServerError, Throttled, TlsFailed
from inboxd.imap.opening import open_session as open_imap
from inboxd.model import Account, Kind, Step, Tls
from inboxd.settings import Settings
from inboxd.smtp.opening import open_session as open_smtp
from inboxd.sources import with_password
from inboxd.sync import search
from inboxd.tokens import Tokens

Trace = Callable[[str], None]

# Which stage of an error belongs to which step of the test, and what most often causes it.
_CAUSES: Final[dict[str, tuple[str, str, str]]] = {
    "credential": (
        "credential",
        "the place that holds the password cannot be read, or the settings do not allow it",
        "put the password there, or correct the source; see credentials in the settings",
    ),
    "proxy": (
        "proxy",
        "the proxy is down, wants another login, or does not let this server be reached",
        "check the proxy's address, user name and password, and what it allows",
    ),
    "token": (
        "login",
        "the OAuth2 provider gives no token for this mailbox",
        "log in again with inboxctl oauth login, or wait if the provider is away",
    ),
    "resolve": ("resolve", "the host name is misspelt, or this machine cannot resolve names", "check the host name"),
    "connect": ("connect", "wrong port, a firewall, or the server is down", "check host and port, then the firewall"),
    "tls": (
        "tls",
        "wrong TLS mode for the port, or a certificate that cannot be verified",
        "use implicit TLS on 993 and 465, STARTTLS on 143 and 587; mend the certificate or its host name",
    ),
    "starttls": ("tls", "the server offers no STARTTLS on this port", "use implicit TLS (993, 465) or another server"),
    "greeting": ("greeting", "the port speaks another protocol or TLS, or the server is overloaded", "check the port"),
    "ehlo": ("ehlo", "the server refuses this client's name or address", "set localHostName to a name it accepts"),
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
    "search": (
        "search",
        "the server does not understand the search terms",
        "correct the search terms, or remove them",
    ),
    "select": ("select", "the mailbox does not exist under that name", "correct the folder's name"),
    "examine": ("select", "the server does not open the mailbox now", "try again later, or choose another folder"),
}
_FIELDS: Final = {"folder": "select", "username": "login", "mechanisms": "login", "local_host_name": "ehlo"}
_BROKEN_OFF: Final = (
    "the server broke off, was silent for too long, or did not follow the protocol",
    "try again later; if it stays so, read the log and ask whoever runs the server",
)
_CERTIFICATE: Final = (
    "the certificate cannot be verified: expired, made for another name, or from an unknown authority",
    "mend the certificate, or use the host name it was made for; sslTrust is for servers you know",
)
_MECHANISM: Final = (
    "the server offers none of the ways to log in that are allowed here",
    "allow another mechanism, or use TLS if the server wants it first; some providers take OAuth2 alone",
)
# What the kind of failure says, where it says more than its stage.
_KINDS: Final[dict[type[InboxdError], tuple[str, str]]] = {
    Insecure: ("the password would cross the network in clear", "use implicit TLS or STARTTLS"),
    Throttled: (
        "the server is busy, or allows no more connections for this account or address",
        "wait a while and try again; close other mail programs on this account",
    ),
}
_IMAP_ORDER: Final = {
    Tls.IMPLICIT: ("connect", "tls", "greeting", "login", "select", "search", "idle"),
    Tls.STARTTLS: ("connect", "greeting", "tls", "login", "select", "search", "idle"),
    Tls.NONE: ("connect", "greeting", "login", "select", "search", "idle"),
}
_SMTP_ORDER: Final = {
    Tls.IMPLICIT: ("connect", "tls", "greeting", "ehlo", "login"),
    Tls.STARTTLS: ("connect", "greeting", "ehlo", "tls", "login"),
    Tls.NONE: ("connect", "greeting", "ehlo", "login"),
}
_ORDERS: Final = {Kind.IMAP: _IMAP_ORDER, Kind.SMTP: _SMTP_ORDER}
# How the trace of an SMTP session shows that a step is done; each counts the first time.
_SMTP_MARKS: Final = {"TLS: ": "tls", "S: 220": "greeting", "S: 250": "ehlo", "S: 235": "login"}


async def probe(
    account: Account,
    settings: Settings,
    trace: Trace,
    tokens: Tokens | None = None,
    budgets: Budgets | None = None,
) -> AsyncIterator[Step]:
    """Test an account step by step; stops after the first step that fails. Never raises for what a server does.

    With a grant it logs in by one of its `tokens`. `budgets`: an IMAP connection takes its place from its account's.
    """
    walk = _probe_smtp if account.kind is Kind.SMTP else partial(_probe_placed, budgets or Budgets(settings.imap))
    clock = _Clock(_ORDERS[account.kind][account.tls])
    try:
        account = await with_password(account, settings.credentials)
        if tokens is not None:
            account = await tokens.dressed(account)
        async with _closing(walk(account, settings, trace, clock)) as steps:
            async for step in steps:
                yield step
    except InboxdError as error:
        for step in clock.noted():
            yield step
        yield _failed(error, clock)


class _Clock:
    def __init__(self, order: tuple[str, ...]) -> None:
        self._began = time.monotonic()
        self._order = order
        self._noted: list[Step] = []
        self.under_way = order[0]

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.monotonic()
        passed, self._began = now - self._began, now
        return passed

    def done(self, name: str, detail: str) -> Step:
        """A step that went well, now."""
        self.under_way = self._order[min(self._order.index(name) + 1, len(self._order) - 1)]
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
    stage = clock.under_way
    if isinstance(error, MailServerError):
        stage = error.stage
    elif isinstance(error, Invalid):
        stage = _FIELDS.get(error.field, stage)
    if stage not in _CAUSES and clock.under_way in ("tls", "greeting"):
        stage = clock.under_way
    name, cause, fix = _CAUSES.get(stage, (clock.under_way, *_BROKEN_OFF))
    cause, fix = _of_kind(error) or (cause, fix)
    return Step(name, ok=False, seconds=clock.lap(), detail=str(error), cause=cause, fix=fix)


def _of_kind(error: InboxdError) -> tuple[str, str] | None:
    if isinstance(error, TlsFailed) and "certificate" in str(error):
        return _CERTIFICATE
    if isinstance(error, AuthRefused) and not error.reply and error.stage != "token":
        return _MECHANISM
    return next((words for kind, words in _KINDS.items() if isinstance(error, kind)), None)


async def _probe_placed(
    budgets: Budgets, account: Account, settings: Settings, trace: Trace, clock: _Clock
) -> AsyncGenerator[Step]:
    budget = budgets.of(account.host, account.username)
    async with budget.place(Purpose.DIRECT):
        await budget.login()
        async with _closing(_probe_imap(account, settings, trace, clock)) as steps:
            async for step in steps:
                yield step


async def _probe_imap(account: Account, settings: Settings, trace: Trace, clock: _Clock) -> AsyncGenerator[Step]:
    limits, context = settings.imap, net.tls_context(account)
    sock = await net.connect_account(account, limits.connect_seconds, allow_plaintext=settings.network.allow_plaintext)
    yield clock.done("connect", f"{account.host} port {account.port}")
    async with open_imap(sock, account, limits, context, trace, clock.note) as session:
        for step in clock.noted():
            yield step
        mailbox = await session.examine(account.select_folder)
        yield clock.done("select", f"{mailbox.name}: {mailbox.exists} messages")
        if account.search_terms:
            found = await search(session, account.search_terms)
            yield clock.done("search", f"{len(found)} of them match {account.search_terms}")
        offered = "IDLE" in session.capabilities
        yield clock.done("idle", "offered" if offered else "not offered: mail is polled for")
        await session.log_out()


async def _probe_smtp(account: Account, settings: Settings, trace: Trace, clock: _Clock) -> AsyncGenerator[Step]:
    limits, context = settings.smtp, net.tls_context(account)
    sock = await net.connect_account(account, limits.connect_seconds, allow_plaintext=settings.network.allow_plaintext)
    yield clock.done("connect", f"{account.host} port {account.port}")
    heard: set[str] = set()

    def listen(line: str) -> None:
        trace(line)
        name = next((name for mark, name in _SMTP_MARKS.items() if line.startswith(mark)), None)
        if name is not None and name not in heard:
            heard.add(name)
            clock.note(name, line.partition(": ")[2])

    async with open_smtp(sock, account, limits, context, listen) as session:
        for step in clock.noted():
            yield step
        if "login" not in heard:
            yield clock.done("login", "no user name is set: mail is handed over without a login")
        if session.size_limit:
            trace(f"the server takes mails of up to {session.size_limit} bytes")
