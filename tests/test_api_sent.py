"""Sent mails read, listed and deleted, with MailSlurp's own Python client."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from api_site import SDK, Site, open_site
from inboxd.mails import Address, Sent
from inboxd.model import ConnectorId, InboxId, SentId, SentState, utc_now
from inboxd.store import sent

RAW = b"From: me@example.com\r\nSubject: hi\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def add(site: Site, made: dict[str, Any], subject: str = "hi", minutes: int = 0, **changed: Any) -> str:
    """A sent mail as the sender records it; its id."""
    fields: dict[str, Any] = {
        "id": SentId(uuid4()), "inbox_id": InboxId(UUID(made["inboxId"])),
        "connector_id": ConnectorId(UUID(made["id"])), "created_at": utc_now() + timedelta(minutes=minutes),
        "state": SentState.SENT, "sender": Address("me@example.com", "me@example.com", "Me"),
        "to": ('"Bob" <bob@example.com>',), "cc": (), "bcc": ("dora@example.com",), "subject": subject,
        "header_message_id": "1@example.com", "size_bytes": len(RAW), "sent_at": utc_now(),
        "body": "a < b\n<script>", "attachments": ("one",), "in_reply_to": "0@example.com", "excerpt": "a < b",
    }  # fmt: skip
    row = Sent(**(fields | changed))
    await sent.add(site.services.store, row, RAW)
    return str(row.id)


def api(client: Any) -> Any:
    return SDK.SentEmailsControllerApi(client)


async def test_the_sdk_lists_sent_mails(site: Site) -> None:
    made, other = await site.new_connector(), await site.new_connector()
    ids = [await add(site, made, f"mail {number}", number) for number in range(3)]
    failed = await add(site, other, "refused", 3, state=SentState.FAILED, sent_at=None)
    everything = await site.sdk(lambda client: api(client).get_sent_emails())
    assert ([row.id for row in everything.content], everything.total_elements) == ([*ids, failed], 4)
    row = everything.content[0]
    assert (row.user_id, row.inbox_id, row.virtual_send) == (str(site.services.user_id), made["inboxId"], False)
    assert (row._from, row.to, row.bcc, row.message_id, row.in_reply_to) == (
        "me@example.com", ["bob@example.com"], ["dora@example.com"], "1@example.com", "0@example.com",
    )  # fmt: skip
    assert (row.recipients.to[0].name, row.sender.name, row.attachments, row.body_excerpt) == (
        "Bob", "Me", ["one"], "a < b",
    )  # fmt: skip
    some = await site.sdk(
        lambda client: api(client).get_sent_emails(
            inbox_id=made["inboxId"], page=1, size=2, sort="DESC", search_filter="MAIL", since=utc_now() - timedelta(1)
        )
    )
    assert ([row.id for row in some.content], some.total_elements, some.last) == ([ids[0]], 3, True)


async def test_an_inbox_lists_and_counts_its_own(site: Site) -> None:
    made, other = await site.new_connector(), await site.new_connector()
    ids = [await add(site, made, subject, minutes) for minutes, subject in enumerate(("one", "two"))]
    await add(site, other)
    inbox = SDK.InboxControllerApi
    page = await site.sdk(lambda client: inbox(client).get_inbox_sent_emails(made["inboxId"], search_filter="TWO"))
    assert [row.id for row in page.content] == [ids[1]]
    assert (await site.sdk(lambda client: inbox(client).get_inbox_sent_count(made["inboxId"]))).total_elements == 2
    for path in ("sent", "sent/count"):
        assert (await site.ask("GET", f"/inboxes/{uuid4()}/{path}")).status == 404
        assert (await site.ask("GET", f"/inboxes/nonsense/{path}")).status == 404


async def test_a_sent_mail_is_shown_whole(site: Site) -> None:
    made = await site.new_connector()
    mail = await add(site, made)
    shown = await site.sdk(lambda client: api(client).get_sent_email(mail))
    assert (shown.subject, shown.body, shown.is_html, shown.transport) == (
        "hi",
        "a < b\n<script>",
        False,
        "PUBLIC_EMAIL",
    )
    assert (shown.in_reply_to, shown.text_excerpt, shown.attachments) == ("0@example.com", "a < b", ["one"])
    raw = await site.sdk(lambda client: api(client).get_raw_sent_email_json(mail))
    assert raw.content == RAW.decode()
    answer = await site.ask("GET", f"/sent/{mail}/raw")
    assert (answer.body, answer.headers["Content-Type"]) == (RAW, "text/plain; charset=utf-8")


async def test_html_is_given_as_it_is_and_text_made_harmless(site: Site) -> None:
    made = await site.new_connector()
    text = await add(site, made)
    rich = await add(site, made, body="<b>x</b>", is_html=True)
    empty = await add(site, made, body=None)
    pages = [await site.ask("GET", f"/sent/{mail}/html") for mail in (text, rich, empty)]
    assert "<script>" not in pages[0].body.decode()
    assert "a &lt; b\n&lt;script&gt;" in pages[0].body.decode()
    assert (pages[1].body, pages[2].status) == (b"<b>x</b>", 200)
    for page in pages:
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "sandbox" in page.headers["Content-Security-Policy"]
    assert await site.sdk(lambda client: api(client).get_sent_email_html_content(rich)) == "<b>x</b>"


async def test_preview_urls_lead_to_the_mail(site: Site) -> None:
    mail = await add(site, await site.new_connector())
    urls = await site.sdk(lambda client: api(client).get_sent_email_preview_ur_ls(mail))
    assert urls.origin == site.url
    for url, content in ((urls.raw_smtp_message_url, RAW), (urls.plain_html_body_url, b"<pre")):
        async with site.tcp.get(url) as response:
            assert response.status == 200
            assert (await response.read()).startswith(content)


async def test_sent_mails_are_deleted_one_by_one_and_all(site: Site) -> None:
    made = await site.new_connector()
    ids = [await add(site, made) for _ in range(3)]
    assert await site.sdk(lambda client: api(client).delete_sent_email(ids[0])) is None
    assert (await site.ask("DELETE", f"/sent/{ids[0]}")).status == 404
    assert (await site.ask("GET", "/sent")).json["totalElements"] == 2
    assert await site.sdk(lambda client: api(client).delete_all_sent_emails()) is None
    assert (await site.ask("DELETE", "/sent")).status == 204
    assert (await site.ask("GET", "/sent")).json["content"] == []


@pytest.mark.parametrize("path", ["", "/html", "/urls", "/raw", "/raw/json"])
async def test_unknown_and_malformed_ids_are_404(site: Site, path: str) -> None:
    for identity in (str(uuid4()), "nonsense", "%00"):
        answer = await site.ask("GET", f"/sent/{identity}{path}")
        assert (answer.status, "message" in answer.json) == (404, True)
    with pytest.raises(SDK.ApiException) as refused:
        await site.sdk(lambda client: api(client).get_sent_email(str(uuid4())))
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("query", "field"), [("page=-1", "page"), ("size=x", "size"), ("sort=UP", "sort"), ("since=x", "since"),
                         ("before=x", "before"), ("inboxId=x", "inboxId")],
)  # fmt: skip
async def test_mistakes_in_a_list_query_are_400(site: Site, query: str, field: str) -> None:
    answer = await site.ask("GET", f"/sent?{query}")
    assert (answer.status, answer.json["message"].partition(":")[0]) == (400, field)
