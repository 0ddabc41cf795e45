"""A mail's whole way, through the real daemon, SMTP server and Dovecot: sent, filed, answered, bounced, found again."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from email import message_from_bytes
from typing import Any

import pytest

from servers.breaking import CLOSE, Breaking, breaking
from servers.daemon import Daemon
from servers.dovecot import Dovecot, User
from servers.smtp import SmtpServer, smtp_server

QUICK = {
    "INBOXD_OUTBOX__COPY_DELAY_SECONDS": "0",
    "INBOXD_OUTBOX__RETRY_FIRST_SECONDS": "0.1",
    "INBOXD_OUTBOX__RETRY_MOST_SECONDS": "0.5",
}
BOUNCE = """\
From: MAILER-DAEMON@example.test
To: {user}
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="B"

--B
Content-Type: text/plain

I'm sorry to have to inform you that your message could not be delivered.

--B
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example.test

Final-Recipient: rfc822; bob@example.com
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 no such user here

--B
Content-Type: text/rfc822-headers

From: {user}
Message-ID: <{message_id}>
Subject: hello

--B--
"""


@pytest.fixture
def smtp() -> Generator[SmtpServer]:
    with smtp_server() as server:
        yield server


@pytest.fixture
def user(dovecot: Dovecot) -> User:
    made = dovecot.user()
    with dovecot.session(made) as imap:
        imap.create("Sent")
    return made


@pytest.fixture
def sending(daemon: Daemon) -> Daemon:
    daemon.settings |= QUICK
    return daemon.start()


def link(daemon: Daemon, dovecot: Dovecot, user: User, smtp: SmtpServer | Breaking) -> dict[str, Any]:
    made = daemon.connect(user, dovecot.starttls)
    body = {"enabled": True, "smtpHost": smtp.host, "smtpPort": smtp.port, "smtpSsl": False, "startTls": False}
    assert daemon.http("POST", f"/connectors/{made['id']}/smtp", body)[0] == 201
    daemon.await_state(made, "idle")
    return made


def send(daemon: Daemon, connector: dict[str, Any], **more: Any) -> tuple[int, dict[str, Any]]:
    body = {"to": ["bob@example.com"], "subject": "hello", "body": "text", **more}
    return daemon.http("POST", f"/inboxes/{connector['inboxId']}/confirm", body)


def shown(daemon: Daemon, sent_id: str) -> dict[str, Any]:
    """What `inboxctl outbox show` says."""
    return json.loads(daemon.ctl("outbox", "show", sent_id, "--json"))


def test_a_sent_mail_is_filed_once_byte_for_byte(
    sending: Daemon, dovecot: Dovecot, user: User, smtp: SmtpServer
) -> None:
    connector = link(sending, dovecot, user, smtp)
    status, mail = send(sending, connector, bcc=["eve@example.com"])
    assert status == 201
    filed = sending.until(lambda: dovecot.fetch_all(user, "Sent"), "the copy")
    assert list(filed.values()) == [smtp.received[0].content]
    assert smtp.received[0].rcpt_tos == ("bob@example.com", "eve@example.com")
    assert b"eve@example.com" not in smtp.received[0].content
    sending.until(lambda: not shown(sending, mail["id"])["chores"], "the chore's end")
    with dovecot.session(user) as imap:
        imap.select("Sent")
        assert b"\\Seen" in imap.fetch("1", "(FLAGS)")[1][0]  # type: ignore[operator]


def test_a_reply_threads_and_marks_what_it_answers(
    sending: Daemon, dovecot: Dovecot, user: User, smtp: SmtpServer
) -> None:
    connector = link(sending, dovecot, user, smtp)
    question = (
        b"From: Ada <ada@example.com>\r\nMessage-ID: <q@example.com>\r\nReferences: <p@example.com>\r\n"
        b"Subject: a question\r\n\r\nwhy?\r\n"
    )
    dovecot.append(user, question)
    sending.await_count(connector, 1)
    (email,) = sending.emails(connector)
    status, _ = sending.http("PUT", f"/emails/{email['id']}", {"body": "because", "isHTML": False})
    assert status == 200
    answer = message_from_bytes(smtp.received[0].content)
    assert (answer["In-Reply-To"], answer["References"]) == ("<q@example.com>", "<p@example.com> <q@example.com>")
    assert (answer["Subject"], answer["To"]) == ("Re: a question", "Ada <ada@example.com>")

    def marked() -> bool:
        with dovecot.session(user) as imap:
            imap.select("INBOX", readonly=True)
            return b"\\Answered" in imap.fetch("1", "(FLAGS)")[1][0]  # type: ignore[operator]

    sending.until(marked, "\\Answered")


def test_a_bounce_marks_its_recipient_and_is_an_event(
    sending: Daemon, dovecot: Dovecot, user: User, smtp: SmtpServer
) -> None:
    connector = link(sending, dovecot, user, smtp)
    _, mail = send(sending, connector, cc=["carl@example.com"])
    notice = BOUNCE.format(user=user.name, message_id=mail["messageId"]).replace("\n", "\r\n")
    dovecot.append(user, notice.encode())

    def bounced() -> bool:
        states = {one["address"]: one["state"].lower() for one in shown(sending, mail["id"])["recipients"]}
        return states == {"bob@example.com": "bounced", "carl@example.com": "accepted"}

    sending.until(bounced, "the bounce")
    assert "no such user here" in sending.ctl("outbox", "show", mail["id"])
    events = sending.client.get(f"/connectors/{connector['id']}/events", sort="DESC", eventType="SEND")["content"]
    assert "no such user here" in events[0]["message"]


def test_a_mail_of_unknown_outcome_is_found_in_the_sent_mailbox_and_not_sent_again(
    sending: Daemon, dovecot: Dovecot, user: User
) -> None:
    def files_its_own_copy(stage: str) -> bytes | None:
        """As a provider that files what it takes, and then goes away without an answer."""
        return CLOSE if stage == "dot" else None

    server = Breaking(plan=files_its_own_copy)
    with breaking(server):
        connector = link(sending, dovecot, user, server)
        status, answer = send(sending, connector)
        assert status == 504
        assert "does not send it again by itself" in answer["message"]
        (row,) = json.loads(sending.ctl("outbox", "list", "--state", "unknown", "--json"))["content"]
        found = re.search(r"inboxctl outbox show ([0-9a-f-]{36})", answer["message"])
        assert found is not None
        assert found[1] == row["id"]
        dovecot.append(user, server.taken[0], mailbox="Sent")
        sending.until(lambda: shown(sending, row["id"])["state"].lower() == "sent", "the resolver", 60)
        assert len(server.ids) == 1
        assert sending.metric("inboxd_unknown_sends_resolved_total", resolution="found") == 1
        assert len(dovecot.fetch_all(user, "Sent")) == 1


def test_an_operator_decides_about_a_mail_that_stays_unknown(daemon: Daemon, dovecot: Dovecot, user: User) -> None:
    daemon.settings |= QUICK | {"INBOXD_OUTBOX__RESOLVE_SECONDS": "0"}
    daemon.start()
    server = Breaking(plan=lambda stage: CLOSE if stage == "dot" else None)
    with breaking(server):
        connector = link(daemon, dovecot, user, server)
        ids: list[str] = []
        for _ in range(2):
            assert send(daemon, connector)[0] == 504
            rows = json.loads(daemon.ctl("outbox", "list", "--state", "unknown", "--json"))["content"]
            ids += [row["id"] for row in rows if row["id"] not in ids]
        daemon.until(lambda: not any(shown(daemon, one)["chores"] for one in ids), "the resolver to give up")
        daemon.until(lambda: daemon.metric("inboxd_outbox_mails", state="unknown") == 2, "the count")
        assert "may or may not" in daemon.ctl("outbox", "show", ids[0]) or "unknown" in daemon.ctl(
            "outbox", "show", ids[0]
        )
        server.plan = lambda _stage: None
        daemon.ctl("outbox", "retry", ids[0])
        daemon.ctl("outbox", "drop", ids[1])
        daemon.until(lambda: shown(daemon, ids[0])["state"].lower() == "sent", "the second try")
        assert shown(daemon, ids[1])["state"].lower() == "cancelled"
        assert max(server.counts().values()) == 2
        assert sum(server.counts().values()) == 3
