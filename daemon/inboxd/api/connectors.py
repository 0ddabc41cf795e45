"""Handlers of connectors, their sync settings, syncs, sends and events."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from inboxd import accepting, logs
from inboxd.api.connections import created
from inboxd.api.outgoing import draft_of, wire_names
from inboxd.api.wire.connectors import (
    AllEventsQuery,
    ByAddressQuery,
    ByInboxQuery,
    ByNameQuery,
    ConnectorDto,
    ConnectorEventDto,
    ConnectorEventProjection,
    ConnectorProjection,
    ConnectorProviderSettingsDto,
    ConnectorSyncRequestResult,
    ConnectorSyncSettingsDto,
    CreateConnectorOptions,
    CreateConnectorSyncSettingsOptions,
    CreateConnectorWithOptions,
    EventQuery,
    InboxQuery,
    OptionalConnectorDto,
    OptionalConnectorSyncSettingsDto,
    PageConnector,
    PageConnectorEvents,
    SendQuery,
    SyncQuery,
)
from inboxd.api.wire.sending import SendEmailOptions
from inboxd.api.wire.sent import SentEmailDto
from inboxd.api.wire.shapes import PageQuery
from inboxd.direct import sync_now
from inboxd.errors import NotFound
from inboxd.model import Connector, ConnectorId, EventId, InboxId
from inboxd.outbox import Once
from inboxd.services import Services
from inboxd.store import connectors, events

_log = logs.logger("api")


async def create(services: Services, query: InboxQuery, body: CreateConnectorOptions) -> ConnectorDto:
    """Make a connector on the inbox named, or on a new one."""
    return await _create(services, query, CreateConnectorWithOptions(create_connector_options=body))


async def create_with_options(services: Services, query: InboxQuery, body: CreateConnectorWithOptions) -> ConnectorDto:
    """Make a connector with all that belongs to it; nothing is kept when any part cannot be used."""
    return await _create(services, query, body)


async def _create(services: Services, query: InboxQuery, body: CreateConnectorWithOptions) -> ConnectorDto:
    options, sync = body.create_connector_options, body.create_connector_sync_settings_options
    wishes, inbox = body.wishes(), options.inbox()
    connector = options.connector(InboxId(query.inbox_id) if query.inbox_id is not None else inbox.id)
    await connectors.add(
        services.store,
        connector,
        inbox=inbox if query.inbox_id is None else None,
        connections=[await created(services, wish, connector.id) for wish in wishes],
        sync=sync.sync_settings(connector.id) if sync is not None else None,
    )
    kinds = [wish.kind.value for wish in wishes]
    _log.info(
        "connector_created", connector=str(connector.id), name=connector.name, connections=kinds, sync=sync is not None
    )
    services.roster.refresh(connector.id)
    return ConnectorDto.of(connector, services.user_id)


async def get_all(services: Services, query: PageQuery) -> PageConnector:
    """A page of all connectors."""
    window = query.window()
    page = await connectors.page(services.store, window)
    return PageConnector.of(window, page, partial(ConnectorProjection.of, user_id=services.user_id))


async def get(services: Services, id: ConnectorId) -> ConnectorDto:
    """One connector."""
    return ConnectorDto.of(await connectors.get(services.store, id), services.user_id)


async def update(services: Services, id: ConnectorId, body: CreateConnectorOptions) -> ConnectorDto:
    """Change what was given; effective at once."""
    connector = body.changed(await connectors.get(services.store, id))
    await connectors.update(services.store, connector)
    _log.info("connector_changed", connector=str(id), name=connector.name, enabled=connector.enabled)
    services.roster.refresh(id)
    return ConnectorDto.of(connector, services.user_id)


async def delete(services: Services, id: ConnectorId) -> None:
    """Delete a connector; its inbox and mails stay."""
    await connectors.remove(services.store, id)
    _log.info("connector_deleted", connector=str(id))
    services.roster.forget(id)


async def delete_all(services: Services) -> None:
    """Delete all connectors; their inboxes and mails stay."""
    for connector_id in await connectors.remove_all(services.store):
        _log.info("connector_deleted", connector=str(connector_id))
        services.roster.forget(connector_id)


async def get_by_name(services: Services, query: ByNameQuery) -> OptionalConnectorDto:
    """The connector of that name."""
    return _optional(services, await connectors.find(services.store, name=query.name))


async def get_by_inbox(services: Services, query: ByInboxQuery) -> OptionalConnectorDto:
    """The connector of that inbox."""
    return _optional(services, await connectors.find(services.store, inbox_id=InboxId(query.inbox_id)))


async def get_by_address(services: Services, query: ByAddressQuery) -> OptionalConnectorDto:
    """The connector of that mail address."""
    return _optional(services, await connectors.find(services.store, email_address=query.email_address))


def _optional(services: Services, connector: Connector | None) -> OptionalConnectorDto:
    if connector is None:
        return OptionalConnectorDto(present=False)
    return OptionalConnectorDto(present=True, result=ConnectorDto.of(connector, services.user_id))


async def get_provider_settings(services: Services) -> ConnectorProviderSettingsDto:  # noqa: ARG001
    """The presets of the two providers MailSlurp knows."""
    return ConnectorProviderSettingsDto()


async def create_sync_settings(
    services: Services, id: ConnectorId, body: CreateConnectorSyncSettingsOptions
) -> ConnectorSyncSettingsDto:
    """Make these the connector's sync settings; effective at once."""
    settings = body.sync_settings(id)
    await connectors.put_sync_settings(services.store, settings)
    _log.info(
        "sync_settings_changed", connector=str(id), enabled=settings.enabled, interval_minutes=settings.interval_minutes
    )
    services.roster.refresh(id)
    return ConnectorSyncSettingsDto.of(settings, services.user_id)


async def get_sync_settings(services: Services, id: ConnectorId) -> OptionalConnectorSyncSettingsDto:
    """The connector's sync settings, if it has any."""
    await connectors.get(services.store, id)
    settings = await connectors.sync_settings(services.store, id)
    if settings is None:
        return OptionalConnectorSyncSettingsDto(present=False)
    return OptionalConnectorSyncSettingsDto(
        present=True, result=ConnectorSyncSettingsDto.of(settings, services.user_id)
    )


async def delete_sync_settings(services: Services, id: ConnectorId) -> None:
    """The connector is no longer synced by itself; there need not have been any settings."""
    await connectors.get(services.store, id)
    with suppress(NotFound):
        await connectors.remove_sync_settings(services.store, id)
        _log.info("sync_settings_deleted", connector=str(id))
    services.roster.refresh(id)


async def sync(services: Services, id: ConnectorId, query: SyncQuery) -> ConnectorSyncRequestResult:
    """Sync now; what fails at the mail server is part of the answer."""
    _log.info("sync_asked", connector=str(id))
    report = await sync_now(services, id, since=query.since, mailbox=query.folder or None)
    return ConnectorSyncRequestResult.of(report, logging=query.logging)


async def send_email(
    services: Services, id: ConnectorId, query: SendQuery, body: SendEmailOptions, once: Once | None
) -> SentEmailDto:
    """Send through the connector's SMTP server and answer after it did."""
    draft = await draft_of(services, id, body)
    _log.debug("send_asked", connector=str(id))
    with wire_names():
        sent = await accepting.send(services, id, draft, once=once, use_fallback=query.use_fallback)
    return SentEmailDto.of(sent, services.user_id)


async def get_events(services: Services, id: ConnectorId, query: EventQuery) -> PageConnectorEvents:
    """A page of one connector's events."""
    await connectors.get(services.store, id)
    return await _events(services, query, id)


async def get_all_events(services: Services, query: AllEventsQuery) -> PageConnectorEvents:
    """A page of events, of all connectors when none is named."""
    return await _events(services, query, ConnectorId(query.id) if query.id is not None else None)


async def _events(services: Services, query: EventQuery, id: ConnectorId | None) -> PageConnectorEvents:
    window = query.window()
    page = await events.page(services.store, window, connector_id=id, type=query.event_type)
    return PageConnectorEvents.of(window, page, ConnectorEventProjection.of)


async def get_event(services: Services, id: EventId) -> ConnectorEventDto:
    """One event with its logs."""
    return ConnectorEventDto.whole(await events.get(services.store, id))
