"""WaitForController: what each wait returns, what it marks as read, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from api_site import MAIL, SDK, Site, attention, open_site
from inboxd.model import MessageId
from inboxd.store import messages
from servers.sessions import settled

FILE_MAIL = (
    b"From: Shop <shop@example.com>\r\nTo: bob@example.com\r\nSubject: Your code\r\nX-Ticket: 17\r\n"
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n'
    b'1\r\n--b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename="a.txt"\r\n\r\nx\r\n--b--\r\n'
)
MATCHING = ("/waitForMatchingEmails", "/waitForMatchingFirstEmail")


def subject(value: str, should: str = "CONTAIN") -> dict[str, Any]:
    """Match options on the subject."""
    return {"matches": [{"field": "SUBJECT", "should": should, "value": value}]}


def numbered(number: int) -> bytes:
    return b"From: a@example.com\r\nSubject: number %d\r\n\r\nx\r\n" % number


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def is_read(site: Site, email_id: object) -> bool:
    return (await messages.get(site.services.store, MessageId(email_id))).read  # type: ignore[arg-type]


async def test_the_sdk_waits_for_mail_in_every_way(site: Site) -> None:
    made = await site.new_connector()
    inbox = made["inboxId"]
    first, second, third = await site.deliver(made, numbered(1), FILE_MAIL, MAIL)

    def walk(client: Any) -> None:
        api = SDK.WaitForControllerApi(client)
        rule = SDK.MatchOption(field="SUBJECT", should="CONTAIN", value="CODE")
        options = SDK.MatchOptions(matches=[rule])
        file = SDK.MatchOptions(conditions=[SDK.ConditionOption(condition="HAS_ATTACHMENTS", value="TRUE")])
        assert [mail.id for mail in api.wait_for_email_count(inbox, 2, timeout=0)] == [str(first.id), str(second.id)]
        assert [mail.id for mail in api.wait_for_matching_emails(inbox, 1, options)] == [str(second.id)]
        assert [mail.id for mail in api.wait_for_matching_emails(inbox, 1, file, unread_only=True)] == [str(second.id)]
        assert api.wait_for_matching_first_email(inbox, options, sort="DESC").subject == "Your code"
        assert api.wait_for_nth_email(inbox_id=inbox, index=0, delay=10).id == str(first.id)
        assert api.wait_for_nth_email(inbox_id=inbox, index=0, unread_only=True).id == str(third.id)
        assert api.wait_for_latest_email(inbox_id=inbox).id == str(third.id)
        conditions = SDK.WaitForConditions(
            inbox_id=inbox, count=3, count_type="EXACTLY", timeout=0, sort_direction="DESC", unread_only=False
        )
        assert [mail.id for mail in api.wait_for(conditions)] == [str(one.id) for one in (third, second, first)]
        for call in (
            lambda: api.wait_for_nth_email(inbox_id=inbox, index=3, timeout=1),
            lambda: api.wait_for_email_count(inbox, 4, timeout=1),
            lambda: api.wait_for_matching_emails(inbox, 2, options, timeout=1),
            lambda: api.wait_for_matching_first_email(inbox, options, unread_only=True, timeout=1),
            lambda: api.wait_for(SDK.WaitForConditions(inbox_id=inbox, count=2, count_type="EXACTLY", timeout=1)),
        ):
            with pytest.raises(SDK.ApiException) as refused:
                call()
            assert refused.value.status == 408
            assert f"Failed to satisfy email query for inbox {inbox}" in refused.value.body

    await site.sdk(walk)


async def test_lists_leave_mails_unread_and_whole_mails_are_read(site: Site) -> None:
    made = await site.new_connector()
    (one,) = await site.deliver(made, MAIL)
    query = f"?inboxId={made['inboxId']}&timeout=0"
    assert (await site.ask("GET", f"/waitForEmailCount{query}&count=1")).json[0]["read"] is False
    assert (await site.ask("POST", f"/waitForMatchingEmails{query}&count=1", {})).json[0]["read"] is False
    assert (await site.ask("POST", "/waitFor", {"inboxId": made["inboxId"], "timeout": 0})).json[0]["read"] is False
    for path in ("/waitForLatestEmail", "/waitForNthEmail"):
        assert (await site.ask("HEAD", f"{path}{query}")).status == 200
    assert not await is_read(site, one.id)
    assert (await site.ask("POST", f"/waitForMatchingFirstEmail{query}", {})).json["read"] is True
    assert await is_read(site, one.id)
    assert (await site.ask("GET", f"/waitForNthEmail{query}&unreadOnly=True")).status == 408


@pytest.mark.parametrize(
    ("options", "uids"),
    [
        ({}, [1, 2]),
        (subject("hello"), [2]),
        (subject("Your code", "EQUAL"), [1]),
        (subject("^Hello (caf.)$", "MATCH"), [2]),
        ({"matches": [{"field": "HEADERS", "should": "CONTAIN", "value": "x-ticket: 17"}]}, [1]),
        ({"matches": [{"field": "FROM", "should": "EQUAL", "value": "Ada Lovelace"}]}, [2]),
        ({"conditions": [{"condition": "HAS_ATTACHMENTS", "value": "FALSE"}]}, [2]),
        ({"matches": None, "conditions": None, "unknown": 1}, [1, 2]),
    ],
)
async def test_match_options_choose_mails(site: Site, options: dict[str, Any], uids: list[int]) -> None:
    made = await site.new_connector()
    await site.deliver(made, FILE_MAIL, MAIL)
    path = f"/waitForMatchingEmails?inboxId={made['inboxId']}&timeout=0&count="
    found = await site.ask("POST", f"{path}{len(uids)}", options)
    assert [mail["subject"] for mail in found.json] == [("Your code", "Hello café")[uid - 1] for uid in uids]
    assert (await site.ask("POST", f"{path}{len(uids) + 1}", options)).status == 408


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/waitForNthEmail?inboxId={}&index=1", None),
        ("GET", "/waitForEmailCount?inboxId={}&count=2", None),
        ("POST", "/waitForMatchingEmails?inboxId={}&count=2", subject("number")),
        ("POST", "/waitForMatchingFirstEmail?inboxId={}", subject("number 2")),
        ("POST", "/waitFor", {"inboxId": "{}", "count": 2, "countType": "EXACTLY"}),
    ],
)
async def test_mail_that_arrives_ends_the_wait(site: Site, method: str, path: str, body: Any) -> None:
    made = await site.new_connector()
    await site.deliver(made, numbered(1))
    body = {**body, "inboxId": made["inboxId"]} if body else None
    seen = attention(site)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(site.ask(method, path.format(made["inboxId"]), body))
        await seen.began.wait()
        await settled(lambda: len(site.services.flights))
        await site.deliver(made, numbered(2), first_uid=2)
    answer = waiting.result()
    assert answer.status == 200
    assert answer.body.count(b'"subject":"number 2"') == 1


_RULE = {"field": "SUBJECT", "should": "CONTAIN", "value": "x"}
_WRONG: list[tuple[dict[str, Any], str]] = [
    ({"matches": [_RULE, _RULE | {"field": "BODY"}]}, "matches.1.field: must be one of SUBJECT, TO, BCC"),
    ({"matches": [_RULE | {"should": "LIKE"}]}, "matches.0.should: must be one of MATCH, CONTAIN, EQUAL"),
    ({"matches": [_RULE | {"value": ""}]}, "matches.0.value: must not be empty"),
    ({"matches": [{"field": "TO", "should": "EQUAL"}]}, "matches.0.value: is required"),
    ({"matches": [_RULE, _RULE | {"should": "MATCH", "value": "("}]}, "matches.1.value: "),
    ({"matches": "x"}, "matches: must be a list"),
    ({"matches": [_RULE] * 101}, "matches: must not be longer than 100"),
    ({"conditions": [{"condition": "HAS_ATTACHMENTS", "value": "MAYBE"}]}, "conditions.0.value: must be one of TRUE"),
    ({"conditions": [{"condition": "IS_NICE", "value": "TRUE"}]}, "conditions.0.condition: must be one of HAS_ATTACH"),
    ({"ai": {"prompt": "x"}}, "ai: matching by a prompt is not supported"),
]


@pytest.mark.parametrize(("body", "message"), _WRONG)
async def test_match_options_that_cannot_be_used_are_refused_at_once(
    site: Site, body: dict[str, Any], message: str
) -> None:
    made = await site.new_connector()
    for path in MATCHING:
        answer = await site.ask("POST", f"{path}?inboxId={made['inboxId']}&count=1", body)
        assert answer.status == 400
        assert message in answer.json["message"]
    if "conditions" not in body:
        answer = await site.ask("POST", "/waitFor", body | {"inboxId": made["inboxId"], "count": 1})
        assert (answer.status, message in answer.json["message"]) == (400, True)


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/waitForNthEmail", "", "inboxId"),
        ("/waitForNthEmail", "inboxId={}&index=-1", "index"),
        ("/waitForNthEmail", "inboxId={}&index=x", "index"),
        ("/waitForEmailCount", "inboxId={}", "count"),
        ("/waitForEmailCount", "inboxId={}&count=0", "count"),
        ("/waitForEmailCount", "inboxId={}&count=1001", "count"),
        ("/waitForEmailCount", "inboxId={}&count=1&sort=UP", "sort"),
        ("/waitForEmailCount", "inboxId={}&count=1&since=soon", "since"),
    ],
)
async def test_queries_that_cannot_be_used_are_refused(site: Site, path: str, query: str, field: str) -> None:
    answer = await site.ask("GET", f"{path}?{query.format(uuid4())}")
    assert answer.status == 400
    assert answer.json["message"].startswith(f"{field}: ")


async def test_a_wait_with_a_body_names_its_mistakes(site: Site) -> None:
    for body, field in (
        ({}, "inboxId"),
        ({"inboxId": "x"}, "inboxId"),
        ({"inboxId": str(uuid4()), "count": -1}, "count"),
        ({"inboxId": str(uuid4()), "countType": "ABOUT"}, "countType"),
        ({"inboxId": str(uuid4()), "timeout": -1}, "timeout"),
    ):
        answer = await site.ask("POST", "/waitFor", body)
        assert (answer.status, answer.json["message"].split(":")[0]) == (400, field)


async def test_unknown_inboxes_are_404(site: Site) -> None:
    query = f"?inboxId={uuid4()}&count=1"
    for path in ("/waitForNthEmail", "/waitForEmailCount"):
        assert (await site.ask("GET", f"{path}{query}")).status == 404
    for path in MATCHING:
        assert (await site.ask("POST", f"{path}{query}", subject("x"))).status == 404
    assert (await site.ask("POST", "/waitFor", {"inboxId": str(uuid4())})).status == 404
