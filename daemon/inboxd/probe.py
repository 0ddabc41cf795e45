"""The staged test of a connection: each step with its duration, the server's words, the likely cause and the fix."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Final, final

from inboxd import net
from inboxd.budgets import Budgets, Purpose
from inboxd.causes import Failure, diagnose
from inboxd.errors import InboxdError, Invalid, MailboxRefused, MailServerError, Stalled
from inboxd.evidence import gathered
from inboxd.imap.measure import size_bytes
from inboxd.imap.opening import open_session as open_imap
from inboxd.imap.session import Session
from inboxd.model import Account, Kind, Step, Tls
from inboxd.settings import Settings
from inboxd.smtp.opening import open_session as open_smtp
from inboxd.sources import with_password
from inboxd.sync import search
from inboxd.tokens import Tokens
from inboxd.ways import ServerCertificate

Trace = Callable[[str], None]
Tell = Callable[[Step], None]

# At which step of the test an error with this stage happened, where the two have different names.
_STEPS: Final = {
    "token": "login",
    "starttls": "tls",
    "auth": "login",
    "authenticate": "login",
    "examine": "select",
    "greeting": "greeting",
}
_NAMES: Final = frozenset(
    {"credential", "proxy", "resolve", "connect", "tls", "greeting", "ehlo", "login", "select", "search"}
)
_FIELDS: Final = {"folder": "select", "username": "login", "mechanisms": "login", "local_host_name": "ehlo"}
_BEFORE: Final = ("credential", "resolve", "connect")
_IMAP_AFTER: Final = ("login", "select", "search", "idle")
_ORDERS: Final = {
    (Kind.IMAP, Tls.IMPLICIT): (*_BEFORE, "tls", "greeting", "capabilities", *_IMAP_AFTER),
    (Kind.IMAP, Tls.STARTTLS): (*_BEFORE, "greeting", "tls", "capabilities", *_IMAP_AFTER),
    (Kind.IMAP, Tls.NONE): (*_BEFORE, "greeting", "capabilities", *_IMAP_AFTER),
    (Kind.SMTP, Tls.IMPLICIT): (*_BEFORE, "tls", "greeting", "ehlo", "login", "size"),
    (Kind.SMTP, Tls.STARTTLS): (*_BEFORE, "greeting", "ehlo", "tls", "login", "size"),
    (Kind.SMTP, Tls.NONE): (*_BEFORE, "greeting", "ehlo", "login", "size"),
}
# How the trace of an SMTP session shows that a step is done; each counts the first time.
_SMTP_MARKS: Final = {"TLS: ": "tls", "S: 220": "greeting", "S: 250": "ehlo", "S: 235": "login"}
# What makes mail come sooner and changes cheaper to follow, in the order it is told.
_EXTENSIONS: Final = ("IDLE", "NOTIFY", "CONDSTORE", "QRESYNC")
_NEAR: Final = 5
_LIKE: Final = 0.4


async def probe(
    account: Account,
    settings: Settings,
    trace: Trace,
    tokens: Tokens | None = None,
    budgets: Budgets | None = None,
) -> AsyncIterator[Step]:
    """Test an account step by step, each told when it is done; stops after the first step that fails.

    Never raises for what a server does. With a grant it logs in by one of its `tokens`. `budgets`: an IMAP connection
    takes its place from its account's.
    """
    walk = _Walk(account, settings, trace, tokens, budgets or Budgets(settings.imap))
    async with aclosing(told(walk.go)) as steps:
        async for step in steps:
            yield step


async def told(work: Callable[[Tell], Awaitable[None]]) -> AsyncGenerator[Step]:
    """The steps that `work` tells, as they come. Whoever leaves early ends it."""
    steps: asyncio.Queue[Step | None] = asyncio.Queue()

    async def run() -> None:
        try:
            await work(steps.put_nowait)
        finally:
            steps.put_nowait(None)

    async with asyncio.TaskGroup() as group:
        group.create_task(run())
        while (step := await steps.get()) is not None:
            yield step


def step_at(error: InboxdError, under_way: str) -> str:
    """The step that failed. What went wrong with the connection itself did so at the step under way."""
    if isinstance(error, Invalid):
        return _FIELDS.get(error.field, under_way)
    stage = error.stage if isinstance(error, MailServerError) else ""
    if isinstance(error, Stalled) and stage == "greeting":
        return under_way
    return stage if stage in _NAMES else _STEPS.get(stage, under_way)


@final
class _Walk:
    """One test on its way: what is under way, since when, and what was seen so far."""

    def __init__(
        self, account: Account, settings: Settings, trace: Trace, tokens: Tokens | None, budgets: Budgets
    ) -> None:
        self._account = account
        self._tokens = tokens
        self._budgets = budgets
        self._settings = settings
        self._trace = trace
        self._tell: Tell = lambda _step: None
        self._order = _ORDERS[account.kind, account.tls]
        self._under_way = self._order[0]
        self._began = time.monotonic()
        self._certificate: ServerCertificate | None = None
        self._near: tuple[str, ...] = ()

    async def go(self, tell: Tell) -> None:
        """Take the steps and tell each."""
        self._tell = tell
        walk = self._placed if self._account.kind is Kind.IMAP else self._smtp
        try:
            account = await with_password(self._account, self._settings.credentials)
            if account.password_source:
                self._done("credential", "the password was read where it is kept")
            if self._tokens is not None:
                account = await self._tokens.dressed(account)
            await walk(account)
        except InboxdError as error:
            step, seconds = step_at(error, self._under_way), self._lap()
            failure = Failure(step, error, self._account, self._certificate, near=self._near)
            name, cause, fix = diagnose(await gathered(failure, self._settings))
            tell(Step(step, ok=False, seconds=seconds, detail=str(error), cause=cause, fix=fix, diagnosis=name))

    async def _placed(self, account: Account) -> None:
        budget = self._budgets.of(account.host, account.username)
        async with budget.place(Purpose.DIRECT):
            await budget.login()
            await self._imap(account)

    def _lap(self) -> float:
        """Seconds since the last lap."""
        now = time.monotonic()
        passed, self._began = now - self._began, now
        return passed

    def _done(self, name: str, detail: str) -> None:
        """A step that went well, now."""
        self._under_way = self._order[min(self._order.index(name) + 1, len(self._order) - 1)]
        self._tell(Step(name, ok=True, seconds=self._lap(), detail=detail))

    def _see(self, certificate: ServerCertificate) -> None:
        self._certificate = certificate

    def _reached(self, name: str, detail: str) -> None:
        """What a session tells while it opens."""
        self._done(name, _described(detail, self._certificate) if name == "tls" else detail)

    async def _connect(self, account: Account, seconds: float) -> net.socket.socket:
        proxy = account.proxy
        self._under_way = "connect" if proxy is not None else "resolve"
        if proxy is None:
            found = await _resolved(account, seconds)
            self._done("resolve", ", ".join(found))
        plain = self._settings.network.allow_plaintext
        sock = await net.connect_account(account, seconds, allow_plaintext=plain)
        way = f", through the proxy {proxy.host} port {proxy.port}" if proxy is not None else ""
        self._done("connect", f"{account.host} port {account.port}{way}")
        return sock

    # --- IMAP ---------------------------------------------------------------------------------------------------------

    async def _imap(self, account: Account) -> None:
        limits, context = self._settings.imap, net.tls_context(account)
        sock = await self._connect(account, limits.connect_seconds)
        async with open_imap(sock, account, limits, context, self._trace, self._reached, seen=self._see) as session:
            await self._select(session, account.select_folder)
            if account.search_terms:
                found = await search(session, account.search_terms)
                self._done("search", f"{len(found)} of them match {account.search_terms}")
            self._done("idle", _offered(session.capabilities))
            await session.log_out()

    async def _select(self, session: Session, name: str) -> None:
        try:
            mailbox = await session.examine(name)
        except MailboxRefused:
            with suppress(MailServerError):
                self._near = _most_like(name, [one.name for one in await session.mailboxes() if one.selectable])
            raise
        size = await size_bytes(session, mailbox)
        about = f", about {_megabytes(size)}" if size is not None else ""
        count = f"{mailbox.exists} message{'' if mailbox.exists == 1 else 's'}"
        self._done("select", f"{mailbox.name}: {count}{about}")

    # --- SMTP ---------------------------------------------------------------------------------------------------------

    async def _smtp(self, account: Account) -> None:
        limits, context = self._settings.smtp, net.tls_context(account)
        sock = await self._connect(account, limits.connect_seconds)
        heard, mechanism = set[str](), ""

        def listen(line: str) -> None:
            nonlocal mechanism
            self._trace(line)
            if line.startswith("C: AUTH "):
                mechanism = line.split()[2]
            name = next((name for mark, name in _SMTP_MARKS.items() if line.startswith(mark)), None)
            if name is not None and name not in heard:
                heard.add(name)
                said = line.partition(": ")[2]
                self._reached(name, f"{mechanism}: {said}" if name == "login" else said)

        async with open_smtp(sock, account, limits, context, listen, self._see) as session:
            if "login" not in heard:
                self._done("login", "no user name is set: mail is handed over without a login")
            size = session.size_limit
            self._done("size", f"mails of up to {_megabytes(size)}" if size else "the server names no limit")


async def _resolved(account: Account, seconds: float) -> list[str]:
    try:
        async with asyncio.timeout(seconds):
            found = await net.resolve(account.host, account.port)
    except TimeoutError as error:
        raise Stalled("resolve", f"the host name {account.host!r} did not resolve within {seconds:g} s") from error
    return list(dict.fromkeys(address[4][0] for address in found))


def _described(version: str, certificate: ServerCertificate | None) -> str:
    if certificate is None:
        return version
    until = f"{certificate.valid_until:%Y-%m-%d}" if certificate.valid_until is not None else "an unknown date"
    whose = certificate.subject or ", ".join(certificate.names[:3]) or "an unnamed server"
    return f"{version}; certificate of {whose}, valid until {until}, {certificate.pin}"


def _offered(capabilities: frozenset[str]) -> str:
    there = [name for name in _EXTENSIONS if name in capabilities]
    missing = [name for name in _EXTENSIONS if name not in capabilities]
    told = [f"offered: {', '.join(there)}"] if there else []
    told += [f"not offered: {', '.join(missing)}"] if missing else []
    return "; ".join(told) + ("" if "IDLE" in there else "; mail is polled for")


def _most_like(name: str, names: list[str]) -> tuple[str, ...]:
    """The names most like this one; without any, the first of them."""
    folded = {one.casefold(): one for one in reversed(names)}
    like = difflib.get_close_matches(name.casefold(), folded, _NEAR, _LIKE)
    return tuple(folded[one] for one in like) or tuple(names[:_NEAR])


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count:,} bytes"
