"""Lists, searches and counts over inboxes, and the newest mail."""

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

OTHER = b"From: eve@example.com\r\nTo: bob@example.com\r\nSubject: Other\r\n\r\nother words\r\n"
UNKNOWN = uuid4()


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def three(site: Site) -> tuple[list[str], list[MessageId]]:
    """Two inboxes, the first with two mails, the second with the newest; the mails in order of arrival."""
    made = [await site.new_connector() for _ in range(2)]
    stored = [*await site.deliver(made[0], MAIL, OTHER), *await site.deliver(made[1], MAIL)]
    return [connector["inboxId"] for connector in made], [message.id for message in stored]


async def is_read(site: Site, message_id: MessageId) -> bool:
    return (await messages.get(site.services.store, message_id)).read


@pytest.mark.parametrize("path", ["/emails", "/emails/offset-paginated", "/emails/organization"])
async def test_every_list_over_inboxes_takes_the_same_filters(site: Site, path: str) -> None:
    inboxes, ids = await three(site)
    await messages.mark_read(site.services.store, ids[0], read=True)
    await site.ask("PUT", f"/emails/{ids[1]}/favourite?favourited=true")
    for query, expected in (
        ("", ids),
        ("?size=2&page=1", ids[2:]),
        ("?sort=DESC", ids[::-1]),
        (f"?inboxId={inboxes[0]}", ids[:2]),
        (f"?inboxId={inboxes[0]}&inboxId={inboxes[1]}", ids),
        ("?unreadOnly=True", ids[1:]),
        ("?favourited=true", ids[1:2]),
        ("?searchFilter=eve@", ids[1:2]),
        ("?since=2100-01-01", []),
        ("?before=2000-01-01", []),
    ):
        answer = await site.ask("GET", f"{path}{query}")
        assert [row["id"] for row in answer.json["content"]] == [str(one) for one in expected], query
    assert (await site.ask("GET", f"{path}?plusAddressId={UNKNOWN}")).status == 400
    assert not await is_read(site, ids[1])


async def test_the_sdk_lists_over_inboxes(site: Site) -> None:
    inboxes, ids = await three(site)

    def walk(client: Any) -> None:
        api = SDK.EmailControllerApi(client)
        page = api.get_emails_offset_paginated(inbox_id=inboxes, size=2, sort="DESC", include=[str(ids[0])])
        assert ([row.id for row in page.content], page.total_elements) == ([str(ids[2]), str(ids[1])], 3)
        assert api.get_organization_emails_paginated(unread_only=True, search_filter="other").total_elements == 1

    await site.sdk(walk)


@pytest.mark.parametrize("query", ["before=2000-01-01", "searchFilter=eve@", "searchFilter=nobody", "favourited=true"])
async def test_mails_to_include_are_there_whatever_else_is_asked(site: Site, query: str) -> None:
    _, ids = await three(site)
    alone = await site.ask("GET", f"/emails/offset-paginated?{query}")
    joined = await site.ask("GET", f"/emails/offset-paginated?{query}&include={ids[2]}&include={UNKNOWN}")
    found = [row["id"] for row in alone.json["content"]]
    assert str(ids[2]) not in found
    assert [row["id"] for row in joined.json["content"]] == [*found, str(ids[2])]
    assert joined.json["totalElements"] == len(found) + 1


async def test_the_sdk_searches(site: Site) -> None:
    inboxes, ids = await three(site)
    yesterday = datetime.now(UTC) - timedelta(days=1)

    def walk(client: Any) -> None:
        api = SDK.EmailControllerApi(client)
        for options, expected in (
            ({}, ids),
            ({"page_index": 1, "page_size": 1}, ids[1:2]),
            ({"sort_direction": "DESC"}, ids[::-1]),
            ({"inbox_ids": inboxes[:1], "search_filter": "HELLO"}, ids[:1]),
            ({"since": yesterday, "unread_only": True}, ids),
            ({"before": yesterday}, []),
        ):
            page = api.search_emails(SDK.SearchEmailsOptions(**options))
            assert [row.id for row in page.content] == [str(one) for one in expected], options
        assert api.search_emails(SDK.SearchEmailsOptions(), favourited=True).content == []
        with pytest.raises(SDK.ApiException) as refused:
            api.search_emails(SDK.SearchEmailsOptions(), plus_address_id=str(UNKNOWN))
        assert refused.value.status == 400

    await site.sdk(walk)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"inboxIds": "x"}, "inboxIds"),
        ({"inboxIds": ["x"]}, "inboxIds.0"),
        ({"inboxIds": [str(UNKNOWN)] * 1_001}, "inboxIds"),
        ({"pageIndex": -1}, "pageIndex"),
        ({"pageSize": 0}, "pageSize"),
        ({"sortDirection": "UP"}, "sortDirection"),
        ({"since": "never"}, "since"),
    ],
)
async def test_a_search_that_cannot_be_used_names_its_field(site: Site, body: dict[str, Any], field: str) -> None:
    answer = await site.ask("POST", "/emails/search", body)
    assert (answer.status, answer.json["message"].startswith(f"{field}: ")) == (400, True)


async def test_a_search_page_holds_a_hundred_at_most(site: Site) -> None:
    assert (await site.ask("POST", "/emails/search", {"pageSize": 5_000})).json["size"] == 100


async def test_mails_are_counted(site: Site) -> None:
    inboxes, ids = await three(site)
    await messages.mark_read(site.services.store, ids[0], read=True)

    def walk(client: Any) -> None:
        emails, boxes = SDK.EmailControllerApi(client), SDK.InboxControllerApi(client)
        assert emails.get_email_count().total_elements == 3
        assert emails.get_email_count(inbox_id=inboxes[0]).total_elements == 2
        assert emails.get_unread_email_count().count == 2
        assert emails.get_unread_email_count(inbox_id=inboxes[0]).count == 1
        assert boxes.get_inbox_email_count(inboxes[1]).total_elements == 1
        with pytest.raises(SDK.ApiException) as unknown:
            boxes.get_inbox_email_count(str(UNKNOWN))
        assert unknown.value.status == 404

    await site.sdk(walk)
    assert (await site.ask("GET", f"/emails/emails/count?inboxId={UNKNOWN}")).json == {"totalElements": 0}
    assert (await site.ask("GET", "/emails/unreadCount?inboxId=x")).status == 400


async def test_the_sdk_gets_the_newest_mail_which_is_read_from_then_on(site: Site) -> None:
    inboxes, ids = await three(site)

    def walk(client: Any) -> tuple[Any, ...]:
        emails, boxes = SDK.EmailControllerApi(client), SDK.InboxControllerApi(client)
        return (
            emails.get_latest_email(),
            emails.get_latest_email(inbox_ids=inboxes),
            emails.get_latest_email_in_inbox1(inboxes[0]),
            boxes.get_latest_email_in_inbox(inboxes[0], 0),
        )

    found = await site.sdk(walk)
    assert [mail.id for mail in found] == [str(ids[2]), str(ids[2]), str(ids[1]), str(ids[1])]
    assert all(mail.read for mail in found)
    assert [await is_read(site, one) for one in ids] == [False, True, True]


async def test_head_of_the_newest_mail_leaves_it_unread(site: Site) -> None:
    inboxes, ids = await three(site)
    for path in (
        "/emails/latest",
        f"/emails/latestIn?inboxId={inboxes[1]}",
        f"/inboxes/getLatestEmail?inboxId={inboxes[1]}&timeoutMillis=0",
    ):
        assert (await site.ask("HEAD", path)).status == 200
        assert not await is_read(site, ids[2])


async def test_no_newest_mail_is_404_or_408(site: Site) -> None:
    inbox = (await site.new_connector())["inboxId"]
    for path in ("/emails/latest", f"/emails/latest?inboxIds={inbox}", f"/emails/latestIn?inboxId={inbox}"):
        assert (await site.ask("GET", path)).status == 404
    late = await site.ask("GET", f"/inboxes/getLatestEmail?inboxId={inbox}&timeoutMillis=1")
    assert (late.status, f"Failed to satisfy email query for inbox {inbox}" in late.json["message"]) == (408, True)
    assert (await site.ask("GET", f"/inboxes/getLatestEmail?inboxId={UNKNOWN}&timeoutMillis=1")).status == 404
    for query in ("", f"?inboxId={inbox}", f"?inboxId={inbox}&timeoutMillis=-1", "?inboxId=x&timeoutMillis=1"):
        assert (await site.ask("GET", f"/inboxes/getLatestEmail{query}")).status == 400
    for query in ("", "?inboxId=x"):
        assert (await site.ask("GET", f"/emails/latestIn{query}")).status == 400


async def test_the_newest_mail_is_waited_for(site: Site) -> None:
    made = await site.new_connector()
    seen = attention(site)
    async with asyncio.TaskGroup() as group:
        path = f"/inboxes/getLatestEmail?inboxId={made['inboxId']}&timeoutMillis=30000"
        waiting = group.create_task(site.ask("GET", path))
        await seen.began.wait()
        (new,) = await site.deliver(made, MAIL)
    assert waiting.result().json["id"] == str(new.id)


async def test_a_summary_leaves_the_mail_unread(site: Site) -> None:
    _, ids = await three(site)
    mail = await site.sdk(lambda client: SDK.EmailControllerApi(client).get_email_summary(str(ids[0]), decode=True))
    assert (mail.id, mail.subject, mail._from, mail.read) == (str(ids[0]), "Hello café", "ada@example.com", False)
    assert not await is_read(site, ids[0])
    assert (await site.ask("GET", f"/emails/{UNKNOWN}/summary")).status == 404


async def test_a_mails_urls_are_those_the_client_asked_at(site: Site) -> None:
    _, ids = await three(site)
    urls = await site.sdk(lambda client: SDK.EmailControllerApi(client).get_email_preview_ur_ls(str(ids[0])))
    assert urls.origin == site.url
    assert urls.raw_smtp_message_url == f"{site.url}/emails/{ids[0]}/raw"
    assert urls.plain_html_body_url == f"{site.url}/emails/{ids[0]}/html"
    key = dict(site.tcp.headers)["x-api-key"]
    async with site.tcp.get(f"{urls.raw_smtp_message_url}?apiKey={key}", headers={"x-api-key": ""}) as answer:
        assert await answer.read() == MAIL
    assert (await site.ask("GET", f"/emails/{UNKNOWN}/urls")).status == 404
