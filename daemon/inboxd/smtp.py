"""The only importer of aiosmtplib: one SMTP session, stage by stage (RFC 5321), with a deadline on every wait.

aiosmtplib's protocol class does the wire; its client class is not used, because it falls back from STARTTLS to clear
text, answers a lost connection alike before and after the final dot, and counts the upload into one time-out.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast, final

from aiosmtplib import SMTPException, SMTPResponse, SMTPResponseException
from aiosmtplib.auth import auth_crammd5_verify, auth_login_encode, auth_plain_encode
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.protocol import SMTPProtocol, normalize_message_line_endings

from inboxd import errors, net
from inboxd.errors import Invalid, MailServerError, ProtocolError, SendRefused
from inboxd.model import Account, Tls
from inboxd.sections import SmtpSettings

Trace = Callable[[str], None]
NEUTRAL_NAME = "localhost.localdomain"
BLOCK_BYTES = 65_536
QUIT_SECONDS = 2.0
MAX_REPLY = 500
UNEXPECTED = "the answer is not one of those expected"

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]+")
_UNSAFE_ADDRESS = re.compile(r"[\s\x00-\x20\x7f<>\ud800-\udfff]")
_HOST_NAME = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}\Z")
# A refusal that speaks of the mechanism, not of the password: the next mechanism may do (RFC 4954 §6, RFC 5321 §4.2.4).
_TRY_NEXT = frozenset({500, 501, 502, 504, 538})


@dataclass(frozen=True, slots=True)
class Receipt:
    """The server took the mail: its last words, and for each recipient it did not take, the reason in its words."""

    reply: str
    refused: dict[str, str]


@final
class _Wire(SMTPProtocol):
    """aiosmtplib's protocol, able to upload under back-pressure and to notice an answer that comes early."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = asyncio.Event()

    async def upload(self, blocks: Iterator[bytes], seconds: float) -> bool:
        """Write the blocks; False when the server answered or left before the last one was written."""
        self._response_pending = True
        for block in blocks:
            if self._response_waiter is None or self._response_waiter.done():
                return False
            self.write(block)
            try:
                async with asyncio.timeout(seconds):
                    await self._drain_helper()
            except ConnectionError:
                return False  # lost with more than the low-water mark unsent: the final dot did not leave
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._closed.set()

    async def close(self) -> None:
        """Close in order, but wait at most 2 s: without TLS's close_notify some servers hold on for 30 s."""
        if self.transport is not None:
            self.transport.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIT_SECONDS):
                    await self._closed.wait()

    def abort(self) -> None:
        """Drop the connection without waiting for anything to be flushed."""
        if self.transport is not None:
            cast("asyncio.WriteTransport", self.transport).abort()


@final
class Session:
    """An SMTP session that is ready to send. Made by `open_session` alone; one coroutine uses it at a time.

    `extensions` maps EHLO keywords in upper case to their parameters; `tls` names the protocol version, None in clear.
    Cancelling a `send` ends the session; the outcome is then unknown if the last octet was written.
    """

    def __init__(self, wire: _Wire, account: Account, limits: SmtpSettings, trace: Trace) -> None:
        self.banner = ""
        self.extensions: dict[str, str] = {}
        self.tls: str | None = None
        self._wire = wire
        self._limits = limits
        self._trace = trace
        self._host = account.host
        secret = account.password.reveal()
        forms = (auth_login_encode("", secret)[1], auth_plain_encode(account.username, secret))
        self._hidden = (secret, *(form.decode() for form in forms)) if secret else ()
        self._name = account.local_host_name or NEUTRAL_NAME
        self._in_mail = False

    @property
    def size_limit(self) -> int | None:
        """The largest mail the server takes (RFC 1870); None when it does not say, or says 0."""
        stated = self.extensions.get("SIZE", "").split(" ")[0]
        return int(stated) or None if stated.isdecimal() and len(stated) < 20 else None

    async def send(self, sender: str, recipients: Sequence[str], raw: bytes) -> Receipt:
        """Hand over one mail; the receipt names the recipients that were not taken, if others were.

        SendRefused, SendDeferred: not taken, for good or for now. SendUnknown: the whole mail was written and no answer
        came. ConnectionLost, Stalled, ProtocolError: not taken. Invalid: no address. Line ends become CRLF.
        """
        for field, address in (("sender", sender), *(("to", recipient) for recipient in recipients)):
            if _UNSAFE_ADDRESS.search(address):
                raise Invalid(field, f"{address[:80]!a} cannot stand on an envelope")
        if not recipients:
            raise Invalid("to", "name at least one recipient")
        content = await asyncio.to_thread(_normalise, raw)
        options = self._options(sender, recipients, content)
        if self._in_mail:
            await self.ask("mail", b"RSET")
        self._in_mail = True
        _expect("mail", await self.ask("mail", f"MAIL FROM:<{sender}>{options}".encode()))
        refused = await self._name_recipients(recipients)
        _expect("data", await self.ask("data", b"DATA"), 354)
        reply = await self._hand_over(content)
        self._in_mail = False
        _expect("data", reply)
        return Receipt(_words(reply), refused)

    def _options(self, sender: str, recipients: Sequence[str], content: bytes) -> str:
        """The parameters of MAIL; SendRefused when the mail needs what the server does not offer."""
        size = len(content)
        if self.size_limit is not None and size > self.size_limit:
            raise SendRefused("mail", f"the mail has {size} bytes and the server takes no more than {self.size_limit}")
        options = f" SIZE={size}" if "SIZE" in self.extensions else ""
        header = content if content.isascii() else content.partition(b"\r\n\r\n")[0]
        needs_utf8 = not (header.isascii() and sender.isascii() and all(map(str.isascii, recipients)))
        needs = ((not content.isascii(), "8BITMIME", " BODY=8BITMIME"), (needs_utf8, "SMTPUTF8", " SMTPUTF8"))
        for needed, extension, option in needs:
            if needed and extension not in self.extensions:
                raise SendRefused("mail", f"the mail needs {extension} and the server does not offer it")
            options += option if needed else ""
        return options

    async def _name_recipients(self, recipients: Sequence[str]) -> dict[str, str]:
        """RCPT for each; what the server said to those it refused, or an error when it refused all."""
        refused: dict[str, SMTPResponse] = {}
        for recipient in dict.fromkeys(recipients):
            reply = await self.ask("rcpt", f"RCPT TO:<{recipient}>".encode())
            if reply.code == 421:
                _expect("rcpt", reply)
            if reply.code // 100 != 2:
                refused[recipient] = reply
        if refused.keys() == set(recipients):
            _expect("rcpt", min(refused.values()))  # one 4xx makes it worth another try
        return {recipient: _words(reply) for recipient, reply in refused.items()}

    async def _hand_over(self, content: bytes) -> SMTPResponse:
        """Write the mail and its final dot, and wait for the answer."""
        self._trace(f"C: ({len(content)} bytes of mail)")
        async with self.stage("data", None):
            whole = await self._wire.upload(_blocks(content), self._limits.command_seconds)
        try:
            async with self.stage("data", self._limits.data_seconds if whole else 1.0):
                reply = self._seen(await self._wire.read_response())
        except MailServerError as error:
            if not whole:
                raise
            raise errors.SendUnknown("data", f"the whole mail was sent, then: {error}") from error
        if not whole:
            self._wire.abort()
        if reply.code // 100 not in ((2, 4, 5) if whole else (4, 5)):
            kind = errors.SendUnknown if whole else ProtocolError
            raise kind("data", UNEXPECTED, reply=_words(reply))
        return reply

    async def greet(self, seconds: float) -> None:
        """Read the greeting; Throttled when the server sends us away."""
        async with self.stage("greeting", seconds):
            reply = self._seen(await self._wire.read_response())
        self.banner = _clean(reply.message)
        _expect("greeting", reply, 220)

    async def say_hello(self) -> None:
        """EHLO, or HELO for servers that do not know it; learns the extensions afresh."""
        name = self._name.encode("ascii")
        reply = await self.ask("ehlo", b"EHLO " + name)
        parsed = parse_esmtp_extensions(reply.message)[0] if reply.code // 100 == 2 else {}
        self.extensions = {keyword.upper(): value for keyword, value in parsed.items()}
        _expect("ehlo", reply if reply.code // 100 != 5 else await self.ask("ehlo", b"HELO " + name))

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """STARTTLS and EHLO again (RFC 3207 §4.2). What came in clear after the server's 220 is thrown away unread."""
        if "STARTTLS" not in self.extensions:
            raise errors.TlsMissing("starttls", "the server does not offer STARTTLS; nothing was sent in clear instead")
        self._trace("C: STARTTLS")
        try:
            async with self.stage("starttls", self._limits.connect_seconds):
                self._seen(await self._wire.start_tls(context, server_hostname=self._host))
        except ProtocolError as error:
            raise errors.TlsFailed(
                "starttls", "the server offers STARTTLS but refuses it", reply=error.reply
            ) from error
        self.note_tls()
        await self.say_hello()

    def note_tls(self) -> None:
        """Take the TLS version from the transport."""
        transport = self._wire.transport
        if transport is not None and (channel := transport.get_extra_info("ssl_object")) is not None:
            self.tls = channel.version()
            self._trace(f"TLS: {self.tls} {(channel.cipher() or ('',))[0]}")

    async def log_in(self, account: Account, *, in_clear: bool) -> None:
        """AUTH by the first mechanism that is allowed, offered and not refused as such; in clear only if told so."""
        if self.tls is None and not in_clear:
            raise errors.Insecure("auth", "the password would cross the network in clear")
        allowed = _allowed(account)
        offered = set(self.extensions.get("AUTH", "").upper().split())
        usable = [mechanism for mechanism in _PREFERRED[self.tls is not None] if mechanism in allowed & offered]
        for mechanism in usable:
            reply = await self._authenticate(mechanism, account)
            if reply.code == 235:
                return
            if reply.code // 100 == 4:
                raise errors.Throttled("auth", "the server does not log in now", reply=_words(reply))
            if reply.code not in _TRY_NEXT or mechanism == usable[-1]:
                raise errors.AuthRefused("auth", "the server refused the login", reply=_words(reply))
        offer = f"only {', '.join(sorted(offered))}"[:MAX_REPLY] if offered else "no way"
        raise errors.AuthRefused("auth", f"the server offers {offer} to log in{'' if self.tls else ' without TLS'}")

    async def _authenticate(self, mechanism: str, account: Account) -> SMTPResponse:
        """One exchange (RFC 4954 §4); returns the server's verdict."""
        respond = _MECHANISMS[mechanism]
        command = b"AUTH " + mechanism.encode()
        if mechanism == "PLAIN":
            return await self.ask("auth", command + b" " + respond(account, "")[0], shown="AUTH PLAIN ***")
        reply = await self.ask("auth", command)
        try:
            lines = respond(account, reply.message) if reply.code == 334 else ()
        except SMTPResponseException:
            raise ProtocolError("auth", "the server's challenge is not base64") from None
        for line in lines:
            if reply.code == 334:
                reply = await self.ask("auth", line, shown="***")
        return reply

    async def ask(self, stage: str, line: bytes, *, shown: str = "", seconds: float | None = None) -> SMTPResponse:
        """Send one command line and read its reply. `shown` stands for it in the trace."""
        self._trace(f"C: {shown or _clean(line.decode())}")
        async with self.stage(stage, seconds or self._limits.command_seconds):
            return self._seen(await self._wire.execute_command(line))

    def _seen(self, reply: SMTPResponse) -> SMTPResponse:
        """A reply without our secrets, should the server echo them, after tracing it."""
        message = reply.message
        for form in self._hidden:
            message = message.replace(form, "***")
        self._trace(f"S: {reply.code} {_clean(message)}".rstrip())
        return SMTPResponse(reply.code, message)

    @asynccontextmanager
    async def stage(self, stage: str, seconds: float | None) -> AsyncGenerator[None]:
        """Set a deadline, translate everything that goes wrong on the wire, and drop the connection when it does."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except (OSError, SMTPException, asyncio.CancelledError) as error:
            self._wire.abort()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise self._translated(stage, seconds, error) from (None if stage == "auth" else error)

    def _translated(self, stage: str, seconds: float | None, error: Exception) -> MailServerError:
        """What a foreign error means. At AUTH the server's words are left out: it may echo what it was sent."""
        if isinstance(error, TimeoutError):
            return errors.Stalled(stage, f"no answer within {seconds:g} s" if seconds else "the server stopped reading")
        if isinstance(error, ssl.SSLError):
            return net.tls_failure(self._host, error)
        if isinstance(error, SMTPResponseException):
            words = "" if stage == "auth" else _clean(error.message)
            return ProtocolError(stage, "the answer does not follow the protocol", reply=words)
        return errors.ConnectionLost(stage, "the server closed the connection")


@asynccontextmanager
async def open_session(
    sock: socket.socket, account: Account, limits: SmtpSettings, context: ssl.SSLContext | None, trace: Trace
) -> AsyncGenerator[Session]:
    """A session over a connected socket, secured and logged in as the account asks; it owns the socket from now on.

    Without a user name there is no login. A login in clear needs Tls.NONE and no context: whoever hands none over has
    decided that clear text is fine. TlsFailed, TlsMissing, Insecure, AuthRefused, Throttled, CommandRefused,
    ConnectionLost, Stalled, ProtocolError carry the stage; Invalid names a field of the account that cannot be used.
    """
    with ExitStack() as refused:
        refused.callback(sock.close)
        _check(account, context)
        refused.pop_all()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.connect_seconds
    wire = _Wire()
    session = Session(wire, account, limits, trace)
    try:
        implicit = account.tls is Tls.IMPLICIT
        async with session.stage("tls" if implicit else "connect", limits.connect_seconds):
            secured, host = (context, account.host) if implicit else (None, None)
            await loop.create_connection(lambda: wire, sock=sock, ssl=secured, server_hostname=host)
        session.note_tls()
        await session.greet(max(deadline - loop.time(), 0.001))
        await session.say_hello()
        if account.tls is Tls.STARTTLS and context is not None:
            await session.start_tls(context)
        if account.username:
            await session.log_in(account, in_clear=account.tls is Tls.NONE and context is None)
        yield session
        with suppress(MailServerError):
            await session.ask("quit", b"QUIT", seconds=QUIT_SECONDS)
            await wire.close()
    finally:
        wire.abort()


def _check(account: Account, context: ssl.SSLContext | None) -> None:
    """Refuse what would fail later or send a password in clear against the caller's word."""
    if account.tls is not Tls.NONE and context is None:
        raise errors.Insecure("connect", "TLS is asked for and there is no TLS context")
    if account.local_host_name and not _HOST_NAME.match(account.local_host_name):
        raise Invalid("local_host_name", f"{account.local_host_name[:80]!a} is not a host name")
    if "\0" in account.username or "\0" in account.password.reveal():
        raise Invalid("username", "user name and password must not hold NUL")
    _allowed(account)


def _allowed(account: Account) -> frozenset[str]:
    """The mechanisms the account allows; Invalid for one that this client does not know."""
    chosen = frozenset(mechanism.strip().upper() for mechanism in account.mechanisms)
    if unknown := chosen - _MECHANISMS.keys():
        raise Invalid("mechanisms", f"{', '.join(sorted(unknown))[:80]!a} is none of {', '.join(_MECHANISMS)}")
    return chosen or frozenset(_MECHANISMS)


# What answers the server's challenges in turn, given the first of them.
_MECHANISMS: dict[str, Callable[[Account, str], Sequence[bytes]]] = {
    "PLAIN": lambda account, _: [auth_plain_encode(account.username, account.password.reveal())],
    "LOGIN": lambda account, _: auth_login_encode(account.username, account.password.reveal()),
    "CRAM-MD5": lambda account, given: [auth_crammd5_verify(account.username, account.password.reveal(), given)],
}
# Inside TLS first what every server does; in clear first what does not show the password.
_PREFERRED = {True: ("PLAIN", "LOGIN", "CRAM-MD5"), False: ("CRAM-MD5", "PLAIN", "LOGIN")}


def _expect(stage: str, reply: SMTPResponse, code: int | None = None) -> None:
    """Return when the reply is `code`, or any 2xx without one; else the error that it means at this stage."""
    if reply.code == code or (code is None and reply.code // 100 == 2):
        return
    kind, message = _MEANING.get((reply.code // 100, stage in {"greeting", "ehlo"}), (ProtocolError, UNEXPECTED))
    raise kind(stage, message, reply=_words(reply))


_MEANING: dict[tuple[int, bool], tuple[type[MailServerError], str]] = {
    (4, True): (errors.Throttled, "the server does not want us now"),
    (4, False): (errors.SendDeferred, "the server does not take the mail now"),
    (5, True): (errors.CommandRefused, "the server does not want us"),
    (5, False): (SendRefused, "the server refused the mail"),
}


def _normalise(raw: bytes) -> bytes:
    """The mail with CRLF as its only line ends, and one at its end."""
    if raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r") and raw.endswith(b"\r\n"):
        return raw
    return normalize_message_line_endings(raw)


def _blocks(content: bytes) -> Iterator[bytes]:
    """What goes on the wire: dots at the start of lines doubled, the final dot in the end (RFC 5321 §4.5.2)."""
    framed = (b"." if content.startswith(b".") else b"") + content.replace(b"\n.", b"\n..") + b".\r\n"
    return (framed[start : start + BLOCK_BYTES] for start in range(0, len(framed), BLOCK_BYTES))


def _clean(text: str) -> str:
    """A server's words on one line, without control characters, at most 500 characters."""
    return " | ".join(_CONTROLS.sub(" ", text[: 2 * MAX_REPLY]).split("\n"))[:MAX_REPLY]


def _words(reply: SMTPResponse) -> str:
    return f"{reply.code} {_clean(reply.message)}".rstrip()
