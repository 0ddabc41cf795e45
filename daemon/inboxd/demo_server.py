"""The demo's mail server, embedded: pymap serves the mailbox over IMAP with IDLE, aiosmtpd delivers into it."""

from __future__ import annotations

import asyncio
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, final

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pymap.backend.dict import DictBackend
from pymap.imap import IMAPService
from pymap.parsing.message import AppendMessage

LOOPBACK = "127.0.0.1"


@final
@dataclass(frozen=True, slots=True)
class MailServer:
    """Where the embedded server listens, and the one account it has."""

    imap_port: int
    smtp_port: int
    user: str
    password: str


@asynccontextmanager
async def mail_server(imap_port: int, smtp_port: int, user: str, password: str) -> AsyncGenerator[MailServer]:
    """An IMAP and an SMTP server on loopback with one mailbox, until the block ends."""
    backend, config = await DictBackend.init(_arguments(imap_port, user, password))
    config.apply_context()
    handler = _Delivery(backend)
    async with AsyncExitStack() as stack:
        await backend.start(stack)
        await IMAPService(backend, config).start(stack)
        loop = asyncio.get_running_loop()
        smtp = await loop.create_server(lambda: _smtp(handler, user, password), LOOPBACK, smtp_port)
        await stack.enter_async_context(smtp)
        yield MailServer(imap_port, smtp_port, user, password)


@final
class _Delivery:
    """aiosmtpd's handler: whatever comes in is filed into the mailbox, for every recipient alike."""

    def __init__(self, backend: DictBackend) -> None:
        self._identity = backend.login.demo_user_identity

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content or b""
        mail = AppendMessage(
            content if isinstance(content, bytes) else content.encode(), datetime.now(UTC), frozenset()
        )
        async with self._identity.new_session() as session:
            await session.append_messages("INBOX", [mail])
        return "250 2.0.0 delivered"


def _smtp(handler: _Delivery, user: str, password: str) -> SMTP:
    # It announces its own deprecations on every connection.
    logging.getLogger("mail.log").setLevel(logging.ERROR)

    def authenticate(_server: SMTP, _session: Session, _envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
        known = isinstance(given, LoginPassword) and (given.login, given.password) == (user.encode(), password.encode())
        return AuthResult(success=known, handled=mechanism not in ("LOGIN", "PLAIN"))

    return SMTP(handler, authenticator=authenticate, auth_require_tls=False, hostname="demo.example")


def _arguments(port: int, user: str, password: str) -> Namespace:
    parser = ArgumentParser()
    parser.set_defaults(debug=False, passlib_cfg=None, skip_services=[])
    IMAPService.add_arguments(parser)
    DictBackend.add_subparser("dict", parser.add_subparsers(dest="backend"))
    listen = ["--host", LOOPBACK, "--port", str(port), "--no-tls"]
    return parser.parse_args([*listen, "dict", f"--demo-user={user}", f"--demo-password={password}"])
