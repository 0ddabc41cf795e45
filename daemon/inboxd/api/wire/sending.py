"""The options with which mails are sent, answered and forwarded."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from inboxd.api.wire.shapes import Answer, Line, Request
from inboxd.errors import Invalid
from inboxd.model import InboxId

PLAIN, HTML = "text/plain", "text/html"
_NO_TEMPLATES = "templates are not supported; send the body itself"


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
AttachmentIds = Annotated[list[str], Field(max_length=100)]
Bodies = tuple[str | None, str | None]


def _refuse(*asked: tuple[str, object, str]) -> None:
    """Invalid for the first field that was given: its name, its value, what to do instead."""
    for field, given, why in asked:
        if given:
            raise Invalid(field, why)


def _one_body(body: str, is_html: bool | None, html: bool | None) -> Bodies:
    return (None, body) if (is_html if is_html is not None else html) else (body, None)


class SendEmailBodyPart(Request):
    content_type: Annotated[str, AfterValidator(_content_type)]
    content_body: str


class Outgoing(Request):
    """What everything that sends may say of its sender."""

    from_: Annotated[Line | None, Field(validation_alias="from", serialization_alias="from")] = None
    use_inbox_name: bool = False


class SendEmailOptions(Outgoing):
    """A mail to send. `is_html` wins over the older `html`; `body_parts` take the place of `body`."""

    to: Lines | None = None
    to_contacts: list[UUID] | None = None
    to_group: UUID | None = None
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
    attachments: AttachmentIds = Field(default_factory=list[str])
    template: UUID | None = None
    template_variables: dict[str, Any] | None = None
    send_strategy: Literal["SINGLE_MESSAGE"] | None = None
    add_tracking_pixel: bool = False
    is_x_amp_html: bool = False
    filter_bounced_recipients: bool = False
    ignore_empty_recipients: bool = False
    validate_email_addresses: Literal[
        "VALIDATE_FILTER_REMOVE_INVALID", "VALIDATE_ERROR_IF_INVALID", "NO_VALIDATION"
    ] = "NO_VALIDATION"

    def check(self) -> None:
        """Invalid when it asks for what this server does not do, rather than leaving that out in silence."""
        _refuse(
            ("template", self.template, _NO_TEMPLATES),
            ("templateVariables", self.template_variables, _NO_TEMPLATES),
            ("toGroup", self.to_group, "groups are not supported; list the addresses in to"),
            ("toContacts", self.to_contacts, "contacts are not supported; list the addresses in to"),
            ("addTrackingPixel", self.add_tracking_pixel, "tracking pixels are not supported"),
            ("isXAmpHtml", self.is_x_amp_html, "AMP bodies are not supported"),
        )

    def bodies(self) -> Bodies:
        """The text and the HTML to send."""
        if self.body_parts:
            parts = {part.content_type: part.content_body for part in self.body_parts}
            return parts.get(PLAIN), parts.get(HTML)
        return _one_body(self.body or "", self.is_html, self.html)


class ReplyToEmailOptions(Outgoing):
    """An answer to a received mail: its whole body, without what it answers."""

    body: str
    is_html: Annotated[bool | None, Field(validation_alias="isHTML", serialization_alias="isHTML")] = None
    html: bool | None = None
    reply_to: Line | None = None
    custom_headers: dict[HeaderName, Line] = Field(default_factory=dict[str, str])
    charset: Line | None = None
    attachments: AttachmentIds = Field(default_factory=list[str])
    template: UUID | None = None
    template_variables: dict[str, Any] | None = None
    send_strategy: Literal["SINGLE_MESSAGE"] | None = None

    def check(self) -> None:
        """Invalid when it asks for what this server does not do."""
        _refuse(
            ("template", self.template, _NO_TEMPLATES), ("templateVariables", self.template_variables, _NO_TEMPLATES)
        )

    def bodies(self) -> Bodies:
        """The text and the HTML to send."""
        return _one_body(self.body, self.is_html, self.html)


class ForwardEmailOptions(Outgoing):
    """To whom a received mail is passed on."""

    to: Lines
    subject: Line | None = None
    cc: Lines = Field(default_factory=list[str])
    bcc: Lines = Field(default_factory=list[str])
    filter_bounced_recipients: bool = False


class SimpleSendEmailOptions(Request):
    """A text to one address, from an inbox or from the only one there is."""

    sender_id: UUID | None = None
    to: Line
    body: str | None = None
    subject: Line | None = None

    def sender(self) -> InboxId | None:
        """The inbox named."""
        return InboxId(self.sender_id) if self.sender_id is not None else None

    def options(self) -> SendEmailOptions:
        """The same as a mail to send."""
        return SendEmailOptions(to=[self.to], body=self.body, subject=self.subject)


class SourceQuery(Request):
    """Where a mail is to be sent from. `use_domain_pool` has no effect: nothing is sent but through connectors."""

    inbox_id: UUID | None = None
    use_domain_pool: bool = False
    virtual_send: bool = False

    def inbox(self) -> InboxId | None:
        """The inbox named; Invalid when nothing would really be sent."""
        _refuse(("virtualSend", self.virtual_send, "mails are sent or not; leave it out, or ask POST /emails/can-send"))
        return InboxId(self.inbox_id) if self.inbox_id is not None else None


class CanSendQuery(Request):
    inbox_id: UUID


class CanSendEmailResults(Answer):
    """Whether a mail could be handed to a server, and if not, why."""

    is_sending_permitted: bool
    message: str | None = None
