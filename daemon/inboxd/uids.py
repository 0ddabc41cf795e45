"""Sets of UIDs, from a server's lists of millions down to one message: as ranges, of 8 octets each."""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, final

from inboxd.errors import ProtocolError

_SLICE_BYTES: Final = 256 << 10
_MOST_RANGES: Final = 2_000_000  # of UIDs that a server lists
RANGES_AT_ONCE: Final = 400  # some servers take lines of 8,000 octets (RFC 7162 §4 asks for that much)
MAX_UID: Final = 4_294_967_295


@final
class UidSet:
    """Sorted UIDs kept as ranges, so that a mailbox of millions costs little; `str` is IMAP's sequence-set."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """Of ranges in ascending order; those that overlap or touch become one."""
        self._firsts, self._lasts = array("I"), array("I")
        for first, last in ranges:
            self._append(first, last)

    @classmethod
    def of(cls, uids: Iterable[int]) -> UidSet:
        """The set of some UIDs in any order."""
        return cls((uid, uid) for uid in sorted(uids))

    @classmethod
    def joined(cls, sets: Iterable[UidSet]) -> UidSet:
        """Everything in any of the sets."""
        ordered = sorted((uids for uids in sets if uids), key=lambda uids: uids.lowest)
        if all(low.highest < high.lowest for low, high in pairwise(ordered)):
            return cls(pair for uids in ordered for pair in uids.pairs())
        return cls(heapq.merge(*(uids.pairs() for uids in ordered)))

    @classmethod
    def parse(cls, text: bytes) -> UidSet:
        """A sequence-set as a server writes it (`1:4,9`); ProtocolError when it is none, or has too many parts."""

        def read(part: bytes) -> UidSet:
            ends = [item.partition(b":") for item in part.split(b",")]
            lows, highs = _uids([low for low, _, _ in ends]), _uids([high or low for low, _, high in ends])
            return cls(sorted((min(ab), max(ab)) for ab in zip(lows, highs, strict=True)))

        return _by_slices(text, 0, b",", read)

    @classmethod
    def parse_words(cls, text: bytes, at: int = 0) -> UidSet:
        """UIDs with spaces between, from `at` on; ProtocolError when they are none, or too many."""
        return _by_slices(text, at, b" ", lambda part: cls.of(_uids(part.split())))

    def __len__(self) -> int:
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UidSet) and (self._firsts, self._lasts) == (other._firsts, other._lasts)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __contains__(self, uid: int) -> bool:
        at = bisect_right(self._firsts, uid) - 1
        return at >= 0 and uid <= self._lasts[at]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.pairs():
            yield from range(first, last + 1)

    def __str__(self) -> str:
        return ",".join(str(a) if a == b else f"{a}:{b}" for a, b in self.pairs())

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The ranges, of few: each takes twenty times what it takes in here."""
        return list(self.pairs())

    def pairs(self) -> Iterator[tuple[int, int]]:
        """First and last of each range, ascending."""
        return zip(self._firsts, self._lasts, strict=True)

    @property
    def range_count(self) -> int:
        """Of how many ranges it consists."""
        return len(self._firsts)

    def above(self, uid: int) -> UidSet:
        """Those greater than `uid`: `n:*` always names the last message too (RFC 3501 §6.4.8)."""
        return UidSet((max(first, uid + 1), last) for first, last in self.pairs() if last > uid)

    def without(self, gone: UidSet) -> UidSet:
        """Those that are not in the other set."""
        left = UidSet()
        others = gone.pairs()
        low, high = next(others, _BEYOND)
        for first, last in self.pairs():
            start = first
            while low <= last:
                if low > start:
                    left._append(start, low - 1)
                start = max(start, high + 1)
                if high > last:
                    break
                low, high = next(others, _BEYOND)
            if start <= last:
                left._append(start, last)
        return left

    def take_highest(self, most: int) -> UidSet:
        """Take the highest UIDs away, at most so many and of few enough ranges for a command line."""
        taken: list[tuple[int, int]] = []
        while self._firsts and most and len(taken) < RANGES_AT_ONCE:
            first, last = self._firsts.pop(), self._lasts.pop()
            start = max(first, last - most + 1)
            if start > first:
                self._append(first, start - 1)
            taken.append((start, last))
            most -= last - start + 1
        return UidSet(reversed(taken))

    def chunks(self, most: int) -> Iterator[UidSet]:
        """The same UIDs, ascending, in sets of at most `most`, and of few enough ranges for a command line."""
        chunk, room = UidSet(), most
        for first, last in self.pairs():
            start = first
            while start <= last:
                stop = min(last, start + room - 1)
                chunk._append(start, stop)
                room -= stop - start + 1
                start = stop + 1
                if room == 0 or chunk.range_count == RANGES_AT_ONCE:
                    yield chunk
                    chunk, room = UidSet(), most
        if chunk:
            yield chunk

    @property
    def lowest(self) -> int:
        """The smallest UID, 0 when the set is empty."""
        return self._firsts[0] if self._firsts else 0

    @property
    def highest(self) -> int:
        """The greatest UID, 0 when the set is empty."""
        return self._lasts[-1] if self._lasts else 0

    def _append(self, first: int, last: int) -> None:
        if self._lasts and first <= self._lasts[-1] + 1:
            self._lasts[-1] = max(last, self._lasts[-1])
        else:
            self._firsts.append(first)
            self._lasts.append(last)


_BEYOND: Final = (MAX_UID + 1, MAX_UID + 1)


def _by_slices(text: bytes, at: int, separator: bytes, read: Callable[[bytes], UidSet]) -> UidSet:
    """What a text says, read a part at a time: the words of a list of millions would fill gigabytes."""
    found: list[UidSet] = []
    count = 0
    while at <= len(text):
        stop = text.find(separator, at + _SLICE_BYTES)
        stop = len(text) if stop < 0 else stop
        found.append(read(text[at:stop]))
        count += found[-1].range_count
        if count > _MOST_RANGES:
            raise ProtocolError("search", "the server's list of messages is too long")
        at = stop + 1
    return UidSet.joined(found)


def _uids(words: Sequence[bytes]) -> list[int]:
    if all(map(bytes.isdigit, words)) and max(map(len, words), default=0) <= 10:
        found = [*map(int, words)]
        if max(found, default=0) <= MAX_UID:
            return found
    raise ProtocolError("search", "the server sent something other than UIDs")
