"""Bringing a mailbox's new messages into the store: planned by UID, streamed, committed, then announced.

The cursor stands at the highest UID below which nothing is missing. Messages above it that are stored already (after a
crash, or a sync with `since`) are subtracted from the plan, so nothing is fetched or stored twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, final
from uuid import uuid4

from inboxd import logs, metrics
from inboxd.bus import Bus
from inboxd.errors import CommandMalformed, CommandRefused, MailboxRefused, ProtocolError
from inboxd.imap.lines import UidSet
from inboxd.imap.session import Mailbox, Session
from inboxd.imap.stream import Stream
from inboxd.mail.parse import digest
from inboxd.mails import Digest, Fetched, Incoming, Outcome, Place, Stored
from inboxd.model import ConnectorId, EventId, EventStatus, EventType, InboxId, MessageId, Progress, Trigger, utc_now
from inboxd.store import events, messages
from inboxd.store.batches import Ready
from inboxd.store.engine import Store

BATCH_BYTES: Final = 8 << 20
BATCH_COUNT: Final = 1000
_UNIT_BYTES: Final = 2 << 20  # of mail read at a time, while more comes in
_UNIT_COUNT: Final = 100
WINDOW_COUNT: Final = 5000
_MOST_HOLES: Final = 100_000  # each is remembered
LINGER_SECONDS: Final = 0.25  # how long a started unit may wait for more of the same FETCH
_log = logs.logger("sync")


@final
@dataclass(frozen=True, slots=True)
class Target:
    """Where a connector's mail goes."""

    store: Store
    bus: Bus
    connector_id: ConnectorId
    inbox_id: InboxId


@final
@dataclass(slots=True)
class Pass:
    """One look at a mailbox, and what came of it so far.

    `holes` are UIDs the server lists but did not hand over; the cursor stays below them.
    """

    target: Target
    session: Session
    place: Place
    trigger: Trigger
    pushed_at: float | None = None
    event_id: EventId = field(default_factory=lambda: EventId(uuid4()))
    report: Callable[[Progress], None] | None = None
    stored: list[Stored] = field(default_factory=list[Stored])
    holes: set[int] = field(default_factory=set[int])
    cursor: int = 0
    keeps_cursor: bool = False
    done: int = 0
    total: int = 0
    received_bytes: int = 0

    def again(self, trigger: Trigger, pushed_at: float | None) -> Pass:
        """The next pass over the same open mailbox. Its cursor may lag behind another session's: what that one stored
        is fetched once more and recognised, never stored twice.
        """
        return Pass(
            self.target, self.session, self.place, trigger, pushed_at, holes=set(self.holes), cursor=self.cursor
        )

    @property
    def progress(self) -> Progress:
        """How far this pass has come."""
        return Progress(self.done, max(self.total, self.done), self.received_bytes)

    @property
    def ids(self) -> tuple[MessageId, ...]:
        """The messages stored by this pass."""
        return tuple(message.id for message in self.stored)


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
    run = Pass(target, session, place, trigger, pushed_at, report=report)
    cursor = await messages.cursor(target.store, target.connector_id, mailbox.name)
    target.bus.publish(target.inbox_id)  # a pass that ended in its commit may have stored without telling
    if cursor is not None and cursor.uidvalidity == mailbox.uidvalidity:
        run.cursor = cursor.last_uid
        return run
    await messages.set_cursor(target.store, place, 0)
    if cursor is not None:
        metrics.UIDVALIDITY_RESETS.inc()
        _log.warning(
            "mailbox_renumbered",
            connector=str(target.connector_id),
            mailbox=mailbox.name,
            uidvalidity=mailbox.uidvalidity,
            uidvalidity_before=cursor.uidvalidity,
        )
    return run


async def catch_up(run: Pass, *, terms: str | None = None, since: datetime | None = None) -> None:
    """Store every message above the cursor that is not stored yet; with `since`, only those, the cursor left alone."""
    above = run.cursor if since is None else 0
    listed = await search(run.session, terms, above=above, since=since)
    known = await messages.considered(run.target.store, run.place, above) if listed else set[int]()
    wanted = listed.without(known)
    run.total += len(wanted)
    run.keeps_cursor = since is not None
    run.holes.clear()
    if known:
        run.target.bus.publish(run.target.inbox_id)
    for window in wanted.chunks(WINDOW_COUNT):
        await _take_window(run, window)
    await _advance(run, listed.highest)


async def search(session: Session, terms: str | None, *, above: int = 0, since: datetime | None = None) -> UidSet:
    """As `Session.search`; MailboxRefused when the server does not understand the connector's own terms."""
    try:
        return await session.search(above=above, terms=terms, since=since)
    except CommandMalformed as error:
        if terms is None:
            raise
        words = "the server does not understand the connector's search terms"
        raise MailboxRefused("search", f"{words} ({terms})", reply=error.reply) from error


async def take_pushed(run: Pass) -> None:
    """Store what an EXISTS announced, without asking for the UIDs first: one command less between push and commit.

    They are asked for all the same where a UID is left out: expunged, or not handed over.
    """
    if run.holes:
        await catch_up(run)
        return
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

    with run.session.fetch(f"{last + 1}:*") as stream:
        large = await _drain(run, stream, accept, complete_to)
    taken -= await _store_headers(run, large)
    if complete_to():
        await _advance(run, complete_to())
    else:
        await catch_up(run)


async def write_event(run: Pass, transcript: list[str]) -> None:
    """Complete the pass's SYNC event: its row was made with the first message, in the same transaction."""
    count = len(run.stored)
    await events.finish(
        run.target.store,
        run.event_id,
        run.target.connector_id,
        EventStatus.SUCCESS,
        EventType.SYNC,
        size=count,
        message=f"{count} new message{'' if count == 1 else 's'} in {run.place.mailbox}",
        logs="\n".join(transcript),
    )


async def _advance(run: Pass, uid: int) -> None:
    if uid > run.cursor and not run.keeps_cursor and not run.holes:
        await messages.set_cursor(run.target.store, run.place, uid)
        run.cursor = uid


async def _take_window(run: Pass, window: UidSet) -> None:
    missing = await _fetch(run, window)
    if missing:
        listed = await run.session.search(above=min(missing) - 1)
        again = UidSet.of(uid for uid in missing if uid in listed)
        run.done += len(missing) - len(again)
        if again:
            await _try_again(run, again)
    await _advance(run, window.highest)


async def _try_again(run: Pass, uids: UidSet) -> None:
    """A message the server lists but does not hand over must not stop those behind it: it stays a hole below them."""
    holes = await _fetch(run, uids)
    if holes:
        run.holes |= holes
        if len(run.holes) > _MOST_HOLES:
            raise ProtocolError("fetch", "the server lists ever more messages without handing them over")
        _log.warning("messages_not_handed_over", connector=str(run.target.connector_id), uids=sorted(holes)[:20])


async def _fetch(run: Pass, window: UidSet) -> set[int]:
    """Store a window's messages. The UIDs that were not handed over: expunged meanwhile, most likely."""
    missing = set(window)

    def accept(message: Fetched) -> bool:
        asked = message.uid in missing
        missing.discard(message.uid)
        return asked

    with run.session.fetch(str(window)) as stream:
        large = await _drain(run, stream, accept, lambda: 0 if missing else window.highest)
    return missing | await _store_headers(run, large)


async def _drain(
    run: Pass, stream: Stream, accept: Callable[[Fetched], bool], complete_to: Callable[[], int]
) -> list[Fetched]:
    """Store what a FETCH brings; returns the messages too large to be kept. The last batch moves the cursor with it.

    What was read while a batch was written is the next batch: small ones where the disk is quick, large ones where not.
    """
    large: list[Fetched] = []
    async with _Writer(run) as writer:
        while unit := await stream.take(_UNIT_BYTES, _UNIT_COUNT, LINGER_SECONDS):
            accepted = [message for message in unit if accept(message)]
            large += [message for message in accepted if not message.whole]
            ended = stream.finished and not large and not run.holes and not run.keeps_cursor
            cursor = complete_to() if ended else 0
            await writer.put(await _read(run, [message for message in accepted if message.whole]), cursor)
    return large


@final
class _Writer:
    """Commits batches one after the other, in the order they came; leaving waits for the last of them."""

    def __init__(self, run: Pass) -> None:
        self._run = run
        self._waiting: list[Ready] = []
        self._waiting_bytes = 0
        self._cursor = 0
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> _Writer:
        return self

    async def put(self, ready: list[Ready], cursor: int) -> None:
        """Begin to write, or leave it for the next batch; waits when that is full."""
        self._waiting += ready
        self._waiting_bytes += sum(len(one.incoming.fetched.raw) for one in ready)
        self._cursor = cursor
        if self._writing is None or self._writing.done() or self._is_full:
            await self._begin()

    @property
    def _is_full(self) -> bool:
        return self._waiting_bytes >= BATCH_BYTES or len(self._waiting) >= BATCH_COUNT

    async def _begin(self) -> None:
        if self._writing is not None:
            await self._writing
        batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._writing = asyncio.create_task(  # noqa: TID251 - ends before this object's block
            _commit(self._run, batch, self._cursor)
        )

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        # No TaskGroup: until Python 3.13 one whose child fails last leaves its parent marked as being cancelled.
        try:
            if error is None:
                if self._waiting:
                    await self._begin()
                if self._writing is not None:
                    await self._writing
        finally:
            if self._writing is not None:
                self._writing.cancel()
                await asyncio.gather(self._writing, return_exceptions=True)  # noqa: TID251 - its failure was raised above


async def _store_headers(run: Pass, large: list[Fetched]) -> set[int]:
    """Store messages too large as their headers. The UIDs whose header was not handed over."""
    missing: set[int] = set()
    for message in large:
        header = b""
        with suppress(CommandRefused):
            header = await run.session.header(message.uid)
        if header:
            await _store(run, [replace(message, raw=header)], 0)
        else:
            missing.add(message.uid)
    return missing


async def _store(run: Pass, batch: list[Fetched], cursor: int) -> None:
    await _commit(run, await _read(run, batch), cursor)


async def _read(run: Pass, batch: list[Fetched]) -> list[Ready]:
    """Hash and parse messages and make rows of them, in a thread: two would only wait for each other."""
    return await asyncio.to_thread(_ready_all, run.target.store, batch) if batch else []


async def _commit(run: Pass, ready: list[Ready], cursor: int) -> None:
    """Commit a batch, then tell: waiters, metrics, the progress report."""
    if not ready:
        return
    batch = [one.incoming.fetched for one in ready]
    outcome = await messages.add_ready(
        run.target.store,
        run.place,
        run.target.inbox_id,
        ready,
        last_uid=cursor if cursor > run.cursor else None,
        event_id=run.event_id,
    )
    run.cursor = max(run.cursor, cursor)
    run.stored += outcome.stored
    run.done += len(batch)
    run.received_bytes += sum(len(message.raw) for message in batch)
    run.target.bus.publish(run.target.inbox_id)
    _measure(run, batch, outcome)
    if run.report is not None:
        run.report(run.progress)


def _measure(run: Pass, batch: list[Fetched], outcome: Outcome) -> None:
    metrics.STORED.inc(len(outcome.stored))
    metrics.STORED_BYTES.inc(sum(message.size_bytes for message in outcome.stored))
    metrics.REMAPPED.inc(outcome.remapped)
    if not outcome.stored or run.trigger not in (Trigger.PUSH, Trigger.POLL):
        return
    now = utc_now()
    fresh = {message.uid for message in outcome.stored}
    for message in batch:
        if message.uid in fresh and message.received_at is not None:
            metrics.DETECTION.observe(max(0.0, (now - message.received_at).total_seconds()))
    if run.pushed_at is not None:
        metrics.PUSH_TO_STORED.observe(asyncio.get_running_loop().time() - run.pushed_at)


def _ready_all(store: Store, batch: list[Fetched]) -> list[Ready]:
    """Hash and parse a batch, and make rows of it; blocking, for a thread."""
    hashed = (Incoming(message, _digest(message), hashlib.sha256(message.raw).digest()) for message in batch)
    return messages.prepare(store, list(hashed))


def _digest(message: Fetched) -> Digest:
    made = digest(message.raw)
    if not message.whole:
        made = replace(made, defect=f"{message.size_bytes} bytes are over the limit: only the header is kept")
    if made.defect is not None:
        metrics.DEFECTIVE.inc()
    return made
