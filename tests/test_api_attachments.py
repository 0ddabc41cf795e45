"""Attachments of mails and uploads, with MailSlurp's own Python client and with plain HTTP."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from api_site import MAIL, MAX_BODY_BYTES, SDK, Reply, Site, open_site
from inboxd.api.attachments import contents
from inboxd.errors import NotFound
from inboxd.mails import Message
from inboxd.model import AttachmentId

PDF = bytes(range(256)) * 8
PAGE = b"<script>alert(1)</script>"
MIXED = (
    b'From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="m"\r\n\r\n'
    b"--m\r\nContent-Type: text/plain\r\n\r\nwords\r\n"
    b"--m\r\nContent-Type: application/pdf\r\nContent-ID: <one@x>\r\nContent-Transfer-Encoding: base64\r\n"
    b"Content-Disposition: attachment; filename*=UTF-8''d%C3%A9j%C3%A0.pdf\r\n\r\n"
    + base64.encodebytes(PDF)
    + b"\r\n--m\r\nContent-Type: text/html\r\nContent-Disposition: attachment; filename=x.html\r\n\r\n"
    + PAGE
    + b"\r\n--m\r\nContent-Type: te\xffxt/\xe9\r\nContent-Disposition: attachment; filename=odd\r\n\r\nodd\r\n--m--\r\n"
)


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def arrive(site: Site) -> tuple[dict[str, Any], Message, list[str]]:
    """A connector, a mail with attachments, and their ids."""
    made = await site.new_connector()
    (stored,) = await site.deliver(made, MIXED)
    return made, stored, [str(attachment.id) for attachment in stored.digest.attachments]


async def upload(site: Site, content: bytes = b"hello", **options: Any) -> Reply:
    return await site.ask("POST", "/attachments", {"base64Contents": base64.b64encode(content).decode()} | options)


async def test_the_sdk_reads_the_attachments_of_a_mail(site: Site) -> None:
    _, stored, ids = await arrive(site)
    email = str(stored.id)

    def walk(client: Any) -> tuple[Any, ...]:
        api = SDK.EmailControllerApi(client)
        return (
            api.get_email_attachments(email),
            api.get_attachment_meta_data(email, ids[0]),
            api.download_attachment_base64(email, ids[0]),
            api.download_attachment(email, ids[0], _preload_content=False).data,
            api.get_email(email).attachments,
        )

    listed, described, encoded, raw, named = await site.sdk(walk)
    assert [row.id for row in listed] == ids == named
    assert (described.name, described.content_type, described.content_length) == ("déjà.pdf", "application/pdf", 2048)
    assert (described.id, described.content_id) == (ids[0], "one@x")
    assert (base64.b64decode(encoded.base64_file_contents), encoded.content_type) == (PDF, "application/pdf")
    assert (encoded.size_bytes, raw) == (len(PDF), PDF)


async def test_a_download_is_saved_and_never_shown(site: Site) -> None:
    _, stored, ids = await arrive(site)
    answer = await site.ask("GET", f"/emails/{stored.id}/attachments/{ids[1]}")
    assert (answer.body.strip(), answer.headers["Content-Type"]) == (PAGE, "text/html")
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="x.html"')
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    named = (await site.ask("GET", f"/attachments/{ids[0]}/bytes")).headers["Content-Disposition"]
    assert "filename*=UTF-8''d%C3%A9j%C3%A0.pdf" in named


async def test_a_browser_downloads_with_the_key_in_the_query(site: Site) -> None:
    _, stored, ids = await arrive(site)
    path = f"/emails/{stored.id}/attachments/{ids[0]}"
    key = dict(site.tcp.headers)["x-api-key"]
    assert (await site.ask("GET", f"{path}?apiKey={key}", headers={"x-api-key": ""})).body == PDF
    assert (await site.ask("GET", path, headers={"x-api-key": ""})).status == 401


async def test_a_content_type_that_is_none_goes_as_octets(site: Site) -> None:
    _, _, ids = await arrive(site)
    answer = await site.ask("GET", f"/attachments/{ids[2]}/bytes")
    assert (answer.status, answer.body.strip()) == (200, b"odd")
    assert answer.headers["Content-Type"] in ("application/octet-stream", "text/plain")


async def test_an_attachment_of_another_mail_is_404(site: Site) -> None:
    made, stored, ids = await arrive(site)
    (other,) = await site.deliver(made, MAIL, first_uid=2)
    (uploaded,) = (await upload(site)).json
    for email, attachment in (
        (other.id, ids[0]),
        (stored.id, uploaded),
        (stored.id, uuid4()),
        (uuid4(), ids[0]),
        (stored.id, "nonsense"),
    ):
        for ending in ("", "/metadata", "/base64"):
            answer = await site.ask("GET", f"/emails/{email}/attachments/{attachment}{ending}")
            assert (answer.status, bool(answer.json["message"])) == (404, True)
    assert (await site.ask("GET", f"/emails/{other.id}/attachments")).json == []
    assert (await site.ask("GET", f"/emails/{uuid4()}/attachments")).status == 404


async def test_the_sdk_uploads_and_finds_it_again(site: Site) -> None:
    options = SDK.UploadAttachmentOptions(
        base64_contents=base64.b64encode(PDF).decode(),
        filename="réport.pdf",
        content_type="application/pdf",
        content_id="<pic@x>",
    )

    def walk(client: Any) -> tuple[Any, ...]:
        api = SDK.AttachmentControllerApi(client)
        (identity,) = api.upload_attachment(options)
        return (
            identity,
            api.get_attachment(identity),
            api.get_attachment_info(identity),
            api.download_attachment_as_base64_encoded(identity),
            api.download_attachment_as_bytes(identity, _preload_content=False).data,
            api.get_attachments(file_name_filter="PORT"),
        )

    identity, entity, described, encoded, raw, page = await site.sdk(walk)
    assert (entity.id, entity.attachment_id, entity.user_id) == (identity, identity, str(site.services.user_id))
    assert (entity.name, entity.content_type, entity.content_length) == ("réport.pdf", "application/pdf", len(PDF))
    assert (entity.inbox_id, entity.content_id, entity.created_at) == (None, "pic@x", entity.updated_at)
    assert (described.name, described.id, described.content_length) == ("réport.pdf", identity, len(PDF))
    assert (base64.b64decode(encoded.base64_file_contents), raw) == (PDF, PDF)
    assert [(row.id, row.attachment_id) for row in page.content] == [(identity, identity)]


@pytest.mark.parametrize(
    ("options", "name", "kind"),
    [
        ({}, "attachment", "application/octet-stream"),
        ({"filename": "a.png"}, "a.png", "image/png"),
        ({"filename": "a.csv.gz"}, "a.csv.gz", "application/octet-stream"),
        ({"filename": "a.png", "contentType": "text/csv; charset=utf-8"}, "a.png", "text/csv; charset=utf-8"),
        ({"filename": None, "contentType": ""}, "", ""),
    ],
)
async def test_an_upload_is_called_what_it_says_or_looks_like(
    site: Site, options: dict[str, Any], name: str, kind: str
) -> None:
    answer = await upload(site, **options)
    if not name:
        assert (answer.status, answer.json["message"][:11]) == (400, "contentType")
        return
    assert answer.status == 201
    kept = (await site.ask("GET", f"/attachments/{answer.json[0]}/metadata")).json
    assert (kept["name"], kept["contentType"]) == (name, kind)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "base64Contents: is required"),
        ({"base64Contents": ""}, "base64Contents: must not be empty"),
        ({"base64Contents": " \r\n"}, "base64Contents: is empty"),
        ({"base64Contents": "not base64!"}, "base64Contents: is not base64"),
        ({"base64Contents": "aGVsbG8"}, "base64Contents: is not base64"),
        ({"base64Contents": "aGVsbé8="}, "base64Contents: is not base64"),
        ({"base64Contents": "aGVsbG8=", "filename": "a\r\nb"}, "filename: must be one line"),
        ({"base64Contents": "aGVsbG8=", "filename": "x" * 256}, "filename: must not be longer than 255"),
        ({"base64Contents": "aGVsbG8=", "contentType": "pdf"}, "contentType: write a content type"),
        ({"base64Contents": "aGVsbG8=", "contentType": "a/b\r\nX: y"}, "contentType: write a content type"),
        ({"base64Contents": "aGVsbG8=", "contentId": "a\nb"}, "contentId: must be one line"),
    ],
)
async def test_an_upload_that_cannot_be_used_is_400_and_names_its_field(
    site: Site, body: dict[str, object], message: str
) -> None:
    answer = await site.ask("POST", "/attachments", body)
    assert (answer.status, answer.json["message"][: len(message)]) == (400, message)
    assert (await site.ask("GET", "/attachments")).json["totalElements"] == 0


async def test_base64_with_line_breaks_is_read(site: Site) -> None:
    text = base64.encodebytes(PDF).decode().replace("\n", "\r\n")
    answer = await site.ask("POST", "/attachments", {"base64Contents": text})
    assert (await site.ask("GET", f"/attachments/{answer.json[0]}/bytes")).body == PDF


async def test_too_large_an_upload_is_413(site: Site) -> None:
    assert (await upload(site, b"x" * MAX_BODY_BYTES)).status == 413
    assert (await site.ask("POST", "/attachments/bytes", data=b"x" * (MAX_BODY_BYTES + 1))).status == 413


@pytest.mark.parametrize(
    ("query", "headers", "name", "kind"),
    [
        ("?filename=a.png&contentType=image/gif", {"Content-Type": "text/csv"}, "a.png", "image/gif"),
        ("", {"filename": "a.png", "contenttype": "image/gif", "Content-Type": "text/csv"}, "a.png", "image/gif"),
        ("?filename=q.pdf", {"Filename": "h.png"}, "q.pdf", "application/pdf"),
        ("", {"Content-Type": "text/csv; charset=utf-8"}, "attachment", "text/csv; charset=utf-8"),
        ("?filename=a.png", {"Content-Type": "text/csv"}, "a.png", "image/png"),
        ("", {"Content-Type": "application/json"}, "attachment", "application/octet-stream"),
        ("", {"Content-Type": "nonsense"}, "attachment", "application/octet-stream"),
        ("", {}, "attachment", "application/octet-stream"),
    ],
)
async def test_bytes_are_uploaded_as_they_are(
    site: Site, query: str, headers: dict[str, str], name: str, kind: str
) -> None:
    answer = await site.ask("POST", f"/attachments/bytes{query}", data=PDF, headers=headers)
    assert answer.status == 201, answer.body
    (identity,) = answer.json
    kept = (await site.ask("GET", f"/attachments/{identity}/metadata")).json
    assert (kept["name"], kept["contentType"], kept["contentLength"]) == (name, kind, len(PDF))
    assert (await site.ask("GET", f"/attachments/{identity}/bytes")).body == PDF


@pytest.mark.parametrize(
    ("query", "field"), [("contentType=pdf", "contentType"), ("fileSize=3", "fileSize"), ("fileSize=x", "fileSize")]
)
async def test_bytes_that_are_described_wrongly_are_refused(site: Site, query: str, field: str) -> None:
    answer = await site.ask("POST", f"/attachments/bytes?{query}", data=b"four")
    assert (answer.status, answer.json["message"].startswith(f"{field}: ")) == (400, True)


async def test_the_sdk_which_sends_no_bytes_is_told_so(site: Site) -> None:
    with pytest.raises(SDK.ApiException) as refused:
        await site.sdk(lambda client: SDK.AttachmentControllerApi(client).upload_attachment_bytes(filename="a.png"))
    assert (refused.value.status, "the file's bytes" in refused.value.body) == (400, True)


async def test_attachments_are_listed_by_the_sdk(site: Site) -> None:
    made, stored, ids = await arrive(site)
    (uploaded,) = (await upload(site, filename="notes.txt")).json

    def walk(client: Any) -> None:
        api = SDK.AttachmentControllerApi(client)
        page = api.get_attachments(size=3, sort="DESC")
        assert ([row.id for row in page.content], page.total_elements) == ([uploaded, *ids[:0:-1]], 4)
        assert page.content[1].inbox_id == made["inboxId"]
        for query, expected in (
            ({"inbox_id": made["inboxId"]}, ids),
            ({"email_id": str(stored.id)}, ids),
            ({"email_id": str(stored.id), "file_name_filter": "X.HTML"}, ids[1:2]),
            ({"email_id": str(stored.id), "file_name_filter": "X.HTML", "include": [uploaded]}, [ids[1], uploaded]),
            ({"sent_email_id": str(uuid4())}, []),
            ({"since": "2100-01-01T00:00:00Z"}, []),
            ({"before": "2000-01-01T00:00:00Z"}, []),
        ):
            assert [row.id for row in api.get_attachments(**query).content] == expected, query

    await site.sdk(walk)


async def test_attachments_are_deleted_one_by_one_and_all(site: Site) -> None:
    _, stored, ids = await arrive(site)
    (uploaded,) = (await upload(site)).json

    def walk(client: Any) -> None:
        api = SDK.AttachmentControllerApi(client)
        for identity in (ids[0], uploaded):
            api.delete_attachment(identity)
            with pytest.raises(SDK.ApiException) as gone:
                api.get_attachment(identity)
            assert gone.value.status == 404
        assert SDK.EmailControllerApi(client).get_email(str(stored.id)).attachments == ids[1:]
        api.delete_all_attachments()
        assert api.get_attachments().total_elements == 0

    await site.sdk(walk)
    assert (await site.ask("GET", f"/emails/{stored.id}/raw")).body == MIXED
    assert (await site.ask("DELETE", f"/attachments/{uploaded}")).status == 404


async def test_unknown_attachments_are_404(site: Site) -> None:
    for identity in (uuid4(), "nonsense"):
        for ending in ("", "/metadata", "/bytes", "/base64"):
            assert (await site.ask("GET", f"/attachments/{identity}{ending}")).status == 404


async def test_senders_get_the_contents_of_either_kind(site: Site) -> None:
    _, _, ids = await arrive(site)
    (uploaded,) = (await upload(site, b"hello", filename="a.txt")).json
    for identity, expected in (
        (ids[0], ("déjà.pdf", "application/pdf", PDF)),
        (uploaded, ("a.txt", "text/plain", b"hello")),
    ):
        file = await contents(site.services, AttachmentId(UUID(identity)))
        assert (file.name, file.content_type, file.content) == expected
    with pytest.raises(NotFound):
        await contents(site.services, AttachmentId(uuid4()))
