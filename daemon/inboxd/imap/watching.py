"""The mailboxes of an account seen from a session that keeps none of them open: which there are, how full they are,
and, where the server tells by itself (NOTIFY, RFC 5465), which of them have changed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, final

from inboxd.errors import CommandMalformed, CommandRefused
from inboxd.imap.asked import Asked
from inboxd.imap.changes import modseq_of
from inboxd.imap.folders import Folder, folders_in
from inboxd.imap.lines import Part, decode_utf7, first_line, mailbox_argument, response_code
from inboxd.imap.session import Session

_ASKED: Final = "(MESSAGES UIDNEXT UIDVALIDITY)"
_ASKED_CHANGES: Final = "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)"
_STATUS = re.compile(rb'\* STATUS +(?:"((?:[^"\\]|\\.)*)"|([^\s("]+)) +\(([^)]*)\)', re.IGNORECASE)
_LITERAL_STATUS = re.compile(rb"\* STATUS +\{\d+\+?\}\Z", re.IGNORECASE)
_ITEM = re.compile(rb"([A-Za-z]+) +(\d{1,19})(?!\d)")
_MOST_COUNT: Final = 9_999_999_999  # more than there can be of anything but changes
_ANSWERED: Final = frozenset({"LIST", "STATUS"})  # by STATUS responses
_EVENTS: Final = "(MessageNew MessageExpunge)"
_EVENTS_CHANGES: Final = "(MessageNew MessageExpunge FlagChange)"
_MOST_ARGUMENT: Final = 6000  # characters: some servers take lines of 8,000 octets


@final
@dataclass(frozen=True, slots=True)
class Counts:
    """How full a mailbox is, as STATUS says it; where the server would not say, `messages` is -1, the others are 0.

    `modseq` (HIGHESTMODSEQ, RFC 7162) moves with each change of a message.
    """

    messages: int = -1
    uidnext: int = 0
    uidvalidity: int = 0
    modseq: int = 0


def counts_in(responses: Iterable[Sequence[Part]]) -> dict[str, Counts]:
    """What the STATUS responses (RFC 3501 §7.2.4) among these say, by decoded name; the last word counts."""
    return {name: counts for response in responses for name, counts in [_status(response)] if name is not None}


def _status(response: Sequence[Part]) -> tuple[str | None, Counts]:
    line = first_line(response)
    found = _STATUS.match(line)
    if found is not None:
        raw = re.sub(rb"\\(.)", rb"\1", found[1]) if found[1] is not None else found[2]
        return _name(raw), _counts(found[3])
    if _LITERAL_STATUS.match(line) and len(response) == 3:
        raw, rest = response[1], response[2]
        if isinstance(raw, bytes) and isinstance(rest, bytes):
            return _name(raw), _counts(rest)
    return None, Counts()


def _name(raw: bytes) -> str:
    name = decode_utf7(raw.decode("utf-8", "replace"))
    return "INBOX" if name.upper() == "INBOX" else name


def _counts(items: bytes) -> Counts:
    every = {name.lower(): int(number) for name, number in _ITEM.findall(items)}
    said = {name: number for name, number in every.items() if number <= _MOST_COUNT}
    modseq = modseq_of(str(every.get(b"highestmodseq", 0)))
    return Counts(said.get(b"messages", -1), said.get(b"uidnext", 0), said.get(b"uidvalidity", 0), modseq)


@final
class Watch:
    """A session used for this; between its methods mailboxes may be examined. `announces`: the server tells by itself.

    After `close` nothing is open: servers announce nothing of the mailbox that is.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._link = session.link
        self._named: set[str] = set()
        self._watched: tuple[str, ...] = ()
        self.announces = False
        counts_changes = bool({"CONDSTORE", "QRESYNC"} & session.capabilities)
        self._asked = _ASKED_CHANGES if counts_changes else _ASKED
        self._events = _EVENTS_CHANGES if counts_changes else _EVENTS
        self._link.protocol.overhear = self._overhear

    def _overhear(self, response: list[Part]) -> None:
        line = first_line(response)
        if line[:9].upper() == b"* STATUS ":
            asked = self._link.protocol.pending
            if asked is None or asked.name not in _ANSWERED:
                self._named |= counts_in([response]).keys()
        elif line[:6].upper() == b"* OK [" and response_code(line[5:])[0] == "NOTIFICATIONOVERFLOW":
            self.announces, self._watched = False, ()

    async def survey(self) -> tuple[list[Folder], dict[str, Counts]]:
        """Every mailbox there is; and how full they are, of as many as the server says it with the list (RFC 5819)."""
        known = self._session.capabilities
        if "LIST-STATUS" in known:
            uses = "SPECIAL-USE " if "SPECIAL-USE" in known else ""
            with suppress(CommandRefused):
                responses = await self._ask("LIST", '""', '"*"', f"RETURN ({uses}STATUS {self._asked})")
                return folders_in(responses), counts_in(responses)
        return await self._session.mailboxes(), {}

    async def status(self, name: str) -> Counts:
        """How full a mailbox is (RFC 3501 §6.3.10); CommandRefused, with the server's words."""
        try:
            said = await self._ask("STATUS", mailbox_argument(name), self._asked)
        except CommandMalformed:
            if self._asked == _ASKED:
                raise
            self._asked = _ASKED  # it counts changes, but not for those who ask like this
            said = await self._ask("STATUS", mailbox_argument(name), self._asked)
        return counts_in(said).get(name, Counts())

    async def close(self) -> None:
        """Close the examined mailbox, which changes nothing there (RFC 3501 §6.4.2)."""
        if self._link.protocol.state == "SELECTED":
            await self._link.run(Asked("CLOSE", self._link.tag()))
            self._link.protocol.state = "AUTH"

    async def subscribe(self, names: Sequence[str]) -> bool:
        """Have changes of these mailboxes announced, if the server can do that; whether it was asked anew."""
        if "NOTIFY" not in self._session.capabilities or self._watched == tuple(names):
            return False
        listed = f"mailboxes ({' '.join(map(mailbox_argument, names))})" if names else ""
        plain = listed.isascii() and "&" not in listed  # Dovecot 2.3 knows no other name here by its encoding
        which = listed if plain and len(listed) <= _MOST_ARGUMENT else "personal"
        self._watched, self.announces = tuple(names), bool(names)
        try:
            await self._ask("NOTIFY", f"SET ({which} {self._events})" if names else "NONE")
        except CommandRefused:
            self.announces, self._watched = False, ()
            if self._events == _EVENTS:
                self._watched = tuple(names)
                return False
            self._events = _EVENTS
            return await self.subscribe(names)
        return bool(names)

    async def wait(self, seconds: float) -> set[str]:
        """The mailboxes that were announced as changed since the last call; waits for one, at most so long."""
        with self._link.owning():
            try:
                async with asyncio.timeout(seconds):
                    await self._link.until(lambda: self._named or self._link.dismissed, watched=False)
            except TimeoutError:
                pass
        named, self._named = self._named, set()
        return named

    async def _ask(self, name: str, *arguments: str) -> list[list[Part]]:
        return (await self._link.run(Asked(name, self._link.tag(), *arguments))).responses
