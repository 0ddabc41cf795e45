"""`inboxctl` against the running daemon: what the README shows, typed as it stands there."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path

import pytest

from servers.daemon import Daemon
from servers.dovecot import Dovecot, User
from servers.smtp import Received, SmtpServer

MAIL = b"From: Bob <bob@example.test>\r\nTo: b@example.test\r\nSubject: a first mail\r\n\r\nhello\r\n"


@pytest.fixture
def user(daemon: Daemon, dovecot: Dovecot, smtp: SmtpServer) -> User:
    """A mailbox with one mail, linked as `work` by the command line alone."""
    made = dovecot.user()
    dovecot.append(made, MAIL)
    smtp.users[made.name] = made.password

    def deliver(mail: Received) -> None:
        dovecot.append(made, mail.content)

    smtp.deliver = deliver
    daemon.start()
    daemon.ctl(
        "connector", "add", "work", "--email", made.name, "--password-stdin",
        "--imap-host", dovecot.starttls.host, "--imap-port", str(dovecot.starttls.port), "--imap-tls", "starttls",
        "--smtp-host", smtp.host, "--smtp-port", str(smtp.port), "--smtp-tls", "starttls",
        stdin=made.password + "\n",
    )  # fmt: skip
    return made


def connector(daemon: Daemon) -> dict[str, object]:
    """The row of `work`."""
    (row,) = json.loads(daemon.ctl("connector", "list", "--json"))["content"]
    return row


def test_mailbox_is_linked_tested_read_and_sent_from(daemon: Daemon, user: User, smtp: SmtpServer) -> None:
    daemon.await_count(connector(daemon), 1)
    tested = daemon.ctl("test", "work")
    for step in ("resolve", "connect", "tls", "greeting", "capabilities", "login", "select", "idle", "ehlo", "size"):
        assert step in tested
    assert "a first mail" in daemon.ctl("emails", "work")
    daemon.ctl("send", "work", "--to", user.name, "--subject", "Grüße", "--text", "out and back")
    daemon.await_count(connector(daemon), 2)
    newest = max(daemon.emails(connector(daemon)), key=lambda row: row["createdAt"])
    assert newest["subject"] == "Grüße"
    assert "out and back" in daemon.ctl("email", newest["id"])
    assert daemon.ctl("email", newest["id"], "--raw").replace("\n", "\r\n").encode() == daemon.raw(newest["id"])
    shown = daemon.ctl("events", "work")
    assert "SEND" in shown
    assert "SYNC" in shown
    assert "idle" in daemon.ctl("status")
    daemon.ctl("email", newest["id"], "--delete")
    assert daemon.count(connector(daemon)) == 1


def test_what_waits_is_shown_tried_again_or_dropped(daemon: Daemon, user: User, smtp: SmtpServer) -> None:
    send = ("send", "work", "--to", user.name, "--subject", "Invoice", "--text", "x", "--idempotency-key", "order 42")
    smtp.answers["MAIL"] = "451 4.7.1 come back later"
    refused = daemon.ctl(*send, status=1)
    assert "451 4.7.1 come back later" in refused
    (row,) = json.loads(daemon.ctl("outbox", "list", "--state", "deferred", "--json"))["content"]
    assert row["id"] in refused
    listed = daemon.ctl("outbox", "list", "--connector", "work")
    assert f"{user.name}: Invoice" in listed
    assert "451 4.7.1 come back later" in listed
    assert "1 on the way" in daemon.ctl("status")
    assert daemon.ctl(*send, status=1) == refused
    shown = daemon.ctl("outbox", "show", row["id"])
    assert "SendDeferred at mail" in shown
    del smtp.answers["MAIL"]
    assert daemon.ctl("outbox", "retry", row["id"]) == f"{row['id']}  is tried now  {user.name}: Invoice\n"
    daemon.until(lambda: "state       sent" in daemon.ctl("outbox", "show", row["id"]), "the mail to be sent")
    assert daemon.ctl(*send).startswith(f"sent to {user.name} as <")
    assert "sent already" in daemon.ctl("outbox", "cancel", row["id"], status=1)
    assert len(smtp.received) == 1
    assert "outbox" not in daemon.ctl("status")
    other = daemon.ctl(*send[:-1], "order 43", "--no-wait", "--dsn", "success,delay")
    assert other.startswith(f"accepted, on its way to {user.name}")
    smtp.wait_for(2)


def test_round_trip_is_timed_and_leaves_no_copy_here(daemon: Daemon, user: User, dovecot: Dovecot) -> None:
    daemon.await_count(connector(daemon), 1)
    daemon.await_state(connector(daemon), "idle")
    told = daemon.ctl("test", "work", "--roundtrip")
    _, _, trip = told.partition("ROUND TRIP\n")
    for words in ("✓ connect", "✓ accepted", "✓ delivered", "✓ detected", "work works: "):
        assert words in trip
    assert daemon.count(connector(daemon)) == 1
    with dovecot.session(user) as client:
        assert client.select("INBOX")[1] == [b"2"]


def test_wrong_password_shows_step_cause_and_fix_with_status_1(daemon: Daemon, user: User) -> None:
    wrong = daemon.folder / "wrong"
    wrong.write_text("not it\n")
    daemon.ctl("connector", "set", "work", "--password-file", str(wrong))
    told = daemon.ctl("test", "work", "--imap", status=1)
    assert "1 of" in told
    rows = [json.loads(line) for line in _json_test(daemon).splitlines()]
    failed = [row for row in rows if not row["ok"]]
    assert [row["name"] for row in failed] == ["login"]
    assert "AUTHENTICATIONFAILED" in failed[0]["detail"]
    assert "password" in failed[0]["cause"]
    assert failed[0]["fix"]
    right = daemon.folder / "right"
    right.write_text(user.password)
    daemon.ctl("connector", "set", "work", "--password-file", str(right))
    daemon.await_state(connector(daemon), "idle")


def _json_test(daemon: Daemon) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from inboxd.ctl import main; main()", "--socket", str(daemon.socket), "test", "work",
         "--imap", "--json"],
        env=daemon.environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    return done.stdout


def test_watch_prints_a_line_as_mail_arrives_until_the_daemon_stops(
    daemon: Daemon, user: User, dovecot: Dovecot
) -> None:
    daemon.await_count(connector(daemon), 1)
    daemon.await_state(connector(daemon), "idle")
    watching = subprocess.Popen(
        [sys.executable, "-u", "-c", "from inboxd.ctl import main; main()", "--socket", str(daemon.socket), "watch",
         "work", "--json"],
        env=daemon.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    output = watching.stdout
    assert output is not None
    lines: list[str] = []
    try:
        # The stream begins at some moment after the process does: deliver until one is seen.
        number = 1
        while not lines:
            dovecot.append(user, MAIL.replace(b"a first", b"another"))
            number += 1
            daemon.await_count(connector(daemon), number)
            if select.select([output], [], [], 1.0)[0]:
                lines.append(output.readline())
        assert daemon.stop() == 0
        _, complaint = watching.communicate(timeout=30)
    finally:
        watching.kill()
        watching.communicate()
    assert (watching.returncode, complaint) == (3, "inboxctl: inboxd is stopping; ask again later\n")
    row = json.loads(lines[0])
    assert (row["connectorName"], row["subject"], row["from"]) == ("work", "another mail", "bob@example.test")


def test_sync_by_hand_reports_its_new_messages(daemon: Daemon, user: User, dovecot: Dovecot) -> None:
    daemon.ctl("connector", "disable", "work")
    daemon.await_state(connector(daemon), "off")
    before = daemon.count(connector(daemon))
    dovecot.append(user, MAIL)
    result = json.loads(daemon.ctl("sync", "work", "--json").splitlines()[-1])["result"]
    assert result["syncResult"]["emailSyncCount"] == 2 - before
    assert "CAPABILITY" in daemon.ctl("sync", "work", "--log")


def test_shipped_connector_file_links_a_mailbox(daemon: Daemon, dovecot: Dovecot, tmp_path: Path) -> None:
    made = dovecot.user()
    daemon.start()
    (tmp_path / "secret").write_text(made.password)
    (tmp_path / "box.toml").write_text(
        f'name = "box"\nemail = "{made.name}"\npassword_file = "secret"\n'
        f'[imap]\nhost = "{dovecot.tls.host}"\nport = {dovecot.tls.port}\ntls = "implicit"\n'
    )
    daemon.ctl("connector", "add", "--file", str(tmp_path / "box.toml"))
    daemon.await_state(connector(daemon), "idle")
    daemon.ctl("connector", "remove", "box", "--yes")
    assert json.loads(daemon.ctl("connector", "list", "--json"))["content"] == []
