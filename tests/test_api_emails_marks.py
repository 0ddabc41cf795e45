"""Marking mails, and deleting them, one and many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from api_site import MAIL, SDK, Site, attention, open_site
from inboxd.mails import Message
from inboxd.store import messages

UNKNOWN = str(uuid4())


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def two(site: Site) -> tuple[dict[str, Any], dict[str, Any], list[Message]]:
    """Two connectors, with a mail each."""
    first, second = await site.new_connector(), await site.new_connector()
    return first, second, [*await site.deliver(first, MAIL), *await site.deliver(second, MAIL)]


async def reads(site: Site, stored: list[Message]) -> list[bool]:
    return [(await messages.get(site.services.store, message.id)).read for message in stored]


async def test_the_sdk_marks_one_mail_as_read_and_unread(site: Site) -> None:
    _, _, stored = await two(site)

    def walk(client: Any) -> None:
        api = SDK.EmailControllerApi(client)
        assert api.mark_as_read(str(stored[0].id)).read is True
        assert api.mark_as_read(str(stored[0].id), read=False).read is False
        assert api.mark_as_read(str(stored[1].id), read=True).id == str(stored[1].id)
        with pytest.raises(SDK.ApiException) as unknown:
            api.mark_as_read(UNKNOWN)
        assert unknown.value.status == 404

    await site.sdk(walk)
    assert await reads(site, stored) == [False, True]
    assert (await site.ask("PATCH", f"/emails/{stored[0].id}/read?read=maybe")).status == 400


async def test_the_sdk_marks_all_mails(site: Site) -> None:
    first, _, stored = await two(site)

    async def mark(**options: Any) -> None:
        assert await site.sdk(lambda client: SDK.EmailControllerApi(client).mark_all_as_read(**options)) is None

    await mark(inbox_id=first["inboxId"])
    assert await reads(site, stored) == [True, False]
    await mark()
    assert await reads(site, stored) == [True, True]
    await mark(read=False)
    assert await reads(site, stored) == [False, False]
    with pytest.raises(SDK.ApiException) as unknown:
        await mark(inbox_id=UNKNOWN)
    assert unknown.value.status == 404
    assert (await site.ask("PATCH", "/emails/read?inboxId=x")).status == 400


@pytest.mark.parametrize("path", ["/emails/{id}/read?read=false", "/emails/read?read=false"])
async def test_one_who_waits_for_unread_mail_sees_a_mail_become_unread(site: Site, path: str) -> None:
    first, _, stored = await two(site)
    await messages.mark_read(site.services.store, stored[0].id, read=True)
    seen = attention(site)
    async with asyncio.TaskGroup() as group:
        query = f"inboxId={first['inboxId']}&unreadOnly=true&timeout=30000"
        waiting = group.create_task(site.ask("GET", f"/waitForLatestEmail?{query}"))
        await seen.began.wait()
        await site.ask("PATCH", path.format(id=stored[0].id))
    assert waiting.result().json["id"] == str(stored[0].id)


async def test_the_sdk_marks_favourites(site: Site) -> None:
    _, _, stored = await two(site)

    def walk(client: Any) -> None:
        api = SDK.EmailControllerApi(client)
        assert api.set_email_favourited(str(stored[0].id), favourited=True) is None
        assert [row.id for row in api.get_emails_paginated(favourited=True).content] == [str(stored[0].id)]
        assert api.get_email(str(stored[0].id)).favourite is True
        api.set_email_favourited(str(stored[0].id), favourited=False)
        assert api.get_emails_paginated(favourited=True).total_elements == 0
        with pytest.raises(SDK.ApiException) as unknown:
            api.set_email_favourited(UNKNOWN, favourited=True)
        assert unknown.value.status == 404

    await site.sdk(walk)
    missing = await site.ask("PUT", f"/emails/{stored[0].id}/favourite")
    assert (missing.status, missing.json["message"]) == (400, "favourited: is required")


async def test_the_sdk_empties_one_inbox_either_way(site: Site) -> None:
    first, second, _ = await two(site)

    def walk(client: Any) -> None:
        SDK.CommonActionsControllerApi(client).empty_inbox(first["inboxId"])
        assert SDK.EmailControllerApi(client).get_email_count().total_elements == 1
        SDK.InboxControllerApi(client).delete_all_inbox_emails(second["inboxId"])
        assert SDK.EmailControllerApi(client).get_email_count().total_elements == 0
        for refused in (
            SDK.CommonActionsControllerApi(client).empty_inbox,
            SDK.InboxControllerApi(client).delete_all_inbox_emails,
        ):
            with pytest.raises(SDK.ApiException) as unknown:
                refused(UNKNOWN)
            assert unknown.value.status == 404

    await site.sdk(walk)
    for query in ("", "?inboxId=x"):
        assert (await site.ask("DELETE", f"/emptyInbox{query}")).status == 400


async def test_emptied_inboxes_stay_empty_at_the_next_sync(site: Site) -> None:
    first, _, _ = await two(site)
    assert (await site.ask("DELETE", f"/emptyInbox?inboxId={first['inboxId']}")).status == 204
    assert await site.deliver(first, MAIL) == []
    assert len(await site.deliver(first, MAIL, first_uid=2)) == 1


async def test_the_sdk_deletes_all_mails_of_a_span(site: Site) -> None:
    _, _, stored = await two(site)
    moment = stored[1].created_at.isoformat()

    def walk(client: Any) -> None:
        api = SDK.EmailControllerApi(client)
        api.delete_all_emails(created_at_since="2100-01-01T00:00:00Z")
        assert api.get_email_count().total_elements == 2
        api.delete_all_emails(created_at_before=moment)
        assert [row.id for row in api.get_emails_paginated().content] == [str(stored[1].id)]
        assert api.delete_all_emails() is None
        assert api.get_email_count().total_elements == 0
        with pytest.raises(SDK.ApiException) as refused:
            api.delete_all_emails(created_at_since="never")
        assert refused.value.status == 400

    await site.sdk(walk)
