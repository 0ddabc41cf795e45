"""The first load of a mailbox: newest first, in windows that take about a second, so that new mail never waits long.

The cursor jumps to the top at once, and new mail above it is taken as ever. The mark of the load goes down from there
with what is stored; after a crash the load goes on below it, but for what the store has already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from inboxd.errors import SessionSpent
from inboxd.fetching import Writer, fetch, note_holes
from inboxd.imap.places import rest_seconds
from inboxd.mails import Loaded
from inboxd.passes import Pass
from inboxd.store import messages
from inboxd.uids import UidSet

_FIRST_COUNT: Final = 100
_WINDOW_SECONDS: Final = 1.0
_MOST_GROWTH: Final = 4.0  # from one window to the next: what comes may be larger than what came


async def load(run: Pass, listed: UidSet, passed: int, most: int, live: Callable[[], Awaitable[bool]]) -> None:
    """Store those of the listed UIDs below the mark that are not stored yet, at most `most` a window.

    `passed` messages above the mark are done already. `live` is called between windows when mail was announced: a
    server says so at the latest with the end of a command (RFC 3501 §5.2), so that it waits for one window at most.
    It says whether it stored that; if not, because another does, it is called again. The load rests, and this returns,
    while most of what the account may download in a day is used up: `run.load.left` says how many are left then.
    """
    loading = run.load
    assert loading is not None
    known = await messages.considered(run.target.store, run.place, 0, loading.below) if listed else UidSet()
    wanted = listed.without(known)
    if known:
        run.target.bus.publish(run.target.inbox_id)
    run.done = max(run.done, passed + len(listed) - len(wanted))
    run.total = run.done + len(wanted)
    loading.holes.clear()
    clock = asyncio.get_running_loop()
    run.pace.note(clock.time(), run.done, run.received_bytes)
    seen, count = run.session.pushes, min(_FIRST_COUNT, most)
    async with Writer(run, loading.epoch) as writer:
        while wanted and not rest_seconds(run.session):
            window, began = wanted.take_highest(count), clock.time()
            note_holes(loading.holes, await fetch(run, window, writer, loading=True))
            if not loading.holes and wanted:
                writer.mark(Loaded(window.lowest, loading.end))
            count = min(most, _next_count(len(window), clock.time() - began))
            if run.session.left_seconds <= 0 and wanted:
                raise SessionSpent(
                    "fetch", "the session ends before its token does: the first load goes on in the next"
                )
            pushes = run.session.pushes
            if pushes != seen and await live():
                seen = pushes
        loading.left = len(wanted)
        if not (loading.holes or loading.left):
            writer.mark(Loaded(0, loading.end))
    if not (loading.holes or loading.left):
        run.load = None


def _next_count(count: int, seconds: float) -> int:
    return max(1, int(count * min(_MOST_GROWTH, _WINDOW_SECONDS / max(seconds, 0.001))))
