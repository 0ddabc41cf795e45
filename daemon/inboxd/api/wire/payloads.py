"""What webhooks are posted: MailSlurp's payload of each event, its JSON Schema, and a sample."""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated, Final, Self
from uuid import UUID, uuid4

from pydantic import Field

from inboxd.api.wire import codec
from inboxd.api.wire.attachments import AttachmentMetaData
from inboxd.api.wire.shapes import Answer, Date
from inboxd.mails import Attachment
from inboxd.model import AttachmentId, InboxId, MessageId, utc_now
from inboxd.webhooks import Delivery, DeliveryId, Webhook, WebhookEvent


class WebhookPayload(Answer):
    """What every payload says. `message_id` names the delivery, and is the same each time it is tried."""

    message_id: str
    webhook_id: UUID
    event_name: WebhookEvent
    webhook_name: str | None

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """The payload of a delivery."""
        raise NotImplementedError


class WebhookNewEmailPayload(WebhookPayload):
    """A mail has arrived."""

    inbox_id: UUID
    domain_id: UUID | None = None
    email_id: UUID
    created_at: Date
    to: list[str]
    from_: Annotated[str, Field(validation_alias="from", serialization_alias="from")]
    cc: list[str]
    bcc: list[str]
    subject: str | None
    attachment_meta_datas: list[AttachmentMetaData]

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """The payload of a delivery."""
        return cls(
            message_id=str(delivery.id),
            webhook_id=delivery.webhook_id,
            event_name=delivery.event,
            webhook_name=delivery.webhook_name,
            inbox_id=delivery.inbox_id,
            email_id=delivery.message_id,
            created_at=delivery.created_at,
            to=list(delivery.to),
            from_=delivery.sender or "",
            cc=list(delivery.cc),
            bcc=list(delivery.bcc),
            subject=delivery.subject,
            attachment_meta_datas=[AttachmentMetaData.of(attachment) for attachment in delivery.attachments],
        )


class WebhookNewAttachmentPayload(WebhookPayload):
    """A mail with an attachment has arrived; one payload for each attachment."""

    attachment_id: str
    name: str
    content_type: str
    content_length: int

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """The payload of a delivery."""
        attachment = delivery.attachments[0]
        return cls(
            message_id=str(delivery.id),
            webhook_id=delivery.webhook_id,
            event_name=delivery.event,
            webhook_name=delivery.webhook_name,
            attachment_id=str(attachment.id),
            name=attachment.name,
            content_type=attachment.content_type,
            content_length=attachment.size_bytes,
        )


class WebhookEmailReadPayload(WebhookPayload):
    """A mail was marked as read."""

    email_id: UUID
    inbox_id: UUID
    email_is_read: bool
    created_at: Date

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """The payload of a delivery."""
        return cls(
            message_id=str(delivery.id),
            webhook_id=delivery.webhook_id,
            event_name=delivery.event,
            webhook_name=delivery.webhook_name,
            email_id=delivery.message_id,
            inbox_id=delivery.inbox_id,
            email_is_read=True,
            created_at=delivery.created_at,
        )


_PAYLOADS: Final[dict[WebhookEvent, type[WebhookPayload]]] = {
    WebhookEvent.EMAIL_RECEIVED: WebhookNewEmailPayload,
    WebhookEvent.NEW_EMAIL: WebhookNewEmailPayload,
    WebhookEvent.NEW_ATTACHMENT: WebhookNewAttachmentPayload,
    WebhookEvent.EMAIL_READ: WebhookEmailReadPayload,
}


def write_payload(delivery: Delivery) -> bytes:
    """The JSON that is posted."""
    return codec.write(_PAYLOADS[delivery.event].of(delivery))


@cache
def schema_of(event: WebhookEvent) -> str:
    """The JSON Schema of what an event's webhooks are posted."""
    return json.dumps(_PAYLOADS[event].model_json_schema(by_alias=True, mode="serialization"))


def sample_of(webhook: Webhook) -> Delivery:
    """A delivery of the webhook's event about a mail that does not exist."""
    now = utc_now()
    attachment = Attachment(AttachmentId(uuid4()), 0, "sample.txt", "text/plain", 12)
    return Delivery(
        id=DeliveryId(uuid4()),
        webhook_id=webhook.id,
        webhook_name=webhook.name,
        event=webhook.event,
        inbox_id=webhook.inbox_id or InboxId(uuid4()),
        message_id=MessageId(uuid4()),
        created_at=now,
        due_at=now,
        sender="sender@example.com",
        to=("recipient@example.com",),
        subject="A sample of what this webhook is posted",
        attachments=(attachment,),
    )
