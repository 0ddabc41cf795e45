"""Handlers of the control socket: the daemon's state, keys, and runs that report as they go."""

from __future__ import annotations

import asyncio
import os

from inboxd import __version__, accepting, logs
from inboxd.accounts import open_account
from inboxd.api.answers import Emit
from inboxd.api.gate import new_key
from inboxd.api.outgoing import control_draft_of, wire_names
from inboxd.api.wire.connectors import ConnectorSyncRequestResult, EventQuery, SyncQuery
from inboxd.api.wire.control import (
    Arrival,
    ConnectorStatus,
    ControlSend,
    ControlStatus,
    CreatedKey,
    KeyDto,
    MailPlace,
    NewKey,
    PageTimedEvents,
    ProbeQuery,
    ProgressDto,
    StepLine,
    SyncLine,
    TimedEvent,
    TimedEventDto,
    WatchQuery,
)
from inboxd.api.wire.declared import MistakeDto
from inboxd.api.wire.outbox import OutboxCensus
from inboxd.api.wire.sent import SentEmailDto
from inboxd.api.wire.usage import UsageDto
from inboxd.bus import Hint
from inboxd.direct import sync_now
from inboxd.mails import Message
from inboxd.matching import LOOK_BACK
from inboxd.model import ConnectorId, EventId, InboxId, KeyId, MessageFilter, MessageId, Progress, Window, utc_now
from inboxd.outbox import Once
from inboxd.probe import probe
from inboxd.roundtrip import roundtrip
from inboxd.services import Services
from inboxd.settings import mask_url
from inboxd.store import connectors, events, inboxes, keys, messages, outbox_list, sent, tallies
from inboxd.usage import usage_of

KEEP_ALIVE_SECONDS = 15.0
_ROWS_AT_ONCE = 200
_log = logs.logger("api")


async def get_status(services: Services) -> ControlStatus:
    """The daemon and its connectors at a glance."""
    settings, roster = services.settings, services.roster
    held = await tallies.of_inboxes(services.store)
    return ControlStatus(
        version=__version__,
        pid=os.getpid(),
        uptime_seconds=(utc_now() - services.started_at).total_seconds(),
        api=settings.api.listen,
        metrics=settings.metrics.listen,
        state_dir=str(settings.state_dir),
        store=mask_url(settings.store_url),
        mistakes=[MistakeDto.of(one) for one in services.declarations.latest.mistakes] if services.declarations else [],
        outbox=OutboxCensus.of(await outbox_list.census(services.store)),
        connectors=[
            ConnectorStatus.of(one, roster.status(one.id), held[one.inbox_id].messages if one.inbox_id in held else 0)
            async for one in connectors.every(services.store)
        ],
    )


async def watch(services: Services, query: WatchQuery, emit: Emit) -> None:
    """A line for each message stored from now on, until the client goes; empty lines keep the connection alive."""
    connector = None
    if query.connector_id is not None:
        connector = await connectors.get(services.store, ConnectorId(query.connector_id))
    chosen = MessageFilter((connector.inbox_id,) if connector is not None else ())
    with services.bus.subscribe(connector.inbox_id if connector is not None else None) as hint:
        arrivals = _Arrivals(services, chosen)
        await arrivals.skip()
        await emit(None)
        while True:
            while found := await arrivals.look():
                for message in found:
                    if connector is None or message.connector_id == connector.id:
                        await emit(Arrival.of(message, await _name_of(services, message)))
            if not await _rung(hint):
                await emit(None)


async def _rung(hint: Hint) -> bool:
    try:
        async with asyncio.timeout(KEEP_ALIVE_SECONDS):
            await hint.wait()
    except TimeoutError:
        return False
    return True


async def _name_of(services: Services, message: Message) -> str | None:
    found = await connectors.find(services.store, inbox_id=message.inbox_id)
    return found.name if found is not None else None


async def get_place(services: Services, id: MessageId) -> MailPlace:
    """Where a mail lies in its external mailbox, its flags there and its labels."""
    return MailPlace.of(await messages.get(services.store, id))


async def get_usage(services: Services, id: ConnectorId) -> UsageDto:
    """What a connector takes of what it may."""
    return UsageDto.of(await usage_of(services, await connectors.get(services.store, id)))


async def get_events(services: Services, id: ConnectorId, query: EventQuery) -> PageTimedEvents:
    """A page of one connector's events, each with how long it took."""
    await connectors.get(services.store, id)
    window = query.window()
    page = await events.page(services.store, window, connector_id=id, type=query.event_type)
    return PageTimedEvents.of(window, page, TimedEvent.of)


async def get_event(services: Services, id: EventId) -> TimedEventDto:
    """One event with its logs and how long it took."""
    return TimedEventDto.whole(await events.get(services.store, id))


class _Arrivals:
    """The messages stored since the last look, each one once, in order of their storing.

    By number, for those of a mailbox's first load are created before it began.
    """

    def __init__(self, services: Services, chosen: MessageFilter) -> None:
        self._store = services.store
        self._chosen = chosen
        self._floor = 0
        self._recent = frozenset[int]()

    async def skip(self) -> None:
        """Take what is there for seen."""
        self._floor = max(0, await messages.last_seq(self._store) - LOOK_BACK)
        numbers, _ = await messages.arrived(self._store, self._chosen, Window(), self._floor, LOOK_BACK + _ROWS_AT_ONCE)
        self._recent = frozenset(numbers)

    async def look(self) -> list[Message]:
        """The new ones, a good many at most."""
        most = LOOK_BACK + _ROWS_AT_ONCE
        numbers, top = await messages.arrived(self._store, self._chosen, Window(), self._floor, most)
        fresh = [number for number in numbers if number not in self._recent]
        self._floor = max(self._floor, (top if len(numbers) < most else numbers[-1]) - LOOK_BACK)
        self._recent = frozenset(number for number in numbers if number > self._floor)
        found = await messages.numbered(self._store, self._chosen, Window(), fresh)
        return sorted(found, key=lambda one: one.seq)


async def sync(services: Services, id: ConnectorId, query: SyncQuery, emit: Emit) -> None:
    """Sync now: lines of progress, at the end one with the result."""
    await connectors.get(services.store, id)
    _log.info("sync_asked", connector=str(id))
    latest = _Latest()
    try:
        async with asyncio.TaskGroup() as group:
            relay = group.create_task(latest.relay(emit))
            report = await sync_now(services, id, since=query.since, mailbox=query.folder or None, report=latest.put)
            relay.cancel()
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    await emit(SyncLine(result=ConnectorSyncRequestResult.of(report, logging=True)))


class _Latest:
    """The last progress reported: a slow reader gets fewer lines, not old ones."""

    def __init__(self) -> None:
        self._hint = Hint()
        self._progress: Progress | None = None

    def put(self, progress: Progress) -> None:
        """Replace what was there."""
        self._progress = progress
        self._hint.ring()

    async def relay(self, emit: Emit) -> None:
        """Send each progress that is still the last one, until cancelled; empty lines while there is none."""
        while True:
            fresh = await _rung(self._hint)
            await emit(SyncLine(progress=ProgressDto.of(self._progress)) if fresh and self._progress else None)


async def test(services: Services, id: ConnectorId, query: ProbeQuery, emit: Emit) -> None:
    """A line for each step of testing the stored connections; none for a connection that is not there.

    With `roundtrip`, when all went well, also for those of a mail that the connector sends to itself. Conflict when it
    cannot, for want of a connection or an address.
    """
    await connectors.get(services.store, id)
    works = True
    for kind in query.kinds():
        connection = await connectors.connection(services.store, id, kind)
        if connection is not None:
            account = open_account(services.vault, connection)
            walk = probe(account, services.settings, lambda _line: None, services.tokens, services.budgets)
            async for step in walk:
                works = works and step.ok
                await emit(StepLine.of(kind, step))
    if query.roundtrip and works:
        async for step in roundtrip(services, id, lambda _line: None, query.seconds):
            await emit(StepLine.of(None, step))


async def send_email(services: Services, id: ConnectorId, body: ControlSend, once: Once | None) -> SentEmailDto:
    """Send a mail with its attachments through the connector's SMTP server; what was sent, or accepted."""
    draft, dsn = control_draft_of(body), body.dsn.wanted() if body.dsn is not None else None
    _log.debug("send_asked", connector=str(id))
    with wire_names():
        accepted = await accepting.accept(services, id, draft, once=once, use_fallback=body.use_fallback, dsn=dsn)
    row = await (accepting.outcome(services, accepted.id) if body.wait else sent.get(services.store, accepted.id))
    return SentEmailDto.of(row, services.user_id)


async def create_key(services: Services, body: NewKey) -> CreatedKey:
    """Make an API key; its secret is shown this once. NotFound when it is to be of an inbox that is none."""
    inbox_id = None if body.inbox_id is None else InboxId(body.inbox_id)
    if inbox_id is not None:
        await inboxes.get(services.store, inbox_id)
    key, whole, key_hash = new_key(body.name, frozenset(body.scopes), inbox_id)
    await keys.add(services.store, key, key_hash)
    shown = KeyDto.of(key)
    _log.info(
        "api_key_created",
        id=key.id,
        name=key.name,
        scopes=[scope.value for scope in shown.scopes],
        inbox=inbox_id and str(inbox_id),
    )
    return CreatedKey(
        id=key.id,
        name=key.name,
        key=whole,
        created_at=key.created_at,
        scopes=shown.scopes,
        inbox_id=inbox_id,
    )


async def get_keys(services: Services) -> list[KeyDto]:
    """All API keys, the revoked ones included."""
    return [KeyDto.of(key) for key in await keys.all_keys(services.store)]


async def delete_key(services: Services, key: KeyId) -> None:
    """Make an API key useless at once."""
    await keys.revoke(services.store, key)
    found = await keys.find(services.store, key)
    _log.info("api_key_revoked", id=key, name=found[0].name if found is not None else None)
