"""Mails on their way out: what is kept of each from its acceptance to its outcome. Frozen, without I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NewType
from uuid import UUID

from inboxd.mails import Sent
from inboxd.model import ConnectorId, MessageId, SentId, SentState

# What a mail goes through: its connector's own SMTP server, or the operator's relay.
RouteId = NewType("RouteId", UUID)
RELAY: Final = RouteId(UUID(int=0))
# The topic under which those who work on the outbox are told to look.
WORK: Final = UUID(int=1)

# Nothing more happens to these by itself; to UNKNOWN, only what the resolver finds.
SETTLED: Final = frozenset({SentState.SENT, SentState.FAILED, SentState.UNKNOWN, SentState.CANCELLED})
WAITING: Final = frozenset({SentState.QUEUED, SentState.DEFERRED})


class Delivery(enum.Enum):
    """What became of one recipient. UNKNOWN: taken by RCPT, then the answer to the mail was lost."""

    PENDING = "pending"
    DEFERRED = "deferred"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    BOUNCED = "bounced"


class Chore(enum.Enum):
    """What is done over IMAP after a send: file the copy, look for a mail of unknown outcome, set \\Answered."""

    FILE = "file"
    RESOLVE = "resolve"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A server's reply to one recipient that was not 2xx; `words` begins with the code."""

    code: int
    words: str

    @property
    def temporary(self) -> bool:
        """Whether another try may help (4xx)."""
        return self.code // 100 == 4


@dataclass(frozen=True, slots=True)
class Dsn:
    """What delivery notices are asked for (RFC 3461): `notify` of SUCCESS, FAILURE, DELAY, or NEVER alone.

    `whole`: notices shall carry the whole mail, not its header alone.
    """

    notify: tuple[str, ...]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Once:
    """An idempotency key, and what was asked for under it: the SHA-256 of the operation with all it was given."""

    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Order:
    """A mail to be accepted: everything about it is fixed. `recipients` is the whole envelope, each address once.

    `answers` is the received mail that this one replies to.
    """

    sent: Sent
    raw: bytes
    sender: str
    recipients: tuple[str, ...]
    expires_at: datetime
    route: RouteId
    use_fallback: bool = False
    dsn: Dsn | None = None
    answers: MessageId | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A mail claimed for one try. `recipients` are those still to be reached, `attempts` the tries before this one.

    `partly`: a recipient has the mail since an earlier try.
    """

    id: SentId
    connector_id: ConnectorId | None
    route: RouteId
    sender: str
    recipients: tuple[str, ...]
    raw: bytes
    attempts: int
    created_at: datetime
    expires_at: datetime
    use_fallback: bool = False
    dsn: Dsn | None = None
    answers: MessageId | None = None
    partly: bool = False


@dataclass(frozen=True, slots=True)
class Try:
    """One try: where it went, how far it came (`stage` as in MailServerError), what ended it, in the server's words.

    `kind` is the name of the error's class, "" when the server took the mail.
    """

    began_at: datetime
    ended_at: datetime
    host: str
    stage: str
    kind: str
    reply: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a try changes. `recipients` holds those about whom something was learnt, with the words about each.

    `due_at`: when the next try is, for QUEUED and DEFERRED. `route`: where the next one goes, when that changes.
    `chores` begin with this verdict, at `chores_due_at` or at once. `logs` is the masked transcript of the try.
    """

    id: SentId
    state: SentState
    tried: Try
    recipients: dict[str, tuple[Delivery, str]] = field(default_factory=dict[str, tuple[Delivery, str]])
    due_at: datetime | None = None
    route: RouteId | None = None
    chores: tuple[Chore, ...] = ()
    chores_due_at: datetime | None = None
    logs: str = ""


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient and what became of it; `reply` holds the words of whoever said so."""

    address: str
    state: Delivery
    reply: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """A mail in the outbox, in its list. `kind`, `stage` and `reply` are those of the last try."""

    id: SentId
    connector_id: ConnectorId | None
    route: RouteId
    state: SentState
    created_at: datetime
    due_at: datetime
    expires_at: datetime
    attempts: int
    kind: str
    stage: str
    reply: str | None
    subject: str | None
    sender: str
    header_message_id: str
    size_bytes: int
    to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A mail in the outbox with its recipients, tries (oldest first) and the chores that are still open."""

    entry: Entry
    recipients: tuple[Recipient, ...]
    tries: tuple[Try, ...]
    chores: tuple[Chore, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """A chore that is due, with what it needs to know. `sent_after`: no earlier copy can be in a mailbox.

    `self_addressed`: the mail goes to the connector's own address, too. `answers`: mailbox, UIDVALIDITY and UID of the
    mail that this one answered, None when that is not kept any more. `smtp_host`: where the last try went. `ambiguous`:
    an earlier try has reached some of the recipients, so that a copy says nothing about the last one.
    """

    sent_id: SentId
    connector_id: ConnectorId
    chore: Chore
    attempts: int
    created_at: datetime
    header_message_id: str
    smtp_host: str
    sent_after: datetime
    self_addressed: bool
    answers: tuple[str, int, int] | None = None
    ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Census:
    """How many mails are in each state, and since when the oldest of those that wait has been there.

    SENT and CANCELLED are left out: they are many, and counting goes through them all.
    """

    counts: dict[SentState, int]
    oldest_waiting: datetime | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A mail that is in the outbox now; not `fresh` when an idempotency key has found it there."""

    id: SentId
    fresh: bool
