"""The outbox on the control socket: what waits, what was tried, what came of it."""

from __future__ import annotations

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import Field

from inboxd.api.wire.shapes import Answer, Date, PageOf, PageQuery, Sort, SortOrder
from inboxd.model import ConnectorId, SentState
from inboxd.outbox import RELAY, Census, Chore, Delivery, Entry, Recipient, Record, Try


class OutboxQuery(PageQuery):
    """Which page of the outbox is wanted, the newest first: of all states and connectors when none are named."""

    sort: SortOrder = Sort.DESC
    state: list[SentState] = Field(default_factory=list[SentState])
    connector_id: UUID | None = None

    def connector(self) -> ConnectorId | None:
        """The connector named."""
        return ConnectorId(self.connector_id) if self.connector_id is not None else None


class OutboxEntry(Answer):
    """A mail in the outbox. `due_at`: when it is tried next; `kind`, `stage` and `reply` are the last try's."""

    id: UUID
    connector_id: UUID | None
    relay: bool
    state: SentState
    created_at: Date
    due_at: Date
    expires_at: Date
    attempts: int
    kind: str
    stage: str
    reply: str | None
    subject: str | None
    from_: Annotated[str, Field(validation_alias="from", serialization_alias="from")]
    to: list[str]
    message_id: str
    size_bytes: int

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """The wire form of an entry."""
        return cls(**_fields(entry))


def _fields(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "connector_id": entry.connector_id,
        "relay": entry.route == RELAY,
        "state": entry.state,
        "created_at": entry.created_at,
        "due_at": entry.due_at,
        "expires_at": entry.expires_at,
        "attempts": entry.attempts,
        "kind": entry.kind,
        "stage": entry.stage,
        "reply": entry.reply,
        "subject": entry.subject,
        "from_": entry.sender,
        "to": list(entry.to),
        "message_id": entry.header_message_id,
        "size_bytes": entry.size_bytes,
    }


class PageOutbox(PageOf[OutboxEntry]):
    pass


class OutboxRecipient(Answer):
    """A recipient and what became of it, in the words of whoever said so."""

    address: str
    state: Delivery
    reply: str | None
    updated_at: Date

    @classmethod
    def of(cls, recipient: Recipient) -> Self:
        """The wire form of a recipient."""
        return cls(
            address=recipient.address,
            state=recipient.state,
            reply=recipient.reply,
            updated_at=recipient.updated_at,
        )


class OutboxTry(Answer):
    """One try. `kind` and `stage` say what ended it; `kind` is empty when the server took the mail."""

    began_at: Date
    ended_at: Date
    host: str
    stage: str
    kind: str
    reply: str

    @classmethod
    def of(cls, tried: Try) -> Self:
        """The wire form of a try."""
        return cls(
            began_at=tried.began_at,
            ended_at=tried.ended_at,
            host=tried.host,
            stage=tried.stage,
            kind=tried.kind,
            reply=tried.reply,
        )


class OutboxMail(OutboxEntry):
    """A mail in the outbox with its recipients, its tries, the oldest first, and the chores still open."""

    recipients: list[OutboxRecipient]
    tries: list[OutboxTry]
    chores: list[Chore]

    @classmethod
    def whole(cls, record: Record) -> Self:
        """The wire form of all that is known of a mail."""
        return cls(
            **_fields(record.entry),
            recipients=[OutboxRecipient.of(recipient) for recipient in record.recipients],
            tries=[OutboxTry.of(tried) for tried in record.tries],
            chores=list(record.chores),
        )


class OutboxCensus(Answer):
    """How many mails are in each state, but for those sent and cancelled; since when the oldest waits."""

    counts: dict[SentState, int]
    oldest_waiting: Date | None

    @classmethod
    def of(cls, census: Census) -> Self:
        """The wire form of a census."""
        return cls(counts=census.counts, oldest_waiting=census.oldest_waiting)
