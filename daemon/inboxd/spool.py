"""Octets too many to be held in memory, in a file without a name: it is gone when the last one who holds it is.

The loop hands over what arrives and never waits for the disk; a thread writes it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, final

from inboxd.errors import StoreError
from inboxd.mails import Spooled

_WRITTEN_AT_ONCE_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 256 << 10


@final
class Spool(Spooled):
    """A file of a known size under `folder` that fills as `add` is called, on the loop.

    `relieved` hears, after each write, how many octets still wait. What cannot be written is dropped, with all
    that follows, and `written` says so.
    """

    def __init__(self, folder: Path, size_bytes: int, relieved: Callable[[int], None]) -> None:
        self._folder = folder
        self._size_bytes = self._missing_bytes = size_bytes
        self._relieved = relieved
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._under_way_bytes = 0
        self._descriptor = -1
        self._failure: str | None = None
        self._ended = asyncio.Event()

    def __len__(self) -> int:
        return self._size_bytes

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    @property
    def backlog_bytes(self) -> int:
        """How much was added and is not written yet."""
        return self._waiting_bytes + self._under_way_bytes

    def add(self, piece: bytes) -> None:
        """The next octets; never more than the size, all together."""
        self._missing_bytes -= len(piece)
        if self._failure is None:
            self._waiting.append(piece)
            self._waiting_bytes += len(piece)
        self._go_on()

    async def written(self) -> None:
        """Until the file is complete; StoreError when it cannot be, for want of room most likely."""
        await self._ended.wait()
        if self._failure is not None:
            raise StoreError(f"{self._folder}: a large mail cannot be kept here: {self._failure}")

    def fileno(self) -> int:
        """The open file, to read from by position: where it stands is everybody's."""
        return self._descriptor

    def pieces(self) -> Iterator[bytes]:
        """The octets in order, some at a time; blocking, for a thread."""
        for at in range(0, self._size_bytes, _PIECE_BYTES):
            yield os.pread(self._descriptor, _PIECE_BYTES, at)

    def _go_on(self) -> None:
        """Write what waits, unless that is little and more will come."""
        if self._under_way_bytes:
            return
        if self._waiting_bytes >= _WRITTEN_AT_ONCE_BYTES or (self._waiting and not self._missing_bytes):
            pieces, self._waiting = self._waiting, []
            self._under_way_bytes, self._waiting_bytes = self._waiting_bytes, 0
            writing = asyncio.get_running_loop().run_in_executor(None, self._write, pieces)
            writing.add_done_callback(self._note_written)
        elif not self._missing_bytes:
            self._ended.set()

    def _write(self, pieces: list[bytes]) -> None:
        if self._descriptor < 0:
            with tempfile.TemporaryFile(dir=self._folder, buffering=0) as file:
                self._descriptor = os.dup(file.fileno())
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def _note_written(self, writing: asyncio.Future[None]) -> None:
        self._under_way_bytes = 0
        if writing.cancelled():
            self._failure = "the daemon is stopping"
        elif (error := writing.exception()) is not None:
            self._failure = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if self._failure is not None:
            self._waiting, self._waiting_bytes = [], 0
        self._go_on()
        self._relieved(self.backlog_bytes)
