"""The mails of an inbox that match: those there are, in pages, and from then on only those that arrived since."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

from inboxd.mail.headers import Headers
from inboxd.mails import Message, Outline
from inboxd.match import Wishes
from inboxd.model import MessageFilter, Window
from inboxd.services import Services
from inboxd.store import messages

T = TypeVar("T")
Examined = Message | Outline

PAGE: Final = 200
HEADS: Final = 100
HEAD_BYTES: Final = 262_144  # of headers; what is longer serves no reader, only those who want to fill our memory
# Numbers of different connectors may be committed out of order: those of a batch under way are not this far behind.
LOOK_BACK: Final = 2_000
_SLICE_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Goal:
    """So many mails among those wanted that fit the wishes: `count` or more, or `exactly` that many."""

    wanted: MessageFilter
    window: Window
    wishes: Wishes
    count: int
    exactly: bool = False

    @property
    def enough(self) -> int:
        """How many have to be known to decide."""
        return self.count + self.exactly

    def is_met(self, found: int) -> bool:
        """Whether so many mails are what is awaited."""
        return found == self.count if self.exactly else found >= self.count


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What earlier looks examined: of the stored mails those up to `behind`, or all when `through`.

    `recent` are the numbers above `floor` of mails that are examined, or lie ahead of the walk. `fitting` holds the
    numbers of those that fit.
    """

    floor: int
    recent: frozenset[int]
    behind: Outline | None = None
    through: bool = False
    fitting: tuple[int, ...] = ()


async def look(services: Services, goal: Goal, seen: Seen | None) -> tuple[Seen, tuple[Message, ...] | None]:
    """What is seen now, and the mails when the goal is met: the first `count` in the window's order.

    They were all there, and as unread as wanted, at one moment of this look. A later look at an inbox of any size costs
    what arrived since. A mail that is marked as unread again counts when it is recent or has been found fitting before.
    Invalid when an expression takes too long on some mail.
    """
    seen = await _begin(services, goal) if seen is None else await _catch_up(services, goal, seen)
    while True:
        found = await _those(services, goal, seen.fitting) if len(seen.fitting) >= goal.count else ()
        if len(found) >= goal.enough or seen.through:
            return seen, found[: goal.count] if goal.is_met(len(found)) else None
        seen = await _walk(services, goal, seen)


async def _begin(services: Services, goal: Goal) -> Seen:
    """Noted before the walk begins, so that what arrives during the walk is examined after it."""
    floor = max(0, await messages.last_seq(services.store) - LOOK_BACK)
    recent, _ = await messages.arrived(services.store, goal.wanted, goal.window, floor, LOOK_BACK + PAGE)
    return Seen(floor, frozenset(recent))


async def _walk(services: Services, goal: Goal, seen: Seen) -> Seen:
    """Examine the next page of what is stored."""
    page = await messages.outlines(services.store, goal.wanted, goal.window, goal.wishes.looks_at, seen.behind, PAGE)
    if not page:
        return replace(seen, through=True)
    return _with(replace(seen, behind=page[-1], through=len(page) < PAGE), await _fitting(services, goal.wishes, page))


async def _catch_up(services: Services, goal: Goal, seen: Seen) -> Seen:
    """Examine what arrived since."""
    most = LOOK_BACK + PAGE
    while True:
        find = partial(messages.arrived, services.store, goal.wanted, goal.window, seen.floor, most)
        numbers, top = await _share(services, ("arrived", goal.wanted, goal.window, seen.floor), find)
        if fresh := tuple(number for number in numbers if number not in seen.recent):
            arrivals = await _those(services, goal, fresh)
            seen = _with(seen, await _fitting(services, goal.wishes, arrivals))
        is_all = len(numbers) < most
        floor = max(seen.floor, (top if is_all else numbers[-1]) - LOOK_BACK)
        seen = replace(seen, floor=floor, recent=frozenset(number for number in numbers if number > floor))
        if is_all:
            return seen


def _with(seen: Seen, fitting: Sequence[Examined]) -> Seen:
    return replace(seen, fitting=tuple(dict.fromkeys((*seen.fitting, *(one.seq for one in fitting)))))


async def _those(services: Services, goal: Goal, numbers: tuple[int, ...]) -> tuple[Message, ...]:
    """The mails with these numbers that are still there and wanted, in the window's order."""
    find = partial(messages.numbered, services.store, goal.wanted, goal.window, numbers)
    return await _share(services, ("numbered", goal.wanted, goal.window, numbers), find)


async def _fitting(services: Services, wishes: Wishes, examined: Sequence[Examined]) -> list[Examined]:
    """Those that fit, found in a thread in slices, so that whoever gives up waits for one slice at most."""
    fitting: list[Examined] = []
    while examined:
        some, count = await asyncio.to_thread(_sift, examined, lambda one: wishes.fits(one.digest))
        fitting += some
        examined = examined[count:]
    return await _fitting_heads(services, wishes, fitting) if wishes.need_headers else fitting


async def _fitting_heads(services: Services, wishes: Wishes, examined: Sequence[Examined]) -> list[Examined]:
    fitting: list[Examined] = []
    while some := examined[:HEADS]:
        numbers = tuple(one.seq for one in some)
        find = partial(messages.heads, services.store, numbers, HEAD_BYTES)
        heads = await _share(services, ("heads", numbers), find)

        def fits(one: Examined, heads: dict[int, bytes] = heads) -> bool:
            return one.seq in heads and wishes.fits_headers(Headers(heads[one.seq]).decoded())

        some, count = await asyncio.to_thread(_sift, some, fits)
        fitting += some
        examined = examined[count:]
    return fitting


def _sift(examined: Sequence[Examined], fits: Callable[[Examined], bool]) -> tuple[list[Examined], int]:
    """Those that fit among the first, and how many of these were examined before the time was up."""
    end = time.monotonic() + _SLICE_SECONDS
    fitting: list[Examined] = []
    for count, one in enumerate(examined, 1):
        if fits(one):
            fitting.append(one)
        if time.monotonic() > end:
            return fitting, count
    return fitting, len(examined)


async def _share(services: Services, key: Hashable, find: Callable[[], Awaitable[T]]) -> T:
    return await services.flights.share(key, find)
