"""How many messages a mailbox holds and how large they are together, without fetching any."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, final

from inboxd.errors import CommandRefused
from inboxd.imap.asked import Asked
from inboxd.imap.lines import Part, first_line, mailbox_argument
from inboxd.imap.session import Session

_SAMPLE: Final = 200  # messages
_SIZE: Final = re.compile(rb"\bRFC822\.SIZE +(\d{1,19})\b", re.IGNORECASE)
_STATUS_ITEM: Final = re.compile(rb"\b(MESSAGES|SIZE) +(\d{1,19})\b", re.IGNORECASE)


@final
@dataclass(frozen=True, slots=True)
class Measure:
    """`estimated`: the bytes are those of a sample, scaled up."""

    messages: int
    size_bytes: int
    estimated: bool = False


async def measure(session: Session, mailbox: str, terms: str | None = None) -> Measure:
    """What the mailbox holds; with `terms`, of what such a SEARCH finds.

    The server says it where it has STATUS=SIZE (RFC 8438); elsewhere up to 200 messages all over the mailbox are asked
    for their size. CommandRefused, MailboxRefused, with the server's words.
    """
    if terms is None and {"STATUS=SIZE", "IMAP4REV2"} & session.capabilities:
        with suppress(CommandRefused):
            said = await _ask(session, "STATUS", mailbox_argument(mailbox), "(MESSAGES SIZE)")
            if (found := _told(said)) is not None:
                return found
    opened = await session.examine(mailbox)
    if terms is None:
        sizes = await _sizes(session, _spread(range(1, opened.exists + 1)), prefix="")
        return _scaled(opened.exists, sizes)
    uids = await session.search(terms=terms)
    return _scaled(len(uids), await _sizes(session, _spread(list(uids)), prefix="UID"))


def _told(responses: Iterable[Sequence[Part]]) -> Measure | None:
    for response in responses:
        items = b" ".join(part for part in response if isinstance(part, bytes)).rpartition(b"(")[2]
        said = {name.upper(): int(number) for name, number in _STATUS_ITEM.findall(items)}
        if {b"MESSAGES", b"SIZE"} <= said.keys():
            return Measure(said[b"MESSAGES"], said[b"SIZE"])
    return None


def _spread(numbers: Sequence[int]) -> list[int]:
    """Up to 200 of them, evenly from all over."""
    count = min(len(numbers), _SAMPLE)
    return [numbers[place * len(numbers) // count] for place in range(count)]


async def _sizes(session: Session, numbers: list[int], prefix: str) -> list[int]:
    if not numbers:
        return []
    said = await _ask(session, "FETCH", ",".join(map(str, numbers)), "(RFC822.SIZE)", prefix=prefix)
    return [int(found[1]) for response in said if (found := _SIZE.search(first_line(response)))]


def _scaled(messages: int, sizes: list[int]) -> Measure:
    whole = sum(sizes) * messages // len(sizes) if sizes else 0
    return Measure(messages, whole, estimated=messages != len(sizes))


async def _ask(session: Session, name: str, *arguments: str, prefix: str = "") -> list[list[Part]]:
    return (await session.link.run(Asked(name, session.link.tag(), *arguments, prefix=prefix))).responses
