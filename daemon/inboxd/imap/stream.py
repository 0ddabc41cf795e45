"""The FETCH command that hands messages on as they come, and stops reading when nobody takes them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, final

from inboxd.errors import CommandRefused
from inboxd.imap.asked import Asked
from inboxd.imap.lines import Part, Skipped, first_line, is_fetch, parse_fetch
from inboxd.imap.protocol import Protocol
from inboxd.mails import Fetched

# Never ENVELOPE or BODYSTRUCTURE: servers and clients alike break on parsing them.
_ITEMS: Final = "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"
_MESSAGE_BYTES: Final = 500  # what a message costs beside its octets


@final
class Fetch(Asked):
    """UID FETCH of whole messages. Answers without a UID or a body (flag updates, expunged mail) are dropped."""

    def __init__(self, protocol: Protocol, uids: str, buffer_bytes: int) -> None:
        super().__init__("FETCH", protocol.new_tag(), uids, _ITEMS, prefix="UID")
        self.queue: deque[Fetched] = deque()
        self._queued_bytes = 0
        self._protocol = protocol
        self._buffer_bytes = buffer_bytes
        self._held = False

    def receive(self, response: list[Part]) -> None:
        """Queue a message; hold the connection when too much waits."""
        if not is_fetch(first_line(response)):
            return
        answer = parse_fetch(response)
        if answer.uid is None or answer.body is None:
            return
        body = answer.body
        raw, size = (b"", body.size) if isinstance(body, Skipped) else (body, len(body))
        self.queue.append(
            Fetched(
                uid=answer.uid,
                raw=raw,
                size_bytes=size,
                received_at=answer.received_at,
                flags=answer.flags,
                whole=not isinstance(body, Skipped),
            )
        )
        self._queued_bytes += len(raw) + _MESSAGE_BYTES
        if self._queued_bytes > self._buffer_bytes and not self._held:
            self._held = True
            self._protocol.hold()

    def is_full(self, most_bytes: int, most_count: int) -> bool:
        """Whether a batch of that size waits, or no more will come before some is taken."""
        return self._held or self._queued_bytes >= most_bytes or len(self.queue) >= most_count

    def drain(self, most_bytes: int, most_count: int) -> list[Fetched]:
        """Take what waits, up to the given size (at least one message), and read on when there is room again."""
        batch: list[Fetched] = []
        taken = 0
        while self.queue and len(batch) < most_count and (not batch or taken + len(self.queue[0].raw) <= most_bytes):
            message = self.queue.popleft()
            batch.append(message)
            taken += len(message.raw)
        self._queued_bytes -= taken + len(batch) * _MESSAGE_BYTES
        if self._held and self._queued_bytes <= self._buffer_bytes // 2:
            self._held = False
            self._protocol.go_on()
        return batch

    def check(self) -> None:
        """Raise what ended the command, unless it was OK, or NO: then some messages are gone (RFC 2180 §4.1.3)."""
        if self.failure is not None:
            raise self.failure
        if self.result == "BAD":
            raise CommandRefused("fetch", "the server answered BAD to FETCH", reply=self.words)


@final
class Stream:
    """The messages of one FETCH as they come in. What is not taken yet is bounded: beyond it the socket is not read."""

    def __init__(self, command: Fetch, until: Callable[[Callable[[], object]], Awaitable[None]]) -> None:
        self._command = command
        self._until = until

    @property
    def finished(self) -> bool:
        """Whether everything there will ever be has been taken."""
        return self._command.done and not self._command.queue

    async def take(self, most_bytes: int, most_count: int, linger_seconds: float) -> list[Fetched]:
        """The next messages, in the server's order; [] when there are no more.

        Waits for the first one, then at most `linger_seconds` for the batch to reach `most_bytes` or `most_count`.
        Raises ConnectionLost, Stalled, ProtocolError; and CommandRefused when the server answered BAD.
        """
        command = self._command
        await self._until(lambda: command.queue or command.done)
        if linger_seconds and not command.done:
            try:
                async with asyncio.timeout(linger_seconds):
                    await self._until(lambda: command.done or command.is_full(most_bytes, most_count))
            except TimeoutError:
                pass
        batch = command.drain(most_bytes, most_count)
        if not batch:
            command.check()
        return batch
