"""Bringing a mailbox's new messages into the store: planned by UID, streamed, committed, then announced.

The cursor stands at the highest UID below which nothing is missing, but for what a first load has still to bring. What
is stored already above it (after a crash, or a sync with `since`) is subtracted from the plan, so nothing is fetched or
stored twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Final

from inboxd import backfill, logs, metrics
from inboxd.errors import CommandMalformed, MailboxRefused, SessionSpent
from inboxd.fetching import Writer, commit, drain, fetch, note_holes, store_headers
from inboxd.imap.mailbox import Mailbox
from inboxd.imap.places import rest_seconds
from inboxd.imap.session import Session
from inboxd.mails import Cursor, Fetched, Place
from inboxd.model import EventId, EventStatus, EventType, Progress, Trigger
from inboxd.passes import Load, Pass, Target
from inboxd.store import cursors, events, messages
from inboxd.uids import UidSet

WINDOW_COUNT: Final = 5000
Told = Callable[[Pass], Awaitable[None]] | None
Beside = Callable[[Pass], AbstractAsyncContextManager[Callable[[], bool]]]
_log = logs.logger("sync")


async def begin(
    target: Target,
    session: Session,
    mailbox: Mailbox,
    trigger: Trigger,
    *,
    pushed_at: float | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Pass:
    """A pass over an examined mailbox, its cursor made or, when the server renumbered it, begun anew."""
    place = Place(target.connector_id, mailbox.name, mailbox.uidvalidity)
    run = Pass(target, session, place, trigger, pushed_at, report=report, exists=mailbox.exists)
    cursor = await messages.cursor(target.store, target.connector_id, mailbox.name)
    target.bus.publish(target.inbox_id)  # a pass that ended in its commit may have stored without telling
    if cursor is None or cursor.uidvalidity != mailbox.uidvalidity:
        renumbered, cursor = cursor, await cursors.begin(target.store, place, modseq=mailbox.modseq)
        if renumbered is not None:
            metrics.UIDVALIDITY_RESETS.inc()
            _log.warning(
                "mailbox_renumbered",
                connector=str(target.connector_id),
                mailbox=mailbox.name,
                uidvalidity=mailbox.uidvalidity,
                uidvalidity_before=renumbered.uidvalidity,
            )
    _stand(run, cursor)
    return run


def _stand(run: Pass, cursor: Cursor) -> None:
    run.cursor = cursor.last_uid
    below = cursor.backfill_below
    run.load = None if below is None else Load(below, below, cursor.backfill_epoch)


async def catch_up(
    run: Pass,
    *,
    terms: str | None = None,
    since: datetime | None = None,
    told: Told = None,
    beside: Beside | None = None,
) -> None:
    """Store every message that is not stored yet; with `since`, only those, and nothing is known of others.

    New mail goes first. A mailbox that was never read is then loaded newest first; what arrives during that is stored
    in between, in passes of their own, which `told` is given when they are done: without it they count as this one's.
    `beside` is entered with a load, and says whether new mail is stored from there. A load that rests is left for a
    later pass.
    """
    run.keeps_cursor = since is not None
    if since is not None:
        await _take(run, await search(run.session, terms, since=since), 0)
        return
    listed = await search(run.session, terms, above=run.cursor)
    older: UidSet | None = None
    if run.cursor == 0 and listed:
        _stand(run, await cursors.begin(run.target.store, run.place, listed.highest))
        older, listed = listed, listed.above(run.cursor)
    await _take(run, listed, run.cursor)
    if run.load is not None and not (run.load.left and rest_seconds(run.session)):
        if older is None or older.highest >= run.load.below:
            older = await search(run.session, terms, below=run.load.below)
        passed = 0 if terms else max(0, run.exists - len(older))
        async with beside(run) if beside is not None else nullcontext(_nowhere) as elsewhere:
            await backfill.load(run, older, passed, WINDOW_COUNT, lambda: _between(run, terms, told, elsewhere))


def _nowhere() -> bool:
    return False


async def _take(run: Pass, listed: UidSet, above: int) -> None:
    """Store what is listed, all above this UID, oldest first."""
    known = await messages.considered(run.target.store, run.place, above) if listed else UidSet()
    wanted = listed.without(known)
    run.total += len(wanted)
    run.holes.clear()
    if known:
        run.target.bus.publish(run.target.inbox_id)
    for window in wanted.chunks(WINDOW_COUNT):
        async with Writer(run) as writer:
            note_holes(run.holes, await fetch(run, window, writer))
        await _advance(run, window.highest)
        if run.session.left_seconds <= 0 and window.highest < wanted.highest:
            raise SessionSpent("fetch", "the session ends before its token does: the rest comes in the next")
    await _advance(run, listed.highest)


async def _between(run: Pass, terms: str | None, told: Told, elsewhere: Callable[[], bool]) -> bool:
    """What was announced while a first load runs; whether it was stored here."""
    if elsewhere():
        return False
    if told is not None:
        await told(await take_live(run, run.session, terms, run.session.pushed_at))
        return True
    live = await take_live(run, run.session, terms, run.session.pushed_at, event_id=run.event_id, trigger=run.trigger)
    run.note_stored(live.stored, live.ids)
    return True


async def take_live(
    run: Pass,
    session: Session,
    terms: str | None,
    pushed_at: float | None,
    *,
    event_id: EventId | None = None,
    trigger: Trigger = Trigger.PUSH,
) -> Pass:
    """Store what arrived above the first load that `run` is, by any session that has its mailbox open: in a pass of its
    own. Two at a time do no harm: what one has stored, the other recognises.
    """
    live = replace(run.again(trigger, pushed_at), session=session)
    if event_id is not None:  # of the load itself
        live.event_id, live.began = event_id, run.began
    if terms or live.holes or not live.place.uidvalidity or not await _take_new(live):
        await _take(live, await search(live.session, terms, above=live.cursor), live.cursor)
    run.cursor, run.holes = max(run.cursor, live.cursor), live.holes
    run.target.bus.publish(run.target.inbox_id)
    return live


async def search(
    session: Session, terms: str | None, *, above: int = 0, below: int | None = None, since: datetime | None = None
) -> UidSet:
    """As `Session.search`; MailboxRefused when the server does not understand the connector's own terms."""
    try:
        return await session.search(above=above, below=below, terms=terms, since=since)
    except CommandMalformed as error:
        if terms is None:
            raise
        words = "the server does not understand the connector's search terms"
        raise MailboxRefused("search", f"{words} ({terms})", reply=error.reply) from error


async def take_pushed(run: Pass) -> None:
    """Store what an EXISTS announced, without asking for the UIDs first: one command less between push and commit.

    They are asked for all the same where a UID is left out: expunged, or not handed over.
    """
    if run.holes or run.load is not None:
        await catch_up(run)
        return
    if not await _take_new(run):
        await catch_up(run)


async def _take_new(run: Pass) -> bool:
    """Whether everything was handed over up to the last one of those above the cursor."""
    last = run.cursor
    taken: set[int] = set()

    def accept(message: Fetched) -> bool:
        # `n:*` names the last message even when its UID is below n (RFC 3501 §6.4.8)
        fresh = message.uid > last and message.uid not in taken
        if fresh:
            taken.add(message.uid)
        return fresh

    def complete_to() -> int:
        return last + len(taken) if max(taken, default=0) == last + len(taken) else 0

    async with Writer(run) as writer:
        with run.session.fetch(f"{last + 1}:*") as stream:
            large = await drain(run, stream, writer, accept, complete_to)
        taken -= await store_headers(run, large, writer)
    if complete_to():
        await _advance(run, complete_to())
    return complete_to() != 0


async def write_event(run: Pass, transcript: list[str]) -> None:
    """Complete the pass's SYNC event: its row was made with the first message, in the same transaction."""
    count = run.stored
    await events.finish(
        run.target.store,
        run.event_id,
        run.target.connector_id,
        EventStatus.SUCCESS,
        EventType.SYNC,
        size=count,
        message=f"{count} new message{'' if count == 1 else 's'} in {run.place.mailbox}",
        logs="\n".join(transcript),
        duration=run.lasted,
    )


async def _advance(run: Pass, uid: int) -> None:
    if uid > run.cursor and not run.keeps_cursor and not run.holes:
        await commit(run, [], uid)
