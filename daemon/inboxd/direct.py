"""A sync somebody asked for: its own session, its own transcript, one event whatever comes of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Final, final
from uuid import uuid4

from inboxd import logs, sync
from inboxd.accounts import account_of
from inboxd.dial import dial
from inboxd.errors import CommandRefused, InboxdError, MailboxRefused, MailServerError
from inboxd.following import Follower
from inboxd.imap.session import Session
from inboxd.metrics import SYNCS
from inboxd.model import (
    Account,
    ConnectorId,
    EventId,
    EventStatus,
    EventType,
    InboxId,
    Kind,
    MessageId,
    Progress,
    SyncReport,
    Trigger,
)
from inboxd.passes import MOST_IDS
from inboxd.services import Services
from inboxd.store import connectors, events
from inboxd.sweep import followed
from inboxd.sync import Pass, Target

LOG_LINES: Final = 500
# For one who reads: the connections, and the mails on their way, that one request may cause.
CONNECTORS_AT_ONCE: Final = 20
_log = logs.logger("direct")


async def sync_now(
    services: Services,
    connector_id: ConnectorId,
    *,
    since: datetime | None,
    mailbox: str | None,
    report: Callable[[Progress], None] | None = None,
) -> SyncReport:
    """Read the connector's mailboxes (or another one) now. Failures of the mail server come back in the report.

    Each mailbox makes an event; the report names the first. One that cannot be opened does not keep the others from
    being read. NotFound when there is no such connector. `since` limits this one sync and hides nothing later on.
    """
    connector = await connectors.get(services.store, connector_id)
    target = Target(services.store, services.bus, connector_id, connector.inbox_id, services.parsers)
    round_ = _Round(services, target, since, report)
    try:
        account = await account_of(services.store, services.vault, connector_id, Kind.IMAP)
        note = round_.transcript.append
        async with dial(account, services.settings, services.budgets, trace=note, tokens=services.tokens) as session:
            for name in [mailbox] if mailbox else await followed(session, account):
                try:
                    await round_.read(session, account, name)
                except (CommandRefused, MailboxRefused) as error:
                    await round_.fail(error)
            await session.log_out()
    except InboxdError as error:
        await round_.fail(error)
    return round_.outcome


@final
class _Round:
    """The mailboxes that one request reads, one after the other, each with its event."""

    def __init__(
        self, services: Services, target: Target, since: datetime | None, report: Callable[[Progress], None] | None
    ) -> None:
        self.transcript: deque[str] = deque(maxlen=LOG_LINES)
        self._services = services
        self._target = target
        self._since = since
        self._report = report
        self._run: Pass | None = None
        self._began = time.monotonic()
        self._events: list[EventId] = []
        self._count = 0
        self._stored: list[MessageId] = []
        self._errors: list[str] = []

    async def read(self, session: Session, account: Account, name: str) -> None:
        """Read one mailbox; what goes wrong is raised, for `fail`."""
        self._began = time.monotonic() if self._events else self._began
        async with self._services.roster.lock(self._target.connector_id, name):
            mailbox = await session.examine(name)
            run = self._run = await sync.begin(self._target, session, mailbox, Trigger.DIRECT, report=self._report)
            follower = Follower(run, mailbox, self._services.settings.imap, deque(), mirror=account.mirror)
            await sync.catch_up(run, terms=account.search_terms, since=self._since)
        SYNCS.labels(Trigger.DIRECT.value, "ok").inc()
        await sync.write_event(run, list(self.transcript))
        self._end(run.event_id)
        if self._since is None:
            async with self._services.roster.lock(self._target.connector_id, name):
                await follower.look(run)

    async def fail(self, error: InboxdError) -> None:
        """Complete the event of the mailbox under way, or make one, with what went wrong."""
        SYNCS.labels(Trigger.DIRECT.value, "failed").inc()
        event_id, size = (EventId(uuid4()), 0) if self._run is None else (self._run.event_id, self._run.stored)
        ours = not isinstance(error, MailServerError)
        await events.finish(
            self._services.store,
            event_id,
            self._target.connector_id,
            EventStatus.INTERNAL_ERROR if ours else EventStatus.CONNECTION_ERROR,
            EventType.SYNC,
            size=size,
            message=str(error),
            logs="\n".join(self.transcript),
            duration=timedelta(seconds=time.monotonic() - self._began),
        )
        self._errors.append(str(error))
        self._end(event_id)

    def _end(self, event_id: EventId) -> None:
        self._events.append(event_id)
        if self._run is not None:
            self._count += self._run.stored
            self._stored += self._run.ids[: MOST_IDS - len(self._stored)]
        self._run = None

    @property
    def outcome(self) -> SyncReport:
        """What came of all of them."""
        error = "; ".join(self._errors) or None
        return SyncReport(self._events[0], self._count, tuple(self._stored), tuple(self.transcript), error=error)


async def sync_on_read(services: Services, inbox_ids: Collection[InboxId]) -> None:
    """Sync the connectors of these inboxes, or all of them, side by side before somebody reads what is stored.

    Failures are in the connectors' events; none keeps the others, or the reader, from going on.
    """
    ahead = iter(await connectors.readable(services.store, inbox_ids))

    async def sync_one_by_one() -> None:
        for connector_id in ahead:
            try:
                await sync_now(services, connector_id, since=None, mailbox=None)
            except InboxdError as error:  # deleted meanwhile, or its event could not be written
                _log.warning("sync_on_read_failed", connector=str(connector_id), reason=str(error))

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTORS_AT_ONCE):
            group.create_task(sync_one_by_one())
