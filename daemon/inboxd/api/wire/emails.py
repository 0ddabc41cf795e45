"""EmailController: mails as previews, projections and whole."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import Field

from inboxd.api.wire.shapes import (
    MOST_PAGE,
    Answer,
    Date,
    EmailRecipients,
    MailSize,
    PageOf,
    Recipient,
    Sender,
    Sort,
    Span,
)
from inboxd.errors import Invalid
from inboxd.mails import Body, Message
from inboxd.model import InboxId, MessageFilter, Window

EXCERPT_CHARACTERS = 250


class MailPageQuery(Span):
    """Which page of mails is wanted; a page holds at most 100."""

    page: Annotated[int, Field(ge=0, le=MOST_PAGE)] = 0
    size: MailSize = 20
    sync_connectors: bool = False

    def window(self) -> Window:
        """The rows it asks for."""
        return Window(self.page, self.size, self.sort is Sort.ASC, self.since, self.before)


class EmailsQuery(MailPageQuery):
    """Which mails are wanted, of all inboxes when none is named."""

    inbox_id: list[UUID] = Field(default_factory=list[UUID])
    unread_only: bool = False
    favourited: bool = False
    search_filter: str | None = None
    plus_address_id: UUID | None = None

    def filter(self) -> MessageFilter:
        """The filter it asks for; Invalid when no mail can have what it asks for."""
        refuse_plus_address(self.plus_address_id)
        inboxes = tuple(InboxId(identity) for identity in self.inbox_id)
        return MessageFilter(inboxes, self.unread_only, self.favourited, self.search_filter)


def refuse_plus_address(plus_address_id: UUID | None) -> None:
    """Invalid when one is asked for: no mail has any."""
    if plus_address_id is not None:
        raise Invalid("plusAddressId", "plus addresses are not supported; leave it out")


class RawEmailJson(Answer):
    content: str

    @classmethod
    def of(cls, raw: bytes) -> Self:
        """The raw mail as text: UTF-8 where it is that, else one character a byte."""
        try:
            return cls(content=raw.decode())
        except UnicodeDecodeError:
            return cls(content=raw.decode("latin-1"))


class EmailAnalysis(Answer):
    """Verdicts of filters; a synced mail has none."""

    spam_verdict: str | None = None
    virus_verdict: str | None = None
    spf_verdict: str | None = None
    dkim_verdict: str | None = None
    dmarc_verdict: str | None = None


class Headline(Answer):
    """What every form of a mail shows."""

    id: UUID
    inbox_id: UUID
    domain_id: UUID | None = None
    thread_id: UUID | None = None
    subject: str | None
    to: list[str]
    from_: Annotated[str | None, Field(validation_alias="from", serialization_alias="from")]
    cc: list[str]
    bcc: list[str]
    sender: Sender | None
    recipients: EmailRecipients
    attachments: list[str]
    created_at: Date
    read: bool
    favourite: bool
    message_id: str | None
    in_reply_to: str | None
    size_bytes: int
    body_part_content_types: list[str]

    @classmethod
    def of(cls, message: Message) -> Self:
        """The wire form of a stored mail."""
        return cls(**_headline(message))


def _headline(message: Message) -> dict[str, Any]:
    digest = message.digest
    return {
        "id": message.id,
        "inbox_id": message.inbox_id,
        "subject": digest.subject,
        "to": [address.address for address in digest.to],
        "from_": digest.sender.address if digest.sender else None,
        "cc": [address.address for address in digest.cc],
        "bcc": [address.address for address in digest.bcc],
        "sender": Sender.of(digest.sender) if digest.sender else None,
        "recipients": EmailRecipients(
            to=[Recipient.of(address) for address in digest.to],
            cc=[Recipient.of(address) for address in digest.cc],
            bcc=[Recipient.of(address) for address in digest.bcc],
        ),
        "attachments": [str(attachment.id) for attachment in digest.attachments],
        "created_at": message.created_at,
        "read": message.read,
        "favourite": message.favourite,
        "message_id": without_brackets(digest.header_message_id),
        "in_reply_to": without_brackets(digest.in_reply_to),
        "size_bytes": message.size_bytes,
        "body_part_content_types": list(digest.part_types),
    }


def without_brackets(message_id: str | None) -> str | None:
    """A Message-ID as MailSlurp writes it: bare."""
    return message_id.strip().removeprefix("<").removesuffix(">") if message_id else None


class EmailPreview(Headline):
    """A mail in an inbox's list."""

    plus_address: UUID | None = None


class PageEmailPreview(PageOf[EmailPreview]):
    pass


class EmailProjection(Headline):
    """A mail in the list over inboxes."""

    text_excerpt: str | None = None
    body_excerpt: str | None = None
    body_md5_hash: Annotated[str | None, Field(serialization_alias="bodyMD5Hash")] = None
    plus_address: UUID | None = None
    imap_uid: int | None = None
    team_access: bool = False

    @classmethod
    def of(cls, message: Message) -> Self:
        """The wire form of a stored mail."""
        excerpt = message.digest.excerpt
        return cls(**_headline(message), text_excerpt=excerpt, body_excerpt=excerpt, imap_uid=message.uid)


class PageEmailProjection(PageOf[EmailProjection]):
    pass


class Email(Headline):
    """A whole mail. `body` is its HTML where it has any, else its text."""

    user_id: UUID
    reply_to: str | None
    headers: dict[str, str]
    headers_map: dict[str, list[str]]
    body: str | None
    body_excerpt: str | None
    text_excerpt: str | None
    body_md5_hash: Annotated[str | None, Field(serialization_alias="bodyMD5Hash")]
    is_html: Annotated[bool, Field(serialization_alias="isHTML")]
    html: bool
    charset: str | None
    analysis: EmailAnalysis | None = None
    updated_at: Date
    team_access: bool = False
    is_x_amp_html: bool = False
    xamp_html: bool = False
    external_id: str | None

    @classmethod
    def whole(cls, message: Message, content: Body, user_id: UUID) -> Self:
        """The wire form of a stored mail with its parsed content."""
        text = content.html if content.html is not None else content.text
        is_html = content.html is not None
        return cls(
            **_headline(message),
            user_id=user_id,
            reply_to=message.digest.reply_to,
            headers={name: values[0] for name, values in content.headers.items() if values},
            headers_map=content.headers,
            body=text,
            body_excerpt=message.digest.excerpt,
            text_excerpt=content.text[:EXCERPT_CHARACTERS] if content.text else message.digest.excerpt,
            body_md5_hash=body_hash(text),
            is_html=is_html,
            html=is_html,
            charset=content.charset,
            updated_at=message.updated_at,
            external_id=str(message.uid) if message.uid is not None else None,
        )


def body_hash(text: str | None) -> str | None:
    """MailSlurp's fingerprint of a body; a checksum, not a protection."""
    return hashlib.md5(text.encode(errors="replace"), usedforsecurity=False).hexdigest() if text is not None else None
