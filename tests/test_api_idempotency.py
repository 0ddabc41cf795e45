"""Idempotency-Key: however often a request comes under one key, one mail goes out, and every answer is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
import pytest_asyncio

from api_site import MAIL, SDK, Reply, Site, open_site
from inboxd.api.wire.codec import fingerprint
from inboxd.model import Window
from inboxd.store import sent
from servers.smtp import Fault, SmtpServer, smtp_server

TO = ["bob@example.com"]
HEADER = "Idempotency-Key"


@dataclass(frozen=True)
class Way:
    """A request that sends. Names in braces in its path and body stand for ids."""

    method: str
    path: str
    body: dict[str, Any] | None
    changed: str = "subject"
    control: bool = False


MAIL_TO_SEND = {"to": TO, "subject": "hi", "body": "x"}
WAYS = {
    "sendEmail": Way("POST", "/inboxes/{inbox}", MAIL_TO_SEND),
    "sendEmailAndConfirm": Way("POST", "/inboxes/{inbox}/confirm", MAIL_TO_SEND),
    "sendEmailSourceOptional": Way("POST", "/emails?inboxId={inbox}", MAIL_TO_SEND),
    "sendEmailSimple": Way("POST", "/sendEmail", {"to": TO[0], "subject": "hi", "senderId": "{inbox}"}),
    "sendEmailQuery": Way("POST", f"/sendEmailQuery?senderId={{inbox}}&to={quote(TO[0])}&subject=hi", None),
    "sendEmailFromConnector": Way("POST", "/connectors/{connector}/send", MAIL_TO_SEND),
    "replyToEmail": Way("PUT", "/emails/{email}", {"body": "x"}, "body"),
    "forwardEmail": Way("POST", "/emails/{email}/forward", {"to": TO, "subject": "hi"}),
    "control.send_email": Way(
        "POST", "/control/connectors/{connector}/send", {"to": TO, "subject": "hi", "text": "x"}, control=True
    ),
}
CONFIRM = WAYS["sendEmailAndConfirm"]


@dataclass(frozen=True)
class Stage:
    """The site with a connector that can send, and a received mail."""

    site: Site
    server: SmtpServer
    ids: dict[str, str]

    async def ask(self, way: Way, key: str | None = None, **changed: object) -> Reply:
        """Ask under a key, with something changed in the body, or in the query where there is no body."""
        path = way.path.format(**self.ids)
        body = None if way.body is None else self._filled(way.body) | changed
        if body is None and changed:
            path = path.replace("subject=hi", f"subject={changed['subject']}")
        ask = self.site.ask_control if way.control else self.site.ask
        return await ask(way.method, path, body, headers={HEADER: key} if key is not None else {})

    def _filled(self, body: dict[str, Any]) -> dict[str, Any]:
        return {name: self.ids.get(str(value).strip("{}"), value) for name, value in body.items()}

    async def arrived(self) -> int:
        """How many mails the server got, once none is on its way any more."""
        await self.site.at_rest()
        return len(self.server.received)


@pytest.fixture
def server() -> Generator[SmtpServer]:
    with smtp_server() as running:
        yield running


@pytest_asyncio.fixture
async def stage(tmp_path: Path, server: SmtpServer) -> AsyncGenerator[Stage]:
    async with open_site(tmp_path) as site:
        made = await site.new_connector(name="Me", emailAddress="me@example.com")
        smtp = {"smtpHost": server.host, "smtpPort": server.port, "smtpSsl": False, "startTls": False}
        assert (await site.ask("POST", f"/connectors/{made['id']}/smtp", smtp)).status == 201
        (mail,) = await site.deliver(made, MAIL)
        yield Stage(site, server, {"inbox": made["inboxId"], "connector": made["id"], "email": str(mail.id)})


@pytest.mark.parametrize("operation", WAYS)
async def test_the_same_request_sends_once_and_is_answered_alike(stage: Stage, operation: str) -> None:
    way = WAYS[operation]
    first, second = await stage.ask(way, "order 42"), await stage.ask(way, "order 42")
    assert first.status in (200, 201), first.body
    assert (first.status, first.body) == (second.status, second.body)
    assert await stage.arrived() == 1


@pytest.mark.parametrize("operation", WAYS)
async def test_another_request_under_the_key_is_a_conflict(stage: Stage, operation: str) -> None:
    way = WAYS[operation]
    await stage.ask(way, "k")
    refused = await stage.ask(way, "k", **{way.changed: "other"})
    assert (refused.status, HEADER in refused.json["message"]) == (409, True)
    assert await stage.arrived() == 1


@pytest.mark.parametrize("operation", WAYS)
async def test_without_a_key_and_under_another_every_request_sends(stage: Stage, operation: str) -> None:
    for key in (None, None, "a", "b"):
        assert (await stage.ask(WAYS[operation], key)).status in (200, 201)
    assert await stage.arrived() == 4


async def test_a_key_belongs_to_its_operation_and_inbox(stage: Stage) -> None:
    assert (await stage.ask(CONFIRM, "k")).status == 201
    for operation in ("sendEmail", "sendEmailSourceOptional", "sendEmailFromConnector"):
        assert (await stage.ask(WAYS[operation], "k")).status == 409
    other = await stage.site.new_connector(emailAddress="me@example.com")
    smtp = {"smtpHost": stage.server.host, "smtpPort": stage.server.port, "smtpSsl": False, "startTls": False}
    await stage.site.ask("POST", f"/connectors/{other['id']}/smtp", smtp)
    path = f"/inboxes/{other['inboxId']}/confirm"
    assert (await stage.site.ask("POST", path, CONFIRM.body, headers={HEADER: "k"})).status == 409
    assert await stage.arrived() == 1


async def test_fifty_at_the_same_moment_send_one_mail(stage: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(stage.ask(CONFIRM, "rush")) for _ in range(50)]
    answers = [task.result() for task in asking]
    assert {answer.status for answer in answers} == {201}, [answer.body for answer in answers]
    assert len({answer.body for answer in answers}) == 1
    assert await stage.arrived() == 1


async def test_two_bodies_at_the_same_moment_send_one_of_them(stage: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(stage.ask(CONFIRM, "rush", subject=str(number % 2))) for number in range(20)]
    statuses = [task.result().status for task in asking]
    assert sorted(statuses) == [201] * 10 + [409] * 10
    assert await stage.arrived() == 1


@pytest.mark.parametrize(
    ("answer", "status"), [("550 5.7.1 no thank you", 422), ("451 4.3.0 later", 503), (Fault.DROP, 504)]
)
async def test_a_failure_is_told_again_and_not_tried_again(stage: Stage, answer: str | Fault, status: int) -> None:
    stage.server.answers["DOT"] = answer
    first = await stage.ask(CONFIRM, "k")
    del stage.server.answers["DOT"]
    second = await stage.ask(CONFIRM, "k")
    assert (first.status, second.status) == (status, status)
    assert first.json["message"] == second.json["message"]
    assert sum(command == "DATA" for command in stage.server.commands) == 1


async def test_a_refused_request_leaves_its_key_unused(stage: Stage) -> None:
    assert (await stage.ask(CONFIRM, "k", to=["nobody"])).status == 400
    assert (await stage.ask(CONFIRM, "k")).status == 201


async def test_the_key_of_a_deleted_mail_sends_no_second_one(stage: Stage) -> None:
    made = await stage.ask(CONFIRM, "k")
    assert (await stage.site.ask("DELETE", f"/sent/{made.json['id']}")).status == 204
    refused = await stage.ask(CONFIRM, "k")
    assert (refused.status, "deleted" in refused.json["message"]) == (409, True)
    assert len(stage.server.received) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel", "a\tb", "\x80"])
async def test_what_cannot_be_a_key_is_refused_by_name(stage: Stage, key: str) -> None:
    for way in WAYS.values():
        refused = await stage.ask(way, key)
        assert (refused.status, refused.json["message"].partition(":")[0]) == (400, HEADER)
    twice = [(HEADER, "a"), (HEADER, "b")]
    refused = await stage.site.ask("POST", CONFIRM.path.format(**stage.ids), CONFIRM.body, headers=twice)
    assert (refused.status, refused.json["message"].partition(":")[0]) == (400, HEADER)
    assert (await sent.page(stage.site.services.store, Window())).total == 0


@pytest.mark.parametrize("key", ["x" * 255, "a b", '"8e03978e-40d5-43e8-bc93-6894a57f9324"', "~!"])
async def test_every_other_text_is_a_key(stage: Stage, key: str) -> None:
    for _ in range(2):
        assert (await stage.ask(CONFIRM, key)).status == 201
    assert await stage.arrived() == 1


async def test_spelling_is_no_difference(stage: Stage) -> None:
    path = CONFIRM.path.format(**stage.ids)
    spellings = (
        b'{"to": ["bob@example.com"], "subject": "\xc3\xa9", "customHeaders": {"X-A": "1", "X-B": "2"}}',
        b'{"customHeaders":{"X-B":"2","X-A":"1"},"subject":"\\u00e9","cc":null,"to":["bob@example.com"],"unknown":1}',
        b'{"to": ["bob@example.com"], "html": null, "subject": "\xc3\xa9", "customHeaders": {"X-A": "1", "X-B": "2"}}',
    )
    answers = [
        await stage.site.ask("POST", path.upper().replace("/INBOXES", "/inboxes").replace("/CONFIRM", "/confirm"),
                             headers={HEADER.lower(): "k"}, data=spelling)
        for spelling in spellings
    ]  # fmt: skip
    assert [answer.status for answer in answers] == [201] * 3
    assert len({answer.body for answer in answers}) == 1


def test_fingerprints_tell_apart_what_differs() -> None:
    things: list[Any] = [
        ["a", {}], ["b", {}], ["a", {"x": UUID(int=1)}], ["a", {"x": UUID(int=2)}], ["a", {"x": b"\xff\x00"}],
        ["a", {"x": b"\xff\x01"}], ["a", {"x": "1"}], ["a", {"x": 1}], ["a", {"x": None}], ["a", {"x": "\ud800"}],
    ]  # fmt: skip
    assert len({fingerprint(thing) for thing in things}) == len(things)
    assert fingerprint(["a", {"x": 1, "y": 2}]) == fingerprint(["a", {"y": 2, "x": 1}])
    assert len(fingerprint([])) == 32


async def test_the_sdk_passes_a_key_on(stage: Stage) -> None:
    inbox, options = stage.ids["inbox"], SDK.SendEmailOptions(to=TO, subject="hi")

    def confirm(client: Any) -> Any:
        client.set_default_header(HEADER, "from the SDK")
        return SDK.InboxControllerApi(client).send_email_and_confirm(inbox, options)

    first, second = [await stage.site.sdk(confirm) for _ in range(2)]
    assert first.id == second.id
    options.subject = "other"
    with pytest.raises(SDK.ApiException) as refused:
        await stage.site.sdk(confirm)
    assert (refused.value.status, HEADER in refused.value.body) == (409, True)
    assert await stage.arrived() == 1
