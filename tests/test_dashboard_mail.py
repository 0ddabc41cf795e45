"""The dashboard in a browser: mail listed, searched, read, answered, written, sent, and what becomes of it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, expect

from inboxd.model import Tls
from servers.accounts import HTML, PDF, RICH
from servers.browser import Desk, desk_on
from servers.daemon import Daemon
from servers.dovecot import Dovecot, User
from servers.smtp import PASSWORD, USER, Fault, SmtpServer, smtp_server

COUNT = 60


@dataclass(frozen=True, slots=True)
class Place:
    """A mailbox with many mails in it, that can send, and the desk it is looked at from."""

    desk: Desk
    smtp: SmtpServer
    connector: dict[str, Any]

    @property
    def list(self) -> str:
        """The path of its mails."""
        return f"/ui/mail?inbox={self.connector['inboxId']}"

    def subjects(self) -> list[str]:
        """What the list shows, from the top."""
        return self.desk.page.locator(".list .subject").all_inner_texts()

    def write(self, subject: str) -> None:
        """Write a mail and send it off."""
        self.desk.open(f"/ui/compose?connector={self.connector['id']}")
        self.desk.fill(to="grace@example.test", subject=subject, text="Dear Grace")
        self.desk.press("Send")
        assert self.desk.path.startswith("/ui/outbox/")

    def expect_state(self, word: str) -> None:
        """Wait for the state that the mail's page shows, without a reload."""
        expect(self.desk.page.locator(".tools .state")).to_have_text(word)


@pytest.fixture(scope="module")
def sink(certificates: Any) -> Generator[SmtpServer]:
    """What the module's mails are sent to."""
    context = certificates.good.server_context()
    with smtp_server(Tls.STARTTLS, context=context, users={USER: PASSWORD}) as server:
        yield server


@pytest.fixture(scope="module")
def mailbox(running: Daemon, dovecot_session: Dovecot, sink: SmtpServer) -> tuple[User, dict[str, Any]]:
    """60 small mails and a rich one, fetched."""
    user = dovecot_session.user()
    dovecot_session.bulk_load(user, [numbered(number) for number in range(COUNT)] + [RICH.replace(b"\n", b"\r\n")])
    connector = running.connect(user, dovecot_session.starttls, smtp=sink)
    running.await_count(connector, COUNT + 1)
    return user, connector


@pytest.fixture
def place(desk: Desk, sink: SmtpServer, mailbox: tuple[User, dict[str, Any]]) -> Place:
    sink.answers.clear()
    return Place(desk, sink, mailbox[1])


def numbered(number: int) -> bytes:
    """A small mail; every tenth is of Grace."""
    sender = b"Grace <grace@example.test>" if number % 10 == 0 else b"Ada <ada@example.test>"
    return b"From: %s\r\nTo: me@example.test\r\nSubject: mail %d of many\r\n\r\nNumber %d\r\n" % (
        sender,
        number,
        number,
    )


def test_pages_of_the_list_are_turned_and_searched(place: Place) -> None:
    desk = place.desk
    desk.open(place.list)
    assert len(place.subjects()) == 50
    desk.follow("Older mails")
    assert len(place.subjects()) == COUNT + 1 - 50
    assert place.subjects()[-1] == "mail 0 of many"
    desk.follow("Newer mails")
    assert len(place.subjects()) == 50
    for written, found in (("from:grace", 6), ('subject:"mail 7 of"', 1), ("has:attachment", 1), ("from:nobody", 0)):
        desk.fill(q=written)
        desk.page.locator("#q").press("Enter")
        expect(desk.page.locator(".list li")).to_have_count(found)
        assert desk.page.input_value("#q") == written
    desk.see("Nothing matches")
    desk.fill(q="is:nonsense after:yesterday")
    desk.press("Search")
    desk.see("is:nonsense means nothing")
    desk.see("write it as after:2026-01-31")


def test_the_keyboard_is_enough(place: Place) -> None:
    desk = place.desk
    desk.open(place.list + "&q=from:grace")
    desk.key("j")
    desk.key("j")
    desk.key("x")
    assert desk.page.locator(".list input:checked").count() == 1
    assert desk.page.locator(".list li").nth(1).locator("input").is_checked()
    desk.key("k")
    desk.key("Enter")
    expect(desk.page.locator("h1")).to_have_text("mail 50 of many")
    desk.key("j")
    expect(desk.page.locator("h1")).to_have_text("mail 40 of many")
    desk.key("k")
    expect(desk.page.locator("h1")).to_have_text("mail 50 of many")
    desk.key("r")
    expect(desk.page.locator("h1")).to_have_text("Reply")
    desk.page.go_back()
    desk.key("f")
    expect(desk.page.locator("h1")).to_have_text("Forward")
    desk.page.go_back()
    desk.key("u")
    expect(desk.page.locator(".list li")).to_have_count(6)
    desk.key("/")
    expect(desk.page.locator("#q")).to_be_focused()
    desk.key("End")
    desk.page.keyboard.type("/ jxu")  # in a field these are letters
    assert desk.page.input_value("#q") == "from:grace/ jxu"


def test_a_mail_is_read_in_every_view_and_its_attachment_saved(place: Place, tmp_path: Path) -> None:
    desk = place.desk
    desk.open(place.list + "&q=subject:rich")
    assert desk.page.locator(".list li.unread").count() == 1
    desk.page.locator(".list li a").click()
    frame = desk.page.frame_locator("iframe.body")
    expect(frame.locator("h1")).to_have_text("Hello")
    expect(frame.locator("img")).to_have_attribute("src", "data:image/png;base64,iVBORw0KGgogcGljdHVyZQ==")
    for view, words in (("Text", "there is a PDF inside"), ("Source", HTML[:20]), ("Headers", "<rich@example.com>")):
        desk.follow(view)
        desk.see(words)
    desk.page.locator(".tabs a", has_text="Parts").click()
    desk.see("application/pdf")
    desk.follow("Raw")
    desk.see("Content-Type: multipart/mixed; boundary=mixed")
    with desk.page.expect_download() as saved:
        desk.follow("report.pdf")
    assert saved.value.suggested_filename == "report.pdf"
    saved.value.save_as(tmp_path / "report")
    assert (tmp_path / "report").read_bytes() == PDF
    with desk.page.expect_download() as saved:
        desk.follow("Download")
    assert saved.value.suggested_filename.endswith(".eml")
    desk.press("Mark unread")
    assert desk.page.locator(".list li.unread").count() == 1


def test_mails_are_ticked_and_changed_together(place: Place) -> None:
    desk = place.desk
    where = place.list + '&q=subject:"of many" from:ada'
    desk.open(where)
    first, second = place.subjects()[:2]
    desk.page.get_by_label(f"Tick: {first}").check()
    desk.page.get_by_label(f"Tick: {second}").check()
    desk.press("Mark read")
    assert desk.notice() == "2 mails marked as read."
    assert desk.page.locator(".list li.read").count() == 2
    questions: list[str] = []

    def refuse(dialog: Dialog) -> None:
        questions.append(dialog.message)
        dialog.dismiss()

    desk.page.once("dialog", refuse)
    desk.page.get_by_label(f"Tick: {first}").check()
    desk.press("Delete")
    assert questions == ["Delete the ticked mails here? The mailbox keeps them."]
    assert first in place.subjects()
    desk.page.once("dialog", lambda dialog: dialog.accept())
    desk.press("Delete")
    assert desk.notice() == "1 mail deleted."
    assert first not in place.subjects()
    desk.page.get_by_label("Tick all").check()
    desk.press("Mark read")
    assert "mails marked as read." in desk.notice()
    assert desk.page.locator(".list li.unread").count() == 0
    desk.page.get_by_text(second).click()
    desk.page.once("dialog", lambda dialog: dialog.accept())
    desk.press("Delete")
    assert "is deleted here" in desk.notice()
    assert second not in place.subjects()


def test_a_mail_is_answered_passed_on_and_written_with_a_file(place: Place, tmp_path: Path) -> None:
    desk, before = place.desk, len(place.smtp.received)
    desk.open(place.list + "&q=subject:rich")
    desk.page.locator(".list li a").click()
    desk.follow("Reply")
    assert desk.page.input_value("#to") == "ada@example.com"
    assert desk.page.input_value("#subject") == "Re: rich"
    assert "> Hello, there is a PDF inside" in desk.page.input_value("#text")
    desk.press("Send")
    assert "on its way" in desk.notice()
    place.expect_state("sent")
    desk.page.go_back()
    desk.open(place.list + "&q=subject:rich")
    desk.page.locator(".list li a").click()
    desk.follow("Forward")
    desk.see("Below it goes the mail")
    desk.fill(to="not an address")
    desk.press("Send")
    expect(desk.page.get_by_role("alert")).to_contain_text("to")
    assert desk.page.input_value("#to") == "not an address"
    desk.fill(to="grace@example.test", text="See below")
    desk.press("Send")
    place.expect_state("sent")
    (tmp_path / "notes.txt").write_text("noted")
    desk.open("/ui/outbox")
    desk.follow("Write a mail")
    desk.page.select_option("#connector", place.connector["id"])
    desk.fill(to='"Hopper, Grace" <grace@example.test>, ada@example.test', subject="With a file", text="Here")
    desk.page.set_input_files("#attachments", tmp_path / "notes.txt")
    desk.press("Send")
    place.expect_state("sent")
    answer, forward, written = place.smtp.wait_for(before + 3)[before:]
    assert b"In-Reply-To: <rich@example.com>" in answer.content
    assert b"report.pdf" in forward.content
    assert b"See below" in forward.content
    assert written.rcpt_tos == ("grace@example.test", "ada@example.test")
    assert b"notes.txt" in written.content
    desk.open("/ui/outbox?state=sent")
    desk.see("With a file")


def test_what_is_not_sent_is_retried_cancelled_or_let_rest(place: Place) -> None:
    desk, smtp = place.desk, place.smtp
    smtp.answers["RCPT"] = "450 4.2.1 come back later"
    place.write("comes back")
    place.expect_state("deferred")
    desk.see("come back later")
    smtp.answers.clear()
    desk.press("Try again now")
    place.expect_state("sent")
    smtp.answers["RCPT"] = "450 4.2.1 come back later"
    place.write("thought better of")
    place.expect_state("deferred")
    desk.press("Cancel")
    assert desk.notice() == "It is not sent."
    place.expect_state("cancelled")
    smtp.answers["RCPT"] = "550 5.1.1 nobody of that name"
    place.write("to nobody")
    place.expect_state("failed")
    desk.see("nobody of that name")
    desk.press("Let it rest")
    place.expect_state("cancelled")
    smtp.answers.clear()
    smtp.answers["DOT"] = Fault.DROP
    place.write("whoever knows")
    place.expect_state("unknown")
    desk.see("it may have been delivered")
    desk.open("/")
    desk.see("unknown")
    desk.open("/ui/outbox?state=unknown")
    desk.page.locator(".rows tbody a").first.click()
    smtp.answers.clear()
    desk.press("Try again now")
    place.expect_state("sent")


def test_a_mail_that_comes_is_listed_live_and_ticks_stay(place: Place, mailbox: Any, dovecot: Dovecot) -> None:
    desk = place.desk
    desk.open(place.list)
    desk.page.locator(".list input").nth(2).check()
    ticked = desk.page.locator(".list input:checked").get_attribute("value")
    dovecot.append(mailbox[0], b"From: Ada <ada@example.test>\r\nSubject: just in\r\n\r\nHi\r\n")
    desk.see("just in")
    expect(desk.page.locator(".list input:checked")).to_have_attribute("value", ticked or "")


def test_a_phone_shows_no_page_wider_than_itself(chromium: Browser, place: Place) -> None:
    with desk_on(chromium, place.desk.daemon, viewport={"width": 390, "height": 844}) as phone:
        mail = place.desk.daemon.emails(place.connector)[0]["id"]
        here = f"/ui/connectors/{place.connector['id']}"
        for path in (
            "/",
            place.list,
            f"/ui/mail/{mail}",
            "/ui/outbox",
            "/ui/connectors",
            here,
            "/ui/system",
            "/ui/compose",
        ):
            phone.open(path)
            assert phone.page.evaluate("document.documentElement.scrollWidth") <= 390, path
