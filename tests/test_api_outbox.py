"""The outbox on the control socket: what waits and why, and what a person may decide about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_site import Reply, Site, open_site
from inboxd.model import Tls
from inboxd.sections import RelaySettings
from inboxd.store.schema_outbox import OUTBOX
from servers import LOOPBACK
from servers.sessions import eventually
from servers.smtp import Fault, SmtpServer, smtp_server

TO = ["bob@example.com"]
MAIL = {"to": TO, "subject": "hi", "text": "x"}


@pytest.fixture
def server() -> Generator[SmtpServer]:
    with smtp_server() as running:
        yield running


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


@dataclass(frozen=True)
class Sender:
    """A connector and how to send through it."""

    site: Site
    server: SmtpServer
    connector: dict[str, Any]

    async def send(self, **options: object) -> Reply:
        """Over the control socket."""
        path = f"/control/connectors/{self.connector['id']}/send"
        return await self.site.ask_control("POST", path, MAIL | options)

    async def rests(self, answer: str | Fault = "451 4.3.0 later", command: str = "DOT") -> str:
        """The id of a mail whose first try ended so; the server is well again."""
        self.server.answers[command] = answer
        await self.send()
        del self.server.answers[command]
        return (await entries(self.site))[0]["id"]


@pytest_asyncio.fixture
async def sender(site: Site, server: SmtpServer) -> Sender:
    made = await site.new_connector(name="Me", emailAddress="me@example.com")
    smtp = {"smtpHost": server.host, "smtpPort": server.port, "smtpSsl": False, "startTls": False}
    assert (await site.ask("POST", f"/connectors/{made['id']}/smtp", smtp)).status == 201
    return Sender(site, server, made)


async def entries(site: Site, query: str = "") -> list[dict[str, Any]]:
    answer = await site.ask_control("GET", f"/control/outbox?{query}")
    assert answer.status == 200, answer.body
    return answer.json["content"]


async def decide(site: Site, mail_id: str, decision: str) -> Reply:
    return await site.ask_control("POST", f"/control/outbox/{mail_id}/{decision}")


async def becomes(site: Site, mail_id: str, state: str) -> dict[str, Any]:
    """The mail, once it is in that state."""
    async with asyncio.timeout(15):
        with site.services.sends.subscribe(UUID(mail_id)) as hint:
            while (mail := (await site.ask_control("GET", f"/control/outbox/{mail_id}")).json)["state"] != state:
                await hint.wait()
    return mail


# --- looking ---------------------------------------------------------------------------------------------------------


async def test_a_mail_that_was_sent_shows_its_recipients_and_its_try(sender: Sender) -> None:
    sent = await sender.send(cc=["carl@example.com"])
    mail = (await sender.site.ask_control("GET", f"/control/outbox/{sent.json['id']}")).json
    assert (mail["state"], mail["attempts"], mail["relay"], mail["connectorId"]) == (
        "sent", 1, False, sender.connector["id"],
    )  # fmt: skip
    assert (mail["from"], mail["to"], mail["subject"]) == ("me@example.com", TO, "hi")
    assert mail["messageId"] == sent.json["messageId"]
    assert {row["address"]: row["state"] for row in mail["recipients"]} == {
        "bob@example.com": "accepted", "carl@example.com": "accepted",
    }  # fmt: skip
    (tried,) = mail["tries"]
    assert (tried["host"], tried["kind"], "queued" in tried["reply"]) == (LOOPBACK, "", True)
    assert tried["beganAt"] <= tried["endedAt"]


async def test_a_mail_put_off_says_why_and_when_it_is_tried_again(sender: Sender) -> None:
    sender.server.answers["RCPT"] = "451 4.7.1 greylisted"
    refused = await sender.send()
    (entry,) = await entries(sender.site)
    assert refused.status == 503
    assert entry["id"] in refused.json["message"]
    assert "greylisted" in refused.json["message"]
    assert (entry["state"], entry["attempts"], entry["kind"], entry["stage"]) == ("deferred", 1, "SendDeferred", "rcpt")
    assert "451 4.7.1 greylisted" in entry["reply"]
    assert entry["createdAt"] < entry["dueAt"] < entry["expiresAt"]


async def test_the_list_is_newest_first_and_can_be_narrowed(sender: Sender) -> None:
    site = sender.site
    later = await sender.rests()
    lost = await sender.rests(Fault.DROP)
    gone = (await sender.send()).json["id"]
    assert [row["id"] for row in await entries(site)] == [gone, lost, later]
    assert [row["id"] for row in await entries(site, "sort=ASC")] == [later, lost, gone]
    assert [row["id"] for row in await entries(site, "state=unknown&state=deferred")] == [lost, later]
    assert [row["id"] for row in await entries(site, "page=1&size=2")] == [later]
    assert len(await entries(site, f"connectorId={sender.connector['id']}")) == 3
    assert await entries(site, f"connectorId={uuid4()}") == []


@pytest.mark.parametrize(
    ("query", "field"), [("state=lost", "state.0"), ("connectorId=x", "connectorId"), ("page=-1", "page")]
)
async def test_a_list_query_that_cannot_be_meant_is_refused(site: Site, query: str, field: str) -> None:
    refused = await site.ask_control("GET", f"/control/outbox?{query}")
    assert (refused.status, refused.json["message"].partition(":")[0]) == (400, field)


async def test_it_is_on_the_socket_alone_and_knows_its_ids(site: Site) -> None:
    assert (await site.ask("GET", "/control/outbox")).status == 404
    for mail_id in (uuid4(), "x"):
        assert (await site.ask_control("GET", f"/control/outbox/{mail_id}")).status == 404
        for decision in ("retry", "cancel", "drop"):
            assert (await decide(site, str(mail_id), decision)).status == 404


async def test_the_status_counts_what_is_not_sent(sender: Sender) -> None:
    empty = (await sender.site.ask_control("GET", "/control/status")).json["outbox"]
    assert (set(empty["counts"].values()), empty["oldestWaiting"]) == ({0}, None)
    waiting = await sender.rests()
    await sender.rests(Fault.DROP)
    await sender.send()
    census = (await sender.site.ask_control("GET", "/control/status")).json["outbox"]
    assert {state: count for state, count in census["counts"].items() if count} == {"deferred": 1, "unknown": 1}
    entry = (await sender.site.ask_control("GET", f"/control/outbox/{waiting}")).json
    assert census["oldestWaiting"] == entry["createdAt"]


# --- deciding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "state"), [("451 4.3.0 later", "deferred"), ("550 5.7.1 no", "failed"), (Fault.DROP, "unknown")]
)
async def test_a_mail_tried_again_by_hand_is_sent(sender: Sender, answer: str | Fault, state: str) -> None:
    mail_id = await sender.rests(answer)
    before = await becomes(sender.site, mail_id, state)
    again = await decide(sender.site, mail_id, "retry")
    assert (again.status, again.json["id"], again.json["expiresAt"] >= before["expiresAt"]) == (200, mail_id, True)
    mail = await becomes(sender.site, mail_id, "sent")
    assert (mail["attempts"], [bool(tried["kind"]) for tried in mail["tries"]]) == (2, [True, False])
    assert mail["recipients"][0]["state"] == "accepted"


async def test_nobody_who_has_a_mail_gets_it_again(sender: Sender) -> None:
    sender.server.answers["RCPT eve@example.com"] = "550 5.1.1 no such user"
    mail_id = (await sender.send(to=["bob@example.com"], cc=["eve@example.com", "me@example.com"])).json["id"]
    refused = await decide(sender.site, mail_id, "retry")
    assert (refused.status, mail_id in refused.json["message"]) == (409, True)
    assert len(sender.server.received) == 1


async def test_a_cancelled_mail_is_not_sent_until_somebody_wants_it_again(sender: Sender) -> None:
    site, mail_id = sender.site, await sender.rests()
    assert (await decide(site, mail_id, "cancel")).json["state"] == "cancelled"
    assert (await decide(site, mail_id, "cancel")).status == 409
    assert (await site.ask("GET", f"/sent/{mail_id}")).status == 200
    assert not sender.server.received
    await decide(site, mail_id, "retry")
    await becomes(site, mail_id, "sent")


@pytest.mark.parametrize(("answer", "state"), [("550 5.7.1 no", "failed"), (Fault.DROP, "unknown")])
async def test_a_mail_that_failed_or_is_unknown_may_rest(sender: Sender, answer: str | Fault, state: str) -> None:
    mail_id = await sender.rests(answer)
    await becomes(sender.site, mail_id, state)
    assert (await decide(sender.site, mail_id, "cancel")).status == 409
    dropped = await decide(sender.site, mail_id, "drop")
    assert (dropped.json["state"], dropped.json["reply"]) == ("cancelled", "dropped by the operator")
    assert (await sender.site.ask("DELETE", f"/sent/{mail_id}")).status == 204
    assert await entries(sender.site) == []


async def test_what_was_sent_stays_as_it_is(sender: Sender) -> None:
    mail_id = (await sender.send()).json["id"]
    for decision in ("retry", "cancel", "drop"):
        refused = await decide(sender.site, mail_id, decision)
        assert (refused.status, "sent already" in refused.json["message"]) == (409, True)


async def test_who_waits_for_a_mail_learns_that_it_was_cancelled(sender: Sender) -> None:
    site = sender.site
    sender.server.answers["EHLO"] = Fault.STALL
    await sender.send(wait=False)
    await eventually(lambda: sender.server.commands)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(sender.send(subject="second"))
        while (rows := await entries(site))[0]["subject"] != "second":
            pass
        assert (await decide(site, rows[1]["id"], "cancel")).status == 409, "it is being sent"
        assert (await decide(site, rows[0]["id"], "cancel")).json["state"] == "cancelled"
    refused = waiting.result()
    assert (refused.status, "cancelled" in refused.json["message"]) == (409, True)


# --- what can be asked for when sending ------------------------------------------------------------------------------


async def test_a_send_that_is_not_waited_for_answers_with_the_mail_as_accepted(sender: Sender) -> None:
    sender.server.answers["EHLO"] = Fault.STALL
    accepted = await sender.send(wait=False)
    assert (accepted.status, accepted.json["sentAt"]) == (200, accepted.json["createdAt"])
    assert (await entries(sender.site))[0]["id"] == accepted.json["id"]
    assert not sender.server.received


async def test_without_a_server_of_its_own_a_connector_sends_by_the_relay_if_asked(
    tmp_path: Path, server: SmtpServer
) -> None:
    relay = RelaySettings(host=LOOPBACK, port=server.port, tls=Tls.NONE)
    async with open_site(tmp_path, relay=relay) as site:
        made = await site.new_connector(emailAddress="me@example.com")
        path, control = f"/connectors/{made['id']}/send", f"/control/connectors/{made['id']}/send"
        assert (await site.ask("POST", path, {"to": TO})).status == 409
        assert (await site.ask_control("POST", control, MAIL)).status == 409
        assert (await site.ask("POST", f"{path}?useFallback=true", {"to": TO})).status == 200
        assert (await site.ask_control("POST", control, MAIL | {"useFallback": True})).status == 200
        assert [row["relay"] for row in await entries(site)] == [True, True]
    assert [mail.rcpt_tos for mail in server.received] == [tuple(TO)] * 2


@pytest.mark.parametrize(
    ("dsn", "notify"),
    [
        ({"notify": ["SUCCESS", "DELAY", "SUCCESS"], "whole": True}, ("SUCCESS", "DELAY")),
        ({"notify": ["NEVER"]}, ("NEVER",)),
        (None, None),
    ],
)
async def test_notices_may_be_asked_for(sender: Sender, dsn: Any, notify: tuple[str, ...] | None) -> None:
    assert (await sender.send(dsn=dsn)).status == 200

    async def look(connection: AsyncConnection) -> Any:
        return (await connection.execute(select(OUTBOX.c.notify, OUTBOX.c.whole))).one()

    assert tuple(await sender.site.services.store.read(look)) == (notify, bool(dsn and dsn.get("whole")))


@pytest.mark.parametrize(
    ("dsn", "field"),
    [
        ({}, "dsn.notify"),
        ({"notify": []}, "dsn.notify"),
        ({"notify": ["NEVER", "SUCCESS"]}, "dsn.notify"),
        ({"notify": ["SOMETIMES"]}, "dsn.notify.0"),
        ({"notify": "NEVER"}, "dsn.notify"),
        ("NEVER", "dsn"),
    ],
)
async def test_notices_that_cannot_be_had_are_refused(sender: Sender, dsn: object, field: str) -> None:
    refused = await sender.send(dsn=dsn)
    assert (refused.status, refused.json["message"].partition(":")[0]) == (400, field)
    assert await entries(sender.site) == []
