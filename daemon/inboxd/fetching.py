"""Messages of an open mailbox into the store: streamed, parsed in threads, committed in order, then announced."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import accumulate, takewhile
from typing import Final, final

from inboxd import logs, metrics
from inboxd.errors import CommandRefused, MailServerError, ProtocolError
from inboxd.imap.stream import Stream
from inboxd.mail.beside import digest_and_hash
from inboxd.mail.parse import is_suspicious
from inboxd.mails import Cursor, Digest, Fetched, Incoming, Loaded, Outcome
from inboxd.model import Trigger, utc_now
from inboxd.passes import Pass, Target
from inboxd.store import messages
from inboxd.store.batches import Ready
from inboxd.uids import UidSet

BATCH_BYTES: Final = 6 << 20
BATCH_COUNT: Final = 1000
_LITTLE_BYTES: Final = 256 << 10  # of a transaction that somebody in a hurry may have to wait for
_LITTLE_COUNT: Final = 8
_FEW_COUNT: Final = 10  # new mails at a time that are not a bulk
_UNIT_BYTES: Final = 2 << 20  # of mail read at a time, while more comes in
_UNIT_COUNT: Final = 100
_MUCH_BYTES: Final = 512 << 10  # of mail at once: worth a process of its own to parse it
_MUCH_COUNT: Final = 100  # as many as a first load begins with
_QUICK_COUNT: Final = 2  # of mails that are parsed where they arrive
_QUICK_BYTES: Final = 32 << 10
_MOST_HOLES: Final = 100_000  # each is remembered
_MOST_READING: Final = 2  # units: one is made ready here while another is parsed beside
_GATHERING_SECONDS: Final = 0.25  # how long mails of a first load wait for more
LINGER_SECONDS: Final = 0.25  # how long a started unit may wait for more of the same FETCH
Reading = list[Ready] | asyncio.Future[list[Ready]]
_log = logs.logger("sync")


async def fetch(run: Pass, window: UidSet, writer: Writer, *, loading: bool = False) -> set[int]:
    """Store a window's messages. The UIDs that are holes now: listed by the server, but not handed over.

    They must not stop those behind them. What was expunged meanwhile is none. The last batch may still be on its way.
    """
    if loading or len(window) >= _MUCH_COUNT:
        await run.session.suit_line()
    missing = await _fetch(run, window, writer, loading)
    if not missing:
        return set()
    listed = await run.session.search(above=min(missing) - 1, below=max(missing) + 1)
    again = UidSet.of(uid for uid in missing if uid in listed)
    run.done += len(missing) - len(again)
    holes = await _fetch(run, again, writer, loading) if again else set[int]()
    if holes:
        _log.warning("messages_not_handed_over", connector=str(run.target.connector_id), uids=sorted(holes)[:20])
    return holes


def note_holes(known: set[int], holes: set[int]) -> None:
    """Remember holes; ProtocolError when there is no end of them."""
    known |= holes
    if len(known) > _MOST_HOLES:
        raise ProtocolError("fetch", "the server lists ever more messages without handing them over")


async def _fetch(run: Pass, window: UidSet, writer: Writer, loading: bool) -> set[int]:
    """Store a window's messages. The UIDs that were not handed over: expunged meanwhile, most likely."""
    missing = set(window)

    def accept(message: Fetched) -> bool:
        asked = message.uid in missing
        missing.discard(message.uid)
        return asked

    def complete_to() -> int:
        return 0 if missing or loading else window.highest

    with run.session.fetch(str(window)) as stream:
        large = await drain(run, stream, writer, accept, complete_to)
    return missing | await store_headers(run, large, writer)


async def drain(
    run: Pass, stream: Stream, writer: Writer, accept: Callable[[Fetched], bool], complete_to: Callable[[], int]
) -> list[Fetched]:
    """Store what a FETCH brings; returns the messages too large to be kept. The last batch moves the cursor with it.

    What was read while a batch was written is the next batch: small ones where the disk is quick, large ones where not.
    """
    large: list[Fetched] = []
    while unit := await stream.take(_UNIT_BYTES, _UNIT_COUNT, LINGER_SECONDS):
        accepted = [message for message in unit if accept(message)]
        large += [message for message in accepted if not message.whole]
        ended = stream.finished and not large and not run.holes and not run.keeps_cursor
        cursor = complete_to() if ended else 0
        whole = [message for message in accepted if message.whole]
        await writer.put(whole, _read(run, whole), cursor)
    return large


@final
class _Unit:
    """Messages on their way: being read, then waiting to be written; and the marks that hold once they are."""

    def __init__(self, batch: Sequence[Fetched], reading: Reading, cursor: int) -> None:
        self.count = len(batch)
        self.size_bytes = _size_of(batch)
        self.cursor = cursor
        self.loaded: Loaded | None = None
        self._reading = reading

    @property
    def is_read(self) -> bool:
        """Whether they can be taken."""
        return isinstance(self._reading, list) or self._reading.done()

    async def read(self) -> None:
        """Until they can be taken."""
        if not isinstance(self._reading, list):
            self._reading = await self._reading

    def take(self, most_count: float, most_bytes: float) -> list[Ready]:
        """The first of them, at most so many; at least one, if there are any."""
        ready = self._reading if isinstance(self._reading, list) else self._reading.result()
        sizes = accumulate(len(one.incoming.fetched.raw) for one in ready)
        fitting = sum(1 for _ in takewhile(most_bytes.__ge__, sizes))
        count = min(len(ready), max(1, int(min(most_count, fitting))))
        taken, self._reading = ready[:count], ready[count:]
        self.count -= count
        self.size_bytes -= _size_of(one.incoming.fetched for one in taken)
        return taken


@final
class Writer:
    """Commits batches one after the other, in the order they came; leaving waits for the last of them.

    What had come when the connection was lost is kept too. The messages are created by a first load's `epoch`, if one
    is given.
    """

    def __init__(self, run: Pass, epoch: datetime | None = None) -> None:
        self._run = run
        self._epoch = epoch
        self._units: deque[_Unit] = deque()
        self._loaded: Loaded | None = None
        self._writing: asyncio.Task[None] | None = None
        self._begun = self._leaving = False
        self._moved = asyncio.Event()  # something was read, or taken

    async def __aenter__(self) -> Writer:
        return self

    async def put(self, batch: Sequence[Fetched], reading: Reading, cursor: int = 0) -> None:
        """Begin to write what is made of a batch, or leave it for the next transaction; waits when much waits."""
        self._units.append(_Unit(batch, reading, cursor))
        if isinstance(reading, asyncio.Future):
            reading.add_done_callback(lambda _: self._moved.set())
        self._moved.set()
        if self._writing_ended:
            await self._settled()
            self._begin()
        while self._is_full and not self._writing_ended:
            self._moved.clear()
            await self._moved.wait()

    def mark(self, loaded: Loaded) -> None:
        """What was put so far reaches so far down: kept with the last of it, at the latest when this is left."""
        if self._units:
            self._units[-1].loaded = loaded
        else:
            self._loaded = loaded

    @property
    def _is_full(self) -> bool:
        return (
            sum(unit.size_bytes for unit in self._units) >= BATCH_BYTES
            or sum(unit.count for unit in self._units) >= BATCH_COUNT
            or sum(not unit.is_read for unit in self._units) > _MOST_READING
        )

    @property
    def _writing_ended(self) -> bool:
        return self._writing is None or self._writing.done()

    def _begin(self) -> None:
        self._writing = asyncio.create_task(self._write())  # noqa: TID251 - ends before this object's block

    async def _settled(self) -> None:
        if self._writing is not None:
            await self._writing

    def _take(self) -> tuple[list[Ready], int, Loaded | None]:
        """What goes into the next transaction: all that is read, or little while somebody else is in a hurry to write;
        and the marks that hold then.
        """
        batch: list[Ready] = []
        cursor, loaded, self._loaded = 0, self._loaded, None
        hurried = self._run.target.store.hurried
        count, size = (_LITTLE_COUNT, _LITTLE_BYTES) if hurried else (math.inf, math.inf)
        while self._units and self._units[0].is_read and count > 0 and size > 0:
            unit = self._units[0]
            left_count, left_bytes = unit.count, unit.size_bytes
            batch += unit.take(count, size)
            count -= left_count - unit.count
            size -= left_bytes - unit.size_bytes
            if unit.count == 0:
                self._units.popleft()
                cursor, loaded = unit.cursor or cursor, unit.loaded or loaded
        return batch, cursor, loaded

    async def _write(self) -> None:
        """Until nothing waits: what has come must not wait for what is still to come."""
        try:
            while self._units or self._loaded is not None:
                if self._units:
                    await self._units[0].read()
                await self._gather()
                batch, cursor, loaded = self._take()
                self._moved.set()
                await commit(self._run, batch, cursor, loaded, self._epoch)
                self._begun = True
        finally:
            self._moved.set()

    async def _gather(self) -> None:
        """Until a first load, its newest mails written, has read enough for a transaction that is worth its time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GATHERING_SECONDS):
                while self._gathers:
                    self._moved.clear()
                    await self._moved.wait()

    @property
    def _gathers(self) -> bool:
        if self._epoch is None or not self._begun or self._leaving or self._run.target.store.hurried:
            return False
        read = [unit for unit in self._units if unit.is_read]
        return sum(one.size_bytes for one in read) < BATCH_BYTES and sum(one.count for one in read) < BATCH_COUNT

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        # No TaskGroup: until Python 3.13 one whose child fails last leaves its parent marked as being cancelled.
        try:
            self._leaving = True
            self._moved.set()
            if error is None or isinstance(error, MailServerError):
                await self._settled()  # which has often taken what waits by then
                if self._units or self._loaded is not None:
                    self._begin()
                    await self._settled()
        finally:
            if self._writing is not None:
                self._writing.cancel()
                await asyncio.gather(self._writing, return_exceptions=True)  # noqa: TID251 - its failure was raised above


async def store_headers(run: Pass, large: list[Fetched], writer: Writer) -> set[int]:
    """Store messages too large as their headers. The UIDs whose header was not handed over."""
    missing: set[int] = set()
    for message in large:
        header = b""
        with suppress(CommandRefused):
            header = await run.session.header(message.uid)
        if header:
            cut = [replace(message, raw=header)]
            await writer.put(cut, _read(run, cut))
        else:
            missing.add(message.uid)
    return missing


def _read(run: Pass, batch: list[Fetched]) -> Reading:
    """Hash and parse messages and make rows of them, in a thread: much at once in one that keeps nobody else waiting.

    What is quick takes less time than it takes to change threads twice.
    """
    target, raws = run.target, [message.raw for message in batch]
    if _is_quick(batch):
        return _ready_all(target, batch, map(digest_and_hash, raws))
    loop = asyncio.get_running_loop()
    if (parsers := target.parsers) is not None and _size_of(batch) >= _MUCH_BYTES:
        return loop.run_in_executor(parsers.threads, lambda: _ready_all(target, batch, parsers.digests(raws)))
    return loop.run_in_executor(None, lambda: _ready_all(target, batch, map(digest_and_hash, raws)))


def _size_of(batch: Iterable[Fetched]) -> int:
    return sum(len(message.raw) for message in batch)


def _is_quick(batch: list[Fetched]) -> bool:
    """Whether to parse it takes a moment: 0.2 ms for nearly every mail of this size, 12 ms for the worst one found."""
    return (
        len(batch) <= _QUICK_COUNT
        and _size_of(batch) <= _QUICK_BYTES
        and not any(is_suspicious(bytes(message.raw)) for message in batch)
    )


async def commit(
    run: Pass, ready: list[Ready], cursor: int, loaded: Loaded | None = None, epoch: datetime | None = None
) -> None:
    """Commit a batch and the marks that go with it, then tell: waiters, metrics, the progress report."""
    if not ready and not cursor and loaded is None:
        return
    batch = [one.incoming.fetched for one in ready]
    outcome = await messages.add_ready(
        run.target.store,
        run.place,
        run.target.inbox_id,
        ready,
        cursor=_cursor_at(run, cursor) if cursor > run.cursor else None,
        loaded=loaded,
        epoch=epoch,
        event_id=run.event_id,
        lasted=timedelta(seconds=time.monotonic() - run.began),
        bulk=epoch is not None or len(ready) > _FEW_COUNT,
    )
    run.cursor = max(run.cursor, cursor)
    if run.load is not None and loaded is not None:
        run.load.below = loaded.first
    if not ready:
        return
    run.note_stored(len(outcome.stored), (message.id for message in outcome.stored))
    run.done += len(batch)
    run.received_bytes += _size_of(batch)
    run.target.bus.publish(run.target.inbox_id)
    _measure(run, batch, outcome, loading=epoch is not None)
    run.pace.note(asyncio.get_running_loop().time(), run.done, run.received_bytes)
    if run.report is not None:
        run.report(run.progress)


def _cursor_at(run: Pass, last_uid: int) -> Cursor:
    load = run.load
    if load is None:
        return Cursor(run.place.uidvalidity, last_uid)
    return Cursor(run.place.uidvalidity, last_uid, load.below, load.epoch)


def _measure(run: Pass, batch: list[Fetched], outcome: Outcome, *, loading: bool) -> None:
    metrics.STORED.inc(len(outcome.stored))
    metrics.STORED_BYTES.inc(sum(message.size_bytes for message in outcome.stored))
    metrics.REMAPPED.inc(outcome.remapped)
    if loading or not outcome.stored or run.trigger not in (Trigger.PUSH, Trigger.POLL):
        return
    now = utc_now()
    fresh = {message.uid for message in outcome.stored}
    for message in batch:
        if message.uid in fresh and message.received_at is not None:
            metrics.DETECTION.observe(max(0.0, (now - message.received_at).total_seconds()))
    if run.pushed_at is not None:
        delay = asyncio.get_running_loop().time() - run.pushed_at
        metrics.PUSH_TO_STORED.observe(delay)
        run.target.delays.append(delay)


def _ready_all(target: Target, batch: list[Fetched], parsed: Iterable[tuple[Digest, bytes]]) -> list[Ready]:
    """Rows of a batch and of what its messages were found to be; blocking."""
    both = zip(batch, parsed, strict=True)
    incoming = [Incoming(message, _noted(message, made), content_hash) for message, (made, content_hash) in both]
    return messages.prepare(target.store, incoming)


def _noted(message: Fetched, made: Digest) -> Digest:
    if not message.whole:
        made = replace(made, defect=f"{message.size_bytes} bytes are over the limit: only the header is kept")
    if made.defect is not None:
        metrics.DEFECTIVE.inc()
    return made
