"""AttachmentController, and the attachments of EmailController."""

from __future__ import annotations

import re
from typing import Annotated, Final, Self
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic.json_schema import SkipJsonSchema

from inboxd.api.wire.shapes import Answer, Date, Line, PageOf, PageQuery, Request
from inboxd.mails import Attachment, KeptAttachment
from inboxd.model import AttachmentFilter, AttachmentId, InboxId, MessageId, SentId

_NAME_CHARACTERS: Final = 255
_MEDIA_TYPE: Final = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}(?:\s*;[ -~]*)?", re.ASCII)


def is_media_type(text: str) -> bool:
    """Whether it can stand in a Content-Type field (RFC 6838 §4.2), with or without parameters."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def _media_type(text: str) -> str:
    if not is_media_type(text):
        raise ValueError("write a content type, for example application/pdf")
    return text


MediaType = Annotated[str, Field(max_length=_NAME_CHARACTERS), AfterValidator(_media_type)]
FileName = Annotated[Line, Field(max_length=_NAME_CHARACTERS)]
ContentId = Annotated[Line, Field(max_length=998)]


class UploadAttachmentOptions(Request):
    """A file to be kept, in base64."""

    base64_contents: Annotated[str, Field(min_length=1)]
    filename: FileName | None = None
    content_type: MediaType | None = None
    content_id: ContentId | None = None


class UploadBytesQuery(Request):
    """What a file sent as it is, is called. `own_type` is that of the request, which may say little about the file."""

    filename: FileName | None = None
    content_type: MediaType | None = None
    content_id: ContentId | None = None
    file_size: Annotated[int, Field(ge=0)] | None = None
    own_type: Annotated[SkipJsonSchema[str | None], Field(alias="Content-Type")] = None


class AttachmentsQuery(PageQuery):
    """Which attachments are wanted, of mails and uploaded; `include` are so in any case."""

    file_name_filter: str | None = None
    inbox_id: UUID | None = None
    email_id: UUID | None = None
    sent_email_id: UUID | None = None
    include: list[UUID] = Field(default_factory=list[UUID])

    def filter(self) -> AttachmentFilter:
        """The filter it asks for."""
        return AttachmentFilter(
            name=self.file_name_filter,
            inbox_id=InboxId(self.inbox_id) if self.inbox_id else None,
            message_id=MessageId(self.email_id) if self.email_id else None,
            sent_id=SentId(self.sent_email_id) if self.sent_email_id else None,
            include=tuple(map(AttachmentId, self.include)),
        )


class AttachmentMetaData(Answer):
    name: str
    content_type: str
    content_length: int
    id: str
    content_id: str | None

    @classmethod
    def of(cls, attachment: Attachment) -> Self:
        """The wire form of an attachment's description."""
        return cls(
            name=attachment.name,
            content_type=attachment.content_type,
            content_length=attachment.size_bytes,
            id=str(attachment.id),
            content_id=attachment.content_id,
        )


class AttachmentEntityDto(Answer):
    """An attachment of a mail or an upload; MailSlurp's two ids are one here."""

    id: UUID
    attachment_id: str
    user_id: UUID
    content_type: str
    content_length: int
    content_id: str | None
    name: str
    inbox_id: UUID | None
    created_at: Date
    updated_at: Date

    @classmethod
    def of(cls, kept: KeptAttachment, user_id: UUID) -> Self:
        """The wire form of a kept attachment."""
        attachment = kept.attachment
        return cls(
            id=attachment.id,
            attachment_id=str(attachment.id),
            user_id=user_id,
            content_type=attachment.content_type,
            content_length=attachment.size_bytes,
            content_id=attachment.content_id,
            name=attachment.name,
            inbox_id=kept.inbox_id,
            created_at=kept.created_at,
            updated_at=kept.created_at,
        )


class PageAttachmentEntity(PageOf[AttachmentEntityDto]):
    pass


class DownloadAttachmentDto(Answer):
    base64_file_contents: str
    content_type: str
    size_bytes: int
