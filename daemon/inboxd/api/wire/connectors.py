"""ConnectorController: connectors, sync settings, syncs, events, provider settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Self
from uuid import UUID, uuid4

from pydantic import Field

from inboxd.api.wire.connections import (
    CreateConnectorImapConnectionOptions,
    CreateConnectorSmtpConnectionOptions,
)
from inboxd.api.wire.shapes import Answer, Date, Line, MailAddress, PageOf, PageQuery, Request, Sparse
from inboxd.api.wire.wishes import Wish
from inboxd.model import (
    Connector,
    ConnectorId,
    Event,
    EventStatus,
    EventType,
    Inbox,
    InboxId,
    SyncReport,
    SyncSettings,
    Tls,
    utc_now,
)
from inboxd.providers import GOOGLE, MICROSOFT, Provider

LOCAL_DOMAIN = "inboxd.local"
_MOST_MINUTES = 60 * 24 * 366


class CreateConnectorOptions(Request):
    """A connector's own fields; in PUT an absent one keeps its value."""

    name: Line | None = None
    email_address: MailAddress | None = None
    enabled: bool | None = None

    def connector(self, inbox_id: InboxId, declared: str | None = None) -> Connector:
        """The new connector on `inbox_id`; `declared`: by which file."""
        return Connector(
            id=ConnectorId(uuid4()),
            inbox_id=inbox_id,
            name=self.name or None,
            email_address=self.email_address,
            enabled=self.enabled is not False,
            created_at=utc_now(),
            declared=declared,
        )

    def inbox(self) -> Inbox:
        """The inbox made for a new connector that was given none."""
        identity = InboxId(uuid4())
        return Inbox(
            id=identity,
            email_address=self.email_address or f"{identity}@{LOCAL_DOMAIN}",
            created_at=utc_now(),
            name=self.name or None,
        )

    def changed(self, stored: Connector) -> Connector:
        """The stored connector with what was given."""
        return replace(
            stored,
            name=stored.name if self.name is None else self.name or None,
            email_address=self.email_address or stored.email_address,
            enabled=stored.enabled if self.enabled is None else self.enabled,
        )


class CreateConnectorSyncSettingsOptions(Request):
    """When a connector is synced by itself; the interval is in minutes."""

    sync_enabled: bool | None = None
    sync_schedule_type: Literal["INTERVAL"] | None = None
    sync_interval: Annotated[int, Field(ge=1, le=_MOST_MINUTES)] | None = None

    def sync_settings(self, connector_id: ConnectorId) -> SyncSettings:
        """The settings to store; they are enabled unless it says otherwise."""
        return SyncSettings(uuid4(), connector_id, self.sync_enabled is not False, self.sync_interval)


class CreateConnectorWithOptions(Request):
    """A connector with all that belongs to it."""

    create_connector_options: CreateConnectorOptions
    create_connector_imap_connection_options: CreateConnectorImapConnectionOptions | None = None
    create_connector_smtp_connection_options: CreateConnectorSmtpConnectionOptions | None = None
    create_connector_sync_settings_options: CreateConnectorSyncSettingsOptions | None = None

    def local_fields(self) -> tuple[str, ...]:
        """As its connections say."""
        given = (self.create_connector_imap_connection_options, self.create_connector_smtp_connection_options)
        return tuple(name for options in given if options is not None for name in options.local_fields())

    def wishes(self) -> list[Wish]:
        """The connections it asks for."""
        given = (self.create_connector_imap_connection_options, self.create_connector_smtp_connection_options)
        return [options.wish() for options in given if options is not None]


class InboxQuery(Request):
    """The existing inbox a new connector is attached to."""

    inbox_id: UUID | None = None


class ByNameQuery(Request):
    name: str


class ByInboxQuery(Request):
    inbox_id: UUID


class ByAddressQuery(Request):
    email_address: str


class SyncQuery(Request):
    """`since`: only mail since then, in this call alone. `folder`: another mailbox than the connection's."""

    since: Date | None = None
    folder: Line | None = None
    logging: bool = False


class EventQuery(PageQuery):
    event_type: EventType | None = None


class AllEventsQuery(EventQuery):
    id: UUID | None = None


class SendQuery(Request):
    """`use_fallback` takes effect where the operator has configured a relay."""

    use_fallback: bool = False


class ConnectorDto(Answer):
    id: UUID
    name: str | None
    enabled: bool
    email_address: str | None
    user_id: UUID
    inbox_id: UUID
    created_at: Date

    @classmethod
    def of(cls, connector: Connector, user_id: UUID) -> Self:
        """The wire form of a connector."""
        return cls(
            id=connector.id,
            name=connector.name,
            enabled=connector.enabled,
            email_address=connector.email_address,
            user_id=user_id,
            inbox_id=connector.inbox_id,
            created_at=connector.created_at,
        )


class ConnectorProjection(ConnectorDto):
    """A connector in a list."""


class PageConnector(PageOf[ConnectorProjection]):
    pass


class OptionalConnectorDto(Sparse):
    present: bool
    result: ConnectorDto | None = None


class ConnectorSyncSettingsDto(Answer):
    id: UUID
    user_id: UUID
    connector_id: UUID
    sync_enabled: bool
    sync_schedule_type: Literal["INTERVAL"] = "INTERVAL"
    sync_interval: int | None

    @classmethod
    def of(cls, settings: SyncSettings, user_id: UUID) -> Self:
        """The wire form of sync settings."""
        return cls(
            id=settings.id,
            user_id=user_id,
            connector_id=settings.connector_id,
            sync_enabled=settings.enabled,
            sync_interval=settings.interval_minutes,
        )


class OptionalConnectorSyncSettingsDto(Sparse):
    present: bool
    result: ConnectorSyncSettingsDto | None = None


class ConnectorSyncResult(Answer):
    """How many mails came, and the ids of the first 10,000 of them."""

    email_sync_count: int
    logs: list[str]
    email_ids: list[UUID]


class ConnectorSyncRequestResult(Sparse):
    """Either `sync_result`, or `exception` saying why there is none."""

    sync_result: ConnectorSyncResult | None = None
    exception: str | None = None
    event_id: UUID | None = None

    @classmethod
    def of(cls, report: SyncReport, *, logging: bool) -> Self:
        """The wire form of a sync; its logs only when asked for."""
        if report.error is not None:
            return cls(exception=report.error, event_id=report.event_id)
        result = ConnectorSyncResult(
            email_sync_count=report.count,
            logs=list(report.logs) if logging else [],
            email_ids=list(report.stored),
        )
        return cls(sync_result=result, event_id=report.event_id)


class ConnectorEventProjection(Answer):
    """An event in a list: without its logs."""

    id: UUID
    connector_id: UUID
    event_type: EventType
    status: EventStatus
    size: int
    message: str | None
    seen: bool
    created_at: Date

    @classmethod
    def of(cls, event: Event) -> Self:
        """The wire form of an event in a list."""
        return cls(
            id=event.id,
            connector_id=event.connector_id,
            event_type=event.type,
            status=event.status,
            size=event.size,
            message=event.message,
            seen=event.seen,
            created_at=event.created_at,
        )


class ConnectorEventDto(ConnectorEventProjection):
    """One event with its logs, one string."""

    logs: str | None = None

    @classmethod
    def whole(cls, event: Event) -> Self:
        """The wire form of one event."""
        return cls.of(event).model_copy(update={"logs": event.logs})


class PageConnectorEvents(PageOf[ConnectorEventProjection]):
    pass


class ProviderSettings(Answer):
    mail_provider: str
    imap_host: str
    imap_port: int
    imap_ssl: bool
    imap_start_tls: bool
    smtp_host: str
    smtp_port: int
    smtp_ssl: bool
    smtp_start_tls: bool

    @classmethod
    def of(cls, provider: Provider) -> Self:
        """The wire form of a provider. MailSlurp says StartTLS true for every SMTP row, the implicit one included."""
        return cls(
            mail_provider=provider.name,
            imap_host=provider.imap.host,
            imap_port=provider.imap.port,
            imap_ssl=provider.imap.tls is Tls.IMPLICIT,
            imap_start_tls=provider.imap.tls is Tls.STARTTLS,
            smtp_host=provider.smtp.host,
            smtp_port=provider.smtp.port,
            smtp_ssl=provider.smtp.tls is Tls.IMPLICIT,
            smtp_start_tls=provider.smtp.tls is not Tls.NONE,
        )


class ConnectorProviderSettingsDto(Answer):
    google_settings: ProviderSettings = ProviderSettings.of(GOOGLE)
    microsoft_settings: ProviderSettings = ProviderSettings.of(MICROSOFT)
