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
from inboxd.api.route import Route
from inboxd.api.routes import ROUTES

NONSENSE: tuple[Any, ...] = (
    None, "", "nonsense", "a\r\nb", "a\x00b", "é\U0001f600", "\u2028", "x" * 5_000, "-1", "1e400", "٣", "0x10", "1_0",
    -1, 0, 1.5, 10**12, 10**30, True, [], ["a\r\nb"], [None], [[]], [{}], {}, {"a": "b\r\nc"}, {"\x00": None},
    "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-13-45", "2026-01-01T25:00", "1700000000",
)  # fmt: skip
# Words of the library that reads requests; "cannot be used" stands for a mistake of its that we have no words for.
_FOREIGN = re.compile(r"pydantic|validation|nput should|nable to parse|instance of|cannot be used|Options(?![.:])")
_WITH_BODY = [route for route in ROUTES if route.body not in (None, bytes)]
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
    ids["login"] = made["id"]
    if "{webhookId}" in route.path:
        hook = await site.ask("POST", f"/inboxes/{made['inboxId']}/webhooks", {"url": "http://127.0.0.1:9/"})
        ids["webhookId"] = hook.json["id"]
    return re.sub(r"{(\w+)}", lambda name: ids[name[1]], route.path)


def _fields(model: type | None) -> list[str]:
    assert model is not None
    assert issubclass(model, BaseModel)
    return [str(field.validation_alias or field.alias or name) for name, field in model.model_fields.items()]


def _check(answer: Reply, what: object) -> None:
    assert answer.status < 500, (what, answer.body)
    if answer.status >= 400:
        assert set(answer.json) == {"message", "status", "error", "path", "timestamp"}, what
        assert answer.json["message"], what
        assert answer.json["status"] == answer.status, what
        assert not _FOREIGN.search(answer.json["message"]), (what, answer.json["message"])
    assert answer.status != 422, what


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
        ({"searchTerms": "FOO"}, "searchTerms: FOO is not an IMAP search key"),
        ({"mechanisms": ["PLAIN", "NTLM"]}, "mechanisms"),
        ({"sslProtocols": ["SSLv3"]}, "sslProtocols"),
        ({"sslTrust": "sha256:00ff"}, "sslTrust"),
        ({"sslTrust": "a b/c"}, "sslTrust"),
        ({"sslTrust": f"sha256:{'0' * 64}, localhost"}, "sslTrust"),
        ({"proxyEnabled": True}, "proxyHost"),
        ({"proxyHost": "ftp://proxy.example"}, "proxyHost"),
        ({"proxyHost": "proxy.example\r\nX: y"}, "proxyHost"),
        ({"proxyHost": "proxy.example", "proxyPassword": "a\nb"}, "proxyPassword"),
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
        {"sslTrust": f"SHA256:{'0A:' * 31}0a sha256:{'0' * 64}"},
        {"proxyEnabled": False, "proxyHost": "p.example", "proxyPort": 1080},
        {"proxyEnabled": True, "proxyHost": "http://p.example", "proxyUsername": "me", "proxyPassword": "x"},
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
async def test_wrong_types_and_ranges_are_400(site: Site, wrong: dict[str, object]) -> None:
    made = await site.new_connector()
    answer = await site.ask("POST", f"/connectors/{made['id']}/imap", _CONNECTION | wrong)
    assert answer.status == 400
    assert next(iter(wrong)) in answer.json["message"]


_CHOICES = (
    "validateEmailAddresses: must be one of VALIDATE_FILTER_REMOVE_INVALID, VALIDATE_ERROR_IF_INVALID, NO_VALIDATION"
)
_UPLOADS = "attachments.0: no upload or attachment with this id exists; POST /attachments makes one"
_MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("/connectors/withOptions", {}, "createConnectorOptions: is required"),
    ("/connectors/withOptions", {"createConnectorOptions": []}, "createConnectorOptions: must be a JSON object"),
    (
        "/connectors/withOptions",
        {"createConnectorOptions": {}, "createConnectorImapConnectionOptions": {"imapPort": "x"}},
        "createConnectorImapConnectionOptions.imapPort: must be a whole number",
    ),
    ("/connectors/withOptions", {"createConnectorOptions": {"name": "\x00"}},
     "createConnectorOptions.name: must not hold NUL or bytes that are not UTF-8"),
    ("/connectors", {"name": 5}, "name: must be text"),
    ("/connectors", {"name": "x" * 5_000}, "name: must not be longer than 4096 characters"),
    ("/connectors", {"enabled": "maybe"}, "enabled: must be true or false"),
    ("/connectors", {"enabled": {}}, "enabled: must be true or false"),
    ("{id}/imap", {"imapPort": 0}, "imapPort: must not be less than 1"),
    ("{id}/imap", {"imapPort": 65_536}, "imapPort: must not be greater than 65535"),
    ("{id}/imap", {"imapPort": 1.5}, "imapPort: must be a whole number"),
    ("{id}/imap", {"imapPort": "9" * 5_000}, "imapPort: is too large a number"),
    ("{id}/imap", {"mechanisms": "PLAIN"}, "mechanisms: must be a list"),
    ("{id}/imap", {"mechanisms": [5]}, "mechanisms.0: must be text"),
    ("{id}/sync-settings", {"syncScheduleType": "CRON"}, "syncScheduleType: must be one of INTERVAL"),
    ("{id}/send", {"toGroup": "x"}, "toGroup: is not a UUID"),
    ("{id}/send", {"template": 5}, "template: is not a UUID"),
    ("{id}/send", {"to": ["a@example.org", 5]}, "to.1: must be text"),
    ("{id}/send", {"to": ["a@example.org"] * 1_001}, "to: must not be longer than 1000"),
    ("{id}/send", {"customHeaders": []}, "customHeaders: must be a JSON object"),
    ("{id}/send", {"customHeaders": {"X-A": 5}}, "customHeaders.X-A: must be text"),
    ("{id}/send", {"customHeaders": {"X\nA": ""}}, "customHeaders.'X\\nA': must be one line: remove CR, LF and NUL"),
    ("{id}/send", {"bodyParts": [{"contentType": "text/plain"}]}, "bodyParts.0.contentBody: is required"),
    ("{id}/send", {"bodyParts": ["x"]}, "bodyParts.0: must be a JSON object"),
    ("{id}/send", {"validateEmailAddresses": "x"}, _CHOICES),
    ("{id}/send", {"to": ["a@example.org"], "attachments": ["x"]}, _UPLOADS),
    ("/control/keys", {"name": ""}, "name: must not be empty"),
    ("/control{id}/send", {"to": []}, "to: must not be empty"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "message"), _MISTAKES)
async def test_mistakes_in_a_body_are_400_in_plain_words(
    site: Site, path: str, body: dict[str, Any], message: str
) -> None:
    made = await site.new_connector()
    answer = await site.ask_control("POST", path.replace("{id}", f"/connectors/{made['id']}"), body)
    assert (answer.status, answer.json["message"]) == (400, message)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("since=never", "since: is not a date such as 2026-01-31T12:00:00Z"),
        ("page=-1", "page: must not be less than 0"),
        ("page=x", "page: must be a whole number"),
        ("sort=UP", "sort: must be one of ASC, DESC"),
        ("id=x", "id: is not a UUID"),
        ("eventType=x", "eventType: must be one of SYNC, SEND"),
    ],
)
async def test_mistakes_in_a_query_are_400_in_plain_words(site: Site, query: str, message: str) -> None:
    answer = await site.ask("GET", f"/connectors/events?{query}")
    assert (answer.status, answer.json["message"]) == (400, message)


async def test_every_mistake_is_named_at_once(site: Site) -> None:
    message = (await site.ask("GET", "/connectors?page=x&size=0&since=never&sort=UP")).json["message"]
    assert all(field in message for field in ("page: ", "size: ", "since: ", "sort: "))


async def test_what_was_given_is_not_repeated(site: Site) -> None:
    made = await site.new_connector()
    for secret in ("hunter2\nhunter2", ["hunter2"], {"hunter2": 1}, 5):
        answer = await site.ask("POST", f"/connectors/{made['id']}/imap", _CONNECTION | {"imapPassword": secret})
        assert answer.status == 400
        assert "hunter2" not in answer.body.decode()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({}, "to"),
        ({"to": []}, "to"),
        ({"to": "bob@example.com"}, "to"),
        ({"to": ["bob"]}, "to"),
        ({"to": ["a@example.com\r\nBcc: evil@example.com"]}, "to"),
        ({"to": ["A\r\nBcc: evil@example.com <a@example.com>"]}, "to"),
        ({"to": ["A\x00 <a@example.com>"]}, "to"),
        ({"to": ["A\x1b <a@example.com>"]}, "to"),
        ({"to": ["A <a@example.com> <b@example.com>"]}, "to"),
        ({"to": ["A <a@exa mple.com>"]}, "to"),
        ({"replyTo": "A\x07 <a@example.com>"}, "replyTo"),
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
    assert answer.status == 400
    assert field in answer.json["message"]
    assert "later" not in answer.json["message"]
