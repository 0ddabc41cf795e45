"""What became of messages that are known already: their flags, and which are gone (CONDSTORE, QRESYNC: RFC 7162)."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator
from typing import Final, final

from inboxd.imap import labels
from inboxd.imap.asked import Asked, cost_bytes
from inboxd.imap.lines import Part, first_line, flags_in, is_fetch, parse_fetch
from inboxd.mails import Tags, lasting
from inboxd.uids import MAX_UID, UidSet

MAX_MODSEQ: Final = 2**63 - 1
_VANISHED = re.compile(rb"\* VANISHED +(\(EARLIER\) +)?(\S+)\Z", re.IGNORECASE)
_HAS_FLAGS = re.compile(rb"[ (]FLAGS \(", re.IGNORECASE)
# As servers nearly always write it.
_USUAL = re.compile(
    rb"\* \d{1,10} FETCH \("
    rb"(?:(?:UID (\d{1,10})|FLAGS \(([^()\"\r\n]{0,500})\)|MODSEQ \((\d{1,19})\)) ?)+\)\r\n"
)
_UID_BYTES: Final = 12
_FLAGS_BYTES: Final = 500


def gone_count(line: bytes) -> int | None:
    """How many messages an EXPUNGE or a VANISHED response takes out of the open mailbox; None when it is neither.

    ProtocolError when a VANISHED names no UIDs.
    """
    word, _, rest = line[2:].partition(b" ")
    if word.isdigit():
        return 1 if rest.upper() == b"EXPUNGE" else None
    said = _VANISHED.match(line) if word.upper() == b"VANISHED" else None
    return None if said is None or said[1] else len(UidSet.parse(said[2]))


@final
class Changes(Asked):
    """UID FETCH of flags: of all the messages, or of those changed since a mod-sequence, with those gone since then.

    With `labelled` of Gmail's labels too, a change of which it counts like one of flags.

    `modseq` is the highest that was named. `heard` counts the responses that might as well have come unasked. `note`
    is shown each line that does not come by `receive`. It keeps 12 bytes a message, and each set of tags once.
    """

    def __init__(
        self,
        tag: str,
        uids: str,
        since: int | None,
        *,
        vanished: bool,
        labelled: bool = False,
        note: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        modifiers = () if since is None else (f"(CHANGEDSINCE {since}{' VANISHED' if vanished else ''})",)
        items = f"(UID FLAGS {labels.ITEM})" if labelled else "(UID FLAGS)"
        super().__init__("FETCH", tag, uids, items, *modifiers, prefix="UID")
        self._labelled = labelled
        self.modseq = 0
        self.heard = 0
        self._note = note
        self._uids = array("Q")
        self._places = array("I")
        self._tags: dict[Tags, int] = {}
        self._gone: list[UidSet] = []

    @property
    def vanished(self) -> UidSet:
        """The UIDs said to be gone; servers may name some that never were."""
        return UidSet.joined(self._gone)

    def __len__(self) -> int:
        return len(self._uids)

    def tagged(self, most: int) -> Iterator[dict[int, Tags]]:
        """The tags by UID, at most so many at a time, in the order they were said: what comes later counts.

        \\Recent is left out, for it tells of a session and not of a message.
        """
        tags = list(self._tags)
        for start in range(0, len(self._uids), most):
            some = slice(start, start + most)
            yield {uid: tags[place] for uid, place in zip(self._uids[some], self._places[some], strict=True)}

    def receive(self, response: list[Part]) -> None:
        """Take one response in; ProtocolError when there are too many, or one is nonsense."""
        line = first_line(response)
        self.spend(cost_bytes(response))
        if said := _VANISHED.match(line):
            self.heard += 0 if said[1] else 1
            self._gone.append(UidSet.parse(said[2]))
        elif is_fetch(line) and (self._labelled or len(response) == 1):
            self.heard += 1
            answer = parse_fetch(response)
            names = None if answer.labels is None else labels.named(answer.labels)
            lines = (part for part in response[::2] if isinstance(part, bytes))  # literals are between them
            tags = Tags(lasting(answer.flags), names) if any(map(_HAS_FLAGS.search, lines)) else None
            self._keep(answer.uid, tags, answer.modseq)

    def take_whole(self, data: bytes, at: int) -> int:
        """As `receive`, for responses of the usual form: they come by the thousand when all is marked as read."""
        while found := _USUAL.match(data, at):
            uid, flags, modseq = found.groups()
            if uid is None or flags is None or not 0 < int(uid) <= MAX_UID:
                break
            self._note(found[0][:-2])
            self._keep(int(uid), Tags(lasting(flags_in(flags))), int(modseq or 0))
            at = found.end()
        return at

    def _keep(self, uid: int | None, tags: Tags | None, modseq: int) -> None:
        if modseq < 10**19:
            self.modseq = max(self.modseq, min(modseq, MAX_MODSEQ))
        if uid is None or tags is None:
            return
        if tags not in self._tags:
            self.spend(_FLAGS_BYTES + sum(map(len, tags.flags)) + sum(map(len, tags.labels or ())))
            self._tags[tags] = len(self._tags)
        self.spend(_UID_BYTES)
        self._uids.append(uid)
        self._places.append(self._tags[tags])


def modseq_of(text: str | None) -> int:
    """A HIGHESTMODSEQ as a response code or STATUS says it; 0 when there is none, or no such number."""
    return int(text) if text is not None and text.isdigit() and len(text) <= 19 and int(text) <= MAX_MODSEQ else 0
