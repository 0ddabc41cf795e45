"""MailSlurp's Python client through attachments, of mails and uploaded."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from servers.accounts import PDF, PNG
from servers.daemon import KEY
from servers.python import SDK, Client, Walk, refused, walks


def upload(walk: Walk, content: bytes, **options: str) -> str:
    """The id of a file that was uploaded in base64."""
    encoded = SDK.UploadAttachmentOptions(base64_contents=b64encode(content).decode(), **options)
    (attachment_id,) = walk.client.attachments.upload_attachment(encoded)
    return attachment_id


@walks("getEmailAttachments", "getAttachmentMetaData")
def test_attachments_of_a_mail_are_described(walk: Walk) -> None:
    emails, rich = walk.client.emails, walk.rich
    picture, report = emails.get_email_attachments(rich)
    assert (picture.name, picture.content_type, picture.content_length) == ("picture.png", "image/png", len(PNG))
    assert (picture.content_id, report.content_id) == ("picture@example", None)
    assert (report.name, report.content_type, report.content_length) == ("report.pdf", "application/pdf", len(PDF))
    assert emails.get_attachment_meta_data(rich, report.id) == report
    refused(404, emails.get_attachment_meta_data, rich, str(uuid4()))
    refused(404, emails.get_attachment_meta_data, rich, "nonsense")


@walks("getEmailAttachments", "downloadAttachment", "downloadAttachmentBase64")
def test_files_of_a_mail_are_whole_in_base64_or_undecoded(walk: Walk) -> None:
    emails, rich = walk.client.emails, walk.rich
    picture, report = (attachment.id for attachment in emails.get_email_attachments(rich))
    encoded = emails.download_attachment_base64(rich, picture)
    assert (b64decode(encoded.base64_file_contents), encoded.size_bytes) == (PNG, len(PNG))
    assert encoded.content_type == "image/png"
    assert emails.download_attachment(rich, report) == PDF.decode()
    whole(emails.download_attachment, rich, picture)
    keyless = Client(walk.url)
    keyless.api.configuration.api_key.clear()
    assert keyless.emails.download_attachment(rich, report, api_key=KEY) == PDF.decode()
    refused(401, keyless.emails.download_attachment, rich, report, api_key="wrong")
    other = walk.arrives(b"Subject: other\n\nx\n")
    for download in (emails.download_attachment, emails.download_attachment_base64):
        assert picture in refused(404, download, other, picture)


def whole(download: Callable[..., Any], *identities: str) -> None:
    """The PNG comes as it is before the SDK decodes it, which it cannot."""
    with pytest.raises(UnicodeDecodeError):
        download(*identities)
    assert download(*identities, _preload_content=False).data == PNG


@walks("uploadAttachment", "getAttachment", "getAttachmentInfo", "deleteAttachment")
def test_uploads_are_described_and_deleted(walk: Walk) -> None:
    attachments = walk.client.attachments
    named = upload(walk, b"notes", filename="nötes.txt", content_type="text/plain", content_id="<notes@example>")
    entity = attachments.get_attachment(named)
    assert (entity.id, entity.attachment_id, entity.name) == (named, named, "nötes.txt")
    assert (entity.content_type, entity.content_length, entity.inbox_id) == ("text/plain", 5, None)
    described = attachments.get_attachment_info(named)
    assert (described.id, described.name, described.content_length) == (named, "nötes.txt", 5)
    assert described.content_id == entity.content_id == "notes@example"
    bare = attachments.get_attachment_info(upload(walk, PNG))
    assert (bool(bare.name), bare.content_type) == (True, "application/octet-stream")

    wrong = SDK.UploadAttachmentOptions(base64_contents="!!!")
    assert "base64Contents" in refused(400, attachments.upload_attachment, wrong)
    crooked = SDK.UploadAttachmentOptions(base64_contents="eA==", content_type="text")
    assert "contentType" in refused(400, attachments.upload_attachment, crooked)
    assert attachments.delete_attachment(named) is None
    refused(404, attachments.delete_attachment, named)
    refused(404, attachments.get_attachment, named)


@walks("uploadAttachment", "downloadAttachmentAsBytes", "downloadAttachmentAsBase64Encoded")
def test_uploads_are_whole_in_base64_or_undecoded(walk: Walk) -> None:
    attachments = walk.client.attachments
    notes, picture = upload(walk, b"notes"), upload(walk, PNG, content_type="image/png")
    assert attachments.download_attachment_as_bytes(notes) == "notes"
    whole(attachments.download_attachment_as_bytes, picture)
    encoded = attachments.download_attachment_as_base64_encoded(picture)
    assert (b64decode(encoded.base64_file_contents), encoded.size_bytes) == (PNG, len(PNG))
    assert encoded.content_type == "image/png"


@walks("uploadAttachmentBytes", "getAttachmentInfo", "downloadAttachmentAsBase64Encoded")
def test_bytes_are_uploaded_only_past_the_method_for_it(walk: Walk) -> None:
    attachments, api = walk.client.attachments, walk.client.api
    message = refused(400, attachments.upload_attachment_bytes, filename="a.bin", file_size=2)
    assert "base64Contents" in message
    (uploaded,) = api.call_api(
        "/attachments/bytes",
        "POST",
        query_params=[("filename", "a.png")],
        header_params={"Content-Type": "application/octet-stream"},
        body=PNG,
        response_type="list[str]",
        auth_settings=["API_KEY"],
        _return_http_data_only=True,
    )
    described = attachments.get_attachment_info(uploaded)
    assert (described.name, described.content_type) == ("a.png", "image/png")
    encoded = attachments.download_attachment_as_base64_encoded(uploaded)
    assert b64decode(encoded.base64_file_contents) == PNG


@walks("uploadAttachment", "getAttachments", "deleteAllAttachments", "getEmailAttachments")
def test_attachments_are_listed_and_all_deleted(walk: Walk) -> None:
    attachments, rich = walk.client.attachments, walk.rich
    notes = upload(walk, b"notes", filename="notes.txt")
    of_mail = [attachment.id for attachment in walk.client.emails.get_email_attachments(rich)]

    def listed(**query: object) -> list[str]:
        return [row.attachment_id for row in attachments.get_attachments(**query).content]

    assert set(listed()) == {notes, *of_mail}
    page = attachments.get_attachments(page=0, size=1, sort="DESC")
    assert (page.total_elements, page.total_pages, page.content[0].id) == (3, 3, notes)
    assert page.content[0].user_id == attachments.get_attachments(email_id=rich).content[0].user_id
    assert set(listed(email_id=rich)) == set(listed(inbox_id=walk.inbox_id)) == set(of_mail)
    assert listed(file_name_filter="NOTES") == [notes]
    assert set(listed(file_name_filter="NOTES", include=of_mail)) == {notes, *of_mail}
    assert (listed(sent_email_id=str(uuid4())), listed(since=datetime(2100, 1, 1, tzinfo=UTC))) == ([], [])
    assert "emailId" in refused(400, attachments.get_attachments, email_id="nonsense")
    assert "include" in refused(400, attachments.get_attachments, include=["nonsense"])
    assert attachments.delete_all_attachments() is None
    assert listed() == []
    assert walk.client.emails.get_email_attachments(rich) == []
