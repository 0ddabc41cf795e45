"""SentEmailsController, and the options with which a mail is sent."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field

from inboxd.api.wire.emails import body_hash, without_brackets
from inboxd.api.wire.shapes import Answer, Date, EmailRecipients, Line, Person, Request
from inboxd.errors import Invalid
from inboxd.mails import Sent

PLAIN, HTML = "text/plain", "text/html"
_NO_UPLOADS = "no upload with this id exists; this version takes attachments only through inboxctl send"


def _header_name(text: str) -> str:
    if not text or any(not "!" <= mark <= "~" or mark == ":" for mark in text):
        raise ValueError("write a header name in ASCII, without spaces and colons")
    return text


def _content_type(text: str) -> str:
    content_type = text.split(";", maxsplit=1)[0].strip().lower()
    if content_type not in (PLAIN, HTML):
        raise ValueError(f"use {PLAIN} or {HTML}")
    return content_type


HeaderName = Annotated[Line, AfterValidator(_header_name)]
Many = Field(max_length=1_000)
Lines = Annotated[list[Line], Many]


class SendEmailBodyPart(Request):
    content_type: Annotated[str, AfterValidator(_content_type)]
    content_body: str


class SendEmailOptions(Request):
    """A mail to send. `is_html` wins over the older `html`; `body_parts` take the place of `body`."""

    to: Lines | None = None
    to_contacts: list[UUID] | None = None
    to_group: UUID | None = None
    from_: Annotated[Line | None, Field(validation_alias="from", serialization_alias="from")] = None
    from_name: Line | None = None
    cc: Lines = Field(default_factory=list[str])
    bcc: Lines = Field(default_factory=list[str])
    subject: Line | None = None
    reply_to: Line | None = None
    custom_headers: dict[HeaderName, Line] = Field(default_factory=dict[str, str])
    body: str | None = None
    body_parts: list[SendEmailBodyPart] | None = None
    html: bool | None = None
    is_html: Annotated[bool | None, Field(validation_alias="isHTML", serialization_alias="isHTML")] = None
    charset: Line | None = None
    attachments: list[str] | None = None
    template: UUID | None = None
    send_strategy: Literal["SINGLE_MESSAGE"] | None = None
    use_inbox_name: bool = False
    add_tracking_pixel: bool = False
    is_x_amp_html: bool = False
    filter_bounced_recipients: bool = False
    ignore_empty_recipients: bool = False
    validate_email_addresses: Literal[
        "VALIDATE_FILTER_REMOVE_INVALID", "VALIDATE_ERROR_IF_INVALID", "NO_VALIDATION"
    ] = "NO_VALIDATION"

    def check(self) -> None:
        """Invalid when it asks for what this server does not do, rather than leaving that out in silence."""
        for field, given, why in (
            ("template", self.template, "templates are not supported; send the body itself"),
            ("toGroup", self.to_group, "groups are not supported; list the addresses in to"),
            ("toContacts", self.to_contacts, "contacts are not supported; list the addresses in to"),
            ("attachments", self.attachments, _NO_UPLOADS),
            ("addTrackingPixel", self.add_tracking_pixel, "tracking pixels are not supported"),
            ("isXAmpHtml", self.is_x_amp_html, "AMP bodies are not supported"),
        ):
            if given:
                raise Invalid(field, why)

    def bodies(self) -> tuple[str | None, str | None]:
        """The text and the HTML to send."""
        if self.body_parts:
            parts = {part.content_type: part.content_body for part in self.body_parts}
            return parts.get(PLAIN), parts.get(HTML)
        is_html = self.is_html if self.is_html is not None else bool(self.html)
        return (None, self.body or "") if is_html else (self.body or "", None)


class SentEmailDto(Answer):
    """A sent mail."""

    id: UUID
    user_id: UUID
    inbox_id: UUID
    domain_id: UUID | None = None
    to: list[str]
    from_: Annotated[str | None, Field(validation_alias="from", serialization_alias="from")]
    sender: Person
    recipients: EmailRecipients
    reply_to: str | None
    cc: list[str]
    bcc: list[str]
    attachments: list[str]
    subject: str | None
    body_md5_hash: Annotated[str | None, Field(serialization_alias="bodyMD5Hash")]
    body: str | None
    is_html: Annotated[bool, Field(serialization_alias="isHTML")]
    html: bool
    charset: str = "utf-8"
    sent_at: Date
    created_at: Date
    message_id: str | None
    message_ids: list[str]
    virtual_send: bool = False
    size_bytes: int
    transport: Literal["PUBLIC_EMAIL"] = "PUBLIC_EMAIL"

    @classmethod
    def of(cls, sent: Sent, user_id: UUID) -> Self:
        """The wire form of a sent mail."""
        message_id = without_brackets(sent.header_message_id)
        to, cc, bcc = ([Person.read(text) for text in group] for group in (sent.to, sent.cc, sent.bcc))
        return cls(
            id=sent.id,
            user_id=user_id,
            inbox_id=sent.inbox_id,
            to=[person.email_address for person in to],
            from_=sent.sender.address,
            sender=Person.of(sent.sender),
            recipients=EmailRecipients(to=to, cc=cc, bcc=bcc),
            reply_to=Person.read(sent.reply_to).email_address if sent.reply_to else None,
            cc=[person.email_address for person in cc],
            bcc=[person.email_address for person in bcc],
            attachments=list(sent.attachments),
            subject=sent.subject,
            body_md5_hash=body_hash(sent.body),
            body=sent.body,
            is_html=sent.is_html,
            html=sent.is_html,
            sent_at=sent.sent_at or sent.created_at,
            created_at=sent.created_at,
            message_id=message_id,
            message_ids=[message_id] if message_id else [],
            size_bytes=sent.size_bytes,
        )
