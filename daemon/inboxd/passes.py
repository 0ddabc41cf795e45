"""A look at a mailbox: where its mail goes, and what came of it so far."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, final
from uuid import uuid4

from inboxd.bus import Bus
from inboxd.imap.session import Session
from inboxd.mail.beside import Parsers
from inboxd.mails import Place
from inboxd.model import ConnectorId, EventId, InboxId, MessageId, Progress, Trigger
from inboxd.pace import Pace
from inboxd.store.engine import Store

MOST_IDS: Final = 10_000  # of a pass: a mailbox may hold millions
_KEPT_DELAYS: Final = 40


@final
@dataclass(frozen=True, slots=True)
class Target:
    """Where a connector's mail goes; `parsers` take the parsing of much at once off this process.

    `delays` are the last seconds from a push to its mail being committed.
    """

    store: Store
    bus: Bus
    connector_id: ConnectorId
    inbox_id: InboxId
    parsers: Parsers | None = None
    delays: deque[float] = field(default_factory=lambda: deque[float](maxlen=_KEPT_DELAYS), compare=False)


@final
@dataclass(slots=True)
class Load:
    """A first load under way: UIDs below `below` are still to be considered; `end` is where this session took it up.

    `holes` are UIDs the server lists but did not hand over; the mark stays above them. When the load rests,
    `left` counts what is still to be asked for.
    """

    below: int
    end: int
    epoch: datetime | None
    holes: set[int] = field(default_factory=set[int])
    left: int = 0


@final
@dataclass(slots=True)
class Pass:
    """One look at a mailbox, and what came of it so far.

    `holes` are UIDs the server lists but did not hand over; the cursor stays below them. `load` is the mailbox's first
    load while that is incomplete; `keeps_cursor` says that no mark moves. `stored` counts what this pass has stored;
    `ids` are those of the first 10,000. `began` and `ended` are on the monotonic clock: its begin, and
    its last commit so far.
    """

    target: Target
    session: Session
    place: Place
    trigger: Trigger
    pushed_at: float | None = None
    event_id: EventId = field(default_factory=lambda: EventId(uuid4()))
    report: Callable[[Progress], None] | None = None
    stored: int = 0
    ids: list[MessageId] = field(default_factory=list[MessageId])
    holes: set[int] = field(default_factory=set[int])
    cursor: int = 0
    load: Load | None = None
    exists: int = 0
    keeps_cursor: bool = False
    done: int = 0
    total: int = 0
    received_bytes: int = 0
    pace: Pace = field(default_factory=Pace)
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def again(self, trigger: Trigger, pushed_at: float | None) -> Pass:
        """The next pass over the same open mailbox. Its cursor may lag behind another session's: what that one stored
        is fetched once more and recognised, never stored twice.
        """
        return Pass(
            self.target,
            self.session,
            self.place,
            trigger,
            pushed_at,
            holes=set(self.holes),
            cursor=self.cursor,
            load=self.load,
        )

    @property
    def progress(self) -> Progress:
        """How far this pass has come."""
        total = max(self.total, self.done)
        return Progress(
            self.done,
            total,
            self.received_bytes,
            backfill=self.load is not None,
            messages_per_second=self.pace.messages_per_second,
            bytes_per_second=self.pace.bytes_per_second,
            eta_seconds=self.pace.seconds_for(total - self.done),
        )

    @property
    def lasted(self) -> timedelta:
        """From its begin to its last commit, or to now if it has stored nothing."""
        return timedelta(seconds=(time.monotonic() if self.ended is None else self.ended) - self.began)

    @property
    def backfill_remaining(self) -> int:
        """After this pass: how many messages of the first load are to come, or kept back by the server."""
        return len(self.load.holes) + self.load.left if self.load is not None else 0

    def note_stored(self, count: int, ids: Iterable[MessageId]) -> None:
        """So many messages more were stored, these among them."""
        self.stored += count
        self.ended = time.monotonic()
        self.ids += islice(ids, MOST_IDS - len(self.ids))
