"""A sync somebody asked for: its own session, its own transcript, one event whatever comes of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final
from uuid import uuid4

from inboxd import logs, sync
from inboxd.accounts import account_of
from inboxd.dial import dial
from inboxd.errors import InboxdError, MailServerError
from inboxd.metrics import SYNCS
from inboxd.model import (
    Account,
    ConnectorId,
    EventId,
    EventStatus,
    EventType,
    InboxId,
    Kind,
    Progress,
    SyncReport,
    Trigger,
)
from inboxd.services import Services
from inboxd.store import connectors, events
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
    """Read the connector's mailbox (or another one) now. Failures of the mail server come back in the report.

    NotFound when there is no such connector. `since` limits this one sync and hides nothing from later ones.
    """
    connector = await connectors.get(services.store, connector_id)
    transcript: deque[str] = deque(maxlen=LOG_LINES)
    target = Target(services.store, services.bus, connector_id, connector.inbox_id)
    begun: list[Pass] = []
    try:
        account = await account_of(services.store, services.vault, connector_id, Kind.IMAP)
        name = mailbox or account.select_folder
        async with services.roster.lock(connector_id):
            run = await _read(services, target, account, transcript, since, name, report, begun.append)
    except InboxdError as error:
        SYNCS.labels(Trigger.DIRECT.value, "failed").inc()
        event_id, ids = (begun[0].event_id, begun[0].ids) if begun else (EventId(uuid4()), ())
        ours = not isinstance(error, MailServerError)
        status = EventStatus.INTERNAL_ERROR if ours else EventStatus.CONNECTION_ERROR
        await _close_event(services, event_id, connector_id, status, len(ids), str(error), transcript)
        return SyncReport(event_id, ids, tuple(transcript), error=str(error))
    SYNCS.labels(Trigger.DIRECT.value, "ok").inc()
    await sync.write_event(run, list(transcript))
    return SyncReport(run.event_id, run.ids, tuple(transcript))


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


async def _read(
    services: Services,
    target: Target,
    account: Account,
    transcript: deque[str],
    since: datetime | None,
    name: str,
    report: Callable[[Progress], None] | None,
    began: Callable[[Pass], None],
) -> Pass:
    async with dial(account, services.settings, transcript.append) as session:
        mailbox = await session.examine(name)
        run = await sync.begin(target, session, mailbox, Trigger.DIRECT, report=report)
        began(run)
        await sync.catch_up(run, terms=account.search_terms, since=since)
        await session.log_out()
    return run


async def _close_event(
    services: Services,
    event_id: EventId,
    connector_id: ConnectorId,
    status: EventStatus,
    size: int,
    message: str,
    transcript: deque[str],
) -> None:
    await events.finish(
        services.store,
        event_id,
        connector_id,
        status,
        EventType.SYNC,
        size=size,
        message=message,
        logs="\n".join(transcript),
    )
