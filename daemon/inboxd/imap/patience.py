"""How long a server may take: the silence allowed while an answer is due, and the answer's whole time."""

from __future__ import annotations

import asyncio
from typing import Final, final

_SLOWEST_BYTES_PER_SECOND: Final = 1000
_TIMES: Final = 10  # a command may take this many times the longest silence, and a second more a kilobyte


@final
class Patience:
    """The clock of a connection. `watch` is the deadline of whoever waits for an answer, moved on by what comes while
    `watched`.
    """

    __slots__ = (
        "_begun_at", "_begun_bytes", "_held_at", "_holds", "_loop", "last_received", "received_bytes",
        "silence_seconds", "watch", "watched",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.watch: asyncio.Timeout | None = None
        self.watched = False
        self.silence_seconds = 30.0
        self.last_received = self._begun_at = loop.time()
        self.received_bytes = self._begun_bytes = 0
        self._held_at = 0.0
        self._holds = 0

    def begin(self) -> None:
        """The server's time to answer begins; an IDLE lasts as long as it likes, its DONE does not."""
        self._begun_at, self._begun_bytes = self._loop.time(), self.received_bytes

    def note(self, count: int) -> None:
        """So many bytes came."""
        now = self._loop.time()
        self.last_received = now
        self.received_bytes += count
        if self.watch is not None and self.watch.when() is not None and not self.watch.expired():
            self.watch.reschedule(min(now + self.silence_seconds, self._allowed_until()))

    def _allowed_until(self) -> float:
        """A server that drips single bytes is never silent: it must average a kilobyte a second all the same."""
        grown = (self.received_bytes - self._begun_bytes) / _SLOWEST_BYTES_PER_SECOND
        return self._begun_at + _TIMES * self.silence_seconds + grown

    @property
    def is_held(self) -> bool:
        """Whether nothing is read for the present."""
        return self._holds > 0

    def hold(self) -> bool:
        """Nothing is read from now on: the server's silence is ours, and not counted. False when it was so before."""
        self._holds += 1
        if self._holds > 1:
            return False
        self._held_at = self._loop.time()
        if self.watch is not None and not self.watch.expired():
            self.watch.reschedule(None)
        return True

    def go_on(self) -> bool:
        """It is read again, once this was called for each `hold`; whether it is."""
        self._holds -= 1
        if self._holds:
            return False
        now = self._loop.time()
        self._begun_at += now - self._held_at
        if self.watch is not None and self.watched and not self.watch.expired():
            self.watch.reschedule(now + self.silence_seconds)
        return True

    @property
    def answered(self) -> tuple[int, float]:
        """How many bytes came since `begin`, and in how many seconds up to the last, but for those held."""
        return self.received_bytes - self._begun_bytes, self.last_received - self._begun_at
