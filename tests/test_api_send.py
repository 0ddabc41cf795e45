"""Sending from a connector, through a real SMTP server, with MailSlurp's own Python client."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from api_site import SDK, Site, open_site
from servers.smtp import Received, SmtpServer, smtp_server


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def _linked(site: Site, server: SmtpServer, **options: object) -> dict[str, Any]:
    made = await site.new_connector(name="Me Myself", emailAddress="me@example.com")
    smtp = {"smtpHost": server.host, "smtpPort": server.port, "smtpSsl": False, "startTls": False}
    assert (await site.ask("POST", f"/connectors/{made['id']}/smtp", smtp | options)).status == 201
    return made


async def _send(site: Site, connector: dict[str, Any], **options: object) -> Any:
    return await site.sdk(
        lambda client: SDK.ConnectorControllerApi(client).send_email_from_connector(
            connector["id"], SDK.SendEmailOptions(**options), use_fallback=False
        )
    )


def _parsed(received: Received) -> Any:
    return message_from_bytes(received.content, policy=default)


async def test_the_sdk_sends_and_gets_a_complete_answer(site: Site) -> None:
    with smtp_server() as server:
        made = await _linked(site, server)
        sent = await _send(
            site, made, to=["Bob <bob@example.com>"], cc=["carl@example.com"], bcc=["dora@example.com"],
            subject="Grüße", body="<b>hello</b>", is_html=True, reply_to="re@example.com", custom_headers={"X-A": "b"},
        )  # fmt: skip
        (received,) = server.received
    assert (sent.transport, sent.inbox_id, sent.user_id) == (
        "PUBLIC_EMAIL", made["inboxId"], str(site.services.user_id),
    )  # fmt: skip
    assert (sent._from, sent.to, sent.cc, sent.bcc) == (
        "me@example.com", ["bob@example.com"], ["carl@example.com"], ["dora@example.com"],
    )  # fmt: skip
    assert (sent.subject, sent.body, sent.is_html, sent.reply_to) == ("Grüße", "<b>hello</b>", True, "re@example.com")
    assert sent.sent_at >= sent.created_at
    mail = _parsed(received)
    assert mail["Message-ID"] == f"<{sent.message_id}>"
    assert (mail["Subject"], mail["X-A"], mail.get_content_type()) == ("Grüße", "b", "text/html")
    assert (received.mail_from, len(received.rcpt_tos)) == ("me@example.com", 3)
    event = (await site.ask("GET", f"/connectors/{made['id']}/events?eventType=SEND")).json["content"][0]
    assert (event["status"], event["size"]) == ("SUCCESS", 1)


async def test_names_of_recipients_reach_the_headers_and_the_answer_but_not_the_envelope(site: Site) -> None:
    mail = {
        "to": ["Jürgen <ada@example.org>"], "cc": ['"Doe, John" <doe@example.org>'], "bcc": ["B <b@example.org>"],
        "replyTo": "Ré <re@example.org>",
    }  # fmt: skip
    with smtp_server() as server:
        made = await _linked(site, server)
        answers = [
            await site.ask("POST", f"/connectors/{made['id']}/send", mail | {"body": "x"}),
            await site.ask_control("POST", f"/control/connectors/{made['id']}/send", mail | {"text": "x"}),
        ]
        first, second = server.received
    for sent, received in zip(answers, (first, second), strict=True):
        assert sent.status == 200, sent.body
        to = {"rawValue": "Jürgen <ada@example.org>", "emailAddress": "ada@example.org", "name": "Jürgen"}
        assert sent.json["recipients"]["to"] == [to]
        assert [row["name"] for kind in ("cc", "bcc") for row in sent.json["recipients"][kind]] == ["Doe, John", "B"]
        assert [sent.json[kind] for kind in ("to", "cc", "bcc", "replyTo")] == [
            ["ada@example.org"], ["doe@example.org"], ["b@example.org"], "re@example.org",
        ]  # fmt: skip
        assert set(received.rcpt_tos) == {"ada@example.org", "doe@example.org", "b@example.org"}
        parsed = _parsed(received)
        assert parsed["To"].addresses[0].display_name == "Jürgen"
        assert (parsed["Cc"].addresses[0].display_name, parsed["Bcc"]) == ("Doe, John", None)
        assert parsed["Reply-To"].addresses[0].display_name == "Ré"
        assert b"=?utf-8?b?" in received.content


async def test_what_the_mail_itself_refuses_is_named_as_in_the_request(site: Site) -> None:
    with smtp_server() as server:
        made = await _linked(site, server)
        wrong = {"to": ["a@example.org"], "body": "x", "customHeaders": {"From": "x"}}
        refused = await site.ask("POST", f"/connectors/{made['id']}/send", wrong)
    assert (refused.status, refused.json["message"].partition(":")[0]) == (400, "customHeaders")


async def test_html_flags_and_body_parts_decide_the_body(site: Site) -> None:
    parts = [
        SDK.SendEmailBodyPart(content_type="text/plain", content_body="plain"),
        SDK.SendEmailBodyPart(content_type="text/html; charset=utf-8", content_body="<i>rich</i>"),
    ]
    to = ["bob@example.com"]
    with smtp_server() as server:
        made = await _linked(site, server)
        await _send(site, made, to=to, body="x")
        await _send(site, made, to=to, body="x", html=True)
        await _send(site, made, to=to, body="x", html=True, is_html=False)
        await _send(site, made, to=to, body="ignored", body_parts=parts)
        await _send(site, made, to=to)
        types = [_parsed(mail).get_content_type() for mail in server.received]
        assert types == ["text/plain", "text/html", "text/plain", "multipart/alternative", "text/plain"]
        assert "ignored" not in server.received[3].content.decode()


async def test_the_sender_is_shown_as_asked(site: Site) -> None:
    to = ["bob@example.com"]
    with smtp_server() as server:
        made = await _linked(site, server)
        await _send(site, made, to=to, from_name="Given")
        await _send(site, made, to=to, use_inbox_name=True)
        await _send(site, made, to=to, _from="Other <other@example.com>")
        shown = [str(_parsed(mail)["From"]) for mail in server.received]
    assert shown == ["Given <me@example.com>", "Me Myself <me@example.com>", "Other <other@example.com>"]


async def test_invalid_recipients_are_filtered_only_when_asked(site: Site) -> None:
    with smtp_server() as server:
        made = await _linked(site, server)
        kept = await _send(
            site, made, to=["bad", "bob@example.com"], validate_email_addresses="VALIDATE_FILTER_REMOVE_INVALID"
        )
        assert kept.to == ["bob@example.com"]
        empty = await _send(site, made, to=["", "bob@example.com"], ignore_empty_recipients=True)
        assert empty.to == ["bob@example.com"]
        for options in ({"to": ["bad"]}, {"to": [""]}):
            with pytest.raises(SDK.ApiException) as refused:
                await _send(site, made, **options)
            assert refused.value.status == 400


@pytest.mark.parametrize(
    ("command", "answer", "status"),
    [("DOT", "550 5.7.1 no thank you", 422), ("DOT", "451 4.3.0 come back later", 503), ("MAIL", "550 no", 422)],
)
async def test_a_refused_mail_is_an_error_in_the_servers_words(
    site: Site, command: str, answer: str, status: int
) -> None:
    with smtp_server() as server:
        server.answers[command] = answer
        made = await _linked(site, server)
        failed = await site.ask("POST", f"/connectors/{made['id']}/send", {"to": ["bob@example.com"], "body": "x"})
    assert failed.status == status
    assert answer.split(maxsplit=1)[1].rsplit(maxsplit=1)[-1] in failed.json["message"]
    event = (await site.ask("GET", f"/connectors/{made['id']}/events?eventType=SEND")).json["content"][0]
    assert event["status"] == "CONNECTION_ERROR"


async def test_sending_without_smtp_or_connector_is_refused(site: Site) -> None:
    made = await site.new_connector(emailAddress="me@example.com")
    body = {"to": ["bob@example.com"], "body": "x"}
    without = await site.ask("POST", f"/connectors/{made['id']}/send", body)
    assert without.status == 409
    assert "SMTP" in without.json["message"]
    assert (await site.ask("POST", f"/connectors/{uuid4()}/send", body)).status == 404


async def test_an_unreachable_server_is_502(site: Site) -> None:
    with smtp_server() as server:
        made = await _linked(site, server)
    answer = await site.ask("POST", f"/connectors/{made['id']}/send", {"to": ["bob@example.com"], "body": "x"})
    assert answer.status == 502
    assert str(server.port) in answer.json["message"]
