"""How large a mailbox is, without reading it."""

from __future__ import annotations

import re
from typing import Final

from inboxd.errors import CommandRefused
from inboxd.imap.asked import Asked
from inboxd.imap.lines import first_line, mailbox_argument
from inboxd.imap.session import Mailbox, Session

_SAMPLE: Final = 100
_SIZE: Final = re.compile(rb"\bRFC822\.SIZE (\d{1,15})\b", re.IGNORECASE)
_STATUS_SIZE: Final = re.compile(rb"\bSIZE (\d{1,19})\b", re.IGNORECASE)


async def size_bytes(session: Session, mailbox: Mailbox) -> int | None:
    """About how many bytes the examined mailbox holds: as the server counts them (STATUS=SIZE, RFC 8438), else what
    its newest 100 messages have on average, times all; None when the server says neither.
    """
    if mailbox.exists == 0:
        return 0
    try:
        if "STATUS=SIZE" in session.capabilities:
            return await _counted(session, mailbox.name)
        return await _estimated(session, mailbox.exists)
    except CommandRefused:
        return None


async def _counted(session: Session, name: str) -> int | None:
    asked = Asked("STATUS", session.link.tag(), mailbox_argument(name), "(SIZE)")
    lines = [line for response in (await session.link.run(asked)).responses for line in response]
    found = [size for line in lines if isinstance(line, bytes) and (size := _STATUS_SIZE.search(line)) is not None]
    return int(found[-1][1]) if found else None


async def _estimated(session: Session, exists: int) -> int | None:
    """Asks for the sizes of the newest alone."""
    newest = f"{max(1, exists - _SAMPLE + 1)}:{exists}"
    command = await session.link.run(Asked("FETCH", session.link.tag(), newest, "(RFC822.SIZE)"))
    sizes = [int(size[1]) for response in command.responses if (size := _SIZE.search(first_line(response))) is not None]
    return sum(sizes) * exists // len(sizes) if sizes else None
