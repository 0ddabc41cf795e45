"""MailSlurp's own Python client against the operations of inboxes, the common actions and the user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from api_site import MAIL, SDK, Site, open_site
from inboxd.model import Inbox, InboxId, utc_now
from inboxd.store import inboxes

HOUR = timedelta(hours=1)


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def _call(site: Site, operation: str, *arguments: object, **more: object) -> Any:
    return await site.sdk(lambda client: getattr(SDK.InboxControllerApi(client), operation)(*arguments, **more))


async def _common(site: Site, operation: str, **more: object) -> Any:
    return await site.sdk(lambda client: getattr(SDK.CommonActionsControllerApi(client), operation)(**more))


async def _refused(site: Site, operation: str, *arguments: object, **more: object) -> int:
    with pytest.raises(SDK.ApiException) as refused:
        await _call(site, operation, *arguments, **more)
    return int(refused.value.status)


async def _keep(site: Site, email_address: str = "box@local.example", **more: Any) -> Inbox:
    made = Inbox(id=InboxId(uuid4()), email_address=email_address, created_at=utc_now(), **more)
    await inboxes.add(site.services.store, made)
    return made


async def test_an_inbox_comes_back_as_it_was_asked_for(site: Site) -> None:
    expires_at = datetime(2100, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    asked = {
        "email_address": "Me@local.example", "name": "Mine", "description": "two\nlines", "favourite": True,
        "tags": ["b", "a", "b"], "expires_at": expires_at, "inbox_type": "SMTP_INBOX", "virtual_inbox": True,
    }  # fmt: skip
    made = await _call(site, "create_inbox", **asked, expires_in=1, use_domain_pool=True, allow_team_access=True)
    assert {name: getattr(made, name) for name in asked} == asked | {"tags": ["b", "a"]}
    assert (UUID(made.user_id), made.read_only, made.functions_as) == (site.services.user_id, False, None)
    assert (made.local_part, made.domain, made.domain_id) == ("Me", "local.example", None)
    assert abs(made.created_at - utc_now()) < HOUR
    assert await _call(site, "get_inbox", made.id) == made
    (preview,) = (await _call(site, "get_all_inboxes")).content
    assert {name: getattr(preview, name) for name in asked} == asked | {"tags": ["b", "a"]}
    assert (preview.id, preview.user_id, preview.team_access) == (made.id, made.user_id, False)


async def test_the_body_and_the_query_say_the_same(site: Site) -> None:
    asked = {"name": "Mine", "description": "words", "favourite": True, "tags": ["a", "b"], "expires_in": 3_600_000}
    queried = await _call(site, "create_inbox", **asked)
    sent = await _call(site, "create_inbox_with_options", SDK.CreateInboxDto(**asked))
    for made in (queried, sent):
        assert (made.name, made.description, made.favourite, made.tags) == ("Mine", "words", True, ["a", "b"])
        assert timedelta(0) < made.expires_at - utc_now() <= HOUR


async def test_without_wishes_there_are_defaults_and_addresses_of_ones_own(site: Site) -> None:
    made = [
        await _call(site, "create_inbox"),
        await _call(site, "create_inbox_with_defaults"),
        await _call(site, "create_inbox_with_options", SDK.CreateInboxDto()),
        await _common(site, "create_new_email_address"),
        await _common(site, "create_random_inbox"),
    ]
    assert len({one.email_address for one in made}) == 5
    for one in made:
        assert one.email_address == f"{one.id}@inboxd.local"
        assert (one.name, one.description, one.tags, one.expires_at) == (None, None, [], None)
        assert (one.favourite, one.virtual_inbox, one.inbox_type) == (False, False, "HTTP_INBOX")
    assert (await _call(site, "get_inbox_count")).total_elements == 5


@pytest.mark.parametrize(
    ("asked", "start", "end", "length"),
    [
        ({"prefix": "shop"}, "shop-", "@inboxd.local", 54),
        ({"domainName": "mail.example.com"}, "", "@mail.example.com", 53),
        ({"prefix": "a.b", "domainName": "bücher.example"}, "a.b-", "@bücher.example", 55),
        ({"useShortAddress": "true"}, "", "@inboxd.local", 21),
        ({"useShortAddress": "True", "prefix": "shop"}, "shop-", "@inboxd.local", 26),
        ({"emailAddress": "me@x.example", "prefix": "shop"}, "me@", "x.example", 12),
    ],
)
async def test_wishes_shape_the_address(site: Site, asked: dict[str, str], start: str, end: str, length: int) -> None:
    addresses: list[str] = []
    for path in ("/inboxes", "/createInbox", "/newEmailAddress"):
        answer = await site.ask("POST", path, params=asked)
        if answer.status == 201:
            addresses.append(answer.json["emailAddress"])
    assert len(set(addresses)) == (1 if "emailAddress" in asked else 3)
    for address in addresses:
        assert address.startswith(start)
        assert address.endswith(end)
        assert len(address) == length


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"emailAddress": "nobody"}, "emailAddress: write a mail address, for example name@example.com"),
        ({"emailAddress": "a@b\r\nc"}, "emailAddress: must be one line: remove CR, LF and NUL"),
        ({"domainId": str(uuid4())}, "domainId: domains are not supported; leave it out"),
        ({"domainId": "x"}, "domainId: is not a UUID"),
        ({"domainName": "a b"}, "domainName: write a domain name, for example example.com"),
        ({"domainName": ".example.com"}, "domainName: write a domain name, for example example.com"),
        ({"domainName": "x" * 300}, "domainName: must not be longer than 253 characters"),
        ({"prefix": "a@b"}, "prefix: use letters, digits, hyphens and underscores"),
        ({"prefix": "a..b"}, "prefix: use letters, digits, hyphens and underscores"),
        ({"prefix": "x" * 28}, "prefix: must not be longer than 27 characters"),
        ({"prefix": "x" * 9, "useShortAddress": True},
         "useShortAddress: would be longer than 30 characters; shorten prefix or domainName, or leave this out"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt: must be in the future"),
        ({"expiresAt": "soon"}, "expiresAt: is not a date such as 2026-01-31T12:00:00Z"),
        ({"expiresIn": 0}, "expiresIn: must not be less than 1"),
        ({"expiresIn": "x"}, "expiresIn: must be a whole number"),
        ({"inboxType": "POP"}, "inboxType: must be one of HTTP_INBOX, SMTP_INBOX"),
        ({"name": "a\nb"}, "name: must be one line: remove CR, LF and NUL"),
        ({"description": "x" * 4_097}, "description: must not be longer than 4096 characters"),
        ({"tags": ["x" * 256]}, "tags.0: must not be longer than 255 characters"),
        ({"tags": ["x"] * 101}, "tags: must not be longer than 100"),
        ({"favourite": "maybe"}, "favourite: must be true or false"),
    ],
)  # fmt: skip
async def test_wishes_that_cannot_be_met_are_400_and_say_why(
    site: Site, asked: dict[str, object], message: str
) -> None:
    answer = await site.ask("POST", "/inboxes/withOptions", asked)
    assert (answer.status, answer.json["message"]) == (400, message)
    params = {name: str(value) if isinstance(value, bool | int) else value for name, value in asked.items()}
    answer = await site.ask("POST", "/inboxes", params=params)
    assert (answer.status, answer.json["message"]) == (400, message)
    assert await inboxes.count(site.services.store) == 0


async def test_a_wish_for_very_long_is_a_hundred_years(site: Site) -> None:
    made = await _call(site, "create_inbox", expires_in=2**53 - 1)
    assert timedelta(days=36_000) < made.expires_at - utc_now() < timedelta(days=37_000)


async def test_an_address_in_use_is_409(site: Site) -> None:
    made = await _call(site, "create_inbox", email_address="me@local.example")
    assert await _refused(site, "create_inbox", email_address="ME@local.example") == 409
    linked = await site.new_connector(emailAddress="work@example.com")
    answer = await site.ask("POST", "/inboxes", params={"emailAddress": "work@example.com"})
    assert answer.status == 409
    assert linked["inboxId"] in answer.json["message"]
    await _call(site, "delete_inbox", made.id)
    assert (await _call(site, "create_inbox", email_address="me@local.example")).id != made.id


async def test_an_inbox_functions_as_connector_while_there_is_one(site: Site) -> None:
    made = await _call(site, "create_inbox")
    connector = (await site.ask("POST", f"/connectors?inboxId={made.id}", {})).json
    assert connector["inboxId"] == made.id
    assert (await _call(site, "get_inbox", made.id)).functions_as == "CONNECTOR"
    assert (await _call(site, "get_inboxes"))[0].functions_as == "CONNECTOR"
    assert (await _call(site, "get_all_inboxes")).content[0].functions_as == "CONNECTOR"
    changed = await _call(site, "update_inbox", made.id, SDK.UpdateInboxOptions(name="x"))
    assert changed.functions_as == "CONNECTOR"
    await site.ask("DELETE", f"/connectors/{connector['id']}")
    assert (await _call(site, "get_inbox", made.id)).functions_as is None


async def test_lists_are_paged_sorted_and_filtered(site: Site) -> None:
    made = [await _call(site, "create_inbox", name=f"box {number}") for number in range(3)]
    liked = await _call(site, "create_inbox", favourite=True, tags=["a", "b"], inbox_type="SMTP_INBOX")
    linked = await site.new_connector()
    ids = [*(one.id for one in made), liked.id, linked["inboxId"]]
    queries: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ids),
        ({"page": 1, "size": 2}, ids[2:4]),
        ({"sort": "DESC", "size": 2}, ids[:-3:-1]),
        ({"favourite": True}, [liked.id]),
        ({"favourite": False}, ids),
        ({"search": "BOX 1"}, [made[1].id]),
        ({"search": liked.email_address[:20]}, [liked.id]),
        ({"tag": "b"}, [liked.id]),
        ({"tag": "c"}, []),
        ({"inbox_type": "SMTP_INBOX"}, [liked.id]),
        ({"inbox_function": "CONNECTOR"}, ids[4:]),
        ({"inbox_function": "ALIAS"}, []),
        ({"team_access": True}, ids),
        ({"since": utc_now() - HOUR, "before": utc_now() + HOUR}, ids),
        ({"since": utc_now() + HOUR}, []),
        ({"before": utc_now() - HOUR}, []),
    ]
    for query, expected in queries:
        for operation in ("get_all_inboxes", "get_all_inboxes_offset_paginated"):
            page = await _call(site, operation, **query)
            assert [one.id for one in page.content] == expected, query
        names = {"page": "page_index", "size": "page_size", "sort": "sort_direction"}
        body = {names.get(name, name): value for name, value in query.items() if name != "team_access"}
        page = await _call(site, "search_inboxes", SDK.SearchInboxesOptions(**body))
        assert [one.id for one in page.content] == expected, query
    assert await _refused(site, "get_all_inboxes", domain_id=str(uuid4())) == 400
    assert (await site.ask("POST", "/inboxes/search", {"domainId": str(uuid4())})).status == 400
    page = await _call(site, "get_all_inboxes", page=1, size=2)
    assert (page.total_elements, page.total_pages, page.number, page.first, page.last) == (5, 3, 1, False, False)


async def test_the_plain_list_has_a_size_and_what_it_shall_include(site: Site) -> None:
    ids = [(await _call(site, "create_inbox")).id for _ in range(4)]
    assert [one.id for one in await _call(site, "get_inboxes")] == ids
    assert [one.id for one in await _call(site, "get_inboxes", size=1, sort="DESC")] == ids[3:]
    included = await _call(site, "get_inboxes", size=1, include=[ids[2], ids[3]], exclude_catch_all_inboxes=True)
    assert [one.id for one in included] == [ids[0], ids[2], ids[3]]
    assert await _call(site, "get_inboxes", before=utc_now() - HOUR) == []
    assert await _refused(site, "get_inboxes", include=["x"]) == 400


async def test_a_patch_keeps_what_it_does_not_name_and_clears_what_is_empty(site: Site) -> None:
    made = await _call(site, "create_inbox", name="Mine", description="words", tags=["a"], favourite=True)
    changed = await _call(site, "update_inbox", made.id, SDK.UpdateInboxOptions(name="Yours"))
    assert (changed.name, changed.description, changed.tags, changed.favourite) == ("Yours", "words", ["a"], True)
    answer = await site.ask("PATCH", f"/inboxes/{made.id}", {"name": None, "description": "", "tags": []})
    assert answer.json == (await site.ask("GET", f"/inboxes/{made.id}")).json
    assert (answer.json["name"], answer.json["description"], answer.json["tags"]) == ("Yours", None, [])
    soon = datetime(2100, 1, 1, tzinfo=UTC)
    changed = await _call(site, "update_inbox", made.id, SDK.UpdateInboxOptions(expires_at=soon, favourite=False))
    assert (changed.expires_at, changed.favourite, changed.name) == (soon, False, "Yours")
    assert (changed.email_address, changed.created_at) == (made.email_address, made.created_at)
    assert await _refused(site, "update_inbox", str(uuid4()), SDK.UpdateInboxOptions(name="x")) == 404
    assert (await site.ask("PATCH", f"/inboxes/{made.id}", {"expiresAt": "2020-01-01T00:00:00Z"})).status == 400


async def test_the_inbox_of_a_connector_cannot_expire(site: Site) -> None:
    linked = await site.new_connector()
    options = SDK.UpdateInboxOptions(expires_at=datetime(2100, 1, 1, tzinfo=UTC))
    assert await _refused(site, "update_inbox", linked["inboxId"], options) == 409
    made = await _call(site, "create_inbox", expires_in=3_600_000)
    await site.ask("POST", f"/connectors?inboxId={made.id}", {})
    assert (await _call(site, "get_inbox", made.id)).expires_at is None


async def test_nothing_is_sent_from_a_virtual_inbox(site: Site) -> None:
    made = await _call(site, "create_inbox", virtual_inbox=True)
    connector = (await site.ask("POST", f"/connectors?inboxId={made.id}", {"emailAddress": "me@example.com"})).json
    smtp = {"smtpHost": "127.0.0.1", "smtpPort": 1, "smtpUsername": "me", "smtpPassword": "secret"}
    assert (await site.ask("POST", f"/connectors/{connector['id']}/smtp", smtp)).status == 201
    mail = {"to": ["bob@example.com"], "body": "Hello"}
    for path in (f"/connectors/{connector['id']}/send", f"/inboxes/{made.id}", f"/inboxes/{made.id}/confirm"):
        answer = await site.ask("POST", path, mail)
        assert answer.status == 409, path
        assert answer.json["message"] == f"inbox {made.id} was made virtual: nothing is sent from it"
    answer = await site.ask("POST", f"/emails/can-send?inboxId={made.id}", mail)
    assert (answer.json["isSendingPermitted"], "virtual" in answer.json["message"]) == (False, True)


async def test_an_expired_inbox_is_404_everywhere(site: Site) -> None:
    over = await _keep(site, expires_at=utc_now() - timedelta(milliseconds=1), name="over")
    for method, path in (
        ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/emails"), ("GET", "/emails/paginated"),
    ):  # fmt: skip
        answer = await site.ask(method, f"/inboxes/{over.id}{path}", {} if method == "PATCH" else None)
        assert answer.status == 404, (method, path)
    assert (await site.ask("GET", f"/waitForLatestEmail?inboxId={over.id}&timeout=0")).status == 404
    assert (await site.ask("POST", f"/connectors?inboxId={over.id}", {})).status == 404
    assert (await _call(site, "get_inbox_count")).total_elements == 0


async def test_favourites_are_set_and_unset(site: Site) -> None:
    made = await _call(site, "create_inbox")
    for state in (True, False):
        changed = await _call(site, "set_inbox_favourited", made.id, SDK.SetInboxFavouritedOptions(state=state))
        assert changed.favourite is state
        assert (await _call(site, "get_inbox", made.id)).favourite is state
    options = SDK.SetInboxFavouritedOptions(state=True)
    assert await _refused(site, "set_inbox_favourited", str(uuid4()), options) == 404
    answer = await site.ask("PUT", f"/inboxes/{made.id}/favourite", {})
    assert (answer.status, answer.json["message"]) == (400, "state: is required")


async def test_an_inbox_is_found_by_address_and_name(site: Site) -> None:
    made = await _call(site, "create_inbox", email_address="Me+tag@local.example", name="Mine")
    result = await _call(site, "get_inbox_by_email_address", "me+TAG@local.example")
    assert (result.exists, result.inbox_id) == (True, made.id)
    result = await _call(site, "get_inbox_by_email_address", "nobody@local.example")
    assert (result.exists, result.inbox_id) == (False, None)
    result = await _call(site, "get_inbox_by_name", "Mine")
    assert (result.exists, result.inbox_id) == (True, made.id)
    assert not (await _call(site, "get_inbox_by_name", "mine")).exists
    more = {"allow_catch_all": True, "ip_address": "192.0.2.1", "sender": "x"}
    assert (await _call(site, "does_inbox_exist", "ME+tag@local.example", **more)).exists
    assert not (await _call(site, "does_inbox_exist", "tag@local.example", **more)).exists
    for path in ("exists", "byEmailAddress", "byName"):
        assert (await site.ask("GET", f"/inboxes/{path}")).status == 400


async def test_ids_and_count_tell_of_every_inbox(site: Site) -> None:
    assert (await _call(site, "get_inbox_ids")).inbox_ids == []
    made = [await _call(site, "create_inbox") for _ in range(3)]
    items = (await _call(site, "get_inbox_ids")).inbox_ids
    assert [(one.id, one.email_address) for one in items] == [(one.id, one.email_address) for one in made]
    assert (await _call(site, "get_inbox_count")).total_elements == 3


async def test_deleting_takes_the_mails_but_not_a_connector(site: Site) -> None:
    linked = await site.new_connector()
    (stored,) = await site.deliver(linked, MAIL)
    assert await _refused(site, "delete_inbox", linked["inboxId"]) == 409
    assert (await site.ask("DELETE", f"/deleteEmailAddress?inboxId={linked['inboxId']}")).status == 409
    assert (await site.ask("GET", f"/emails/{stored.id}")).status == 200
    await site.ask("DELETE", f"/connectors/{linked['id']}")
    await _call(site, "delete_inbox", linked["inboxId"])
    assert (await site.ask("GET", f"/emails/{stored.id}")).status == 404
    assert await _refused(site, "delete_inbox", linked["inboxId"]) == 404
    assert await _refused(site, "get_inbox", linked["inboxId"]) == 404
    made = await _call(site, "create_inbox")
    await _common(site, "delete_email_address", inbox_id=made.id)
    assert await _refused(site, "get_inbox", made.id) == 404
    assert (await site.ask("DELETE", "/deleteEmailAddress")).status == 400


async def test_deleting_all_spares_connectors_inboxes_and_other_times(site: Site) -> None:
    store, now = site.services.store, utc_now()
    for hours in range(3):
        aged = replace(Inbox(InboxId(uuid4()), f"{hours}@local.example", now), created_at=now - hours * HOUR)
        await inboxes.add(store, aged)
    linked = await site.new_connector()
    await _call(site, "delete_all_inboxes", created_at_since=now - 1.5 * HOUR, created_at_before=now - 0.5 * HOUR)
    left = [one.email_address for one in await _call(site, "get_inboxes")]
    assert left[:2] == ["2@local.example", "0@local.example"]
    await _call(site, "delete_all_inboxes")
    assert [one.id for one in await _call(site, "get_inboxes")] == [linked["inboxId"]]


async def test_one_address_asked_for_many_times_at_once_is_given_once(site: Site) -> None:
    async with asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(site.ask("POST", "/createInbox", params={"emailAddress": "one@local.example"}))
            for _ in range(8)
        ]
    assert sorted(task.result().status for task in asked) == [201] + [409] * 7


async def test_the_user_is_the_one_of_the_installation(site: Site) -> None:
    user = await site.sdk(lambda client: SDK.UserControllerApi(client).get_user_info())
    assert UUID(user.id) == site.services.user_id
    assert (user.account_state, user.account_type, user.subscription_type) == ("ACTIVE", "SOLO", None)
    assert user.email_address == "inboxd@inboxd.local"
    assert abs(user.created_at - utc_now()) < HOUR
