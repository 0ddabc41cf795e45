"""The domain's records: frozen, without I/O. Times are aware datetimes in UTC; sizes are bytes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Generic, NewType, TypeVar
from uuid import UUID

from inboxd.kinds import EventStatus, EventType, InboxFunction, InboxType, Kind, Scope, State
from inboxd.ways import Proxy, ProxyKind, Secret, Tls

T = TypeVar("T")

ConnectorId = NewType("ConnectorId", UUID)
InboxId = NewType("InboxId", UUID)
MessageId = NewType("MessageId", UUID)
AttachmentId = NewType("AttachmentId", UUID)
EventId = NewType("EventId", UUID)
SentId = NewType("SentId", UUID)
KeyId = NewType("KeyId", str)


def utc_now() -> datetime:
    """The wall clock, aware, in UTC."""
    return datetime.now(UTC)


class Trigger(enum.Enum):
    """What made a sync run."""

    DIRECT = "direct"
    PUSH = "push"
    POLL = "poll"
    START = "start"


class SentState(enum.Enum):
    """Where a mail on its way out stands. SENDING: claimed by a sender, which alone may touch it.

    UNKNOWN: the whole mail was handed over and no answer came back; it is not sent again by itself.
    """

    QUEUED = "queued"
    SENDING = "sending"
    DEFERRED = "deferred"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Inbox:
    """A local inbox. From `expires_at` on it does not exist. From a `virtual` one nothing is sent.

    `connected`: whether a connector delivers into it; not a part of the inbox, the store adds it when asked for one.
    """

    id: InboxId
    email_address: str
    created_at: datetime
    name: str | None = None
    description: str | None = None
    favourite: bool = False
    tags: tuple[str, ...] = ()
    expires_at: datetime | None = None
    inbox_type: InboxType = InboxType.HTTP_INBOX
    virtual: bool = False
    connected: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Connector:
    """An external mailbox linked to a local inbox. `declared`: the name of the file that says how it is to be."""

    id: ConnectorId
    inbox_id: InboxId
    name: str | None
    email_address: str | None
    enabled: bool
    created_at: datetime
    declared: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """How a connector's IMAP or SMTP server is reached. What is `sealed` is ciphertext (see vault).

    `ssl_trust`: `*` accepts any certificate, else a comma-separated list of host names whose certificate is accepted
    without verification, or of pins (see `certificates`). `ssl_protocols`: a subset of TLSv1.2, TLSv1.3. `mechanisms`:
    the SASL mechanisms allowed, empty for any. `select_folder`, `search_terms` and `folders` concern IMAP alone: the
    mailbox to read, or with `folders` those to follow (see `imap.choosing`); with `mirror` a mail deleted there is
    deleted here.
    `ca_file`, `client_certificate`, `client_key` are paths of PEM files on this machine, `password_source` says where
    the password is read at each login (see `sources`) instead of `sealed_password`. A proxy that is there but not
    `proxy_enabled` is only remembered.
    `grant_id`: the connector's OAuth2 grant, by whose tokens it then logs in; not a part of the connection, the store
    adds it when asked for one.
    """

    id: UUID
    connector_id: ConnectorId
    kind: Kind
    created_at: datetime
    enabled: bool
    host: str
    port: int
    tls: Tls
    username: str | None = None
    sealed_password: bytes | None = None
    mechanisms: tuple[str, ...] = ()
    local_host_name: str | None = None
    ssl_trust: str | None = None
    ssl_protocols: tuple[str, ...] = ()
    select_folder: str | None = None
    search_terms: str | None = None
    folders: tuple[str, ...] = ()
    mirror: bool = False
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    password_source: str | None = None
    proxy_enabled: bool = False
    proxy_kind: ProxyKind | None = None
    proxy_host: str | None = None
    proxy_port: int | None = None
    proxy_username: str | None = None
    sealed_proxy_password: bytes | None = None
    grant_id: UUID | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """Whether a connector is synced by itself, and its safety-net interval."""

    id: UUID
    connector_id: ConnectorId
    enabled: bool
    interval_minutes: int | None


@dataclass(frozen=True, slots=True)
class Bearer:
    """An OAuth2 access token and the time it is good for."""

    token: Secret
    obtained_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Account:
    """A connection with its password opened: what a worker needs to talk to a server.

    With a `password_source` the password is read there right before the login, by `sources.with_password`.
    With a `grant_id` it logs in by a token of that grant, which is `bearer` once `tokens` has put it there.
    """

    connector_id: ConnectorId | None
    kind: Kind
    host: str
    port: int
    tls: Tls
    username: str
    password: Secret
    mechanisms: tuple[str, ...] = ()
    local_host_name: str | None = None
    ssl_trust: str | None = None
    ssl_protocols: tuple[str, ...] = ()
    select_folder: str = "INBOX"
    search_terms: str | None = None
    folders: tuple[str, ...] = ()
    mirror: bool = False
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    password_source: str | None = None
    proxy: Proxy | None = None
    grant_id: UUID | None = None
    bearer: Bearer | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One sync or send of a connector. `size` counts mails; `logs` is the masked protocol transcript.

    `duration`: of a sync from the begin of the pass to its last commit, of a send that of the try; None where nothing
    was under way, or by an older program.
    """

    id: EventId
    connector_id: ConnectorId
    type: EventType
    status: EventStatus
    size: int
    created_at: datetime
    message: str | None = None
    logs: str | None = None
    seen: bool = False
    duration: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret. It is good for its scopes, in one inbox alone where `inbox_id` names it."""

    id: KeyId
    name: str
    created_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    scopes: frozenset[Scope] = frozenset(Scope)
    inbox_id: InboxId | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows of a list are wanted: a page counted from 0, its size, the order by creation, and a time span."""

    page: int = 0
    size: int = 20
    ascending: bool = True
    since: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list and how many rows the whole list has."""

    rows: tuple[T, ...]
    total: int


@dataclass(frozen=True, slots=True)
class InboxFilter:
    """Which inboxes are wanted; empty fields do not filter. `search`: a part of what names or describes an inbox."""

    favourite_only: bool = False
    search: str | None = None
    tag: str | None = None
    inbox_type: InboxType | None = None
    function: InboxFunction | None = None


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages are wanted; empty fields do not filter. A page holds those of `include` whatever else is asked.

    `search` is held by what is searched through; `sender`, `recipient` and `subject` by those header fields.
    """

    inbox_ids: tuple[InboxId, ...] = ()
    unread_only: bool = False
    favourite_only: bool = False
    search: str | None = None
    include: tuple[MessageId, ...] = ()
    attached_only: bool = False
    sender: str | None = None
    recipient: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class AttachmentFilter:
    """Which attachments are wanted; empty fields do not filter. Those of `include` are wanted whatever else is asked.

    `name` is a part of their name; `sent_id` a sent mail that they were attached to.
    """

    name: str | None = None
    inbox_id: InboxId | None = None
    message_id: MessageId | None = None
    sent_id: SentId | None = None
    include: tuple[AttachmentId, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sync has come: messages stored or passed over, messages planned, raw bytes received.

    `backfill` says that it is, or includes, the mailbox's first load. The rates are those of the last seconds, 0 when
    unknown; `eta_seconds` is how long the others will take at that rate.
    """

    done: int
    total: int
    received_bytes: int
    backfill: bool = False
    messages_per_second: float = 0.0
    bytes_per_second: float = 0.0
    eta_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class DayBudget:
    """What an account has downloaded in 24 hours, of what it may. First loads rest until `resumes_at`, if it is set."""

    used_bytes: int
    limit_bytes: int
    resumes_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What a connector's supervisor is doing. `reason` says why it waits, in the server's words."""

    state: State
    since: datetime
    reason: str | None = None
    last_sync_at: datetime | None = None
    last_activity_at: datetime | None = None
    retry_at: datetime | None = None
    failures: int = 0
    progress: Progress | None = None
    budget: DayBudget | None = None


@dataclass(frozen=True, slots=True)
class SyncReport:
    """How a direct sync went: `count` messages were stored, `stored` are the first 10,000 of them. `error` is set when
    it failed; `logs` is the masked protocol transcript.
    """

    event_id: EventId
    count: int
    stored: tuple[MessageId, ...]
    logs: tuple[str, ...]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """So many of what may be used at most; `limit` is None where no limit is known."""

    used: int
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a connector takes of what it may, None for what is not counted.

    `connections` open and `logins` of the last minute are those of its account at its IMAP server, by whatever
    connector, and so is `received`, bytes of a day. Until `rests_until` its first load rests for the sake of these.
    `sent_in_day` and `sent_in_minute` are mails that its SMTP server took whole. `throttled_until`: its server had
    asked for a pause.
    """

    connections: Share | None = None
    logins: Share | None = None
    received: Share | None = None
    sent_in_day: Share | None = None
    sent_in_minute: Share | None = None
    rests_until: datetime | None = None
    throttled_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a staged connection test. `seconds` is its duration.

    `cause` and `fix` are set when it failed, and so is `diagnosis`, the name of what went wrong.
    """

    name: str
    ok: bool
    seconds: float
    detail: str = ""
    cause: str = ""
    fix: str = ""
    diagnosis: str = ""
