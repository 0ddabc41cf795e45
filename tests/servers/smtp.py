"""A real SMTP server (aiosmtpd) in a thread of its own, so that it answers whatever the test's event loop does."""

from __future__ import annotations

import asyncio
import base64
import enum
import gc
import re
import ssl
import threading
import warnings
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from inboxd.model import Tls
from servers import LOOPBACK, abort_connections, free_port, stop_accepting
from servers.certs import Certificates

USER, PASSWORD = "user@example.test", "correct horse"
COMPLAINT = '{"status":"401","schemes":"bearer mac","scope":"https://mail.google.com/"}'
_AFTER_CONTENT = "DOT"


class Fault(enum.Enum):
    """What a server may do instead of answering."""

    DROP = "close the connection"
    STALL = "stay silent"


@dataclass(frozen=True, slots=True)
class Received:
    """A mail the server took: the envelope, and the content without the dots of transparency."""

    mail_from: str
    rcpt_tos: tuple[str, ...]
    content: bytes
    mail_options: tuple[str, ...]
    login: str | None
    secured: bool


Deliver = Callable[[Received], object]
Bears = Callable[[str, str], bool]
Answers = dict[str, str | Fault]


class SmtpServer:
    """What a test sees of a server.

    `answers` overrides, from now on, what the server does at EHLO, AUTH, MAIL, RCPT, "RCPT address", DATA (the
    command) and DOT (after the whole mail, which counts as received unless the answer is a 4xx or 5xx line).
    """

    def __init__(
        self, tls: Tls, users: Mapping[str, str], deliver: Deliver | None, max_bytes: int, bears: Bears | None = None
    ) -> None:
        self.host = LOOPBACK
        self.port = free_port()
        self.tls = tls
        self.users = dict(users)
        self.deliver = deliver
        self.max_bytes = max_bytes
        self.bears = bears
        self.received: list[Received] = []
        self.commands: list[str] = []
        self.answers: Answers = {}
        self.close_connections: Callable[[], object] | None = None
        self._arrived = threading.Condition()

    def take(self, mail: Received) -> None:
        """Record a mail and hand it on."""
        if self.deliver is not None:
            self.deliver(mail)
        with self._arrived:
            self.received.append(mail)
            self._arrived.notify_all()

    def drop_all(self) -> None:
        """Close every connection, and return once they are closed."""
        assert self.close_connections is not None
        self.close_connections()

    def wait_for_command(self, command: str, count: int, seconds: float = 15.0) -> None:
        """Block until a command came that often; use a thread from async code."""
        with self._arrived:
            came = lambda: sum(one.startswith(command) for one in self.commands) >= count  # noqa: E731
            assert self._arrived.wait_for(came, seconds), self.commands

    def note(self, command: str) -> None:
        """Record a command."""
        with self._arrived:
            self.commands.append(command)
            self._arrived.notify_all()

    def wait_for(self, count: int = 1, seconds: float = 15.0) -> list[Received]:
        """Block until `count` mails were received; use a thread from async code."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.received) >= count, seconds), self.commands
            return list(self.received)


class _Handler:
    """aiosmtpd's hooks."""

    def __init__(self, server: SmtpServer) -> None:
        self._server = server

    async def handle_MAIL(  # noqa: N802
        self, _smtp: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if (self._server.users or self._server.bears) and not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_DATA(self, smtp: _Smtp, session: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = self._server.answers.get(_AFTER_CONTENT)
        if not (isinstance(answer, str) and answer[:1] in "45"):
            login = session.auth_data
            self._server.take(
                Received(
                    mail_from=envelope.mail_from or "",
                    rcpt_tos=tuple(envelope.rcpt_tos),
                    content=envelope.original_content or b"",
                    mail_options=tuple(envelope.mail_options),
                    login=login.login.decode() if login else None,
                    secured=session.ssl is not None or self._server.tls is Tls.IMPLICIT,
                )
            )
        if isinstance(answer, Fault):
            await smtp.fail(answer)
        return answer if isinstance(answer, str) else "250 2.0.0 OK: queued"

    def authenticate(
        self, _smtp: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, secret: LoginPassword
    ) -> AuthResult:
        known = self._server.users.get(secret.login.decode())
        if known is not None and known == secret.password.decode():
            return AuthResult(success=True, auth_data=secret)
        return AuthResult(success=False, handled=False, message="535 5.7.8 Username and password not accepted")

    async def auth_XOAUTH2(self, smtp: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        """As Google and Microsoft do it: a refusal is told as JSON first, and an empty answer brings the 535."""
        return await self._bear(smtp, args, re.compile(rb"user=(.*?)\x01auth=Bearer (.*?)\x01\x01"), b"")

    async def auth_OAUTHBEARER(self, smtp: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        """RFC 7628: the same, answered by a lone control character."""
        form = re.compile(rb"n,a=(.*?),\x01host=.*?\x01port=\d+\x01auth=Bearer (.*?)\x01\x01")
        return await self._bear(smtp, args, form, b"\x01")

    async def _bear(self, smtp: SMTP, args: list[str], form: re.Pattern[bytes], close: bytes) -> AuthResult:
        shown = base64.b64decode(args[1]) if len(args) == 2 else await smtp.challenge_auth("")
        assert isinstance(shown, bytes)
        found = form.fullmatch(shown)
        assert found is not None, shown
        user, token = (part.decode().replace("=2C", ",").replace("=3D", "=") for part in found.groups())
        assert self._server.bears is not None
        if self._server.bears(user, token):
            return AuthResult(success=True, auth_data=LoginPassword(user.encode(), b""))
        answer = await smtp.challenge_auth(COMPLAINT)
        assert answer == close, answer
        return AuthResult(success=False, handled=False, message="535 5.7.8 Username and token not accepted")


class _Smtp(SMTP):
    """One connection."""

    def __init__(self, server: SmtpServer, context: ssl.SSLContext | None, connections: set[_Smtp]) -> None:
        handler = _Handler(server)
        super().__init__(
            handler,
            hostname="mail.example.test",
            ident="ESMTP",
            data_size_limit=server.max_bytes,
            enable_SMTPUTF8=True,
            tls_context=context,
            require_starttls=context is not None,
            auth_require_tls=context is not None,
            auth_exclude_mechanism=(
                *(() if server.users else ("LOGIN", "PLAIN")),
                *(() if server.bears else ("XOAUTH2", "OAUTHBEARER")),
            ),
            authenticator=handler.authenticate,
        )
        self._server = server
        self._connections = connections
        for command in ("EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA"):
            self._smtp_methods[command] = partial(self._answer, command, self._smtp_methods[command])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(error)

    def drop(self) -> None:
        """Close the connection now, even one that waits for the client's end of TLS."""
        # Python 3.11.2 fails to abort a TLS transport that is closed already.
        with suppress(AttributeError):
            if isinstance(self.transport, asyncio.Transport):
                self.transport.abort()

    async def fail(self, fault: Fault) -> None:
        """Drop or stall; ends by cancellation once the connection is gone."""
        if fault is Fault.DROP:
            self.drop()
        await asyncio.Event().wait()

    async def _answer(
        self, command: str, method: Callable[[str | None], Awaitable[None]], argument: str | None
    ) -> None:
        self._server.note(command if command == "AUTH" else f"{command} {argument or ''}".rstrip())
        answers = self._server.answers
        answer = answers.get(command)
        if command == "RCPT" and argument is not None:
            answer = answers.get(f"RCPT {argument.partition('<')[2].partition('>')[0]}", answer)
        if isinstance(answer, Fault):
            await self.fail(answer)
        elif answer is not None:
            await self.push(answer)
        else:
            await method(argument)


@contextmanager
def smtp_server(
    tls: Tls = Tls.NONE,
    *,
    context: ssl.SSLContext | None = None,
    users: Mapping[str, str] | None = None,
    deliver: Deliver | None = None,
    max_bytes: int = 50_000_000,
    bears: Bears | None = None,
) -> Generator[SmtpServer]:
    """A server until the block ends. `context` is needed unless `tls` is NONE; without `users` it wants no login.

    `bears` says whether a token is a user's, for XOAUTH2 and OAUTHBEARER; without it they are not offered.
    `deliver` runs in the server's thread, before the answer to the mail, and may block.
    """
    assert (context is None) == (tls is Tls.NONE), "a server with TLS needs a context, one without needs none"
    server = SmtpServer(tls, users or {}, deliver, max_bytes, bears)
    running = _Running()
    thread = threading.Thread(target=asyncio.run, args=[_serve(server, context, running)], name="smtp", daemon=True)
    thread.start()
    try:
        assert running.ready.wait(15), "the SMTP server did not start"
        yield server
    finally:
        running.stop()
        thread.join(15)
        if context is not None:
            # aiosmtpd forgets transports whose STARTTLS failed; they must not warn in the middle of another test.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
    assert not thread.is_alive(), "the SMTP server did not stop"


class _Running:
    """How the test's thread ends the server's."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.ended: asyncio.Event | None = None

    def stop(self) -> None:
        if self.loop is not None and self.ended is not None:
            self.loop.call_soon_threadsafe(self.ended.set)


async def _serve(server: SmtpServer, context: ssl.SSLContext | None, running: _Running) -> None:
    connections: set[_Smtp] = set()
    implicit = server.tls is Tls.IMPLICIT
    running.loop, running.ended = asyncio.get_running_loop(), asyncio.Event()
    listener = await running.loop.create_server(
        lambda: _Smtp(server, None if implicit else context, connections),
        server.host,
        server.port,
        ssl=context if implicit else None,
    )
    loop = running.loop

    async def drop_all() -> None:
        for connection in tuple(connections):
            connection.drop()

    server.close_connections = lambda: asyncio.run_coroutine_threadsafe(drop_all(), loop).result(10)
    running.ready.set()
    async with listener:
        await running.ended.wait()
        await stop_accepting(listener)
    for connection in tuple(connections):
        connection.drop()
    await abort_connections()


@pytest.fixture
def smtp(certificates: Certificates) -> Generator[SmtpServer]:
    """A server that demands STARTTLS and the login USER, PASSWORD."""
    with smtp_server(Tls.STARTTLS, context=certificates.good.server_context(), users={USER: PASSWORD}) as server:
        yield server
