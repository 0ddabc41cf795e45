"""OAuth2 by the pages alone: a mailbox connected, mended and signed out of in a browser, at a provider of the tests."""

from __future__ import annotations

import re
import urllib.parse
from typing import Any

from playwright.sync_api import Browser, expect

from servers.browser import Desk, desk_on
from servers.daemon import Daemon
from servers.dovecot import Dovecot, User
from servers.oauth import CLIENT, CLIENT_SECRET, OauthServer
from servers.smtp import smtp_server

MAIL = b"From: Ada <ada@example.test>\r\nTo: me@example.test\r\nSubject: %s\r\n\r\nGood morning\r\n"
FIELDS = {"tokenUrl": "token_url", "authorizeUrl": "authorize_url", "deviceUrl": "device_url"}
CONNECTOR = re.compile(r"/ui/connectors/[0-9a-f-]{36}")


def fill_in(desk: Desk, oauth: OauthServer, way: str, **more: str) -> None:
    """The form for a provider that nobody knows, and a way to sign in there; sent."""
    desk.page.get_by_label(way, exact=True).check()
    desk.fill(client_id=CLIENT, scopes="mail", **{FIELDS[name]: url for name, url in oauth.endpoints.items()}, **more)
    desk.press("Go on")


def code_on(desk: Desk) -> str:
    """The code that the page says is to be typed in."""
    return desk.page.get_by_label("The code").inner_text()


def connected(daemon: Daemon, oauth: OauthServer, dovecot: Dovecot, user: User) -> dict[str, Any]:
    """A connector that somebody has signed in."""
    connector: dict[str, Any] = daemon.connect(user, dovecot.no_tls, password="")
    wish = {"provider": "other", "flow": "device", "clientId": CLIENT, **oauth.endpoints, "scopes": ["mail"]}
    begun = daemon.client.call("POST", f"/control/connectors/{connector['id']}/oauth", wish)
    oauth.consent(begun["userCode"], user.name)
    assert daemon.client.call("POST", f"/control/oauth/{begun['login']}", {})["grant"]
    return connector


def test_from_an_address_to_a_mailbox_opened_by_a_code(
    desk: Desk, oauth: OauthServer, dovecot: Dovecot, running: Daemon
) -> None:
    user = dovecot.user()
    dovecot.append(user, MAIL % b"behind a consent")
    with smtp_server(bears=oauth.bears) as smtp:
        began: set[str] = set()
        for password in ("not to be kept", "said again, of the same connector"):
            desk.open("/ui/connectors/new?manual=1")
            desk.fill(name="By code", email=user.name, password=password)
            desk.fill(imap_host=dovecot.no_tls.host, imap_port=str(dovecot.no_tls.port))
            desk.fill(smtp_host=smtp.host, smtp_port=str(smtp.port))
            for half in ("imap", "smtp"):
                desk.page.select_option(f"#{half}_tls", "none")
            desk.press("Sign in with OAuth2")
            desk.see("Nothing is tried at its servers")
            began.add(desk.path)
        assert len(began) == 1
        fill_in(desk, oauth, "A code, typed in on any device")
        page = desk.page.get_by_role("link", name=f"{oauth.url}/devicelogin")
        assert (page.get_attribute("rel"), page.get_attribute("target")) == ("noreferrer", "_blank")
        assert not [one for one in oauth.logins if not one.ok]
        oauth.consent(code_on(desk), user.name)
        desk.see(f"is signed in by {user.name}")  # the page went on by itself
        assert CONNECTOR.fullmatch(desk.path)
        expect(desk.page.locator(".tools .state")).to_have_text("idle")
        running.ctl("send", "By code", "--to", "you@example.test", "--subject", "x", "--text", "x")
        assert smtp.wait_for(1)[0].login == user.name
    assert "canary" not in desk.content()
    assert "canary" not in running.log


def test_without_a_script_an_address_is_pasted_and_the_page_asks_when_it_is_done(
    chromium: Browser, oauth: OauthServer, dovecot: Dovecot, running: Daemon
) -> None:
    user = dovecot.user()
    connector = running.connect(user, dovecot.no_tls, password="")
    here = f"/ui/connectors/{connector['id']}"
    oauth.secret = CLIENT_SECRET
    with desk_on(chromium, running, java_script_enabled=False) as desk:
        desk.open(f"{here}/sign-in")
        fill_in(desk, oauth, "The provider's page, in this browser", client_secret="not-" + CLIENT_SECRET)
        link = desk.page.get_by_role("link", name=re.compile("Open the provider.s page"))
        page = link.get_attribute("href")
        assert page is not None
        assert page.startswith(f"{oauth.url}/authorize?")
        back = oauth.visit(page, user.name)
        assert back.startswith("http://127.0.0.1/?code=")
        desk.fill(answer=back.replace("state=", "state=x"))
        desk.press("Go on")
        desk.see("Address belongs to another login")
        desk.fill(answer=back)
        desk.press("Go on")
        desk.see("the client secret is wrong: give its value, not its id, with “Client secret”")
        assert desk.page.input_value("#client_id") == CLIENT
        assert CLIENT_SECRET not in desk.content() + desk.page.url
        desk.page.get_by_label("A code, typed in on any device", exact=True).check()
        desk.fill(client_secret=CLIENT_SECRET)
        desk.press("Go on")
        code = code_on(desk)
        desk.press("I have done it")
        desk.see("nobody has typed the code in yet")
        oauth.consent(code, user.name)
        desk.press("I have done it")
        assert "is signed in" in desk.notice()
        assert desk.path == here
        assert CLIENT_SECRET not in desk.content()
    running.await_state(connector, "idle")
    assert CLIENT_SECRET not in running.log
    assert "code-" not in running.log


def test_a_provider_that_knows_this_machine_leads_straight_back(
    desk: Desk, oauth: OauthServer, dovecot: Dovecot, running: Daemon
) -> None:
    user = dovecot.user()
    connector = running.connect(user, dovecot.no_tls, password="")
    desk.open(f"/ui/connectors/{connector['id']}/sign-in")
    desk.page.select_option("#provider", "google")
    desk.fill(client_id=CLIENT, token_url=oauth.endpoints["tokenUrl"], authorize_url=oauth.endpoints["authorizeUrl"])
    desk.press("Go on")
    page = desk.page.get_by_role("link", name=re.compile("Open the provider.s page")).get_attribute("href")
    assert page is not None
    elsewhere = f"http://localhost:{oauth.port}{page.removeprefix(oauth.url)}&login={user.name}"
    assert urllib.parse.quote(desk.base, safe="") in elsewhere
    desk.page.evaluate("(url) => { location.href = url; }", elsewhere)  # another site: our cookie stays at home
    desk.see(f"is signed in by {user.name}")
    assert CONNECTOR.fullmatch(desk.path)
    assert "code-" not in running.log
    desk.strangers.clear()  # where the provider is
    assert desk.open("/?code=x&state=y").status == 404


def test_an_ended_consent_is_given_anew_from_the_overview_and_forgotten_when_asked_for(
    desk: Desk, oauth: OauthServer, dovecot: Dovecot, running: Daemon
) -> None:
    user = dovecot.user()
    oauth.life_seconds = 2.0
    connector = connected(running, oauth, dovecot, user)
    oauth.revoke()
    running.await_state(connector, "needs_reauth")
    oauth.life_seconds = 3600.0
    desk.open("/")
    card = desk.page.locator(".attention li").filter(has_text=connector["name"])
    expect(card).to_contain_text("Token has been expired or revoked.")
    expect(card).not_to_contain_text("inboxctl")
    card.get_by_role("button", name="Sign in again").click()
    oauth.consent(code_on(desk), user.name)  # nothing has to be filled in anew
    desk.see("is signed in by")
    expect(desk.page.locator(".tools .state")).to_have_text("idle")
    card = desk.page.get_by_role("region", name="Sign-in (OAuth2)")
    for words in ("in use", user.name, "A code, typed in on any device", CLIENT, oauth.endpoints["tokenUrl"]):
        expect(card).to_contain_text(words)
    card.get_by_text("Sign out of the mailbox").first.click()
    desk.press("Sign out of the mailbox")
    assert "is forgotten here" in desk.notice()
    expect(desk.page.locator(".tools .state")).to_have_text("parked")
    desk.open("/")
    card = desk.page.locator(".attention li").filter(has_text=connector["name"])
    card.get_by_role("link", name="Sign in").click()
    desk.see("Nothing is tried at its servers")


def test_another_person_is_let_in_only_when_that_is_confirmed(
    desk: Desk, oauth: OauthServer, dovecot: Dovecot, running: Daemon
) -> None:
    user, other = dovecot.user(), dovecot.user("delegate")
    connector = connected(running, oauth, dovecot, user)
    desk.open(f"/ui/connectors/{connector['id']}")
    desk.follow("Sign in again")
    assert desk.page.input_value("#client_id") == CLIENT  # as it was said before
    desk.press("Go on")
    oauth.consent(code_on(desk), other.name)
    alert = desk.page.get_by_role("alert")
    expect(alert).to_contain_text(f"given by {other.name}, and this connector is for {user.name}")
    expect(alert).to_contain_text("confirm it below")
    desk.press("They may open it: go on")
    oauth.consent(code_on(desk), other.name)
    expect(alert).to_contain_text(f"does not open {user.name}")  # which the mailbox itself has to say
    assert running.client.get(f"/control/connectors/{connector['id']}/oauth")["mailbox"] == user.name


def test_an_application_opens_it_at_once_and_its_secret_stays_until_it_is_taken_back(
    desk: Desk, oauth: OauthServer, dovecot: Dovecot, running: Daemon
) -> None:
    user = dovecot.user()
    connector = running.connect(user, dovecot.no_tls, password="")
    oauth.secret, oauth.app_user = CLIENT_SECRET, user.name
    form = f"/ui/connectors/{connector['id']}/sign-in"
    desk.open(form)
    fill_in(desk, oauth, "The application by itself")
    expect(desk.page.get_by_role("alert")).to_contain_text(
        "Client secret is required for this flow: give it by “Client"
    )
    desk.fill(client_secret=CLIENT_SECRET)
    desk.press("Go on")
    assert f"is signed in by {user.name}" in desk.notice()
    desk.open(form)
    assert desk.page.input_value("#client_secret") == ""
    assert desk.page.input_value("#token_url") == oauth.endpoints["tokenUrl"]
    desk.press("Go on")
    assert "is signed in" in desk.notice()
    assert {one["client_secret"] for one in oauth.asked} == {CLIENT_SECRET}
    desk.open(form)
    desk.page.get_by_label("It has no secret any more").check()
    desk.press("Go on")
    expect(desk.page.get_by_role("alert")).to_contain_text("Client secret is required")
    assert CLIENT_SECRET not in desk.content() + running.log


def test_what_a_provider_wants_is_said_before_anything_is_filled_in(desk: Desk) -> None:
    desk.open("/ui/connectors/new")
    desk.fill(email="ada@outlook.com")
    desk.press("Find the servers")
    desk.see("the only way: passwords and app passwords are refused")
    expect(desk.page.get_by_label("Password", exact=True)).to_be_hidden()
    desk.page.get_by_text("How to register it").click()
    desk.see("Allow public client flows")
    desk.see("No redirect URI is needed.")
    desk.open("/ui/connectors/new")
    desk.fill(email="ada@gmail.com")
    desk.press("Find the servers")
    page = desk.page.get_by_role("link", name="myaccount.google.com/apppasswords")
    assert page.get_attribute("rel") == "noreferrer"
    desk.page.get_by_text("How to register it").click()
    desk.see("every consent ends after 7 days")
