"""What became of the stored messages: their flags follow those in the mailbox, and what is gone there is marked.

It comes after new mail, in the session that read that, and fetches nothing again. Where the server counts changes
(CONDSTORE, RFC 7162) it is asked for those since the last time, and for what is gone (QRESYNC); where not, the flags of
the newest messages and the list of all UIDs are compared with the store, every so often. All of it is committed before
the mark that says up to where it is known: after a crash it is done again, and changes nothing.

What is gone keeps its copy here, unless the connector mirrors: then the copy goes as well, once the server has
confirmed in the same session, by an answer that is complete, that it does not list the message. An empty mailbox, which
may be a broken one, takes away a few that were named one by one at most; and messages of another UIDVALIDITY stay.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, final
from uuid import uuid4

from inboxd import logs, metrics
from inboxd.errors import CommandRefused
from inboxd.imap.changes import Changes
from inboxd.imap.mailbox import Mailbox
from inboxd.mails import Tags
from inboxd.model import EventId, EventStatus, EventType, utc_now
from inboxd.passes import Pass
from inboxd.sections import ImapSettings
from inboxd.store import events, messages, upstream
from inboxd.store.upstream import Settled
from inboxd.uids import UidSet

_SETTLE_SECONDS: Final = 0.5  # changes come in bursts
_LONGEST_SETTLE_SECONDS: Final = 60.0
_ANNOUNCED_SECONDS: Final = 30.0  # a comparison for what was announced comes no sooner after the last
_WALKED_AT_ONCE: Final = 10_000
_MOST_OF_EMPTY: Final = 20  # messages that go here when the last ones of a mailbox were deleted
_Tagged = dict[int, Tags]
_log = logs.logger("following")


@final
@dataclass(slots=True)
class _Found:
    flags: int = 0
    labels: int = 0
    vanished: int = 0
    again: int = 0
    removed: int = 0

    def add(self, settled: Settled) -> None:
        self.flags += settled.flags
        self.labels += settled.labels
        self.vanished += settled.vanished

    def __str__(self) -> str:
        said: list[str] = []
        if self.flags:
            said.append(f"flags of {self.flags} message{'' if self.flags == 1 else 's'} changed")
        if self.labels:
            said.append(f"labels of {self.labels} message{'' if self.labels == 1 else 's'} changed")
        if self.vanished:
            said.append(f"{self.vanished} deleted upstream")
        if self.again:
            said.append(f"{self.again} there again")
        if self.removed:
            said.append(f"{self.removed} deleted here")
        return ", ".join(said)


@final
class Follower:
    """One examined mailbox, from before the session's first look. `noted`: the session's `changes` it knows of."""

    def __init__(
        self, run: Pass, mailbox: Mailbox, limits: ImapSettings, transcript: deque[str], *, mirror: bool
    ) -> None:
        self.noted = run.session.changes
        self._target = run.target
        self._session = run.session
        self._place = run.place
        self._limits = limits
        self._transcript = transcript
        self._mirrors = mirror
        self._known_to = run.cursor  # the flags of messages above are fetched in this session
        self._highest = mailbox.modseq
        self._mark = 0
        self._compared_at = utc_now()
        self._first = self._kept = True
        self._unlisted = run.cursor > 0
        self._named: list[int] = []
        self._vain = 0

    @property
    def is_told(self) -> bool:
        """Whether the server counts changes and names what is gone: then nothing needs to be compared."""
        return bool(self._mark and self._session.tells_vanished)

    @property
    def pause_seconds(self) -> float:
        """How long to wait after an announced change before looking again: the longer, the more were in vain."""
        settle = min(_SETTLE_SECONDS * 2.0 ** min(self._vain, 16), _LONGEST_SETTLE_SECONDS)
        return settle if self._mark else max(settle, self._due_seconds(announced=True))

    @property
    def rest_seconds(self) -> float:
        """When to look again though nothing is announced."""
        if self.is_told or self._first or not self._place.uidvalidity:
            return math.inf
        return max(_SETTLE_SECONDS, self._due_seconds(announced=self._unlisted))

    async def look(self, run: Pass) -> None:
        """Bring what is stored up to date, after a pass over the mailbox; an event tells of what was found.

        A server that refuses the questions is asked less. Raises MailServerError as the session does, StoreError.
        """
        if not self._place.uidvalidity or (self._first and not await self._begin()):
            return
        began, found, announced = time.monotonic(), _Found(), self._session.changes != self.noted
        self._unlisted |= announced
        self._named = []
        try:
            is_due = not self.is_told and self._due_seconds(announced=self._unlisted) <= 0
            if self._mark and (announced or (self._mark < self._highest if self._first else is_due)):
                await self._ask(found, announced=announced)
            if is_due:
                await self._compare(found, run.cursor)
            if self._mirrors and (self._kept or found.vanished):
                await self._remove(found)
        except CommandRefused as error:
            _log.warning("following_refused", connector=str(self._target.connector_id), reason=str(error))
            self._mark, self._compared_at, self.noted = 0, utc_now(), self._session.changes
        self._first = False
        vain = announced and self._session.changes == self.noted and not str(found)
        self._vain = self._vain + 1 if vain else 0
        if str(found):
            await self._tell(found, timedelta(seconds=time.monotonic() - began))

    async def _begin(self) -> bool:
        """Take up where it was left. A server that counts less than it did has lost what it knew: all is compared."""
        cursor = await messages.cursor(self._target.store, self._place.connector_id, self._place.mailbox)
        if cursor is None or cursor.uidvalidity != self._place.uidvalidity:
            return False
        known = cursor.modseq or 0
        self._mark = known if 0 < known <= self._highest else 0
        compared_at = None if self._highest > 0 and not self._mark else cursor.compared_at
        self._compared_at = compared_at or utc_now() - timedelta(days=1)
        return True

    def _due_seconds(self, *, announced: bool) -> float:
        """How long until all is to be compared again."""
        most = self._limits.compare_seconds
        pause = min(_ANNOUNCED_SECONDS, most) if announced else most
        return pause - (utc_now() - self._compared_at).total_seconds()

    # --- what the server says -----------------------------------------------------------------------------------------

    async def _ask(self, found: _Found, *, announced: bool) -> None:
        """What has changed since the mark.

        At the first look, unless something was announced, only messages that were known before the session matter. The
        mark goes to what EXAMINE said, later on to the last change named.
        """
        before = self._session.changes
        mark = self._highest
        all_matter = announced or not self._first
        if self._known_to or all_matter:
            uids = "1:*" if all_matter else f"1:{self._known_to}"
            answer = await self._session.changed(uids, self._mark)
            before += answer.heard
            mark = mark if self._first else max(self._mark, answer.modseq)
            self._named = await upstream.within(self._target.store, self._place, answer.vanished.ranges)
            await self._settle(found, answer, self._named, modseq=mark)
        self._mark, self.noted = mark, before

    async def _compare(self, found: _Found, known_to: int) -> None:
        """All UIDs, and the flags of the newest messages unless they are known by their changes.

        Where changes are counted from now on, the flags of all of them, once.
        """
        before = self._session.changes
        listed = await self._session.search()
        whole = len(listed) == self._session.exists
        if not whole:
            _log.warning("listing_incomplete", connector=str(self._target.connector_id), mailbox=self._place.mailbox)
        answer = None
        count = len(listed) if self._highest else min(len(listed), self._limits.compare_count)
        if not self._mark and count:
            answer = await self._session.changed(f"{_nth_from_top(listed, count)}:*")
            before += answer.heard
        gone, back = await self._walk(listed, known_to=known_to if whole else 0)
        if back:
            await upstream.found_again(self._target.store, self._place, back)
            found.again += len(back)
        self._compared_at = utc_now()
        self._mark = self._mark or self._highest
        await self._settle(found, answer, gone, modseq=self._mark or None, compared=True)
        self._unlisted, self.noted = False, before

    async def _walk(self, listed: UidSet, *, known_to: int) -> tuple[list[int], list[int]]:
        """The stored UIDs up to there that are not listed, and those marked as gone that are."""
        gone: list[int] = []
        back: list[int] = []
        above = 0
        while rows := await upstream.following(self._target.store, self._place, above, _WALKED_AT_ONCE):
            above = rows[-1][0]
            gone += [uid for uid, marked in rows if not marked and uid <= known_to and uid not in listed]
            back += [uid for uid, marked in rows if marked and uid in listed]
        return gone, back

    # --- what becomes of it -------------------------------------------------------------------------------------------

    async def _settle(
        self,
        found: _Found,
        answer: Changes | None,
        gone: Sequence[int],
        *,
        modseq: int | None,
        compared: bool = False,
    ) -> None:
        """Commit it in slices, the marks with the last."""
        slices = _slices(answer, gone)
        tags, some = next(slices, (_Tagged(), ()))
        for following in slices:
            found.add(await upstream.settle(self._target.store, self._place, tags, some))
            tags, some = following
        if tags or some or compared or modseq != self._mark:
            compared_at = self._compared_at if compared else None
            found.add(
                await upstream.settle(
                    self._target.store, self._place, tags, some, modseq=modseq, compared_at=compared_at
                )
            )

    async def _remove(self, found: _Found) -> None:
        """Delete the copies of what is gone, once the server has confirmed it."""
        gone = await upstream.marked(self._target.store, self._place)
        self._kept = bool(gone) and self._session.exists == 0
        if self._kept:
            gone = self._named if len(self._named) <= _MOST_OF_EMPTY else []
        if not gone:
            return
        there = await self._session.still_there(UidSet.of(gone))
        if back := [uid for uid in gone if uid in there]:
            await upstream.found_again(self._target.store, self._place, back)
            found.again += len(back)
        left = [uid for uid in gone if uid not in there]
        found.removed += await upstream.remove_vanished(self._target.store, self._place, left)

    async def _tell(self, found: _Found, lasted: timedelta) -> None:
        metrics.FLAGS_CHANGED.inc(found.flags)
        metrics.VANISHED.inc(found.vanished)
        await events.finish(
            self._target.store,
            EventId(uuid4()),
            self._target.connector_id,
            EventStatus.SUCCESS,
            EventType.SYNC,
            message=f"{found} in {self._place.mailbox}",
            logs="\n".join(self._transcript),
            duration=lasted,
        )
        self._target.bus.publish(self._target.inbox_id)
        self._transcript.clear()
        _log.info(
            "mailbox_changed",
            connector=str(self._target.connector_id),
            mailbox=self._place.mailbox,
            flags=found.flags,
            labels=found.labels,
            vanished=found.vanished,
            removed=found.removed,
        )


def _slices(answer: Changes | None, gone: Sequence[int]) -> Iterator[tuple[_Tagged, Sequence[int]]]:
    """What one transaction takes each: tags, then what is gone."""
    tags: _Tagged = {}
    if answer is not None:
        for following in answer.tagged(upstream.AT_ONCE):
            if tags:
                yield tags, ()
            tags = following
    yield tags, gone[: upstream.AT_ONCE]
    for start in range(upstream.AT_ONCE, len(gone), upstream.AT_ONCE):
        yield {}, gone[start : start + upstream.AT_ONCE]


def _nth_from_top(uids: UidSet, count: int) -> int:
    """The lowest of the highest so many UIDs."""
    for first, last in reversed(uids.ranges):
        if last - first + 1 >= count:
            return last - count + 1
        count -= last - first + 1
    return uids.ranges[0][0]
