"""Handlers of attachments: those of received mails, and uploads."""

from __future__ import annotations

import asyncio
import base64
import binascii
import mimetypes
from functools import partial
from typing import Final
from uuid import uuid4

from inboxd import logs
from inboxd.api.answers import File
from inboxd.api.wire.attachments import (
    AttachmentEntityDto,
    AttachmentMetaData,
    AttachmentsQuery,
    DownloadAttachmentDto,
    PageAttachmentEntity,
    UploadAttachmentOptions,
    UploadBytesQuery,
    is_media_type,
)
from inboxd.errors import Invalid, NotFound
from inboxd.mail.parse import attachment as parse_attachment
from inboxd.mails import Attachment, KeptAttachment
from inboxd.model import AttachmentId, MessageId
from inboxd.services import Services
from inboxd.store import attachments, messages

_OCTETS: Final = "application/octet-stream"
_UNNAMED: Final = "attachment"
# What clients say of any body when nobody told them what it is.
_SAYS_NOTHING: Final = frozenset({_OCTETS, "application/json", "application/x-www-form-urlencoded"})
_BREAKS: Final = str.maketrans("", "", "\r\n\t ")
_log = logs.logger("api")


async def contents(services: Services, attachment_id: AttachmentId) -> File:
    """Name, content type and bytes of an attachment of either kind; NotFound, or Unparsable when its mail is."""
    return await _file(*await attachments.content(services.store, attachment_id))


async def get_of_email(services: Services, email_id: MessageId) -> list[AttachmentMetaData]:
    """What is attached to a mail, in its order."""
    message = await messages.get(services.store, email_id)
    return [AttachmentMetaData.of(attachment) for attachment in message.digest.attachments]


async def get_metadata_of_email(
    services: Services, email_id: MessageId, attachment_id: AttachmentId
) -> AttachmentMetaData:
    """One attachment of this mail, described."""
    kept = await attachments.get(services.store, attachment_id)
    return AttachmentMetaData.of(_part_of(email_id, kept).attachment)


async def download_of_email(services: Services, email_id: MessageId, attachment_id: AttachmentId) -> File:
    """One attachment of this mail."""
    kept, raw = await attachments.content(services.store, attachment_id)
    return await _file(_part_of(email_id, kept), raw)


async def download_base64_of_email(
    services: Services, email_id: MessageId, attachment_id: AttachmentId
) -> DownloadAttachmentDto:
    """One attachment of this mail, in base64."""
    return await _in_base64(await download_of_email(services, email_id, attachment_id))


async def upload(services: Services, body: UploadAttachmentOptions) -> list[str]:
    """Keep a file given in base64, to be sent later; a list of its id alone."""
    raw = await asyncio.to_thread(_decoded, body.base64_contents)
    if not raw:
        raise Invalid("base64Contents", "is empty; give the bytes of a file in base64")
    return await _keep(services, raw, body.filename, body.content_type, body.content_id)


async def upload_bytes(services: Services, query: UploadBytesQuery, body: bytes) -> list[str]:
    """Keep a file given as it is, to be sent later; a list of its id alone."""
    if not body:
        raise Invalid("body", "is empty; send the file's bytes in it, or use POST /attachments with base64Contents")
    if query.file_size is not None and query.file_size != len(body):
        raise Invalid("fileSize", f"the body has {len(body)} bytes; send it whole, or leave the size out")
    kind = query.content_type or _guess(query.filename) or _told(query.own_type)
    return await _keep(services, body, query.filename, kind, query.content_id)


async def get_all(services: Services, query: AttachmentsQuery) -> PageAttachmentEntity:
    """A page of attachments of mails and uploads together."""
    window = query.window()
    page = await attachments.page(services.store, query.filter(), window)
    return PageAttachmentEntity.of(window, page, partial(AttachmentEntityDto.of, user_id=services.user_id))


async def get(services: Services, attachment_id: AttachmentId) -> AttachmentEntityDto:
    """One attachment."""
    return AttachmentEntityDto.of(await attachments.get(services.store, attachment_id), services.user_id)


async def get_metadata(services: Services, attachment_id: AttachmentId) -> AttachmentMetaData:
    """One attachment, described."""
    return AttachmentMetaData.of((await attachments.get(services.store, attachment_id)).attachment)


async def download(services: Services, attachment_id: AttachmentId) -> File:
    """One attachment's bytes."""
    return await contents(services, attachment_id)


async def download_base64(services: Services, attachment_id: AttachmentId) -> DownloadAttachmentDto:
    """One attachment's bytes, in base64."""
    return await _in_base64(await contents(services, attachment_id))


async def delete(services: Services, attachment_id: AttachmentId) -> None:
    """Delete an attachment; the raw mail that brought it stays as it is."""
    await attachments.remove(services.store, attachment_id)
    _log.info("attachment_deleted", attachment=str(attachment_id))


async def delete_all(services: Services) -> None:
    """Delete every attachment, those of mails and uploads; raw mails stay as they are."""
    _log.info("attachments_deleted", count=await attachments.remove_all(services.store))


def _part_of(email_id: MessageId, kept: KeptAttachment) -> KeptAttachment:
    if kept.message_id != email_id:
        raise NotFound(f"email {email_id} has no attachment {kept.attachment.id}")
    return kept


async def _file(kept: KeptAttachment, raw: bytes) -> File:
    attachment = kept.attachment
    if kept.message_id is not None:
        raw = await asyncio.to_thread(parse_attachment, raw, attachment.position)
    kind = attachment.content_type
    return File(raw, kind if is_media_type(kind) else _OCTETS, attachment.name)


async def _in_base64(file: File) -> DownloadAttachmentDto:
    text = (await asyncio.to_thread(base64.b64encode, file.content)).decode()
    return DownloadAttachmentDto(
        base64_file_contents=text, content_type=file.content_type, size_bytes=len(file.content)
    )


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.translate(_BREAKS), validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII
        raise Invalid("base64Contents", "is not base64 (RFC 4648 §4); encode the file's bytes") from error


async def _keep(
    services: Services, raw: bytes, name: str | None, content_type: str | None, content_id: str | None
) -> list[str]:
    attachment = Attachment(
        id=AttachmentId(uuid4()),
        position=0,
        name=name or _UNNAMED,
        content_type=content_type or _guess(name) or _OCTETS,
        size_bytes=len(raw),
        content_id=content_id.strip("<> ") if content_id else None,
    )
    await attachments.add_upload(services.store, attachment, raw)
    _log.info("attachment_uploaded", attachment=str(attachment.id), bytes=len(raw))
    return [str(attachment.id)]


def _guess(name: str | None) -> str | None:
    """The content type that files of such a name mostly have; None for what is packed, as in `a.csv.gz`."""
    kind, packed = mimetypes.guess_type(name or "")
    return None if packed else kind


def _told(own_type: str | None) -> str | None:
    """The request's own content type where it is about the file."""
    if own_type is None or not is_media_type(own_type) or own_type.partition(";")[0].strip().lower() in _SAYS_NOTHING:
        return None
    return own_type
