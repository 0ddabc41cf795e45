"""What API keys are good for: scopes, a single inbox; and what becomes of who tries keys."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import aiohttp
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from api_seeds import WITH_ATTACHMENT
from api_site import KEY, Reply, Site, open_site
from inboxd import metrics
from inboxd.api import gate, scopes
from inboxd.api.confines import CONFINED
from inboxd.api.examples import EXAMPLES
from inboxd.api.guesses import MOST_GUESSES, Guesses
from inboxd.api.route import Route
from inboxd.api.routes import ROUTES
from inboxd.model import ApiKey, ConnectorId, InboxId, KeyId, MessageFilter, Scope, Window, utc_now
from inboxd.store import connectors, inboxes, keys, messages, sent
from servers.stores import Linked, make_sent

KEYED: Final = [row for row in ROUTES if not (row.socket_only or row.is_open)]
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def new_key(site: Site, **wanted: object) -> str:
    made = await site.ask_control("POST", "/control/keys", {"name": "some"} | wanted)
    assert made.status == 201, made.body
    return made.json["key"]


async def ask(site: Site, key: str, method: str, path: str, body: object = None) -> Reply:
    if isinstance(body, bytes):
        return await site.ask(method, path, data=body, headers={"x-api-key": key})
    return await site.ask(method, path, body, headers={"x-api-key": key})


def refused(reason: str) -> float:
    return metrics.REGISTRY.get_sample_value("inboxd_api_keys_refused_total", {"reason": reason}) or 0.0


# --- scopes -----------------------------------------------------------------------------------------------------------


def test_every_operation_needs_a_scope_and_every_exception_is_one() -> None:
    assert [row.operation for row in KEYED if not row.scopes] == []
    operations = {row.operation for row in KEYED}
    assert operations >= scopes.NAMED
    assert operations >= set(CONFINED)


def test_an_operation_without_a_scope_is_open_to_no_key() -> None:
    key = ApiKey(KeyId("k"), "everything", utc_now())
    forgotten = replace(KEYED[0], scopes=frozenset())
    with pytest.raises(gate.Refusal, match="no API key opens") as caught:
        scopes.check(key, forgotten)
    assert caught.value.status == 403


def test_scopes_follow_from_what_an_operation_does() -> None:
    by_name = {row.operation: row.scopes for row in KEYED}
    read, send, manage = ({one} for one in Scope)
    for operation in ("getEmail", "waitFor", "searchEmails", "markAsRead", "getConnectors", "syncConnector"):
        assert by_name[operation] == read, operation
    for operation in ("sendEmail", "sendEmailFromConnector", "canSend", "uploadAttachmentBytes", "sendEmailQuery"):
        assert by_name[operation] == send, operation
    for operation in (
        "deleteEmail",
        "createWebhook",
        "applyImapFlagOperation",
        "createInbox",
        "testConnectorImapConnection",
    ):
        assert by_name[operation] == manage, operation
    assert by_name["replyToEmail"] == by_name["forwardEmail"] == read | send
    assert all(row.scopes != read or row.method == "GET" or row.operation in scopes.NAMED for row in KEYED)


async def test_a_key_does_what_its_scopes_say_and_is_told_what_it_lacks(site: Site) -> None:
    made = await site.new_connector(name="work", emailAddress="me@example.com")
    (mail,) = await site.deliver(made, WITH_ATTACHMENT)
    send = {"to": ["bob@example.com"], "body": "x"}
    tries = {
        "read": ("GET", f"/emails/{mail.id}", None),
        "send": ("POST", f"/inboxes/{made['inboxId']}/confirm", send),
        "manage": ("DELETE", f"/emails/{mail.id}", None),
    }
    before = refused("scope")
    for scope in tries:
        key = await new_key(site, scopes=[scope])
        for other, (method, path, body) in tries.items():
            answer = await ask(site, key, method, path, body)
            assert (answer.status == 403) == (other != scope), (scope, other, answer.body)
            if other != scope:
                assert f"with the scope {other};" in answer.json["message"]
                assert f"--scope {other}" in answer.json["message"]
    assert refused("scope") - before == 6
    reply = await ask(site, await new_key(site, scopes=["send"]), "PUT", f"/emails/{mail.id}", {"body": "x"})
    assert "the scope read; make one with: inboxctl key create NAME --scope read,send" in reply.json["message"]


async def test_scopes_and_inbox_are_listed_and_an_inbox_must_exist(site: Site) -> None:
    made = await site.new_connector(name="work")
    await new_key(site)
    await new_key(site, scopes=["send", "read", "read"], inboxId=made["inboxId"])
    listed = (await site.ask_control("GET", "/control/keys")).json
    assert [(row["scopes"], row["inboxId"]) for row in listed] == [
        (["read", "send", "manage"], None),
        (["read", "send"], made["inboxId"]),
    ]
    for field, value, status in (("scopes", [], 400), ("scopes", ["all"], 400), ("inboxId", str(uuid4()), 404)):
        assert (await site.ask_control("POST", "/control/keys", {"name": "some", field: value})).status == status


# --- one inbox --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Belongings:
    """Of everything one, in an inbox of its own."""

    inbox: str
    connector: str
    email: str
    attachment: str
    sent: str
    webhook: str
    address: str

    def request(self, row: Route) -> tuple[str, Any]:
        """The path with its query, and the body, that ask for all this."""
        at = "sent" if row.path.startswith("/sent") else "connector"
        own = {"inboxId": self.inbox, "emailId": self.sent if at == "sent" else self.email, "id": getattr(self, at)}
        own |= {"attachmentId": self.attachment, "webhookId": self.webhook}
        path = re.sub(r"{(\w+)}", lambda named: own[named[1]], row.path)
        query = f"inboxId={self.inbox}&inboxIds={self.inbox}&senderId={self.inbox}&include={self.email}"
        query += f"&emailAddress={self.address}&timeout=0&timeoutMillis=0&count=1&favourited=true&read=false"
        query += f"&htmlSelector=p&contentType=text/html&to=bob@example.com&size=100&name={self.address}"
        return f"{path}?{query}", self._body(row)

    def _body(self, row: Route) -> Any:
        if row.body is None or row.body is bytes:
            return row.body and b"bytes"
        body = json.loads(_UUID.sub(self.inbox, json.dumps(EXAMPLES[row.body.__name__])))
        return body | {"inboxIds": [self.inbox], "attachments": [self.attachment], "timeout": 0}

    @property
    def marks(self) -> set[str]:
        """What shows that an answer holds something of this."""
        return {self.inbox, self.connector, self.email, self.attachment, self.sent, self.webhook, self.address}


async def belongings(site: Site, name: str) -> Belongings:
    address = f"{name}@example.com"
    made = await site.new_connector(name=address, emailAddress=address)
    (mail,) = await site.deliver(made, WITH_ATTACHMENT)
    store, inbox_id = site.services.store, InboxId(UUID(made["inboxId"]))
    linked = Linked(await inboxes.get(store, inbox_id), await connectors.get(store, ConnectorId(UUID(made["id"]))))
    row = make_sent(linked)
    await sent.add(store, row, WITH_ATTACHMENT)
    hook = await site.ask("POST", f"/inboxes/{inbox_id}/webhooks", {"url": f"https://{name}.example/", "name": address})
    (attachment,) = mail.digest.attachments
    return Belongings(
        str(inbox_id), made["id"], str(mail.id), str(attachment.id), str(row.id), hook.json["id"], address
    )


async def state(site: Site, own: Belongings) -> object:
    """All of it that a request could change."""
    store, inbox_id = site.services.store, InboxId(UUID(own.inbox))
    page = await messages.page(store, MessageFilter((inbox_id,)), Window())
    outgoing = await sent.page(store, Window(), inbox_id=inbox_id)
    owner = await connectors.get(store, ConnectorId(UUID(own.connector)))
    return page.rows, outgoing.rows, owner, await inboxes.get(store, inbox_id)


def methods(row: Route) -> Iterator[str]:
    yield row.method
    if row.method == "GET":
        yield "HEAD"


async def test_a_key_of_one_inbox_neither_sees_nor_touches_another(site: Site) -> None:
    mine, theirs = await belongings(site, "mine"), await belongings(site, "theirs")
    key, before = await new_key(site, inboxId=mine.inbox), await state(site, theirs)
    seen = set[int]()
    for row in KEYED:
        for method in methods(row):
            path, body = theirs.request(row)
            answer = await ask(site, key, method, path, body)
            seen.add(answer.status)
            if row.operation not in CONFINED:
                assert answer.status == 403, (row.operation, answer.body)
            elif answer.status < 300:
                assert not {mark for mark in theirs.marks if mark in answer.body.decode()}, row.operation
            else:
                assert answer.status == 404, (row.operation, answer.body)
    assert seen == {200, 201, 403, 404}
    assert await state(site, theirs) == before


async def test_a_key_of_one_inbox_opens_all_that_is_listed_for_it(site: Site) -> None:
    mine = await belongings(site, "mine")
    key = await new_key(site, inboxId=mine.inbox)
    opened = [row for row in KEYED if row.operation in CONFINED]
    for row in sorted(opened, key=lambda row: (row.method == "DELETE", row.operation == "deleteAllInboxEmails")):
        path, body = mine.request(row)
        answer = await ask(site, key, row.method, path, body)
        # Neither of its halves is connected, so that what sends, and what changes its mailbox, is refused for that.
        assert answer.status in {200, 201, 204} or (answer.status == 409 and row.method != "GET"), row.operation


async def test_lists_hold_what_is_in_the_inbox_and_nothing_else(site: Site) -> None:
    mine, theirs = await belongings(site, "mine"), await belongings(site, "theirs")
    key = await new_key(site, scopes=["read"], inboxId=mine.inbox)
    for path in ("/inboxes", "/inboxes/ids", "/connectors", "/emails", "/emails/offset-paginated", "/sent"):
        everything, text = [(await ask(site, given, "GET", path)).body.decode() for given in (KEY, key)]
        assert any(mark in everything for mark in theirs.marks), path
        assert any(mark in text for mark in mine.marks), path
        assert not any(mark in text for mark in theirs.marks), path
    assert (await ask(site, key, "GET", f"/emails?inboxId={mine.inbox}&inboxId={theirs.inbox}")).status == 404
    included = await ask(site, key, "GET", f"/emails/offset-paginated?include={theirs.email}")
    assert [row["id"] for row in included.json["content"]] == [mine.email]
    assert (await ask(site, key, "GET", "/emails/emails/count")).json == {"totalElements": 1}
    assert (await ask(site, key, "GET", "/emails/latest")).json["id"] == mine.email


async def test_a_mail_of_one_inbox_carries_no_attachment_of_another(site: Site) -> None:
    mine, theirs = await belongings(site, "mine"), await belongings(site, "theirs")
    key = await new_key(site, scopes=["send"], inboxId=mine.inbox)
    for attachment, refused_for in ((theirs.attachment, True), (mine.attachment, False)):
        body = {"to": ["bob@example.com"], "body": "x", "attachments": [attachment]}
        answer = await ask(site, key, "POST", f"/emails/can-send?inboxId={mine.inbox}", body)
        assert (answer.status == 400 and "attachments.0" in answer.json["message"]) == refused_for, answer.body
    uploaded = await ask(site, key, "POST", "/attachments", EXAMPLES["UploadAttachmentOptions"])
    body = {"to": ["bob@example.com"], "body": "x", "attachments": uploaded.json}
    assert (await ask(site, key, "POST", f"/emails/can-send?inboxId={mine.inbox}", body)).status == 200


# --- who tries keys ---------------------------------------------------------------------------------------------------


async def test_wrong_keys_are_slowed_and_right_ones_pass(site: Site) -> None:
    created = await new_key(site)
    unknown_id = "inboxd_0123456789ab_" + "x" * 43
    slowed, wrong = refused("slowed"), refused("wrong")
    with capture_logs() as logged:
        for number in range(MOST_GUESSES):
            assert (await ask(site, f"wrong {number}", "GET", "/connectors")).status == 401
        for given in ("wrong", unknown_id, created[:-1]):
            answer = await ask(site, given, "GET", "/connectors")
            assert answer.status == 429
            assert 50 <= int(answer.headers["Retry-After"]) <= 60
            assert answer.json["error"] == "Too Many Requests"
    assert [line["wrong_keys"] for line in logged if line["event"] == "guesses_slowed"] == [MOST_GUESSES]
    assert (refused("slowed") - slowed, refused("wrong") - wrong) == (3, MOST_GUESSES)
    for given in (KEY, created):
        assert (await ask(site, given, "GET", "/connectors")).status == 200
    async with aiohttp.ClientSession() as session, session.get(f"{site.url}/connectors") as keyless:
        assert keyless.status == 401


async def test_a_short_key_of_the_setting_cannot_be_found_by_trying(tmp_path: Path) -> None:
    async with open_site(tmp_path, key="fifteen letters") as site:
        assert (await ask(site, "fifteen letters", "GET", "/connectors")).status == 200
        for number in range(MOST_GUESSES):
            await ask(site, f"wrong {number}", "GET", "/connectors")
        assert (await ask(site, "fifteen letters", "GET", "/connectors")).status == 429


def test_guesses_end_with_their_time_and_take_bounded_memory() -> None:
    guesses = Guesses(most=2, seconds=30.0)
    assert [guesses.note("192.0.2.1"), guesses.note("192.0.2.1"), guesses.note("192.0.2.2")] == [False, True, False]
    assert 29 < guesses.wait_seconds("192.0.2.1") <= 30
    assert guesses.wait_seconds("192.0.2.2") == 0
    guesses.note("2001:db8::1")
    guesses.note("2001:db8::2")
    assert guesses.wait_seconds("2001:db8:0:0:ffff::") > 0
    assert guesses.wait_seconds("2001:db8:0:1::1") == 0
    for number in range(2_000):
        guesses.note(f"10.0.{number // 250}.{number % 250}")
    assert guesses.wait_seconds("192.0.2.1") == 0
    over = Guesses(most=1, seconds=0.0)
    assert over.note("192.0.2.1") in {True, False}
    assert over.wait_seconds("192.0.2.1") == 0


async def test_a_wrong_key_costs_the_same_whatever_is_right_in_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps: one look for the id, and whole hashes compared in constant time, never the keys themselves."""
    created, gone = await new_key(site), await new_key(site)
    await site.ask_control("DELETE", f"/control/keys/{gone.split('_')[1]}")
    steps: list[tuple[object, ...]] = []
    real_compare, real_find = hmac.compare_digest, keys.find

    def compare(one: bytes, other: bytes) -> bool:
        steps.append(("compared", len(one), len(other)))
        return real_compare(one, other)

    async def find(store: Any, key_id: KeyId) -> Any:
        steps.append(("looked",))
        return await real_find(store, key_id)

    monkeypatch.setattr(gate.hmac, "compare_digest", compare)
    monkeypatch.setattr(gate.keys, "find", find)
    secret = created.split("_", 2)[2]
    tried = {
        "wrong secret": f"{created[:-3]}abc",
        "nothing right": f"inboxd_{'0' * 12}_{'x' * len(secret)}",
        "id unknown": f"inboxd_{'0' * 12}_{secret}",
        "revoked": gone,
    }
    for what, given in tried.items():
        steps.clear()
        assert await gate.known(site.services, given) is None, what
        assert steps == [("compared", 32, 32), ("looked",), ("compared", 32, 32)], what
    found = await gate.known(site.services, created)
    assert found is not None
    assert found.name == "some"
