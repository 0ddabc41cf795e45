"""Mails over one logged-in connection, stage by stage, under the deadlines of RFC 5321 §4.5.3.2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import final

from aiosmtplib import SMTPResponse

from inboxd.errors import MailServerError, ProtocolError, SendDeferred, SendRefused, SendUnknown, Throttled
from inboxd.outbox import Dsn, Refusal
from inboxd.smtp.content import Content, frame
from inboxd.smtp.envelope import Envelope, size_limit
from inboxd.smtp.link import Link
from inboxd.smtp.replies import CLOSING, UNEXPECTED, meaning, words
from inboxd.ways import ServerCertificate

HandingOver = Callable[[dict[str, Refusal]], None]
_EARLY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """The server took the mail: its last words, and what it said to each recipient it did not take."""

    reply: str
    refused: dict[str, Refusal]


@final
class Session:
    """An SMTP session that is ready to send. Made by `open_session` alone; one coroutine uses it at a time.

    `extensions` maps EHLO keywords in upper case to their parameters; `tls` names the protocol version, None in clear.
    """

    def __init__(self, link: Link, banner: str, extensions: dict[str, str]) -> None:
        self.banner = banner
        self.extensions = extensions
        self.tls = link.tls
        self._link = link
        self._in_mail = False

    @property
    def certificate(self) -> ServerCertificate | None:
        """The certificate the server showed; None in clear."""
        return self._link.certificate

    @property
    def size_limit(self) -> int | None:
        """The largest mail the server takes (RFC 1870); None when it does not say, or says 0."""
        return size_limit(self.extensions)

    @property
    def usable(self) -> bool:
        """Whether another mail may be sent: the connection stands and the server has not said that it ends it."""
        return self._link.quiet and not self._link.left

    async def send(
        self,
        sender: str,
        recipients: Sequence[str],
        raw: bytes,
        *,
        dsn: Dsn | None = None,
        handing_over: HandingOver | None = None,
    ) -> Receipt:
        """Hand over one mail, its line ends made CRLF; the receipt names the recipients that were not taken.

        `handing_over` hears of them, once, before the block with the final dot is written: until then the mail cannot
        have been taken. If it raises, nothing more is written and the connection is dropped.

        SendRefused, SendDeferred: not taken, for good or for now; `usable` says whether the session goes on.
        SendUnknown: the whole mail was written and no answer came. ConnectionLost, Stalled, Throttled, ProtocolError:
        not taken, and the session is over. `refused` of each holds what was said to single recipients. Invalid: no
        address. Cancelling ends the session; the mail may have been taken if `handing_over` was called.
        """
        envelope = Envelope(sender, tuple(dict.fromkeys(recipients)), dsn)
        envelope.check()
        content = await frame(raw)
        mail, rcpts = envelope.mail(content, self.extensions), envelope.rcpts(self.extensions)
        if dsn is not None and "DSN" not in self.extensions:
            self._link.trace("DSN is not offered: no delivery notices are asked for")
        announce = self._announce_at_once if "PIPELINING" in self.extensions else self._announce_in_turn
        refused: dict[str, Refusal] = {}
        try:
            await announce(mail, dict(zip(envelope.recipients, rcpts, strict=True)), refused)
            reply = await self._hand_over(content, refused, handing_over)
            self._link.expect("data", reply)
        except MailServerError as error:
            error.refused = refused
            raise
        return Receipt(words(reply), refused)

    async def _announce_in_turn(self, mail: bytes, rcpts: dict[str, bytes], refused: dict[str, Refusal]) -> None:
        """RSET if a mail was left open, MAIL, RCPT for each, DATA; notes who was refused."""
        link = self._link
        if self._in_mail:
            self._note_reset(await link.ask("mail", b"RSET"))
        link.expect("mail", await link.ask("mail", mail))
        self._in_mail = True
        for recipient, line in rcpts.items():
            self._note(recipient, await link.ask("rcpt", line), refused)
        _expect_some(rcpts, refused)
        link.expect("data", await link.ask("data", b"DATA", seconds=link.limits.start_seconds), 354)

    async def _announce_at_once(self, mail: bytes, rcpts: dict[str, bytes], refused: dict[str, Refusal]) -> None:
        """The same in one write (RFC 2920)."""
        link = self._link
        seconds = link.limits.command_seconds
        link.say("mail", *([b"RSET"] if self._in_mail else []), mail, *rcpts.values(), b"DATA")
        if self._in_mail:
            self._note_reset(await link.hear("mail", seconds))
        try:
            link.expect("mail", await link.hear("mail", seconds))
            self._in_mail = True
            for recipient in rcpts:
                self._note(recipient, await link.hear("rcpt", seconds), refused)
            _expect_some(rcpts, refused)
        except (SendRefused, SendDeferred):
            with suppress(MailServerError):  # that much is certain, whatever becomes of the connection
                await self._withdraw()
            raise
        link.expect("data", await link.hear("data", link.limits.start_seconds), 354)

    async def _withdraw(self) -> None:
        """Hear what is still due, DATA's answer last; a mail that the server wants though nobody takes it is empty."""
        link = self._link
        seconds = link.limits.command_seconds
        while link.due and not link.left:
            reply = await link.hear("rcpt" if link.due > 1 else "data", seconds)
            if not link.due:
                link.expect("data", reply, 354)
                if await link.upload(b".\r\n", replies=1):
                    await link.hear("data", seconds)
                self._in_mail = False
                return

    def _note_reset(self, reply: SMTPResponse) -> None:
        """Nothing is known of the next mail where the last one could not be put away."""
        if reply.code // 100 != 2:
            self._link.abort()
            kind = Throttled if reply.code // 100 == 4 else ProtocolError
            raise kind("mail", "the server does not begin another mail", reply=words(reply))
        self._in_mail = False

    def _note(self, recipient: str, reply: SMTPResponse, refused: dict[str, Refusal]) -> None:
        if reply.code // 100 in (4, 5) and reply.code != CLOSING:
            refused[recipient] = Refusal(reply.code, words(reply))
        else:
            self._link.expect("rcpt", reply)

    async def _hand_over(
        self, content: Content, refused: dict[str, Refusal], handing_over: HandingOver | None
    ) -> SMTPResponse:
        """Write the mail and its final dot, and hear the answer."""
        link = self._link
        link.trace(f"C: ({content.size_bytes} bytes of mail)")
        for block in content.first_blocks():
            if not await link.upload(block):
                return await self._hear_early()
        if not link.quiet:
            return await self._hear_early()
        if handing_over is not None:
            try:
                handing_over(refused)
            except BaseException:
                link.abort()
                raise
        if not await link.upload(content.last_block, replies=1):
            return await self._hear_early()
        try:
            reply = await link.hear("data", link.limits.data_seconds)
        except MailServerError as error:
            raise SendUnknown("data", f"the whole mail was sent, then: {error}") from error
        if reply.code // 100 not in (2, 4, 5):
            link.abort()
            raise SendUnknown("data", UNEXPECTED, reply=words(reply))
        self._in_mail = False
        return reply

    async def _hear_early(self) -> SMTPResponse:
        """The answer to a mail whose end was never written, which ends the session."""
        reply = await self._link.hear("data", _EARLY_SECONDS)
        self._link.abort()
        if reply.code // 100 not in (4, 5):
            raise ProtocolError("data", UNEXPECTED, reply=words(reply))
        return reply


def _expect_some(rcpts: dict[str, bytes], refused: dict[str, Refusal]) -> None:
    if len(refused) == len(rcpts):
        worst = min(refused.values(), key=lambda refusal: refusal.code)  # one 4xx makes it worth another try
        raise meaning("rcpt", worst.code, worst.words)
