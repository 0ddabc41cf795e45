"""Whatever nonsense arrives, the answer is 4xx JSON that names the mistake, or the nonsense was harmless."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from pydantic import BaseModel

from api_site import MAIL, Reply, Site, open_site
from inboxd.api.routes import ROUTES, Route

NONSENSE: tuple[Any, ...] = (
    None, "", "nonsense", "a\r\nb", "a\x00b", "é\U0001f600", "\u2028", "x" * 5_000, "-1", "1e400", "٣", "0x10", "1_0",
    -1, 0, 1.5, 10**12, 10**30, True, [], ["a\r\nb"], [None], [[]], [{}], {}, {"a": "b\r\nc"}, {"\x00": None},
    "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-13-45", "2026-01-01T25:00", "1700000000",
)  # fmt: skip
_WITH_BODY = [route for route in ROUTES if route.body is not None]
_WITH_QUERY = [route for route in ROUTES if route.query is not None and route.lines is None]


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def _path(site: Site, route: Route) -> str:
    """The route's path with ids of what exists."""
    made = await site.new_connector(name="x", emailAddress="me@example.com")
    (stored,) = await site.deliver(made, MAIL)
    ids = {"id": made["id"], "inboxId": made["inboxId"], "emailId": str(stored.id), "key": "none"}
    return re.sub(r"{(\w+)}", lambda name: ids[name[1]], route.path)


def _fields(model: type[BaseModel] | None) -> list[str]:
    assert model is not None
    return [str(field.validation_alias or field.alias or name) for name, field in model.model_fields.items()]


def _check(answer: Reply, what: object) -> None:
    assert answer.status < 500, (what, answer.body)
    if answer.status >= 400:
        assert set(answer.json) == {"message", "status", "error", "path", "timestamp"}, what
        assert answer.json["message"], what
        assert answer.json["status"] == answer.status, what


@pytest.mark.parametrize("route", _WITH_BODY, ids=lambda route: route.operation)
async def test_no_body_makes_a_500(site: Site, route: Route) -> None:
    path = await _path(site, route)
    for field in _fields(route.body):
        for value in NONSENSE:
            _check(await site.ask_control(route.method, path, {field: value}), (field, value))
    bodies: tuple[Any, ...] = (*NONSENSE[1:], [{}], {"unknown": 1})
    for body in bodies:
        _check(await site.ask_control(route.method, path, body), body)


@pytest.mark.parametrize("route", _WITH_QUERY, ids=lambda route: route.operation)
async def test_no_query_makes_a_500(site: Site, route: Route) -> None:
    path = await _path(site, route)
    for field in _fields(route.query):
        for value in (*(value for value in NONSENSE if isinstance(value, str)), str(10**30), "\ud800", "%ff"):
            # Lone surrogates cannot be percent-encoded, so their escape goes as text.
            given = {field: value.encode(errors="backslashreplace").decode(), "timeout": "0", "retryTimeout": "0"}
            given |= {field: value.encode(errors="backslashreplace").decode()}
            if field not in ("timeout", "retryTimeout"):
                _check(await site.ask_control(route.method, path, params=given), (field, value))


_CONNECTION = {"imapHost": "imap.example.com"}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"imapHost": "imap.example.com\r\nX"}, "imapHost"),
        ({"imapHost": "imap://x"}, "imapHost"),
        ({"imapHost": "a b"}, "imapHost"),
        ({"imapHost": ""}, "imapHost"),
        ({"imapUsername": "me\r\nA1 LOGOUT"}, "imapUsername"),
        ({"imapPassword": "x\ny"}, "imapPassword"),
        ({"imapPassword": "x\x00y"}, ""),
        ({"selectFolder": "INBOX\r\n"}, "selectFolder"),
        ({"localHostName": "me\r\nMAIL FROM:<x>"}, "localHostName"),
        ({"searchTerms": "ALL\r\nA2 LOGOUT"}, "searchTerms"),
        ({"searchTerms": "FROM {5}"}, "searchTerms"),
        ({"searchTerms": "FROM {5+}"}, "searchTerms"),
        ({"searchTerms": 'FROM "x'}, "searchTerms"),
        ({"searchTerms": "(OR SEEN UNSEEN"}, "searchTerms"),
        ({"searchTerms": ")("}, "searchTerms"),
        ({"searchTerms": "FROM é"}, "searchTerms"),
        ({"mechanisms": ["PLAIN", "NTLM"]}, "mechanisms"),
        ({"sslProtocols": ["SSLv3"]}, "sslProtocols"),
        ({"sslTrust": "sha256:00ff"}, "sslTrust"),
        ({"sslTrust": "a b/c"}, "sslTrust"),
        ({"proxyEnabled": True}, "proxyEnabled"),
    ],
)
async def test_unusable_values_are_400_and_name_the_field(site: Site, wrong: dict[str, object], field: str) -> None:
    made = await site.new_connector()
    answer = await site.ask("POST", f"/connectors/{made['id']}/imap", _CONNECTION | wrong)
    assert answer.status == 400
    assert field in answer.json["message"]
    assert (await site.ask("GET", f"/connectors/{made['id']}/imap")).json == {"present": False}


@pytest.mark.parametrize(
    "good",
    [
        {"searchTerms": 'UNSEEN FROM "shop@example.com"'},
        {"searchTerms": r'SUBJECT "a \"quoted\" (word) {5}" (OR SEEN FLAGGED)'},
        {"sslTrust": "*"},
        {"sslTrust": "localhost, [::1], 127.0.0.1"},
        {"proxyEnabled": False, "proxyHost": "p.example", "proxyPort": 1080},
        {"imapHost": "::1"},
        {"imapHost": "[::1]"},
        {"imapHost": "bücher.example"},
        {"mechanisms": ["cram-md5", "XOAUTH2"]},
        {"imapPassword": "pass wörd \t*"},
        {"whatever": {"unknown": "fields"}},
    ],
)
async def test_usable_values_are_taken(site: Site, good: dict[str, object]) -> None:
    made = await site.new_connector()
    answer = await site.ask("POST", f"/connectors/{made['id']}/imap", _CONNECTION | good)
    assert answer.status == 201, answer.body


@pytest.mark.parametrize("wrong", [{"imapPort": 0}, {"imapPort": 65_536}, {"imapPort": "x"}, {"imapSsl": "maybe"}])
async def test_wrong_types_and_ranges_are_422(site: Site, wrong: dict[str, object]) -> None:
    made = await site.new_connector()
    answer = await site.ask("POST", f"/connectors/{made['id']}/imap", _CONNECTION | wrong)
    assert answer.status == 422
    assert next(iter(wrong)) in answer.json["message"]


async def test_every_mistake_is_named_at_once(site: Site) -> None:
    message = (await site.ask("GET", "/connectors?page=x&size=0&since=never&sort=UP")).json["message"]
    assert all(field in message for field in ("page: ", "size: ", "since: ", "sort: "))


async def test_what_was_given_is_not_repeated(site: Site) -> None:
    made = await site.new_connector()
    for secret in ("hunter2\nhunter2", ["hunter2"], {"hunter2": 1}, 5):
        answer = await site.ask("POST", f"/connectors/{made['id']}/imap", _CONNECTION | {"imapPassword": secret})
        assert answer.status in (400, 422)
        assert "hunter2" not in answer.body.decode()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({}, "to"),
        ({"to": []}, "to"),
        ({"to": "bob@example.com"}, "to"),
        ({"to": ["bob"]}, "to"),
        ({"to": ["a@example.com\r\nBcc: evil@example.com"]}, "to"),
        ({"subject": "x\r\nBcc: evil@example.com"}, "subject"),
        ({"cc": ["nobody"]}, "cc"),
        ({"from": "me@example.com\nX: y"}, "from"),
        ({"fromName": "x\r\ny"}, "fromName"),
        ({"replyTo": "nobody"}, "replyTo"),
        ({"customHeaders": {"X-A": "b\r\nc"}}, "customHeaders"),
        ({"customHeaders": {"X A": "b"}}, "customHeaders"),
        ({"template": str(uuid4())}, "template"),
        ({"toGroup": str(uuid4())}, "toGroup"),
        ({"toContacts": [str(uuid4())]}, "toContacts"),
        ({"attachments": ["id"]}, "attachments"),
        ({"sendStrategy": "MANY"}, "sendStrategy"),
        ({"bodyParts": [{"contentType": "text/calendar", "contentBody": ""}]}, "bodyParts"),
        ({"addTrackingPixel": True}, "addTrackingPixel"),
    ],
)
async def test_unsendable_mails_are_refused_before_anything_is_sent(
    site: Site, wrong: dict[str, object], field: str
) -> None:
    made = await site.new_connector(emailAddress="me@example.com")
    good: dict[str, object] = {"to": ["bob@example.com"], "body": "x"} if wrong else {}
    answer = await site.ask("POST", f"/connectors/{made['id']}/send", good | wrong)
    assert answer.status in (400, 422)
    assert field in answer.json["message"]
