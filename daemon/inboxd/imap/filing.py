"""The APPEND command: a message handed to the server as one literal, no faster than the server takes it."""

from __future__ import annotations

from datetime import datetime
from typing import Final, final

from inboxd import metrics
from inboxd.imap.asked import Asked
from inboxd.imap.lines import date_time, flag_list, mailbox_argument
from inboxd.imap.link import Link, check

_BLOCK_BYTES: Final = 64 << 10
_SHORT_BYTES: Final = 4096  # what LITERAL- lets a client send unasked (RFC 7888 §5)


@final
class Append(Asked):
    """APPEND (RFC 3501 §6.3.11). `ready` once the server has asked for the literal."""

    ready = False

    def proceed(self, _challenge: bytes) -> bytes | None:
        self.ready = True
        return None


async def append(
    link: Link,
    capabilities: frozenset[str],
    mailbox: str,
    raw: bytes,
    *,
    flags: tuple[str, ...],
    date: datetime,
) -> Append:
    """File `raw`, and return the command once the server said OK; CommandRefused when it said NO or BAD.

    The silence allowed is that of any command, begun anew with each block of 64 KiB. A server that refuses before it
    was sent everything gets the rest all the same (RFC 7888 §4): the connection stays usable.
    """
    unasked = "LITERAL+" in capabilities or ("LITERAL-" in capabilities and len(raw) <= _SHORT_BYTES)
    size = f"{{{len(raw)}{'+' if unasked else ''}}}"
    command = Append("APPEND", link.tag(), mailbox_argument(mailbox), flag_list(flags), date_time(date), size)
    with link.owning(), metrics.COMMAND_SECONDS.labels("APPEND").time():
        link.protocol.begin(command)
        if not unasked:
            await link.until(lambda: command.ready or command.done)
        if unasked or command.ready:
            await _hand_over(link, raw)
        await link.until(lambda: command.done)
        check(command)
    return command


async def _hand_over(link: Link, raw: bytes) -> None:
    octets = memoryview(raw)
    for start in range(0, len(octets), _BLOCK_BYTES):
        link.protocol.send_block(octets[start : start + _BLOCK_BYTES])
        await link.until(lambda: link.protocol.writable)
    link.protocol.send_block(b"\r\n")
