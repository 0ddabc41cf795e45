"""A mail as it goes over the wire: CRLF as its only line ends, dots doubled, the final dot (RFC 5321 §4.5.2)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from inboxd.smtp.wire import BLOCK_BYTES

# Below this a thread costs more than the work: 256 KiB take about 0.1 ms.
_INLINE_BYTES = 262_144
_END: Final = b"\r\n.\r\n"
_MESSAGE_ID = re.compile(rb"^message-id[ \t]*:\s*<([!-;=?-~]+)>", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Content:
    """What DATA is followed by. `size_bytes` counts neither the doubled dots nor the final one (RFC 1870 §3)."""

    framed: bytes
    size_bytes: int
    eight_bit: bool

    @property
    def header(self) -> bytes:
        """The header, doubled dots and all."""
        end = self.framed.find(b"\r\n\r\n")
        return b"" if self.framed.startswith(b"\r\n") else self.framed[:end] if end >= 0 else self.framed

    @property
    def message_id(self) -> str:
        """The Message-ID without its brackets, or nothing."""
        found = _MESSAGE_ID.search(self.header)
        return found[1].decode("ascii") if found else ""

    @property
    def _last_start(self) -> int:
        return max(0, len(self.framed) - len(_END) - 1) // BLOCK_BYTES * BLOCK_BYTES

    def first_blocks(self) -> Iterator[bytes]:
        """All but the last block, 64 KiB each. No server may take them for a whole mail."""
        for start in range(0, self._last_start, BLOCK_BYTES):
            yield self.framed[start : start + BLOCK_BYTES]

    @property
    def last_block(self) -> bytes:
        """The block with the final dot and the line ends around it."""
        return self.framed[self._last_start :]


async def frame(raw: bytes) -> Content:
    """A mail made ready, in a thread when it is large. Lone CR and LF count as line ends."""
    return framed(raw) if len(raw) <= _INLINE_BYTES else await asyncio.to_thread(framed, raw)


def framed(raw: bytes) -> Content:
    """A mail made ready."""
    content = _normalised(raw)
    stuffed = (b"." if content.startswith(b".") else b"") + content.replace(b"\n.", b"\n..") + b".\r\n"
    return Content(stuffed, len(content), not stuffed.isascii())


def _normalised(raw: bytes) -> bytes:
    """The mail with CRLF as its only line ends, and one at its end."""
    if raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r") and raw.endswith(b"\r\n"):
        return raw
    content = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return content if content.endswith(b"\r\n") else content + b"\r\n"
