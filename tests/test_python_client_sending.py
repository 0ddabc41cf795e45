"""MailSlurp's Python client through every way to send, and through what is kept of sent mail."""

from __future__ import annotations

import email
import email.policy
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from servers.daemon import KEY
from servers.python import SDK, Walk, refused, walks

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def options(walk: Walk, subject: str, **more: Any) -> Any:
    """A mail to the mailbox itself."""
    return SDK.SendEmailOptions(to=[walk.user.name], subject=subject, **({"body": "Hello"} | more))


def last(walk: Walk) -> EmailMessage:
    """The mail that the server took last."""
    content = walk.smtp.received[-1].content
    return email.message_from_bytes(content, policy=email.policy.default)


def send(walk: Walk, **wanted: Any) -> dict[str, Any]:
    """A mail sent from the connector's inbox, without the client."""
    status, sent = walk.daemon.http("POST", f"/inboxes/{walk.inbox_id}/confirm", {"to": [walk.user.name], **wanted})
    assert status == 201, sent
    return sent


@walks("sendEmail", "sendEmailAndConfirm", "sendEmailSourceOptional", "sendEmailSimple", "sendEmailQuery")
def test_every_way_to_send_reaches_the_server(walk: Walk) -> None:
    client, inbox_id, me = walk.client, walk.inbox_id, walk.user.name
    assert client.inboxes.send_email(inbox_id, options(walk, "Plain")) is None
    confirmed = client.inboxes.send_email_and_confirm(inbox_id, options(walk, "Confirmed"))
    assert (confirmed.inbox_id, confirmed.subject, confirmed.transport) == (inbox_id, "Confirmed", "PUBLIC_EMAIL")
    for source in ({}, {"inbox_id": inbox_id, "use_domain_pool": False, "virtual_send": False}):
        assert client.emails.send_email_source_optional(options(walk, "Optional"), **source) is None
    simple = SDK.SimpleSendEmailOptions(sender_id=inbox_id, to=me, subject="Simple", body="Hello")
    assert client.common.send_email_simple(simple) is None
    assert client.common.send_email_query(me, sender_id=inbox_id, subject="Query & ü", body="Hello") is None
    mails = walk.smtp.wait_for(6)
    received = [email.message_from_bytes(mail.content, policy=email.policy.default) for mail in mails]
    assert [mail["Subject"] for mail in received] == [
        "Plain", "Confirmed", "Optional", "Optional", "Simple", "Query & ü",
    ]  # fmt: skip
    assert {(mail["From"], mail["To"]) for mail in received} == {(me, me)}
    assert {mail.rcpt_tos for mail in mails} == {(me,)}


@walks("sendEmailAndConfirm", "uploadAttachment")
def test_options_shape_the_mail(walk: Walk) -> None:
    inboxes, me = walk.client.inboxes, walk.user.name
    encoded = b64encode(b"notes").decode()
    (attached,) = walk.client.attachments.upload_attachment(
        SDK.UploadAttachmentOptions(filename="notes.txt", content_type="text/plain", base64_contents=encoded)
    )
    sent = inboxes.send_email_and_confirm(
        walk.inbox_id,
        options(
            walk, "Grüße", _from=f"Somebody <{me}>", from_name="Ada", cc=["c@example.com"], bcc=["b@example.com"],
            reply_to="r@example.com", custom_headers={"X-Order": "42"}, body="<b>Hello</b>", is_html=True,
            attachments=[attached], use_inbox_name=False, send_strategy="SINGLE_MESSAGE", inbox_id=walk.inbox_id,
        ),
    )  # fmt: skip
    assert (sent.subject, sent.is_html, sent.html, sent.body) == ("Grüße", True, True, "<b>Hello</b>")
    assert (sent.to, sent.cc, sent.bcc, sent._from) == ([me], ["c@example.com"], ["b@example.com"], me)
    assert (sent.sender.name, sent.sender.email_address, sent.reply_to) == ("Ada", me, "r@example.com")
    assert (sent.attachments, sent.recipients.cc[0].email_address) == ([attached], "c@example.com")
    mail = last(walk)
    assert (mail["Subject"], mail["X-Order"], mail["Reply-To"]) == ("Grüße", "42", "r@example.com")
    assert (mail["From"], mail["Bcc"], f"<{sent.message_id}>") == (f"Ada <{me}>", None, mail["Message-ID"])
    assert [part.get_filename() for part in mail.iter_attachments()] == ["notes.txt"]
    assert set(walk.smtp.received[-1].rcpt_tos) == {me, "c@example.com", "b@example.com"}
    both = options(walk, "Both", body_parts=[
        SDK.SendEmailBodyPart(content_type="text/plain", content_body="plain"),
        SDK.SendEmailBodyPart(content_type="text/html", content_body="<i>rich</i>"),
    ])  # fmt: skip
    inboxes.send_email_and_confirm(walk.inbox_id, both)
    assert [part.get_content_type() for part in last(walk).iter_parts()] == ["text/plain", "text/html"]
    legacy = inboxes.send_email_and_confirm(walk.inbox_id, options(walk, "Legacy", html=True))
    assert (legacy.is_html, last(walk).get_content_subtype()) == (True, "html")


@walks("sendEmail", "sendEmailAndConfirm", "sendEmailSourceOptional", "sendEmailSimple", "sendEmailQuery", "canSend")
def test_mail_that_cannot_be_sent_is_refused(walk: Walk) -> None:
    client, inbox_id = walk.client, walk.inbox_id
    local = walk.daemon.http("POST", "/inboxes/withDefaults")[1]["id"]
    may = client.emails.can_send(inbox_id, options(walk, "May I"))
    assert (may.is_sending_permitted, may.message) == (True, None)
    may_not = client.emails.can_send(local, options(walk, "May I"))
    assert (may_not.is_sending_permitted, bool(may_not.message)) == (False, True)
    simple = SDK.SimpleSendEmailOptions(sender_id=local, to=walk.user.name)
    ways: tuple[Callable[[Any], object], ...] = (
        lambda mail: client.inboxes.send_email(inbox_id, mail),
        lambda mail: client.inboxes.send_email_and_confirm(inbox_id, mail),
        lambda mail: client.emails.send_email_source_optional(mail, inbox_id=inbox_id),
    )
    for way in ways:
        assert "to" in refused(400, way, SDK.SendEmailOptions(body="nobody"))
        assert "to" in refused(400, way, {"to": "one@example.com"})
        assert "to" in refused(400, way, SDK.SendEmailOptions(to=["nonsense"]))
        assert "customHeaders" in refused(400, way, options(walk, "x", custom_headers={"X": "a\r\nBcc: b@example.com"}))
        assert "attachments.0" in refused(400, way, options(walk, "x", attachments=[str(uuid4())]))
        assert "template" in refused(400, way, options(walk, "x", template=str(uuid4())))
    for alone in (
        lambda: client.inboxes.send_email(local, options(walk, "x")),
        lambda: client.inboxes.send_email_and_confirm(local, options(walk, "x")),
        lambda: client.emails.send_email_source_optional(options(walk, "x"), inbox_id=local),
        lambda: client.common.send_email_simple(simple),
        lambda: client.common.send_email_query(walk.user.name, sender_id=local),
    ):
        refused(409, alone)
    assert "virtualSend" in refused(
        400, client.emails.send_email_source_optional, options(walk, "x"), virtual_send=True
    )
    assert "senderId" in refused(400, client.common.send_email_query, walk.user.name, sender_id="nonsense")
    assert "to" in refused(400, client.common.send_email_simple, SDK.SimpleSendEmailOptions(to="nonsense"))
    with pytest.raises(ValueError, match="send_strategy"):
        SDK.SendEmailOptions(to=[walk.user.name], send_strategy="TWICE")
    assert walk.smtp.received == []
    walk.smtp.answers["DOT"] = "554 5.7.1 this looks like spam"
    assert "looks like spam" in refused(422, client.inboxes.send_email_and_confirm, inbox_id, options(walk, "x"))


@walks("sendEmail", "sendEmailAndConfirm", "sendEmailSourceOptional", "getSentEmails")
def test_a_mail_sent_again_under_its_key_goes_out_once(walk: Walk) -> None:
    client, inbox_id = walk.client, walk.inbox_id
    client.api.set_default_header("Idempotency-Key", "order 42")
    first, second = [client.inboxes.send_email_and_confirm(inbox_id, options(walk, "Once")) for _ in range(2)]
    assert (first.id, first.message_id, first.sent_at) == (second.id, second.message_id, second.sent_at)
    assert "Idempotency-Key" in refused(409, client.inboxes.send_email, inbox_id, options(walk, "Once"))
    client.api.set_default_header("Idempotency-Key", "order 43")
    for _ in range(2):
        assert client.emails.send_email_source_optional(options(walk, "Twice asked"), inbox_id=inbox_id) is None
    client.api.set_default_header("Idempotency-Key", "order 44")
    assert client.inboxes.send_email(inbox_id, options(walk, "Last")) is None
    subjects = [email.message_from_bytes(mail.content)["Subject"] for mail in walk.smtp.wait_for(3)]
    assert subjects == ["Once", "Twice asked", "Last"]
    assert client.sent.get_sent_emails().total_elements == 3


@walks("replyToEmail", "forwardEmail")
def test_received_mail_is_answered_and_forwarded(walk: Walk) -> None:
    emails, me, rich = walk.client.emails, walk.user.name, walk.rich
    answer = SDK.ReplyToEmailOptions(body="Thanks", is_html=False, _from=me, custom_headers={"X-Order": "42"})
    reply = emails.reply_to_email(rich, answer)
    assert (reply.subject, reply.to, reply.in_reply_to) == ("Re: rich", ["ada@example.com"], "rich@example.com")
    assert (reply.inbox_id, reply.transport, reply.is_html) == (walk.inbox_id, "PUBLIC_EMAIL", False)
    assert (last(walk)["In-Reply-To"], last(walk)["X-Order"]) == ("<rich@example.com>", "42")
    forward = emails.forward_email(rich, SDK.ForwardEmailOptions(to=[me], cc=["c@example.com"], subject="See this"))
    assert (forward.subject, forward.to, forward.cc) == ("See this", [me], ["c@example.com"])
    assert {part.get_filename() for part in last(walk).walk()} >= {"report.pdf", "picture.png"}

    assert "to" in refused(400, emails.forward_email, rich, SDK.ForwardEmailOptions(to=[]))
    assert "to" in refused(400, emails.forward_email, rich, SDK.ForwardEmailOptions(to=["nonsense"]))
    assert "body" in refused(400, emails.reply_to_email, rich, {})
    injected = SDK.ReplyToEmailOptions(body="x", is_html=False, reply_to="r@example.com\r\nX: y")
    assert "replyTo" in refused(400, emails.reply_to_email, rich, injected)
    walk.smtp.answers["MAIL"] = "550 5.7.1 not today"
    assert "not today" in refused(422, emails.reply_to_email, rich, answer)
    assert "not today" in refused(422, emails.forward_email, rich, SDK.ForwardEmailOptions(to=[me]))


@walks("getSentEmails", "getInboxSentEmails", "getInboxSentCount", "getSentEmail")
def test_sent_mails_are_listed(walk: Walk) -> None:
    sent, inboxes, inbox_id = walk.client.sent, walk.client.inboxes, walk.inbox_id
    first, second = send(walk, subject="first", body="one"), send(walk, subject="second", body="two")
    page = sent.get_sent_emails(inbox_id=inbox_id, page=0, size=1, sort="DESC")
    assert (page.total_elements, page.total_pages, page.content[0].id) == (2, 2, second["id"])
    (row,) = inboxes.get_inbox_sent_emails(inbox_id, search_filter="FIRST", since=EPOCH).content
    assert (row.id, row._from, row.to, row.virtual_send) == (first["id"], walk.user.name, [walk.user.name], False)
    assert [mail.id for mail in inboxes.get_inbox_sent_emails(inbox_id).content] == [first["id"], second["id"]]
    assert sent.get_sent_emails(before=EPOCH.replace(tzinfo=None)).content == []
    assert sent.get_sent_emails(inbox_id=str(uuid4())).total_elements == 0
    assert sent.get_sent_emails(search_filter="in none of them").empty is True
    assert inboxes.get_inbox_sent_count(inbox_id).total_elements == 2
    whole = sent.get_sent_email(first["id"])
    assert (whole.subject, whole.body, whole.message_id) == ("first", "one", first["messageId"])
    assert (whole.transport, whole.is_html, whole.charset) == ("PUBLIC_EMAIL", False, "utf-8")
    assert whole.sent_at >= whole.created_at
    assert "inboxId" in refused(400, sent.get_sent_emails, inbox_id="nonsense")
    assert "sort" in refused(400, inboxes.get_inbox_sent_emails, inbox_id, sort="SIDEWAYS")


@walks("getSentEmailHTMLContent", "getRawSentEmailContents", "getRawSentEmailJson", "getSentEmailPreviewURLs")
def test_sent_mails_are_shown(walk: Walk) -> None:
    sent = walk.client.sent
    html = send(walk, subject="html", body="<p>Hello</p>", isHTML=True)["id"]
    text = send(walk, subject="text", body="1 < 2")["id"]
    assert sent.get_sent_email_html_content(html) == "<p>Hello</p>"
    assert "1 &lt; 2" in sent.get_sent_email_html_content(text)
    assert sent.get_raw_sent_email_contents(html) is None
    raw = sent.get_raw_sent_email_contents(html, _preload_content=False).data
    assert raw == walk.smtp.received[0].content
    assert sent.get_raw_sent_email_json(html).content == raw.decode()
    urls = sent.get_sent_email_preview_ur_ls(html)
    assert urls.origin == walk.url
    for url in (urls.raw_smtp_message_url, urls.plain_html_body_url):
        with urllib.request.urlopen(f"{url}?apiKey={quote(KEY)}", timeout=30) as answer:
            assert b"<p>Hello</p>" in answer.read()


@walks("deleteSentEmail", "deleteAllSentEmails", "getSentEmails", "getSentEmail")
def test_sent_mails_are_deleted(walk: Walk) -> None:
    sent = walk.client.sent
    first = send(walk, subject="first")["id"]
    assert send(walk, subject="second")
    assert sent.delete_sent_email(first) is None
    refused(404, sent.delete_sent_email, first)
    refused(404, sent.get_sent_email, first)
    assert sent.get_sent_emails().total_elements == 1
    assert sent.delete_all_sent_emails() is None
    assert sent.get_sent_emails().content == []
