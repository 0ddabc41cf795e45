"""Sending from inboxes, answering and forwarding, through real SMTP servers, with MailSlurp's own Python client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from api_site import MAIL, SDK, Site, open_site
from inboxd.mail.parse import digest
from inboxd.mails import Fetched, Incoming, Place
from inboxd.model import ConnectorId, InboxId, SentId, Window
from inboxd.store import connectors, messages, sent
from servers.smtp import Fault, Received, SmtpServer, smtp_server

TO = ["bob@example.com"]
PDF = b"%PDF-1.4 \x00\xff"
WITH_FILES = (
    b'From: "Eve <b>" <eve@example.com>\r\nTo: me@example.com\r\nSubject: Fwd: plans <script>\r\n'
    b"Date: Mon, 04 May 2026 08:30:00 +0000\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n"
    b"<html><BODY class=x><p>the plan</p></body></html>\r\n"
    b"--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=plan.pdf\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjQgAP8=\r\n"
    b"--b\r\nContent-Type: text/calendar; name=a.ics\r\n\r\nBEGIN:VCALENDAR\r\n--b--\r\n"
)


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


@pytest.fixture
def server() -> Generator[SmtpServer]:
    with smtp_server() as running:
        yield running


async def linked(site: Site, server: SmtpServer, address: str = "me@example.com", **options: object) -> dict[str, Any]:
    """A connector with SMTP."""
    made = await site.new_connector(name="Me Myself", emailAddress=address, **options)
    await add_smtp(site, made, server)
    return made


async def add_smtp(site: Site, made: dict[str, Any], server: SmtpServer) -> None:
    smtp = {"smtpHost": server.host, "smtpPort": server.port, "smtpSsl": False, "startTls": False}
    assert (await site.ask("POST", f"/connectors/{made['id']}/smtp", smtp)).status == 201


async def second(site: Site, inbox_id: str, address: str) -> dict[str, Any]:
    """Another connector of the same inbox, without SMTP."""
    answer = await site.ask("POST", f"/connectors?inboxId={inbox_id}", {"emailAddress": address})
    assert answer.status == 201
    return answer.json


def parsed(received: Received) -> Any:
    return message_from_bytes(received.content, policy=default)


async def sender_of(site: Site, answer: dict[str, Any]) -> str:
    """The connector that sent it."""
    return str((await sent.get(site.services.store, SentId(UUID(answer["id"])))).connector_id)


async def arrived(site: Site, server: SmtpServer) -> list[Any]:
    """The mails the server got, parsed, once none is on its way any more."""
    await site.at_rest()
    return [parsed(mail) for mail in server.received]


async def count_sent(site: Site) -> int:
    return (await sent.page(site.services.store, Window())).total


# --- from an inbox ---------------------------------------------------------------------------------------------------


async def test_an_inbox_sends_through_its_connector(site: Site, server: SmtpServer) -> None:
    made = await linked(site, server)
    options = SDK.SendEmailOptions(to=TO, subject="hi", body="<p>Good  morning</p>", is_html=True)
    api = SDK.InboxControllerApi
    assert await site.sdk(lambda client: api(client).send_email(made["inboxId"], options)) is None
    assert len(await arrived(site, server)) == 1
    confirmed = await site.sdk(lambda client: api(client).send_email_and_confirm(made["inboxId"], options))
    assert (confirmed.inbox_id, confirmed._from, confirmed.to) == (made["inboxId"], "me@example.com", TO)
    assert (confirmed.body_excerpt, confirmed.text_excerpt) == ("Good morning", "Good morning")
    assert [parsed(mail)["Subject"] for mail in server.received] == ["hi", "hi"]
    assert f"<{confirmed.message_id}>" == parsed(server.received[1])["Message-ID"]
    empty = await site.ask("POST", f"/inboxes/{made['inboxId']}", {"to": TO})
    assert (empty.status, empty.body) == (201, b"")


async def test_the_connector_with_the_address_of_from_sends(site: Site, server: SmtpServer) -> None:
    first = await linked(site, server)
    other = await second(site, first["inboxId"], "Other@Example.com")
    place = f"/inboxes/{first['inboxId']}/confirm"

    async def sender(from_: str | None) -> str:
        answer = await site.ask("POST", place, {"to": TO, "from": from_})
        assert answer.json["inboxId"] == first["inboxId"]
        return await sender_of(site, answer.json)

    assert await sender("other@example.com") == first["id"], "a connector without SMTP sends nothing"
    await add_smtp(site, other, server)
    assert await sender("Other <other@example.COM>") == other["id"]
    assert await sender(None) == await sender("elsewhere@example.com") == first["id"]
    await site.ask("PUT", f"/connectors/{first['id']}", {"enabled": False})
    assert await sender(None) == other["id"]


async def test_an_inbox_that_cannot_send_says_what_to_do(site: Site) -> None:
    made = await site.new_connector(emailAddress="me@example.com")
    for path in (f"/inboxes/{made['inboxId']}", f"/inboxes/{made['inboxId']}/confirm"):
        refused = await site.ask("POST", path, {"to": TO})
        assert refused.status == 409
        assert "/smtp" in refused.json["message"]
    assert (await site.ask("POST", f"/inboxes/{uuid4()}", {"to": TO})).status == 404
    assert (await site.ask("POST", f"/inboxes/{made['inboxId']}", {"to": TO, "from": "nobody"})).status == 400


async def test_a_mail_its_server_refused_stays_visible(site: Site, server: SmtpServer) -> None:
    made = await linked(site, server)
    server.answers["DOT"] = "550 5.7.1 no thank you"
    api, options = SDK.InboxControllerApi, SDK.SendEmailOptions(to=TO, subject="unwanted")
    with pytest.raises(SDK.ApiException) as refused:
        await site.sdk(lambda client: api(client).send_email_and_confirm(made["inboxId"], options))
    assert (refused.value.status, "no thank you" in refused.value.body) == (422, True)
    assert await site.sdk(lambda client: api(client).send_email(made["inboxId"], options)) is None
    rows = await site.ask("GET", f"/inboxes/{made['inboxId']}/sent")
    assert [row["subject"] for row in rows.json["content"]] == ["unwanted", "unwanted"]


async def test_what_is_not_waited_for_is_answered_before_the_server_did(site: Site, server: SmtpServer) -> None:
    made = await linked(site, server)
    server.answers["EHLO"] = Fault.STALL
    inbox, mail = made["inboxId"], {"to": TO, "subject": "kept"}
    for path, body in (
        (f"/inboxes/{inbox}", mail),
        (f"/emails?inboxId={inbox}", mail),
        ("/sendEmail", {"to": TO[0], "senderId": inbox}),
        (f"/sendEmailQuery?to=a@example.com&senderId={inbox}", None),
    ):
        answer = await site.ask("POST", path, body)
        assert (answer.status, answer.body) == (201, b"")
    rows = (await site.ask("GET", f"/inboxes/{inbox}/sent")).json["content"]
    assert (len(rows), len(server.received)) == (4, 0)
    refused = await site.ask("DELETE", f"/sent/{rows[0]['id']}")
    assert (refused.status, "outbox cancel" in refused.json["message"]) == (409, True)
    assert (await site.ask("DELETE", "/sent")).status == 204
    assert (await site.ask("GET", "/sent")).json["totalElements"] == 4


# --- from any --------------------------------------------------------------------------------------------------------


async def test_without_an_inbox_the_address_or_the_only_connector_decides(site: Site, server: SmtpServer) -> None:
    nobody = await site.ask("POST", "/emails", {"to": TO})
    assert (nobody.status, "/smtp" in nobody.json["message"]) == (409, True)
    first = await linked(site, server, "one@example.com")
    api, mail = SDK.EmailControllerApi, SDK.SendEmailOptions(to=TO, subject="only")
    assert await site.sdk(lambda client: api(client).send_email_source_optional(mail)) is None
    other = await linked(site, server, "two@example.com")
    refused = await site.ask("POST", "/emails", {"to": TO})
    assert (refused.status, refused.json["message"].partition(":")[0]) == (400, "inboxId")
    assert (await site.ask("POST", "/emails", {"to": TO, "from": "three@example.com"})).status == 400
    assert (await site.ask("POST", "/emails", {"to": TO, "from": "TWO@example.com"})).status == 201
    named = f"/emails?inboxId={first['inboxId']}&useDomainPool=False&virtualSend=False"
    assert (await site.ask("POST", named, {"to": TO})).status == 201
    rows = (await sent.page(site.services.store, Window())).rows
    assert [str(row.connector_id) for row in rows] == [first["id"], other["id"], first["id"]]


async def test_nothing_is_sent_virtually(site: Site, server: SmtpServer) -> None:
    await linked(site, server)
    with pytest.raises(SDK.ApiException) as refused:
        await site.sdk(
            lambda client: SDK.EmailControllerApi(client).send_email_source_optional(
                SDK.SendEmailOptions(to=TO), virtual_send=True
            )
        )
    assert (refused.value.status, "virtualSend" in refused.value.body) == (400, True)
    assert not server.received


async def test_simple_sends_take_a_text_and_an_address(site: Site, server: SmtpServer) -> None:
    made = await linked(site, server)
    api = SDK.CommonActionsControllerApi
    simple = SDK.SimpleSendEmailOptions(to=TO[0], subject="one", body="a <b>", sender_id=made["inboxId"])
    assert await site.sdk(lambda client: api(client).send_email_simple(simple)) is None
    assert await site.sdk(lambda client: api(client).send_email_query(TO[0], subject="two", body="é&=")) is None
    mails = await arrived(site, server)
    assert [mail["Subject"] for mail in mails] == ["one", "two"]
    assert [mail.get_content().strip() for mail in mails] == ["a <b>", "é&="]
    await linked(site, server)
    refused = await site.ask("POST", "/sendEmail", {"to": TO[0]})
    assert (refused.status, refused.json["message"].partition(":")[0]) == (400, "senderId")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/sendEmail", {}, "to"),
        ("/sendEmail", {"to": "nobody"}, "to"),
        ("/sendEmail", {"to": TO[0], "senderId": "x"}, "senderId"),
        ("/sendEmailQuery", None, "to"),
        ("/sendEmailQuery?to=a%0Ab", None, "to"),
        ("/emails?inboxId=x", {"to": TO}, "inboxId"),
        ("/emails/can-send", {"to": TO}, "inboxId"),
    ],
)
async def test_mistakes_name_their_field(
    site: Site, server: SmtpServer, path: str, body: dict[str, Any] | None, field: str
) -> None:
    await linked(site, server)
    refused = await site.ask("POST", path, body)
    assert (refused.status, refused.json["message"].partition(":")[0]) == (400, field)
    assert not server.commands


async def test_can_send_says_why_not_and_sends_nothing(site: Site, server: SmtpServer) -> None:
    made = await site.new_connector(emailAddress="me@example.com")

    async def asked(**options: object) -> Any:
        return await site.sdk(
            lambda client: SDK.EmailControllerApi(client).can_send(made["inboxId"], SDK.SendEmailOptions(**options))
        )

    unlinked = await asked(to=TO)
    assert (unlinked.is_sending_permitted, "/smtp" in unlinked.message) == (False, True)
    await add_smtp(site, made, server)
    good = await asked(to=TO)
    assert (good.is_sending_permitted, good.message) == (True, None)
    for options, field in (
        ({}, "to"),
        ({"to": ["nobody"]}, "to"),
        ({"to": TO, "attachments": [str(uuid4())]}, "attachments.0"),
        ({"to": TO, "template": str(uuid4())}, "template"),
        ({"to": TO, "custom_headers": {"From": "x"}}, "customHeaders"),
    ):
        refused = await asked(**options)
        assert (refused.is_sending_permitted, refused.message.partition(":")[0]) == (False, field)
    assert (await site.ask("POST", f"/emails/can-send?inboxId={uuid4()}", {"to": TO})).status == 404
    assert (server.commands, await count_sent(site)) == ([], 0)


# --- attachments -----------------------------------------------------------------------------------------------------


async def test_uploads_and_received_attachments_are_sent_and_remembered(site: Site, server: SmtpServer) -> None:
    made = await linked(site, server)
    (mail,) = await site.deliver(made, WITH_FILES)
    upload = await site.ask(
        "POST", "/attachments", {"filename": "hällo.txt", "contentType": "text/plain", "base64Contents": "aGk="}
    )
    ids = [upload.json[0], str(mail.digest.attachments[0].id)]
    confirmed = await site.sdk(
        lambda client: SDK.InboxControllerApi(client).send_email_and_confirm(
            made["inboxId"], SDK.SendEmailOptions(to=TO, body="x", attachments=ids)
        )
    )
    assert confirmed.attachments == ids
    files = [(part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
             for part in parsed(server.received[0]).iter_attachments()]  # fmt: skip
    assert files == [("hällo.txt", "text/plain", b"hi"), ("plan.pdf", "application/pdf", PDF)]


async def test_unknown_and_too_many_attachments_are_refused_by_their_number(site: Site, server: SmtpServer) -> None:
    made = await linked(site, server)
    half = {"filename": "x", "base64Contents": "QUFB" * 35_000}
    upload = (await site.ask("POST", "/attachments", half)).json[0]
    place = f"/inboxes/{made['inboxId']}"
    for ids, field in (
        ([upload, str(uuid4())], "attachments.1"),
        (["x"], "attachments.0"),
        ([upload, upload], "attachments.1"),
        ([upload] * 101, "attachments"),
    ):
        refused = await site.ask("POST", place, {"to": TO, "attachments": ids})
        assert (refused.status, refused.json["message"].partition(":")[0]) == (400, field)
    assert (await site.ask("POST", place, {"to": TO, "attachments": [upload]})).status == 201
    assert len(await arrived(site, server)) == 1


# --- answers and forwards --------------------------------------------------------------------------------------------


async def test_an_answer_goes_back_and_keeps_the_conversation(site: Site, server: SmtpServer) -> None:
    made = await linked(site, server)
    (mail,) = await site.deliver(made, MAIL)
    options = SDK.ReplyToEmailOptions(
        body="<b>yes</b>", is_html=True, reply_to="re@example.com", custom_headers={"X-A": "b"}, use_inbox_name=True
    )
    answer = await site.sdk(lambda client: SDK.EmailControllerApi(client).reply_to_email(str(mail.id), options))
    assert (answer.to, answer.subject, answer.in_reply_to) == (
        ["reply@example.com"], "Re: Hello café", "one@example.com",
    )  # fmt: skip
    received = parsed(server.received[0])
    assert (received["In-Reply-To"], received["References"]) == (
        "<one@example.com>", "<zero@example.com> <one@example.com>",
    )  # fmt: skip
    assert (str(received["From"]), received["Reply-To"], received["X-A"]) == (
        "Me Myself <me@example.com>", "re@example.com", "b",
    )  # fmt: skip
    assert (received.get_content_type(), received.get_content().strip()) == ("text/html", "<b>yes</b>")


async def test_the_connector_that_brought_the_mail_answers(site: Site, server: SmtpServer) -> None:
    first = await linked(site, server)
    other = await second(site, first["inboxId"], "other@example.com")
    await add_smtp(site, other, server)
    (mail,) = await site.deliver(other, MAIL)

    async def sender(**options: object) -> str:
        answer = await site.ask("PUT", f"/emails/{mail.id}", {"body": "x", "isHTML": False, **options})
        return await sender_of(site, answer.json)

    assert await sender() == other["id"]
    assert await sender(**{"from": "me@example.com"}) == first["id"]
    await connectors.remove(site.services.store, ConnectorId(UUID(other["id"])))
    assert await sender() == first["id"]


@pytest.mark.parametrize(
    ("wrong", "status", "field"),
    [
        ({"isHTML": True}, 400, "body"),
        ({"template": str(uuid4())}, 400, "template"),
        ({"templateVariables": {"a": 1}}, 400, "templateVariables"),
        ({"customHeaders": {"In-Reply-To": "<x@y>"}}, 400, "customHeaders"),
        ({"attachments": ["x"]}, 400, "attachments.0"),
        ({"replyTo": "nobody"}, 400, "replyTo"),
    ],
)
async def test_answers_that_cannot_be_sent_are_refused(
    site: Site, server: SmtpServer, wrong: dict[str, object], status: int, field: str
) -> None:
    made = await linked(site, server)
    (mail,) = await site.deliver(made, MAIL)
    body = wrong if field == "body" else {"body": "x"} | wrong
    refused = await site.ask("PUT", f"/emails/{mail.id}", body)
    assert (refused.status, refused.json["message"].partition(":")[0]) == (status, field)
    assert not server.received


async def test_answers_and_forwards_need_a_mail_and_a_way_out(site: Site) -> None:
    made = await site.new_connector(emailAddress="me@example.com")
    (mail,) = await site.deliver(made, MAIL)
    for method, path, body in (("PUT", "", {"body": "x"}), ("POST", "/forward", {"to": TO})):
        assert (await site.ask(method, f"/emails/{uuid4()}{path}", body)).status == 404
        refused = await site.ask(method, f"/emails/{mail.id}{path}", body)
        assert (refused.status, "/smtp" in refused.json["message"]) == (409, True)


async def test_a_forward_carries_text_and_files_and_trusts_nothing(site: Site, server: SmtpServer) -> None:
    made = await linked(site, server)
    (mail,) = await site.deliver(made, WITH_FILES)
    options = SDK.ForwardEmailOptions(to=TO, cc=["c@example.com"], bcc=["d@example.com"])
    forwarded = await site.sdk(lambda client: SDK.EmailControllerApi(client).forward_email(str(mail.id), options))
    assert forwarded.subject == "Fwd: plans <script>"
    assert forwarded.attachments == [str(one.id) for one in mail.digest.attachments]
    assert len(server.received[0].rcpt_tos) == 3
    received = parsed(server.received[0])
    shown = received.get_body().get_content()
    assert "Eve &lt;b&gt; &lt;eve@example.com&gt;" in shown
    assert "<script>" not in shown
    assert shown.index("<BODY class=x><div>") < shown.index("Mon, 04 May 2026 08:30:00") < shown.index("the plan")
    files = [(part.get_filename(), part.get_payload(decode=True)) for part in received.iter_attachments()]
    assert files[0] == ("plan.pdf", PDF)
    assert files[1][0] == "a.ics"


async def test_a_forward_needs_recipients_and_takes_a_subject(site: Site, server: SmtpServer) -> None:
    made = await linked(site, server)
    (mail,) = await site.deliver(made, MAIL)
    place = f"/emails/{mail.id}/forward"
    for to in (None, [], ["nobody"], "bob@example.com"):
        refused = await site.ask("POST", place, {"to": to})
        assert (refused.status, refused.json["message"].partition(":")[0]) == (400, "to")
    done = await site.ask("POST", place, {"to": TO, "subject": "look", "from": "Me <me@example.com>"})
    assert (done.status, done.json["subject"], done.json["isHTML"]) == (201, "look", False)
    assert "Good morning é" in parsed(server.received[0]).get_content()


async def test_a_mail_kept_without_its_body_is_answered_but_not_forwarded(site: Site, server: SmtpServer) -> None:
    made = await linked(site, server)
    place = Place(ConnectorId(UUID(made["id"])), "INBOX", 7)
    header = Incoming(Fetched(1, MAIL, 10**9, None, whole=False), digest(MAIL), b"hash")
    outcome = await messages.add_batch(site.services.store, place, InboxId(UUID(made["inboxId"])), [header])
    mail = f"/emails/{outcome.stored[0].id}"
    refused = await site.ask("POST", f"{mail}/forward", {"to": TO})
    assert (refused.status, "max_message_bytes" in refused.json["message"]) == (409, True)
    assert (await site.ask("PUT", mail, {"body": "x"})).status == 200


async def test_the_inbox_records_what_it_sent(site: Site, server: SmtpServer) -> None:
    made, other = await linked(site, server), await linked(site, server)
    await site.ask("POST", f"/inboxes/{made['inboxId']}", {"to": TO})
    for inbox, count in ((made, 1), (other, 0)):
        assert await sent.count(site.services.store, InboxId(UUID(inbox["inboxId"]))) == count
