"""Every page of the dashboard is fit for whoever cannot see, or not use a mouse: axe-core finds nothing serious."""

from __future__ import annotations

from typing import cast

import pytest
from playwright.sync_api import Browser, ViewportSize

from inboxd.model import Tls
from servers.accounts import RICH
from servers.browser import Desk, desk_on
from servers.daemon import Daemon
from servers.dovecot import Dovecot
from servers.javascript import SCRIPTS
from servers.oauth import CLIENT, OauthServer
from servers.smtp import smtp_server

AXE = SCRIPTS / "node_modules" / "axe-core" / "axe.min.js"
WIDE: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
_FINDINGS = """async (rules) => (await axe.run(document, { iframes: false, ...rules })).violations
  .filter((one) => ["serious", "critical"].includes(one.impact))
  .map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 200)).join(" | ")}`)"""


def findings(desk: Desk, **rules: object) -> list[str]:
    """What axe finds serious or critical on the page as it stands."""
    return [f"{desk.path}: {one}" for one in cast("list[str]", desk.page.evaluate(_FINDINGS, rules))]


def in_every_look(desk: Desk) -> list[str]:
    """The same in light and dark, wide and on a phone."""
    assert AXE.is_file(), "axe-core is not installed: run make test"
    desk.page.evaluate(AXE.read_text(encoding="utf-8"))  # the policy refuses a script of ours, not the debugger's
    found = findings(desk)
    desk.page.emulate_media(color_scheme="dark")
    found += findings(desk, runOnly=["color-contrast"])
    desk.page.set_viewport_size(PHONE)
    found += findings(desk, rules={"color-contrast": {"enabled": False}})
    desk.page.emulate_media(color_scheme="light")
    desk.page.set_viewport_size(WIDE)
    return found


@pytest.fixture(scope="module")
def paths(running: Daemon, dovecot_session: Dovecot) -> list[str]:
    """Every page there is, with something on it: connectors that work and do not, mail, and what became of one sent."""
    dovecot, user = dovecot_session, dovecot_session.user()
    dovecot.append(user, RICH.replace(b"\n", b"\r\n"))
    dovecot.append(user, b"From: Ada <ada@example.test>\r\nSubject: \xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d\r\n\r\nplain\r\n")
    with smtp_server(Tls.NONE) as smtp:
        smtp.answers["RCPT"] = "550 5.1.1 nobody of that name"
        good = running.connect(user, dovecot.starttls, smtp=smtp)
        running.await_count(good, 2)
        bad = running.connect(dovecot.user(), dovecot.starttls, password="wrong")
        running.await_state(bad, "parked")
        asked = {"to": ["grace@example.test"], "subject": "sent", "body": "x"}
        assert running.http("POST", f"/connectors/{good['id']}/send", asked)[0] < 500
        running.until(lambda: _failed(running), "a mail that failed")
    (rich, plain) = (mail["id"] for mail in running.emails(good))
    here, event = f"/ui/connectors/{good['id']}", running.http("GET", f"/connectors/{good['id']}/events")[1]
    sent = running.client.get("/control/outbox")["content"][0]["id"]
    return [
        *("/", "/ui/mail", "/ui/mail?q=is:odd", "/ui/connectors", "/ui/connectors/new", "/ui/connectors/new?manual=1"),
        *(here, f"{here}/edit", f"/ui/connectors/{bad['id']}", f"/ui/events/{event['content'][0]['id']}"),
        *(f"/ui/mail/{rich}", f"/ui/mail/{plain}", f"/ui/mail/{rich}?view=headers", f"/ui/mail/{rich}?view=parts"),
        *(f"/ui/mail/{rich}?view=raw", f"/ui/compose?reply={rich}", f"/ui/compose?forward={rich}", "/ui/compose"),
        *("/ui/outbox", "/ui/outbox?state=queued", f"/ui/outbox/{sent}", "/ui/system", "/ui/nowhere"),
    ]


def _failed(running: Daemon) -> bool:
    return any(row["state"] == "failed" for row in running.client.get("/control/outbox")["content"])


def test_no_page_has_a_serious_fault(desk: Desk, paths: list[str]) -> None:
    found: list[str] = []
    for path in paths:
        desk.open(path)
        found += in_every_look(desk)
    assert found == []


def test_doors_and_tests_have_no_serious_fault(chromium: Browser, running: Daemon, paths: list[str]) -> None:
    with desk_on(chromium, running, signed_in=False) as desk:
        desk.open("/ui/sign-in")
        desk.fill(key="wrong")
        desk.press("Sign in")
        found = in_every_look(desk)
    with desk_on(chromium, running) as desk:
        desk.open(next(path for path in reversed(paths) if path.startswith("/ui/connectors/")))
        desk.press("Test")
        desk.see("What to do:")
        found += in_every_look(desk)
        desk.open(next(path for path in paths if path.endswith("/edit")).removesuffix("/edit"))
        desk.press("Test")
        desk.press("Send a mail to itself")
        desk.see("The mail did not come back")
        found += in_every_look(desk)
    assert found == []


def test_no_step_of_a_sign_in_has_a_serious_fault(desk: Desk, running: Daemon, provider: OauthServer) -> None:
    for host in ("outlook.office365.com", "imap.gmail.com"):
        running.ctl(
            "connector", "add", host, "--oauth", "--no-sync", "--email", "ada@example.test", "--imap-host", host
        )
    found: list[str] = []
    for row in running.client.page("/connectors")["content"]:
        if row["name"] not in ("outlook.office365.com", "imap.gmail.com"):
            continue
        desk.open(f"/ui/connectors/{row['id']}")
        found += in_every_look(desk)
        desk.follow("Sign in")
        desk.page.get_by_text("More", exact=True).click()
        found += in_every_look(desk)
        ways = {"#flow-device", "#flow-code"} if "office365" in row["name"] else {"#flow-code"}
        for way in ways:
            desk.open(f"/ui/connectors/{row['id']}/sign-in")
            desk.page.locator(way).check()
            desk.page.get_by_text("More", exact=True).click()
            urls = provider.endpoints
            desk.fill(client_id=CLIENT, token_url=urls["tokenUrl"], device_url=urls["deviceUrl"])
            desk.press("Go on")
            desk.see("Sign in as")
            desk.page.locator(".walk").wait_for()
            found += in_every_look(desk)
    desk.open("/ui/connectors/new")
    desk.fill(email="ada@gmail.com")
    desk.press("Find the servers")
    desk.page.get_by_text("How to register it").click()
    assert found + in_every_look(desk) == []


def test_the_keyboard_reaches_the_content_first_and_shows_where_it_is(desk: Desk, paths: list[str]) -> None:
    desk.open("/")
    desk.key("Tab")
    assert desk.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert desk.page.evaluate("document.activeElement.getBoundingClientRect().left >= 0")
    desk.key("Enter")
    assert desk.page.evaluate("document.activeElement.id") == "main"
    desk.key("Tab")
    assert desk.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
