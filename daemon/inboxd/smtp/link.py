"""Commands and replies on one connection, each wait under a deadline; traced without secrets."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import final

from aiosmtplib import SMTPException, SMTPResponse, SMTPResponseException
from aiosmtplib.auth import auth_login_encode, auth_plain_encode

from inboxd import certificates, errors, net
from inboxd.bearing import BEARER_MECHANISMS, bearing
from inboxd.errors import Invalid, MailServerError, ProtocolError
from inboxd.model import Account
from inboxd.sections import SmtpSettings
from inboxd.smtp.replies import CLOSING, clean, meaning, words
from inboxd.smtp.wire import Wire
from inboxd.ways import ServerCertificate

Trace = Callable[[str], None]
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")


@final
class Link:
    """A connection and its one owner. After a deadline, a cancellation, or an answer that breaks the protocol it is
    dropped: a late answer would be taken for the next one's. `tls` names the version, None in clear.
    """

    def __init__(
        self,
        wire: Wire,
        account: Account,
        limits: SmtpSettings,
        trace: Trace,
        seen: certificates.Seen | None = None,
    ) -> None:
        self.limits = limits
        self.trace = trace
        self.tls: str | None = None
        self.left = False
        self._seen_certificate = seen
        self._wire = wire
        self._account = account
        self._host = account.host
        secret = account.password.reveal()
        forms = (auth_login_encode("", secret)[1], auth_plain_encode(account.username, secret))
        self._hidden = (secret, *(form.decode() for form in forms)) if secret else ()
        if account.bearer is not None:
            shown = (bearing(name, account, account.bearer).spellings for name in BEARER_MECHANISMS)
            self._hidden += tuple(form.decode() for forms in shown for form in forms)

    @property
    def due(self) -> int:
        """How many replies are still to be heard."""
        return self._wire.due

    @property
    def quiet(self) -> bool:
        """Whether the connection stands and the server has said nothing that nobody heard."""
        return not self._wire.stirred

    def say(self, stage: str, *lines: bytes, shown: str = "") -> None:
        """Write command lines in one go. `shown` stands for them in the trace.

        Nothing is written once the server has spoken unasked (Throttled for its 421, else ProtocolError) or left
        (ConnectionLost): whatever it says next would be taken for the answer.
        """
        if self.left or self._wire.stirred:
            raise self._unasked(stage)
        if any(map(_CONTROLS.search, lines)):
            raise Invalid("command", "must hold no control characters")
        if shown:
            self.trace(f"C: {shown}")
        else:
            for line in lines:
                self.trace(f"C: {clean(line.decode())}")
        self._wire.put(b"\r\n".join((*lines, b"")), len(lines))

    def _unasked(self, stage: str) -> MailServerError:
        stands = self._wire.stands
        with self._guarded(stage, ""):
            reply = self._wire.taken()
        self._wire.abort()
        if reply is None and (self.left or not stands):
            return errors.ConnectionLost(stage, "the server has closed the connection")
        said = words(self._seen(reply)) if reply else ""
        if reply is not None and reply.code == CLOSING:
            return errors.Throttled(stage, "the server has ended the session", reply=said)
        return ProtocolError(stage, "the server spoke without being asked", reply=said)

    async def hear(self, stage: str, seconds: float) -> SMTPResponse:
        """The next reply; Stalled, ConnectionLost or ProtocolError when there is none, and the connection is gone."""
        with self._guarded(stage, f"no answer within {seconds:g} s"):
            return self._seen(await self._wire.reply(seconds))

    async def ask(self, stage: str, line: bytes, *, shown: str = "", seconds: float | None = None) -> SMTPResponse:
        """Say one line and hear its reply."""
        self.say(stage, line, shown=shown)
        return await self.hear(stage, seconds or self.limits.command_seconds)

    async def upload(self, block: bytes, *, replies: int = 0) -> bool:
        """Write a block of the mail; False when its end never left: the server left, or answered early."""
        if not self.quiet:
            return False
        with self._guarded("data", "the server stopped reading"):
            self._wire.put(block, replies)
            return await self._wire.flush(self.limits.block_seconds)

    def expect(self, stage: str, reply: SMTPResponse, code: int | None = None) -> None:
        """Return when the reply is `code`, or any 2xx without one; else raise the error that it means at this stage."""
        if reply.code == code or (code is None and reply.code // 100 == 2):
            return
        error = meaning(stage, reply.code, words(reply))
        if isinstance(error, ProtocolError):
            self.abort()
        raise error

    async def secure(self, context: ssl.SSLContext) -> None:
        """Begin TLS."""
        async with self.stage("starttls", self.limits.connect_seconds):
            await self._wire.secure(context, self._host)
        self.note_tls()

    def note_tls(self) -> None:
        """Take the TLS version from the transport; PinRefused when the account pins another certificate."""
        if (channel := self._channel) is not None:
            certificates.check_pin(self._account, channel)
            self.tls = channel.version()
            if self._seen_certificate is not None and (certificate := self.certificate) is not None:
                self._seen_certificate(certificate)
            self.trace(f"TLS: {self.tls} {(channel.cipher() or ('',))[0]}")

    @property
    def certificate(self) -> ServerCertificate | None:
        """The certificate the server showed; None in clear."""
        return certificates.shown(self._channel)

    @property
    def _channel(self) -> ssl.SSLObject | None:
        transport = self._wire.transport
        return transport.get_extra_info("ssl_object") if transport is not None else None

    async def close(self) -> None:
        """Close in order."""
        await self._wire.close()

    def abort(self) -> None:
        """Drop the connection, if it still stands."""
        self._wire.abort()

    def _seen(self, reply: SMTPResponse) -> SMTPResponse:
        """A reply without our secrets, should the server echo them, after tracing it."""
        message = reply.message
        for form in self._hidden:
            message = message.replace(form, "***")
        self.left = self.left or reply.code == CLOSING
        self.trace(f"S: {reply.code} {clean(message)}".rstrip())
        return SMTPResponse(reply.code, message)

    @asynccontextmanager
    async def stage(self, stage: str, seconds: float) -> AsyncGenerator[None]:
        """Set a deadline, translate everything that goes wrong on the wire, and drop the connection when it does."""
        with self._guarded(stage, f"no answer within {seconds:g} s"):
            async with asyncio.timeout(seconds):
                yield

    @contextmanager
    def _guarded(self, stage: str, silence: str) -> Generator[None]:
        try:
            yield
        except asyncio.CancelledError:
            self._wire.abort()
            raise
        except (OSError, SMTPException) as error:
            self._wire.abort()
            raise self._failure(stage, silence, error) from (None if stage == "auth" else error)

    def _failure(self, stage: str, silence: str, error: Exception) -> MailServerError:
        """What a foreign error means. At AUTH the server's words are left out: it may echo what it was sent."""
        if isinstance(error, TimeoutError):
            return errors.Stalled(stage, silence)
        if isinstance(error, ssl.SSLError):
            return net.tls_failure(self._host, error)
        if isinstance(error, SMTPResponseException):
            said = "" if stage == "auth" else clean(error.message)
            return ProtocolError(stage, "the answer does not follow the protocol", reply=said)
        if (refused := net.tls_alert(self._host, self._wire.broken_by)) is not None:
            return refused
        return errors.ConnectionLost(stage, "the server closed the connection")
