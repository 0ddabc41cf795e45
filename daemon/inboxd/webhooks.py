"""Webhooks as records: who is told of what, what waits to be posted, and how each try ended. Frozen, without I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NewType
from uuid import UUID

from inboxd.mails import Attachment
from inboxd.model import AttachmentId, InboxId, MessageId, Secret

WebhookId = NewType("WebhookId", UUID)
DeliveryId = NewType("DeliveryId", UUID)

# So many failures in a row make a webhook unhealthy; one alone is everyday life.
UNHEALTHY_AFTER: Final = 3


class WebhookEvent(enum.Enum):
    """MailSlurp's webhook events. Those outside FIRING belong to products that are not here, and never happen."""

    EMAIL_RECEIVED = "EMAIL_RECEIVED"
    NEW_EMAIL = "NEW_EMAIL"
    NEW_ATTACHMENT = "NEW_ATTACHMENT"
    EMAIL_READ = "EMAIL_READ"
    EMAIL_OPENED = "EMAIL_OPENED"
    NEW_CONTACT = "NEW_CONTACT"
    NEW_AI_TRANSFORM_RESULT = "NEW_AI_TRANSFORM_RESULT"
    DELIVERY_STATUS = "DELIVERY_STATUS"
    BOUNCE = "BOUNCE"
    BOUNCE_RECIPIENT = "BOUNCE_RECIPIENT"
    NEW_SMS = "NEW_SMS"
    NEW_GUEST_USER = "NEW_GUEST_USER"


FIRING: Final = (
    WebhookEvent.EMAIL_RECEIVED,
    WebhookEvent.NEW_EMAIL,
    WebhookEvent.NEW_ATTACHMENT,
    WebhookEvent.EMAIL_READ,
)


class ResultType(enum.Enum):
    """How a try ended. EXCEPTION: no answer; EXHAUSTED: the last try failed, no other follows."""

    SUCCESS = "SUCCESS"
    BAD_RESPONSE = "BAD_RESPONSE"
    EXCEPTION = "EXCEPTION"
    EXHAUSTED = "EXHAUSTED"
    REDRIVEN = "REDRIVEN"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told of what; of every inbox when `inbox_id` is None. What is sealed is ciphertext (see vault).

    `failures` counts the tries that failed since the last good one. `use_static_ip_range` is kept and has no effect.
    """

    id: WebhookId
    created_at: datetime
    updated_at: datetime
    url: str
    event: WebhookEvent
    inbox_id: InboxId | None = None
    name: str | None = None
    username: str | None = None
    sealed_password: bytes | None = None
    header_names: tuple[str, ...] = ()
    sealed_headers: bytes | None = None
    verify_tls: bool = True
    use_static_ip_range: bool = False
    tags: tuple[str, ...] = ()
    enabled: bool = True
    failures: int = 0

    @property
    def healthy(self) -> bool:
        """Whether the last tries did not all fail."""
        return self.failures < UNHEALTHY_AFTER


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a webhook's requests carry beside the mail's facts: the basic-auth password, and headers by name."""

    password: Secret | None = None
    headers: tuple[tuple[str, Secret], ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing that happened and is to be posted: a snapshot, so that every try has the same body.

    `attachments`: all of a new mail's, or the one that NEW_ATTACHMENT is about. `attempts` counts the tries so far.
    """

    id: DeliveryId
    webhook_id: WebhookId
    webhook_name: str | None
    event: WebhookEvent
    inbox_id: InboxId
    message_id: MessageId
    created_at: datetime
    due_at: datetime
    attempts: int = 0
    sender: str | None = None
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    subject: str | None = None
    attachments: tuple[Attachment, ...] = ()

    @property
    def attachment_id(self) -> AttachmentId | None:
        """The attachment it is about, if it is about one."""
        return self.attachments[0].id if self.event is WebhookEvent.NEW_ATTACHMENT else None


@dataclass(frozen=True, slots=True)
class Result:
    """How one try ended. `extract`: the beginning of the receiver's answer, or why there was none."""

    id: UUID
    webhook_id: WebhookId
    delivery_id: DeliveryId
    created_at: datetime
    type: ResultType
    event: WebhookEvent
    url: str
    status: int | None
    milliseconds: int
    extract: str
    inbox_id: InboxId
    message_id: MessageId
    attachment_id: AttachmentId | None = None


@dataclass(frozen=True, slots=True)
class WebhookFilter:
    """Which webhooks are wanted; empty fields do not filter. `account_wide`: those of no inbox beside the inbox's."""

    inbox_id: InboxId | None = None
    account_wide: bool = False
    search: str | None = None
    healthy: bool | None = None
    event: WebhookEvent | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class ResultFilter:
    """Which results of a webhook are wanted; empty fields do not filter. Statuses: from and up to, both included."""

    search: str | None = None
    type: ResultType | None = None
    event: WebhookEvent | None = None
    least_status: int | None = None
    most_status: int | None = None
    inbox_id: InboxId | None = None
    message_id: MessageId | None = None
    attachment_id: AttachmentId | None = None
