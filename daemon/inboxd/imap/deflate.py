"""COMPRESS=DEFLATE (RFC 4978): both directions of a connection as raw deflate streams (RFC 1951), and when it pays.

It pays where the line is the narrow place: mail shrinks to two thirds or less, but a server compresses no faster than
some 30 MB in a second, and an inflater holds about 40 KB for as long as the connection lasts. So it is not for
connections that wait for mail, nor for fast lines, however far the server is.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Final, final

from inboxd.errors import MailServerError, ProtocolError

NEAR_SECONDS: Final = 0.005  # a server that answers sooner is not behind a slow line: if it is slow, it is so itself
SLOW_BYTES_PER_SECOND: Final = 4_000_000
_SURE_SECONDS: Final = 1.0
_BRIEF_SECONDS: Final = 0.2
_BLOCK_BYTES: Final = 64 << 10
_PIECE_BYTES: Final = 256 << 10
_TURN_BYTES: Final = 1 << 20  # inflated without a pause: some milliseconds


@final
class Line:
    """What large answers tell of a line: how fast it is while it alone is waited for."""

    def __init__(self, round_trip_seconds: float) -> None:
        self._round_trip_seconds = round_trip_seconds
        self._seconds = 0.0
        self._bytes = 0

    def note(self, count: int, seconds: float) -> None:
        """An answer of so many bytes took so long. A short one tells nothing: its time is the way there and back."""
        seconds -= self._round_trip_seconds
        if seconds >= _BRIEF_SECONDS:
            self._seconds += seconds
            self._bytes += count

    @property
    def is_slow(self) -> bool:
        """Whether compression would pay; False until a second of transfer was seen."""
        if self._round_trip_seconds < NEAR_SECONDS or self._seconds < _SURE_SECONDS:
            return False
        return self._bytes < SLOW_BYTES_PER_SECOND * self._seconds


def packed(octets: bytes | memoryview) -> bytes:
    """Octets as whole deflate blocks that refer to nothing before them: so nothing is kept between two calls."""
    deflater = zlib.compressobj(zlib.Z_BEST_SPEED, wbits=-zlib.MAX_WBITS)
    return deflater.compress(octets) + deflater.flush(zlib.Z_SYNC_FLUSH)


@final
class Inflating:
    """What comes on `under` once the server has agreed: `take` is given it, `read` gets it inflated.

    However much a few octets inflate to, it is made in pieces, as far as it is wanted (`pause_reading`), and others on
    the loop have their turn in between; `under` is not read meanwhile. A stream that is none ends in `fail`.
    """

    def __init__(
        self, under: asyncio.Transport, read: Callable[[bytes], None], fail: Callable[[MailServerError], None]
    ) -> None:
        self._under = under
        self._read = read
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._waiting = bytearray()
        self._more = self._held = self._paused = False
        self._due: asyncio.Handle | None = None

    def take(self, octets: bytes) -> None:
        """What came on the wire, in order."""
        self._waiting += octets
        if self._due is None:
            self._go_on()

    def _go_on(self) -> None:
        self._due = None
        room = _TURN_BYTES
        while room > 0 and (self._more or self._waiting) and not self._held and not self._under.is_closing():
            piece = self._next()
            room -= len(piece)
            if piece:
                self._read(piece)
        if self._held or self._under.is_closing():
            return
        if self._more or self._waiting:
            self._stop()
            self._due = self._loop.call_soon(self._go_on)
        elif self._paused:
            self._paused = False
            self._under.resume_reading()

    def _next(self) -> bytes:
        """The next piece; it may be empty though more is to come."""
        octets = self._inflater.unconsumed_tail
        if not octets and not self._more:
            octets = bytes(self._waiting[:_BLOCK_BYTES])
            del self._waiting[:_BLOCK_BYTES]
        try:
            piece = self._inflater.decompress(octets, _PIECE_BYTES)
        except zlib.error as error:
            self._fail(ProtocolError("read", f"the server's compressed stream is broken ({error})"))
            return b""
        if self._inflater.eof and (self._inflater.unused_data or self._waiting):
            self._fail(ProtocolError("read", "the server sent bytes after the end of its compressed stream"))
        self._more = bool(self._inflater.unconsumed_tail) or len(piece) == _PIECE_BYTES
        return piece

    def _stop(self) -> None:
        if not self._paused:
            self._paused = True
            self._under.pause_reading()

    def pause_reading(self) -> None:
        """Nothing more for the present."""
        self._held = True
        self._stop()

    def resume_reading(self) -> None:
        """Soon: whoever asks may be in the middle of something."""
        self._held = False
        if self._due is None:
            self._due = self._loop.call_soon(self._go_on)
