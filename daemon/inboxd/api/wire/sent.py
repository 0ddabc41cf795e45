"""SentEmailsController: mails that were sent, or that their server refused."""

from __future__ import annotations

import html
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field

from inboxd.api.wire.emails import body_hash, without_brackets
from inboxd.api.wire.shapes import Answer, Date, EmailRecipients, PageOf, PageQuery, Recipient, Sender
from inboxd.mails import Sent
from inboxd.model import InboxId


class InboxSentQuery(PageQuery):
    """Which page of an inbox's sent mails is wanted."""

    search_filter: str | None = None


class SentQuery(InboxSentQuery):
    """Which page of sent mails is wanted, of all inboxes when none is named."""

    inbox_id: UUID | None = None

    def inbox(self) -> InboxId | None:
        """The inbox named."""
        return InboxId(self.inbox_id) if self.inbox_id is not None else None


class SentHeadline(Answer):
    """What every form of a sent mail shows."""

    id: UUID
    user_id: UUID
    inbox_id: UUID
    thread_id: UUID | None = None
    subject: str | None
    to: list[str]
    from_: Annotated[str | None, Field(validation_alias="from", serialization_alias="from")]
    cc: list[str]
    bcc: list[str]
    sender: Sender
    recipients: EmailRecipients
    attachments: list[str]
    created_at: Date
    message_id: str | None
    in_reply_to: str | None
    text_excerpt: str | None
    body_excerpt: str | None
    virtual_send: bool = False


def _headline(sent: Sent, user_id: UUID) -> dict[str, Any]:
    to, cc, bcc = ([Recipient.read(text) for text in group] for group in (sent.to, sent.cc, sent.bcc))
    return {
        "id": sent.id,
        "user_id": user_id,
        "inbox_id": sent.inbox_id,
        "subject": sent.subject,
        "to": [person.email_address for person in to],
        "from_": sent.sender.address,
        "cc": [person.email_address for person in cc],
        "bcc": [person.email_address for person in bcc],
        "sender": Sender.of(sent.sender),
        "recipients": EmailRecipients(to=to, cc=cc, bcc=bcc),
        "attachments": list(sent.attachments),
        "created_at": sent.created_at,
        "message_id": without_brackets(sent.header_message_id),
        "in_reply_to": without_brackets(sent.in_reply_to),
        "text_excerpt": sent.excerpt,
        "body_excerpt": sent.excerpt,
    }


class SentEmailProjection(SentHeadline):
    """A sent mail in a list."""

    body_md5_hash: Annotated[str | None, Field(serialization_alias="bodyMD5Hash")] = None

    @classmethod
    def of(cls, sent: Sent, user_id: UUID) -> Self:
        """The wire form of a sent mail."""
        return cls(**_headline(sent, user_id))


class PageSentEmailProjection(PageOf[SentEmailProjection]):
    pass


class SentEmailDto(SentHeadline):
    """A sent mail. As long as it is on its way, `sent_at` is when it was accepted."""

    domain_id: UUID | None = None
    reply_to: str | None
    body_md5_hash: Annotated[str | None, Field(serialization_alias="bodyMD5Hash")]
    body: str | None
    is_html: Annotated[bool, Field(serialization_alias="isHTML")]
    html: bool
    charset: str = "utf-8"
    sent_at: Date
    message_ids: list[str]
    size_bytes: int
    to_contacts: list[UUID] | None = None
    to_group: UUID | None = None
    pixel_ids: list[UUID] | None = None
    template_id: UUID | None = None
    template_variables: dict[str, str] | None = None
    headers: dict[str, str] | None = None
    favourite: bool | None = None
    transport: Literal["PUBLIC_EMAIL"] = "PUBLIC_EMAIL"

    @classmethod
    def of(cls, sent: Sent, user_id: UUID) -> Self:
        """The wire form of a sent mail."""
        shared = _headline(sent, user_id)
        return cls(
            **shared,
            reply_to=Recipient.read(sent.reply_to).email_address if sent.reply_to else None,
            body_md5_hash=body_hash(sent.body),
            body=sent.body,
            is_html=sent.is_html,
            html=sent.is_html,
            sent_at=sent.sent_at or sent.created_at,
            message_ids=[shared["message_id"]],
            size_bytes=sent.size_bytes,
        )


def html_of(sent: Sent) -> str:
    """The sent mail's body as HTML: its own, or its text as it was typed."""
    body = sent.body or ""
    return body if sent.is_html else f'<pre style="white-space: pre-wrap">{html.escape(body)}</pre>'
