"""One connection: octets out under back-pressure, replies in, each kept until it is asked for."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Final, cast, final

from aiosmtplib import SMTPResponse, SMTPServerDisconnected
from aiosmtplib.protocol import SMTPProtocol

from inboxd.smtp.replies import Replies

BLOCK_BYTES: Final = 65_536
_CLOSE_SECONDS = 2.0


@final
class Wire(SMTPProtocol):
    """aiosmtplib's protocol with a queue of replies: its own reading loses what comes while nobody waits for it.

    One coroutine uses it at a time. It waits for one thing, that anything changes, and then looks what has.
    """

    def __init__(self) -> None:
        super().__init__()
        self._replies = Replies()
        self._replies.due = 1  # the greeting
        self._ended = False
        self.broken_by: Exception | None = None
        self._closed = asyncio.Event()
        self._news: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._hold_one_block(transport)

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        self._wake()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.broken_by = exc
        self._ended = True
        self._closed.set()
        self._wake()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._wake()

    @property
    def due(self) -> int:
        """How many replies are still to come, or to be taken."""
        return self._replies.due

    @property
    def stands(self) -> bool:
        """Whether the connection is there; not so from the first sign of its end on."""
        return not self._ended and self.is_connected

    @property
    def stirred(self) -> bool:
        """Whether the server said something that is not yet taken, or left."""
        return self._replies.begun or not self.stands

    def put(self, octets: bytes, replies: int) -> None:
        """Write octets that so many replies answer; SMTPServerDisconnected when the connection is gone."""
        self.write(octets)
        self._replies.due += replies

    async def flush(self, seconds: float) -> bool:
        """Wait until at most some KB of what was put are not yet handed to the system; False when they never will be:
        the server left, or answered instead of reading on. TimeoutError after `seconds`.
        """
        if self._paused:
            try:
                async with asyncio.timeout(seconds):
                    while self._paused and not self.stirred:
                        await self._change()
            except TimeoutError:
                if self._paused:
                    raise
        return not self._paused

    def taken(self) -> SMTPResponse | None:
        """The oldest reply, if there is one; SMTPResponseException when what came is none."""
        return self._replies.take()

    async def reply(self, seconds: float) -> SMTPResponse:
        """The next reply. TimeoutError after `seconds`, SMTPResponseException for what is no reply,
        SMTPServerDisconnected when none will come.
        """
        reply = self._replies.take()
        if reply is None:
            async with asyncio.timeout(seconds):
                while (reply := self._replies.take()) is None:
                    if not self.stands:
                        raise SMTPServerDisconnected("the connection ended")
                    await self._change()
        return reply

    async def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Begin TLS (RFC 3207 §4.2). What the server said in clear and nobody took is thrown away unread."""
        self._replies.forget()
        if not self.stands:
            raise SMTPServerDisconnected("the connection ended")
        transport = cast("asyncio.WriteTransport", self.transport)
        self.transport = await self._loop.start_tls(transport, self, context, server_hostname=host)
        self._hold_one_block(self.transport)

    async def close(self) -> None:
        """Close in order, but wait at most 2 s: without TLS's close_notify some servers hold on for 30 s."""
        if self.transport is not None:
            self.transport.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._closed.wait()

    def abort(self) -> None:
        """Drop the connection without waiting for anything to be flushed; what was said on it no longer matters."""
        self._replies.forget()
        if self.transport is not None:
            cast("asyncio.WriteTransport", self.transport).abort()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _change(self) -> None:
        self._news = self._loop.create_future()
        try:
            await self._news
        finally:
            self._news = None

    @staticmethod
    def _hold_one_block(transport: asyncio.BaseTransport | None) -> None:
        cast("asyncio.WriteTransport", transport).set_write_buffer_limits(high=BLOCK_BYTES)
