"""One literal of a response on its way in: kept in memory, written to a file, or read and dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from inboxd.imap.lines import Part, Skipped
from inboxd.spool import Spool

SPOOLED_BYTES: Final = 8 << 20  # of so much and more goes to a file, where there is one for it
_PIECES: Final = 64  # more are joined when they are small, for each costs memory beside its octets
_PIECE_BYTES: Final = 4096


@final
class Literal:
    """Collects `size` octets. Those of more than `room` are dropped; `spool` makes the file of a large one."""

    __slots__ = ("_pieces", "_size", "_skipped", "_spool", "missing_bytes")

    def __init__(self, size: int, room: int, spool: Callable[[int], Spool] | None) -> None:
        self._size = self.missing_bytes = size
        self._pieces: list[bytes] = []
        self._skipped = Skipped(size) if size > room else None
        self._spool = spool(size) if spool is not None and SPOOLED_BYTES <= size <= room else None

    def take(self, data: bytes, at: int, end: int) -> int:
        """Take what belongs to it of `data` between the two; where that ends."""
        stop = min(end, at + self.missing_bytes)
        self.missing_bytes -= stop - at
        if self._spool is not None:
            self._spool.add(data[at:stop])
        elif self._skipped is None:
            self._pieces.append(data[at:stop])
            if len(self._pieces) > _PIECES + (self._size - self.missing_bytes) // _PIECE_BYTES:
                self._pieces = [b"".join(self._pieces)]
        return stop

    @property
    def backlog_bytes(self) -> int:
        """How much of it waits for the disk."""
        return self._spool.backlog_bytes if self._spool is not None else 0

    def part(self) -> Part:
        """The whole of it, for the response."""
        return self._skipped or self._spool or b"".join(self._pieces)
