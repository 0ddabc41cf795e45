"""The dashboard in a browser: from the door and an empty installation to connectors that run, break and go."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Browser, expect

from inboxd.model import Tls
from servers.browser import Desk, desk_on
from servers.daemon import KEY, Daemon
from servers.dovecot import Dovecot, User
from servers.smtp import smtp_server

SECRET = "pa55-word-of-the-form"
MAIL = b"From: Ada <ada@example.test>\r\nTo: me@example.test\r\nSubject: %s\r\n\r\nGood morning\r\n"


def by_hand(desk: Desk, dovecot: Dovecot, user: User, password: str) -> None:
    """Fill in the form for a mailbox on Dovecot."""
    desk.fill(name="Mine", email=user.name, password=password)
    desk.fill(imap_host=dovecot.starttls.host, imap_port=str(dovecot.starttls.port), imap_user=user.name)
    desk.page.select_option("#imap_tls", "none")


def test_the_door_opens_with_a_key_and_shuts_again(chromium: Browser, running: Daemon) -> None:
    with desk_on(chromium, running, signed_in=False) as desk:
        desk.open("/ui/mail?q=is:unread")
        assert desk.path.startswith("/ui/sign-in?next=")
        expect(desk.page.get_by_label("API key")).to_be_focused()
        desk.fill(key="wrong")
        desk.press("Sign in")
        desk.see("This API key is unknown or revoked.")
        desk.fill(key=KEY)
        desk.press("Sign in")
        assert desk.path == "/ui/mail?q=is:unread"
        (cookie,) = desk.page.context.cookies()
        assert (cookie.get("httpOnly"), cookie.get("sameSite"), cookie.get("path")) == (True, "Strict", "/")
        assert desk.page.evaluate("document.cookie") == ""
        desk.press("Sign out")
        assert desk.path == "/ui/sign-in"
        assert desk.page.context.cookies() == []
        desk.page.context.add_cookies([cookie])  # pyright: ignore[reportArgumentType]
        desk.open("/ui/system")
        assert desk.path.startswith("/ui/sign-in?next=")


def test_the_link_of_the_command_line_opens_the_door_once(chromium: Browser, running: Daemon) -> None:
    found = re.search(r"http://\S+", running.ctl("dashboard"))
    assert found is not None
    for status, path in ((200, "/"), (403, found[0].partition(str(running.api_port))[2])):
        with desk_on(chromium, running, signed_in=False) as desk:
            answer = desk.page.goto(found[0])
            assert answer is not None
            assert (answer.status, desk.path) == (status, path)


def test_from_nothing_to_a_mailbox_that_is_read_as_mail_comes(
    chromium: Browser, daemon: Daemon, dovecot: Dovecot
) -> None:
    daemon.start()
    user = dovecot.user(password=SECRET)
    dovecot.append(user, MAIL % b"the first")
    with desk_on(chromium, daemon) as desk:
        desk.open("/")
        desk.see("Connect your first mailbox")
        desk.follow("Add a connector")
        desk.follow("Enter them by hand")
        by_hand(desk, dovecot, user, "not-" + SECRET)
        desk.press("Test")
        desk.see("Likely cause:")
        desk.see("What to do:")
        assert SECRET not in desk.content()
        desk.press("Change the settings")
        assert desk.page.input_value("#imap_host") == dovecot.starttls.host
        assert SECRET not in desk.content()
        desk.fill(password=SECRET)
        desk.press("Test")
        desk.see("Everything works.")
        assert desk.page.locator(".steps li.good").count() >= 4
        assert desk.page.locator(".steps li.bad").count() == 0
        assert SECRET not in desk.content()
        desk.press("Start")
        assert re.fullmatch(r"/ui/connectors/[0-9a-f-]{36}", desk.path)
        assert "is connected" in desk.notice()
        desk.go("/ui/mail")
        desk.see("the first")
        desk.page.evaluate("window.loadedOnce = true")
        dovecot.append(user, MAIL % b"while you watch")
        desk.see("while you watch")
        assert desk.page.evaluate("window.loadedOnce")  # nothing was loaded anew
        desk.go("/")
        desk.see("Mail is flowing")
    assert SECRET not in daemon.log


def test_servers_are_found_by_the_address(desk: Desk) -> None:
    desk.open("/ui/connectors/new")
    desk.fill(email="ada@gmail.com")
    desk.press("Find the servers")
    desk.see("Found by:")
    assert desk.page.input_value("#imap_host") == "imap.gmail.com"
    assert desk.page.input_value("#smtp_host") == "smtp.gmail.com"
    assert desk.page.input_value("#imap_user") == "ada@gmail.com"
    desk.see("app password")
    desk.fill(imap_host="", smtp_host="")
    desk.press("Start without a test")
    expect(desk.page.get_by_role("alert")).to_contain_text("host")
    assert desk.page.input_value("#email") == "ada@gmail.com"


def test_a_connector_is_paused_resumed_synced_tested_edited_and_deleted(desk: Desk, dovecot: Dovecot) -> None:
    user = dovecot.user(password=SECRET)
    dovecot.append(user, MAIL % b"to be counted")
    connector = desk.daemon.connect(user, dovecot.starttls)
    desk.daemon.await_count(connector, 1)
    here = f"/ui/connectors/{connector['id']}"
    desk.open("/ui/connectors")
    desk.follow(connector["name"])
    assert desk.path == here
    desk.press("Pause")
    assert "paused" in desk.notice()
    expect(desk.page.locator(".tools .state")).to_have_text("paused")
    desk.press("Resume")
    assert "listens" in desk.notice()
    expect(desk.page.locator(".tools .state")).to_have_text("idle")
    dovecot.append(user, MAIL % b"synced")
    desk.press("Sync now")
    assert "Synced:" in desk.notice()
    desk.press("Test")
    desk.see("Everything works.")
    expect(desk.page.get_by_role("button", name="Send a mail to itself")).to_have_count(0)
    desk.follow("Edit the settings")
    assert desk.page.input_value("#password") == ""
    desk.fill(name="Renamed")
    desk.press("Keep without a test")
    assert "are kept" in desk.notice()
    desk.see("Renamed")
    assert SECRET not in desk.content()
    desk.page.get_by_text("Delete this connector").click()
    desk.fill(typed="Something else")
    desk.press("Delete")
    assert "Nothing is deleted" in desk.notice()
    desk.page.get_by_text("Delete this connector").click()
    desk.fill(typed="Renamed")
    desk.press("Delete")
    assert desk.path == "/ui/connectors"
    assert "is deleted" in desk.notice()
    assert desk.open(here).status == 404


def test_a_mail_to_itself_is_followed_while_it_is_on_its_way(desk: Desk, dovecot: Dovecot) -> None:
    user = dovecot.user(password=SECRET)
    with smtp_server(Tls.NONE) as smtp:
        connector = desk.daemon.connect(user, dovecot.starttls, smtp=smtp)
        desk.daemon.await_state(connector, "idle")
        desk.open(f"/ui/connectors/{connector['id']}")
        desk.press("Test")
        desk.see("Everything works.")
        desk.see(f"goes to {user.name} and is timed")
        desk.press("Send a mail to itself")
        desk.see("accepted")
        assert "The mail came back." not in desk.content()
        dovecot.append(user, smtp.received[-1].content)
        desk.see("The mail came back.")
        expect(desk.page.locator(".steps b")).to_have_text(["connect", "accepted", "delivered", "detected"])
        assert desk.daemon.count(connector) == 0
        smtp.answers["RCPT"] = "550 5.1.1 nobody of that name"
        desk.press("Send a mail to itself")
        desk.see("550 5.1.1 nobody of that name")
        desk.see("Likely cause:")
    assert SECRET not in desk.content()


def test_events_show_their_log_and_the_protocol_is_shown_as_it_is_spoken(desk: Desk, dovecot: Dovecot) -> None:
    user = dovecot.user(password=SECRET)
    connector = desk.daemon.connect(user, dovecot.starttls)
    desk.daemon.await_state(connector, "idle")
    with desk.page.expect_response("**/log"):
        desk.open(f"/ui/connectors/{connector['id']}")
    dovecot.append(user, MAIL % b"overheard")
    tail = desk.page.get_by_label("The protocol, passwords masked")
    expect(tail).to_contain_text("FETCH")
    expect(desk.page.locator("[data-live=events] a").first).to_be_visible()
    desk.page.locator("[data-live=events] a").first.click()
    assert re.fullmatch(r"/ui/events/[0-9a-f-]{36}", desk.path)
    expect(desk.page.locator("pre.text")).to_contain_text("FETCH")
    expect(desk.page.locator(".facts")).to_contain_text(re.compile(r"Took\s*[0-9.]+ m?s"))
    assert SECRET not in desk.content()


def test_a_broken_connector_asks_for_attention_and_says_what_to_do(desk: Desk, dovecot: Dovecot) -> None:
    connector = desk.daemon.connect(dovecot.user(), dovecot.starttls, password=SECRET)
    desk.daemon.await_state(connector, "parked")
    desk.open("/")
    card = desk.page.locator(".attention li").filter(has_text=connector["name"])
    expect(card).to_contain_text("refused the login")
    desk.page.evaluate("addEventListener('fresh', () => { document.body.dataset.swapped = 1; })")
    button = card.get_by_role("button", name="Test it")
    button.focus()
    healthy = dovecot.user()
    dovecot.append(healthy, MAIL % b"elsewhere")
    desk.daemon.connect(healthy, dovecot.starttls)
    desk.page.wait_for_selector("body[data-swapped]")
    expect(button).to_be_focused()  # whoever uses the keyboard stays where they are
    desk.key("Enter")
    desk.see("What to do:")
    assert SECRET not in desk.content()
    assert SECRET not in desk.daemon.log


def test_without_a_script_it_signs_in_lists_reads_and_tests(chromium: Browser, running: Daemon, dovecot: Any) -> None:
    user = dovecot.user()
    dovecot.append(user, MAIL % b"plain and simple")
    connector = running.connect(user, dovecot.starttls)
    running.await_count(connector, 1)
    with desk_on(chromium, running, signed_in=False, java_script_enabled=False) as desk:
        desk.open("/")
        desk.fill(key=KEY)
        desk.press("Sign in")
        desk.go("/ui/mail")
        desk.page.get_by_text("plain and simple").click()
        desk.see("Good morning")
        desk.press("Mark unread")
        expect(desk.page.locator(".list li.unread").filter(has_text="plain and simple")).to_have_count(1)
        desk.page.get_by_label("Tick: plain and simple").check()
        desk.press("Mark read")
        assert desk.notice() == "1 mail marked as read."
        desk.open(f"/ui/connectors/{connector['id']}")
        desk.press("Test")
        desk.see("Everything works.")
