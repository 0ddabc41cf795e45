"""Opening a session: TLS, greeting, capabilities, STARTTLS, login; each stage fails closed and says why."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, final

from inboxd import __version__, metrics, providers
from inboxd.bearing import bearing
from inboxd.certificates import Seen, check_pin, shown
from inboxd.errors import (
    AuthRefused,
    CommandRefused,
    Insecure,
    MailServerError,
    ProtocolError,
    Stalled,
    TlsMissing,
)
from inboxd.imap import sasl
from inboxd.imap.asked import Asked
from inboxd.imap.lines import first_line, printable
from inboxd.imap.link import Link
from inboxd.imap.protocol import Protocol, Trace
from inboxd.imap.session import Session
from inboxd.imap.throttling import refuses_for_now, throttled
from inboxd.model import Account, Tls
from inboxd.net import tls_failure
from inboxd.sections import ImapSettings

_CAPABILITY_LINES: Final = 16  # a server sends one; of more lines, and of longer ones, the rest is not looked at
_CAPABILITY_BYTES: Final = 16 << 10
Reached = Callable[[str, str], None]


def _ignore(_stage: str, _detail: str) -> None: ...


@asynccontextmanager
async def open_session(
    sock: socket.socket,
    account: Account,
    limits: ImapSettings,
    context: ssl.SSLContext | None,
    trace: Trace | None = None,
    reached: Reached = _ignore,
    folder: Path | None = None,
    seen: Seen | None = None,
) -> AsyncGenerator[Session]:
    """A logged-in session over a connected socket, which it takes over and closes.

    `reached` hears of each stage done: tls, greeting, capabilities, login, with what is worth telling; `seen`, before,
    of the certificate shown. Large messages go to a file in `folder` as they come, into memory without one. Raises
    MailServerError, each
    with its stage: TlsFailed, TlsMissing, Insecure, AuthRefused, Throttled, Stalled, ConnectionLost, ProtocolError.
    """
    protocol = Protocol(trace, limits.max_message_bytes, folder)
    link = Link(protocol, account.host, limits.command_seconds)
    opening = _Opening(link, account, reached, seen)
    metrics.SESSIONS.inc()
    try:
        try:
            async with asyncio.timeout(limits.connect_seconds):
                await opening.greet(sock, context)
        except TimeoutError as error:
            raise Stalled("greeting", opening.silence(limits.connect_seconds)) from error
        await opening.log_in()
        session = Session(link, limits, opening.capabilities, opening.tls)
        if limits.compress == "always":
            await session.compress()
        yield session
    finally:
        metrics.SESSIONS.dec()
        link.abort()
        if not protocol.connected:
            sock.close()


@final
class _Opening:
    def __init__(self, link: Link, account: Account, reached: Reached, seen: Seen | None) -> None:
        self._link = link
        self._protocol = link.protocol
        self._account = account
        self._reached = reached
        self._seen = seen
        self.capabilities: frozenset[str] = frozenset()
        self.tls: str | None = None

    def silence(self, seconds: float) -> str:
        """What to say when the opening took too long."""
        hint = (
            "" if self.tls or self._protocol.greeting else "; if the port expects TLS from the start, use implicit TLS"
        )
        return f"{self._account.host} did not get to the login within {seconds:g} s{hint}"

    async def greet(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        """TLS as configured, then the greeting and the capabilities."""
        implicit = self._account.tls is Tls.IMPLICIT
        host = self._account.host
        if context is None and self._account.tls is not Tls.NONE:
            raise Insecure("tls", f"TLS with {host} is asked for without a TLS context")
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: self._protocol,
                sock=sock,
                ssl=context if implicit else None,
                server_hostname=host if implicit else None,
            )
        except OSError as error:
            raise tls_failure(host, error) from error
        self._note_tls()
        await self._link.until(lambda: self._protocol.greeting is not None)
        self._check_greeting(self._protocol.greeting or b"")
        await self._ask_capabilities()
        if self._account.tls is Tls.STARTTLS and context is not None:
            await self._start_tls(context)
        self._reached("capabilities", printable(" ".join(sorted(self.capabilities)).encode()))

    def _check_greeting(self, greeting: bytes) -> None:
        word, _, text = greeting.partition(b" ")
        banner = printable(text)
        if word.upper() == b"BYE":
            raise throttled("greeting", "the server turned the connection away", banner)
        if word.upper() == b"PREAUTH" and self.tls is None:
            raise Insecure("greeting", "the server claims a login on an unencrypted connection (PREAUTH)")
        if word.upper() not in (b"OK", b"PREAUTH"):
            raise ProtocolError("greeting", "this is not an IMAP server", reply=printable(greeting))
        self._reached("greeting", banner)
        self._protocol.state = "NONAUTH" if word.upper() == b"OK" else "AUTH"

    async def _ask_capabilities(self) -> None:
        asked_at = self._protocol.clock.time()
        command = await self._link.run(Asked("CAPABILITY", self._link.tag()))
        took = self._protocol.clock.time() - asked_at
        self._link.round_trip_seconds = min(took, self._link.round_trip_seconds or took)
        lines = [line for r in command.responses if (line := first_line(r))[:13].upper() == b"* CAPABILITY "]
        listed = b" ".join(line[13:_CAPABILITY_BYTES] for line in lines[:_CAPABILITY_LINES])
        self.capabilities = _capabilities(listed)

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        if "STARTTLS" not in self.capabilities:
            raise TlsMissing("starttls", f"{self._account.host} does not offer STARTTLS; nothing was sent in clear")
        try:
            await self._link.run(Asked("STARTTLS", self._link.tag()))
        except CommandRefused as error:
            raise TlsMissing("starttls", f"{self._account.host} refused STARTTLS", reply=error.reply) from error
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._protocol.transport, self._protocol, context, server_hostname=self._account.host
            )
        except OSError as error:
            raise self._protocol.failure or tls_failure(self._account.host, error) from error
        if transport is None or self._protocol.failure is not None:
            raise self._protocol.failure or ProtocolError("starttls", "the connection closed during STARTTLS")
        self._protocol.secured(transport)
        self._note_tls()
        await self._ask_capabilities()

    def _note_tls(self) -> None:
        transport = self._protocol.transport
        secured = transport.get_extra_info("ssl_object")
        check_pin(self._account, secured)
        self.tls = secured.version() if secured is not None else None
        if self._seen is not None and (certificate := shown(secured)) is not None:
            self._seen(certificate)
        if self.tls is not None:
            (transport.get_extra_info("peercert") or {}).clear()  # checked; a few KB kept as long as the session
            self._reached("tls", self.tls)

    async def log_in(self) -> None:
        """Authenticate, unless PREAUTH did. AuthRefused or Throttled, with the server's words."""
        if self._protocol.state == "AUTH":
            return
        mechanism, command, shown = self._login()
        try:
            await self._link.run(command, shown)
        except CommandRefused as error:
            busy, words = refuses_for_now(error.reply), f"{self._account.host} refused the login"
            metrics.LOGINS.labels("failed" if busy else "refused").inc()
            complaint = command.complaint if isinstance(command, sasl.Present) else ""
            reply = f"{error.reply} ({complaint})" if complaint else error.reply
            if busy:
                raise throttled("login", words, reply) from error
            raise AuthRefused("login", words, reply=reply) from error
        except MailServerError:
            metrics.LOGINS.labels("failed").inc()
            raise
        self._protocol.hidden = ()
        metrics.LOGINS.labels("ok").inc()
        self._protocol.state = "AUTH"
        self._reached("login", mechanism)
        await self._ask_capabilities()
        await self._introduce()

    async def _introduce(self) -> None:
        """Say who asks, by name and version alone, where mailboxes open only to who did (RFC 2971)."""
        if "ID" in self.capabilities and providers.quirks(self._account.host).wants_id:
            with suppress(CommandRefused):
                await self._link.run(Asked("ID", self._link.tag(), f'("name" "inboxd" "version" "{__version__}")'))

    def _login(self) -> tuple[str, Asked, str]:
        """The mechanism, its command and how a trace may show it; what it holds is hidden from now on."""
        account, at_once = self._account, "SASL-IR" in self.capabilities
        if account.bearer is not None:
            mechanism = sasl.choose_bearer(self.capabilities, account.mechanisms)
            shown_token = bearing(mechanism, account, account.bearer)
            tag = self._link.tag()
            self._protocol.hidden = shown_token.spellings
            line = f"{tag} AUTHENTICATE {mechanism}"
            command = sasl.Present(tag, shown_token, initial_response=at_once)
            return mechanism, command, f"{line} ***" if at_once else line
        mechanism = sasl.choose(self.capabilities, account.mechanisms)
        asked, shown = sasl.command(
            mechanism, self._link.tag(), account.username, account.password, initial_response=at_once
        )
        self._protocol.hidden = sasl.spellings(account.username, account.password)
        return mechanism, asked, shown


@functools.lru_cache(maxsize=64)
def _capabilities(listed: bytes) -> frozenset[str]:
    """Shared by the sessions of a server: some name forty."""
    return frozenset(listed.decode("ascii", "replace").upper().split())
