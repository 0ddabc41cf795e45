"""The control socket's own models: what inboxctl shows and sends."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field

from inboxd.api.wire.connectors import ConnectorEventDto, ConnectorEventProjection, ConnectorSyncRequestResult
from inboxd.api.wire.declared import MistakeDto
from inboxd.api.wire.outbox import OutboxCensus
from inboxd.api.wire.sending import Lines
from inboxd.api.wire.shapes import Answer, Date, Line, PageOf, Request, Sparse
from inboxd.mails import Message
from inboxd.model import ApiKey, Connector, DayBudget, Event, Kind, Progress, Scope, State, Status, Step
from inboxd.outbox import Dsn


def _bytes(given: object) -> object:
    if not isinstance(given, str):
        raise ValueError("write the file's bytes in base64")  # noqa: TRY004
    try:
        return base64.b64decode(given, validate=True)
    except binascii.Error as error:
        raise ValueError("is not base64") from error


def _mime_type(text: str) -> str:
    if not re.fullmatch(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+", text, re.ASCII):
        raise ValueError("write a MIME type, for example application/pdf")
    return text


class InlineAttachment(Request):
    """A file to attach, its bytes in base64."""

    name: Line
    content_type: Annotated[str, AfterValidator(_mime_type)] = "application/octet-stream"
    content: Annotated[bytes, BeforeValidator(_bytes), Field(validation_alias="base64")]


def _never_alone(notify: list[str]) -> list[str]:
    if "NEVER" in notify and len(set(notify)) > 1:
        raise ValueError("NEVER goes with nothing else")
    return notify


class DsnOptions(Request):
    """What delivery notices are asked for (RFC 3461). `whole`: with the whole mail, not its header alone."""

    notify: Annotated[
        list[Literal["SUCCESS", "FAILURE", "DELAY", "NEVER"]], Field(min_length=1), AfterValidator(_never_alone)
    ]
    whole: bool = False

    def wanted(self) -> Dsn:
        """The same as the outbox keeps it."""
        return Dsn(tuple(dict.fromkeys(self.notify)), self.whole)


class ControlSend(Request):
    """A mail to send; the sender is the connector's address unless `from` says another.

    `use_fallback`: through the operator's relay when the connector's own server cannot be used. Without `wait` the
    answer comes once the mail is in the outbox.
    """

    to: Annotated[Lines, Field(min_length=1)]
    from_: Annotated[Line | None, Field(validation_alias="from", serialization_alias="from")] = None
    cc: Lines = Field(default_factory=list[str])
    bcc: Lines = Field(default_factory=list[str])
    subject: Line | None = None
    text: str | None = None
    html: str | None = None
    reply_to: Line | None = None
    attachments: list[InlineAttachment] = Field(default_factory=list[InlineAttachment])
    dsn: DsnOptions | None = None
    use_fallback: bool = False
    wait: bool = True


class WatchQuery(Request):
    connector_id: UUID | None = None


class ProbeQuery(Request):
    kind: Literal["imap", "smtp", "both"] = "both"
    roundtrip: bool = False
    seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0

    def kinds(self) -> tuple[Kind, ...]:
        """The connections to test."""
        return tuple(Kind) if self.kind == "both" else (Kind(self.kind),)


class NewKey(Request):
    """`scopes`: all of them when none are named; `inbox_id`: the one inbox it is good for, else all."""

    name: Annotated[Line, Field(min_length=1, max_length=200)]
    scopes: Annotated[list[Scope], Field(min_length=1)] = Field(default_factory=lambda: list(Scope))
    inbox_id: UUID | None = None


class ProgressDto(Answer):
    done: int
    total: int
    received_bytes: int
    backfill: bool
    messages_per_second: float
    bytes_per_second: float
    eta_seconds: float | None

    @classmethod
    def of(cls, progress: Progress) -> Self:
        """The wire form of a sync's progress."""
        return cls(
            done=progress.done,
            total=progress.total,
            received_bytes=progress.received_bytes,
            backfill=progress.backfill,
            messages_per_second=progress.messages_per_second,
            bytes_per_second=progress.bytes_per_second,
            eta_seconds=progress.eta_seconds,
        )


class BudgetDto(Answer):
    """What the connector's account has downloaded in 24 hours, of what it may; until when its first load rests."""

    used_bytes: int
    limit_bytes: int
    resumes_at: Date | None

    @classmethod
    def of(cls, budget: DayBudget) -> Self:
        """The wire form of a day's budget."""
        return cls(used_bytes=budget.used_bytes, limit_bytes=budget.limit_bytes, resumes_at=budget.resumes_at)


class ConnectorStatus(Answer):
    """A connector and what its supervisor is doing; `declared`: the file that says how it is to be."""

    id: UUID
    name: str | None
    email_address: str | None
    inbox_id: UUID
    enabled: bool
    state: State
    reason: str | None
    since: Date
    last_sync_at: Date | None
    last_server_activity_at: Date | None
    retry_at: Date | None
    failures: int
    messages: int
    progress: ProgressDto | None
    declared: str | None
    budget: BudgetDto | None

    @classmethod
    def of(cls, connector: Connector, status: Status, messages: int) -> Self:
        """The wire form of a connector's state; `messages` is how many its inbox holds."""
        return cls(
            id=connector.id,
            name=connector.name,
            email_address=connector.email_address,
            inbox_id=connector.inbox_id,
            enabled=connector.enabled,
            state=status.state,
            reason=status.reason,
            since=status.since,
            last_sync_at=status.last_sync_at,
            last_server_activity_at=status.last_activity_at,
            retry_at=status.retry_at,
            failures=status.failures,
            messages=messages,
            progress=ProgressDto.of(status.progress) if status.progress else None,
            declared=connector.declared,
            budget=BudgetDto.of(status.budget) if status.budget else None,
        )


class ControlStatus(Answer):
    """The daemon at a glance; addresses as configured, the store's URL without its password.

    `mistakes` are those in the files that declare connectors.
    """

    version: str
    pid: int
    uptime_seconds: float
    api: str
    metrics: str
    state_dir: str
    store: str
    outbox: OutboxCensus
    mistakes: list[MistakeDto]
    connectors: list[ConnectorStatus]


class Arrival(Answer):
    """A new message, as `inboxctl watch` shows it."""

    id: UUID
    inbox_id: UUID
    connector_id: UUID | None
    connector_name: str | None
    from_: Annotated[str | None, Field(validation_alias="from", serialization_alias="from")]
    subject: str | None
    labels: list[str]
    size_bytes: int
    received_at: Date | None
    stored_at: Date

    @classmethod
    def of(cls, message: Message, connector_name: str | None) -> Self:
        """The wire form of a message just stored."""
        return cls(
            id=message.id,
            inbox_id=message.inbox_id,
            connector_id=message.connector_id,
            connector_name=connector_name,
            from_=message.digest.sender.address if message.digest.sender else None,
            subject=message.digest.subject,
            labels=list(message.labels),
            size_bytes=message.size_bytes,
            received_at=message.received_at,
            stored_at=message.created_at,
        )


class MailPlace(Answer):
    """Where a mail lies in its external mailbox, and what it is marked with there: flags, and Gmail's labels."""

    id: UUID
    connector_id: UUID | None
    mailbox: str | None
    uid: int | None
    flags: list[str]
    labels: list[str]

    @classmethod
    def of(cls, message: Message) -> Self:
        """What MailSlurp's form of a mail has no room for."""
        return cls(
            id=message.id,
            connector_id=message.connector_id,
            mailbox=message.mailbox,
            uid=message.uid,
            flags=list(message.flags),
            labels=list(message.labels),
        )


class TimedEvent(ConnectorEventProjection):
    """An event in a list, with what MailSlurp's form of it has no room for: how long it took, null where that is
    unknown.
    """

    seconds: float | None = None

    @classmethod
    def of(cls, event: Event) -> Self:
        """The wire form of an event in a list."""
        return super().of(event).model_copy(update={"seconds": _seconds(event)})


class TimedEventDto(ConnectorEventDto):
    """One event with its logs and how long it took, likewise."""

    seconds: float | None = None

    @classmethod
    def of(cls, event: Event) -> Self:
        """The wire form of one event, without its logs."""
        return super().of(event).model_copy(update={"seconds": _seconds(event)})


def _seconds(event: Event) -> float | None:
    return None if event.duration is None else event.duration.total_seconds()


class PageTimedEvents(PageOf[TimedEvent]):
    pass


class SyncLine(Sparse):
    """A line of a running sync: its progress, at the end its result, or the error that ended it."""

    progress: ProgressDto | None = None
    result: ConnectorSyncRequestResult | None = None


class StepLine(Answer):
    """A step of a connection test, or of the mail that was sent to and fro after it."""

    kind: Literal["imap", "smtp", "roundtrip"]
    name: str
    ok: bool
    seconds: float
    detail: str
    cause: str
    fix: str
    diagnosis: str

    @classmethod
    def of(cls, kind: Kind | None, step: Step) -> Self:
        """The wire form of a step; None is the round trip."""
        return cls(
            kind=kind.value if kind is not None else "roundtrip",
            name=step.name,
            ok=step.ok,
            seconds=step.seconds,
            detail=step.detail,
            cause=step.cause,
            fix=step.fix,
            diagnosis=step.diagnosis,
        )


class KeyDto(Answer):
    """An API key without its secret."""

    id: str
    name: str
    created_at: Date
    last_used_at: Date | None
    revoked_at: Date | None
    scopes: list[Scope]
    inbox_id: UUID | None

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """The wire form of a key."""
        return cls(
            id=key.id,
            name=key.name,
            created_at=key.created_at,
            last_used_at=key.last_used_at,
            revoked_at=key.revoked_at,
            scopes=[scope for scope in Scope if scope in key.scopes],
            inbox_id=key.inbox_id,
        )


class CreatedKey(Answer):
    """A new API key, whole: the one time it is shown."""

    id: str
    name: str
    key: str
    created_at: Date
    scopes: list[Scope]
    inbox_id: UUID | None
