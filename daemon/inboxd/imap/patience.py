"""How long a server may be silent, and how slow; while we do not read, its silence is our own and not counted."""

from __future__ import annotations

import asyncio
from typing import Final

_SLOWEST_BYTES_PER_SECOND: Final = 1000
_PATIENCE: Final = 10  # a command may take this many times the longest silence, and a second more a kilobyte


class Patient:
    """What a protocol knows of time. `watch` is the deadline of whoever waits; `watched`: silence moves it."""

    def __init__(self, clock: asyncio.AbstractEventLoop, silence_seconds: float) -> None:
        self.clock = clock
        self.watch: asyncio.Timeout | None = None
        self.watched = False
        self.silence_seconds = silence_seconds
        self.last_received = self.clock.time()
        self.received_bytes = 0
        self._begun_at = self.last_received
        self._begun_bytes = 0
        self._held_at = 0.0
        self._holds = 0

    def note_received(self, count: int) -> None:
        """The server is not silent."""
        now = self.clock.time()
        self.last_received = now
        self.received_bytes += count
        if self.watch is not None and self.watch.when() is not None and not self.watch.expired():
            self.watch.reschedule(min(now + self.silence_seconds, self._allowed_until()))

    def start_clock(self) -> None:
        """The server's time to answer begins; an IDLE lasts as long as it likes, its DONE does not."""
        self._begun_at, self._begun_bytes = self.clock.time(), self.received_bytes

    @property
    def is_held(self) -> bool:
        """Whether nothing is read for the present."""
        return self._holds > 0

    def hold(self) -> None:
        """Read nothing more for the present; the server's silence is then ours and not counted."""
        self._holds += 1
        if self._holds > 1:
            return
        self._held_at = self.clock.time()
        if self.watch is not None and not self.watch.expired():
            self.watch.reschedule(None)
        self.pause()

    def go_on(self) -> None:
        """Read again, once this was called for each `hold`."""
        self._holds -= 1
        if self._holds:
            return
        now = self.clock.time()
        self._begun_at += now - self._held_at
        if self.watch is not None and self.watched and not self.watch.expired():
            self.watch.reschedule(now + self.silence_seconds)
        self.resume()

    def pause(self) -> None:
        """Stop reading."""
        raise NotImplementedError

    def resume(self) -> None:
        """Read again."""
        raise NotImplementedError

    def _allowed_until(self) -> float:
        """A server that drips single bytes is never silent: it must average a kilobyte a second all the same."""
        grown = (self.received_bytes - self._begun_bytes) / _SLOWEST_BYTES_PER_SECOND
        return self._begun_at + _PATIENCE * self.silence_seconds + grown
