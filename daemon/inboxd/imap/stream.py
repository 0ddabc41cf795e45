"""The FETCH command that hands messages on as they come, and stops reading when nobody takes them."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, final

from inboxd.errors import CommandRefused, ProtocolError
from inboxd.imap import labels
from inboxd.imap.asked import Asked, cost_bytes
from inboxd.imap.lines import (
    Part,
    Skipped,
    first_line,
    flags_in,
    internal_date,
    is_fetch,
    parse_fetch,
)
from inboxd.imap.protocol import Protocol
from inboxd.mails import Fetched, Spooled
from inboxd.uids import MAX_UID, UidSet

# Never ENVELOPE or BODYSTRUCTURE: servers and clients alike break on parsing them.
_ITEMS: Final = "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"
_LABELLED_ITEMS: Final = f"(UID FLAGS {labels.ITEM} INTERNALDATE RFC822.SIZE BODY.PEEK[])"
_MESSAGE_BYTES: Final = 500  # what a message costs beside its octets
_FLAG_BYTES: Final = 60  # what a flag costs beside its letters
# As servers nearly always write it; whatever looks otherwise is read token by token. A literal of more digits may be
# over the limit.
_HEAD: Final = (
    rb"(\* \d{1,10} FETCH \("
    rb"(?:UID (\d{1,10}) |FLAGS \(([^()\"\r\n]{0,200})\) |INTERNALDATE \"([^\"\\\r\n]{0,40})\" "
    rb"|RFC822\.SIZE \d{1,20} |MODSEQ \(\d{1,20}\) "
)
_TAIL: Final = rb")+BODY\[\] \{(\d{1,6})\})\r\n"
_WHOLE = re.compile(_HEAD + _TAIL)
_LABELLED_WHOLE = re.compile(_HEAD + rb"|" + labels.LISTED + _TAIL)
_END: Final = b")"
_VAIN_TIMES: Final = 10  # an answer taken apart in vain counts so many times: that takes longer than to receive it
_OPEN_COUNT: Final = 100_000  # the most messages of `n:*`; whoever looks again finds the others


@final
class Fetch(Asked):
    """UID FETCH of whole messages. Answers without a UID or a body (flag updates, expunged mail) are dropped.

    So is a message more than was asked for. What is dropped is counted: ProtocolError when that has no end.
    """

    spools = True

    def __init__(self, protocol: Protocol, uids: str, buffer_bytes: int, *, labelled: bool = False) -> None:
        super().__init__("FETCH", protocol.new_tag(), uids, _LABELLED_ITEMS if labelled else _ITEMS, prefix="UID")
        self._whole, self._labelled = _LABELLED_WHOLE if labelled else _WHOLE, labelled
        self._groups = (1, 2, 3, 4, 6 if labelled else 5)
        self.queue: deque[Fetched] = deque()
        self._queued_bytes = 0
        self._due_count = _asked_count(uids)
        self._protocol = protocol
        self._buffer_bytes = buffer_bytes
        self._held = False

    def receive(self, response: list[Part]) -> None:
        """Queue a message; hold the connection when too much waits."""
        if self._due_count == 0 or not _may_be_message(response):
            self.spend(cost_bytes(response) + sum(part.size for part in response if isinstance(part, Skipped)))
            return
        answer = parse_fetch(response)
        body = answer.body
        if answer.uid is None or body is None:
            self.spend(_VAIN_TIMES * cost_bytes(response))
            return
        raw, size = (b"", body.size) if isinstance(body, Skipped) else (body, len(body))
        whole, tags = not isinstance(body, Skipped), labels.named(answer.labels or ())
        self._keep(Fetched(answer.uid, raw, size, answer.received_at, answer.flags, whole, tags))

    def take_whole(self, data: bytes, at: int) -> int:
        """As `receive`, for the messages of the usual form: a fifth of the time of going through lines and tokens."""
        traced = self._protocol.trace is not None
        match, groups = self._whole.match, self._groups
        while self._due_count and (found := match(data, at)):
            line, number, flags, date, digits = found.group(*groups)
            start = found.end()
            stop = start + int(digits)
            if number is None or not 0 < (uid := int(number)) <= MAX_UID or not data.startswith(b")\r\n", stop):
                break
            if traced:
                self._protocol.note_line(line)
                self._protocol.note_line(_END)
            received_at = None if date is None else internal_date(date)
            tags = labels.listed(found[5] or b"") if self._labelled else ()
            self._keep(Fetched(uid, data[start:stop], stop - start, received_at, flags_in(flags or b""), True, tags))
            at = stop + 3
        return at

    def _keep(self, message: Fetched) -> None:
        self._due_count -= 1
        self.queue.append(message)
        self._queued_bytes += _cost_bytes(message)
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
            self._queued_bytes -= _cost_bytes(message)
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


def _may_be_message(response: list[Part]) -> bool:
    line = first_line(response)
    return is_fetch(line) and (len(response) > 1 or b"BODY[" in line.upper())


def _asked_count(uids: str) -> int:
    try:
        return len(UidSet.parse(uids.encode()))
    except ProtocolError:
        return _OPEN_COUNT


def _cost_bytes(message: Fetched) -> int:
    flags = message.flags + message.labels if message.labels else message.flags
    return len(message.raw) + _MESSAGE_BYTES + len(flags) * _FLAG_BYTES + sum(map(len, flags))


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
        Raises ConnectionLost, Stalled, ProtocolError; CommandRefused when the server answered BAD; StoreError when
        there is no room for a large message.
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
        for message in batch:
            if isinstance(message.raw, Spooled):
                await message.raw.written()
        return batch
