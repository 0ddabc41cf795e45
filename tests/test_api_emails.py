"""Mails in the store, read with MailSlurp's own Python client and with plain HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from api_site import MAIL, SDK, Site, attention, open_site
from inboxd.model import MessageId
from inboxd.store import messages

HTML_MAIL = (
    b"From: a@example.com\r\nTo: b@example.com\r\nSubject: Both\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="m"\r\n\r\n'
    b'--m\r\nContent-Type: multipart/alternative; boundary="a"\r\n\r\n'
    b"--a\r\nContent-Type: text/plain\r\n\r\nplain words\r\n"
    b"--a\r\nContent-Type: text/html\r\n\r\n<p>rich words</p>\r\n--a--\r\n"
    b"--m\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=x.pdf\r\n\r\nPDF\r\n--m--\r\n"
)
ODD_MAIL = b"Subject: caf\xe9\r\nX-Raw: \x00\xff\r\n\r\n\xe9\x00\r\n"


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def test_a_whole_mail_is_complete_and_marked_read(site: Site) -> None:
    made = await site.new_connector()
    (stored,) = await site.deliver(made, MAIL)
    mail = await site.sdk(lambda client: SDK.EmailControllerApi(client).get_email(str(stored.id)))
    assert (mail.subject, mail._from, mail.to) == (
        "Hello café",
        "ada@example.com",
        ["bob@example.com", "carl@example.com"],
    )
    assert (mail.cc, mail.bcc, mail.reply_to) == (["dora@example.com"], [], "reply@example.com")
    assert (mail.message_id, mail.in_reply_to, mail.external_id) == ("one@example.com", "zero@example.com", "1")
    assert (mail.sender.name, mail.sender.email_address) == ("Ada Lovelace", "ada@example.com")
    assert mail.recipients.to[0].raw_value == "Bob <bob@example.com>"
    assert (mail.body.strip(), mail.is_html, mail.charset) == ("Good morning é", False, "utf-8")
    assert mail.headers_map["Message-ID"] == ["<one@example.com>"]
    assert mail.headers["Message-ID"] == "<one@example.com>"
    assert (mail.read, mail.team_access, mail.size_bytes) == (True, False, len(MAIL))
    assert (mail.user_id, mail.inbox_id) == (str(site.services.user_id), made["inboxId"])
    assert (await messages.get(site.services.store, stored.id)).read


async def test_html_goes_before_text_and_attachments_are_named_by_id(site: Site) -> None:
    made = await site.new_connector()
    (stored,) = await site.deliver(made, HTML_MAIL)
    mail = (await site.ask("GET", f"/emails/{stored.id}")).json
    assert (mail["body"].strip(), mail["isHTML"], mail["html"]) == ("<p>rich words</p>", True, True)
    assert mail["textExcerpt"].strip() == "plain words"
    assert mail["attachments"] == [str(stored.digest.attachments[0].id)]


async def test_lists_do_not_mark_as_read_and_can_show_unread_alone(site: Site) -> None:
    made = await site.new_connector()
    first, second = await site.deliver(made, MAIL, HTML_MAIL)
    inbox = f"/inboxes/{made['inboxId']}/emails"
    for path in (inbox, f"{inbox}/paginated", "/emails"):
        assert (await site.ask("GET", path)).status == 200
    assert not (await messages.get(site.services.store, first.id)).read
    await site.ask("GET", f"/emails/{first.id}")
    for value in ("true", "True", "TRUE"):
        unread = (await site.ask("GET", f"{inbox}?unreadOnly={value}")).json
        assert [row["id"] for row in unread] == [str(second.id)]
    assert (await site.ask("GET", "/emails?unreadOnly=True")).json["totalElements"] == 1
    assert len((await site.ask("GET", f"{inbox}?unreadOnly=False")).json) == 2


async def test_head_does_not_mark_as_read(site: Site) -> None:
    made = await site.new_connector()
    (stored,) = await site.deliver(made, MAIL)
    for path in (f"/emails/{stored.id}", f"/waitForLatestEmail?inboxId={made['inboxId']}&timeout=1000"):
        head = await site.ask("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert not (await messages.get(site.services.store, stored.id)).read
        assert (await site.ask("GET", path)).json["read"] is True
        assert (await messages.get(site.services.store, stored.id)).read
        await messages.mark_read(site.services.store, stored.id, read=False)
    assert (await site.ask("HEAD", f"/emails/{uuid4()}")).status == 404


async def test_an_inbox_is_listed_by_the_sdk(site: Site) -> None:
    made = await site.new_connector()
    stored = await site.deliver(made, *([MAIL] * 5))
    ids = [str(message.id) for message in stored]

    def walk(client: Any) -> None:
        api = SDK.InboxControllerApi(client)
        assert [row.id for row in api.get_emails(made["inboxId"])] == ids
        assert [row.id for row in api.get_emails(made["inboxId"], size=2, limit=4, sort="DESC")] == ids[:2:-1]
        assert len(api.get_emails(made["inboxId"], limit=3)) == 3
        yesterday = datetime.now(UTC) - timedelta(days=1)
        assert len(api.get_emails(made["inboxId"], since=yesterday, unread_only=True)) == 5
        assert api.get_emails(made["inboxId"], before=yesterday) == []
        page = api.get_inbox_emails_paginated(made["inboxId"], page=1, size=2, sync_connectors=False)
        assert [row.id for row in page.content] == ids[2:4]
        assert page.content[0]._from == "ada@example.com"
        preview = page.content[0]
        assert (preview.read, preview.sender.name, preview.size_bytes) == (False, "Ada Lovelace", len(MAIL))

    await site.sdk(walk)


async def test_mails_are_listed_over_inboxes(site: Site) -> None:
    made = [await site.new_connector() for _ in range(3)]
    for connector, raw in zip(made, (MAIL, HTML_MAIL, MAIL), strict=True):
        await site.deliver(connector, raw)
    inboxes = [connector["inboxId"] for connector in made]

    def walk(client: Any) -> None:
        api = SDK.EmailControllerApi(client)
        assert api.get_emails_paginated().total_elements == 3
        some = api.get_emails_paginated(inbox_id=inboxes[:2], sort="DESC", unread_only=True)
        assert [row.inbox_id for row in some.content] == [inboxes[1], inboxes[0]]
        found = api.get_emails_paginated(search_filter="caf")
        assert {row.inbox_id for row in found.content} == {inboxes[0], inboxes[2]}
        assert found.content[0].imap_uid == 1
        assert found.content[0].text_excerpt == "Good morning é"
        assert api.get_emails_paginated(favourited=True).content == []

    await site.sdk(walk)
    assert (await site.ask("GET", f"/emails?inboxId={inboxes[0]}&inboxId=&searchFilter=")).json["totalElements"] == 1
    assert (await site.ask("GET", f"/emails?inboxId={uuid4()}")).json["content"] == []
    assert (await site.ask("GET", f"/emails?plusAddressId={uuid4()}")).status == 400


async def test_a_page_of_mails_holds_a_hundred_at_most(site: Site) -> None:
    made = await site.new_connector()
    await site.deliver(made, *([MAIL] * 105))
    page = (await site.ask("GET", f"/inboxes/{made['inboxId']}/emails/paginated?size=1000")).json
    assert (page["size"], page["numberOfElements"], page["totalPages"]) == (100, 100, 2)
    assert len((await site.ask("GET", f"/inboxes/{made['inboxId']}/emails?limit=999")).json) == 100


@pytest.mark.parametrize("raw", [MAIL, HTML_MAIL, ODD_MAIL, b"123", b"\r\n"])
async def test_raw_contents_are_byte_exact(site: Site, raw: bytes) -> None:
    made = await site.new_connector()
    (stored,) = await site.deliver(made, raw)
    answer = await site.ask("GET", f"/emails/{stored.id}/raw")
    assert (answer.body, answer.headers["Content-Type"]) == (raw, "text/plain; charset=utf-8")
    assert (await site.ask("GET", f"/emails/{stored.id}")).status == 200
    content = (await site.ask("GET", f"/emails/{stored.id}/raw/json")).json["content"]
    assert raw in (content.encode(), content.encode("latin-1", "replace"))


async def test_the_sdk_reads_raw_mails(site: Site) -> None:
    made = await site.new_connector()
    (stored,) = await site.deliver(made, MAIL)

    def walk(client: Any) -> tuple[Any, bytes, str]:
        api = SDK.EmailControllerApi(client)
        response = api.get_raw_email_contents(str(stored.id), _preload_content=False)
        return api.get_raw_email_contents(str(stored.id)), response.data, api.get_raw_email_json(str(stored.id)).content

    nothing, raw, text = await site.sdk(walk)
    assert nothing is None
    assert (raw, text.encode()) == (MAIL, MAIL)


async def test_a_deleted_mail_is_gone(site: Site) -> None:
    made = await site.new_connector()
    (stored,) = await site.deliver(made, MAIL)
    await site.sdk(lambda client: SDK.EmailControllerApi(client).delete_email(str(stored.id)))
    for path in ("", "/raw", "/raw/json"):
        assert (await site.ask("GET", f"/emails/{stored.id}{path}")).status == 404
    assert (await site.ask("DELETE", f"/emails/{stored.id}")).status == 404


async def test_unknown_inboxes_are_404(site: Site) -> None:
    for path in (f"/inboxes/{uuid4()}/emails", f"/inboxes/{uuid4()}/emails/paginated"):
        assert (await site.ask("GET", path)).status == 404
    assert (await site.ask("GET", f"/waitForLatestEmail?inboxId={uuid4()}")).status == 404


async def test_waiting_answers_at_once_with_the_newest_mail(site: Site) -> None:
    made = await site.new_connector()
    _, newest = await site.deliver(made, HTML_MAIL, MAIL)
    mail = await site.sdk(
        lambda client: SDK.WaitForControllerApi(client).wait_for_latest_email(inbox_id=made["inboxId"], timeout=30_000)
    )
    assert (mail.id, mail.subject, mail.read) == (str(newest.id), "Hello café", True)
    assert (await messages.get(site.services.store, MessageId(newest.id))).read


async def test_waiting_is_ended_by_a_mail_that_arrives(site: Site) -> None:
    made = await site.new_connector()
    (old,) = await site.deliver(made, MAIL)
    await site.ask("GET", f"/emails/{old.id}")
    path = f"/waitForLatestEmail?inboxId={made['inboxId']}&unreadOnly=True&timeout=30000"
    seen = attention(site)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(site.ask("GET", path))
        await seen.began.wait()
        (new,) = await site.deliver(made, HTML_MAIL, first_uid=2)
    assert waiting.result().json["id"] == str(new.id)


async def test_waiting_in_vain_is_408_and_names_the_inbox(site: Site) -> None:
    made = await site.new_connector()
    answer = await site.ask("GET", f"/waitForLatestEmail?inboxId={made['inboxId']}&timeout=1")
    assert answer.status == 408
    assert answer.json["message"].startswith(f"Failed to satisfy email query for inbox {made['inboxId']}")
    with pytest.raises(SDK.ApiException) as refused:
        await site.sdk(
            lambda client: SDK.WaitForControllerApi(client).wait_for_latest_email(inbox_id=made["inboxId"], timeout=1)
        )
    assert refused.value.status == 408


async def test_waiting_needs_an_inbox_and_a_sensible_timeout(site: Site) -> None:
    for query in ("", "?timeout=5", "?inboxId=x", f"?inboxId={uuid4()}&timeout=-1", f"?inboxId={uuid4()}&timeout=abc"):
        answer = await site.ask("GET", f"/waitForLatestEmail{query}")
        assert answer.status == 400, query
    assert "inboxId: is required" in (await site.ask("GET", "/waitForLatestEmail")).json["message"]


async def test_get_emails_waits_for_enough_mails(site: Site) -> None:
    made = await site.new_connector()
    await site.deliver(made, MAIL)
    path = f"/inboxes/{made['inboxId']}/emails?minCount=2"
    assert len((await site.ask("GET", f"{path}&retryTimeout=1")).json) == 1
    seen = attention(site)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(site.ask("GET", f"{path}&retryTimeout=30000"))
        await seen.began.wait()
        await site.deliver(made, MAIL, first_uid=2)
    assert len(waiting.result().json) == 2


async def test_a_stop_ends_waits_with_503(site: Site) -> None:
    made = await site.new_connector()
    seen = attention(site)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(site.ask("GET", f"/waitForLatestEmail?inboxId={made['inboxId']}"))
        await seen.began.wait()
        await site.runner.cleanup()
    assert (waiting.result().status, waiting.result().json["message"]) == (503, "inboxd is stopping; ask again later")
