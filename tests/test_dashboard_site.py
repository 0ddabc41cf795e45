"""The dashboard over HTTP: signing in, links, forms, keys, compression, and the figures that every page shows."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import pytest
import pytest_asyncio

from api_site import KEY, MAIL, Site, open_site
from inboxd.budgets import Purpose
from inboxd.dashboard import overview
from inboxd.dashboard.counts import FRESH_SECONDS, Counts
from inboxd.dashboard.sessions import Sessions
from inboxd.model import ConnectorId, DayBudget, State, Status, utc_now
from inboxd.roster import Roster
from inboxd.sections import ImapSettings, OutboxSettings
from servers.daemon import Daemon

PLAIN = {"Accept-Encoding": "identity"}


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path, pages=Sessions()) as opened:
        yield opened


@asynccontextmanager
async def browser(site: Site) -> AsyncGenerator[aiohttp.ClientSession]:
    """A browser that is not signed in."""
    jar = aiohttp.CookieJar(unsafe=True)  # of addresses, which the test's server has for a name
    async with aiohttp.ClientSession(site.url, cookie_jar=jar, headers=PLAIN) as opened:
        yield opened


@asynccontextmanager
async def signed_in(site: Site) -> AsyncGenerator[aiohttp.ClientSession]:
    async with browser(site) as opened:
        async with opened.post("/ui/sign-in", data={"key": KEY}) as answer:
            assert (answer.status, answer.url.path) == (200, "/")
        yield opened


async def look(opened: aiohttp.ClientSession, path: str) -> str:
    async with opened.get(path) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def press(opened: aiohttp.ClientSession, page: str, action: str, **fields: str) -> str:
    """Send a form of the page; the page that comes of it."""
    found = re.search(r'name="csrf" value="([^"]+)"', await look(opened, page))
    assert found is not None
    async with opened.post(action, data={"csrf": found[1], **fields}) as answer:
        assert answer.status < 400, await answer.text()
        return await answer.text()


def unread(page: str) -> str:
    """The badge beside Mail."""
    found = re.search(r"data-unread( hidden)?><span>([^<]*)", page)
    assert found is not None
    assert bool(found[1]) == (found[2] == "0")
    return found[2]


async def test_link_of_the_socket_signs_in_once_and_nobody_else_gets_one(site: Site) -> None:
    made: dict[str, Any] = (await site.ask_control("POST", "/ui/invite")).json
    assert made["seconds"] == 120
    assert made["link"].startswith("http://127.0.0.1:8025/ui/enter?code=")
    parts = urlsplit(str(made["link"]))
    way = f"{parts.path}?{parts.query}"
    async with browser(site) as first, browser(site) as second:
        async with first.get(way) as answer:
            assert (answer.status, answer.url.path) == (200, "/")
        assert "Connect your first mailbox" in await look(first, "/")
        async with second.get(way) as answer:
            assert answer.status == 403
            assert "inboxctl dashboard" in await answer.text()
        async with first.post("/ui/invite") as answer:
            assert answer.status == 404


async def test_who_is_not_signed_in_is_asked_to_and_then_led_where_they_wanted(site: Site) -> None:
    async with browser(site) as opened:
        async with opened.get("/ui/mail?q=plan") as answer:
            assert answer.url.path == "/ui/sign-in"
            assert 'value="/ui/mail?q=plan"' in await answer.text()
        async with opened.post("/ui/sign-in", data={"key": "wrong", "next": "/ui/mail"}) as answer:
            assert answer.status == 401
        for elsewhere in ("//evil.example/", "https://evil.example", "/\\evil.example"):
            sent = opened.post("/ui/sign-in", data={"key": KEY, "next": elsewhere}, allow_redirects=False)
            async with sent as answer:
                assert (answer.status, answer.headers["Location"]) == (303, "/")
                cookie = answer.headers["Set-Cookie"]
                assert "HttpOnly" in cookie
                assert "SameSite=Strict" in cookie


async def test_forms_without_this_sessions_token_or_of_other_sites_change_nothing(site: Site) -> None:
    async with signed_in(site) as mine, signed_in(site) as yours:
        found = re.search(r'name="csrf" value="([^"]+)"', await look(yours, "/ui/system"))
        assert found is not None
        for fields in ({}, {"csrf": ""}, {"csrf": found[1]}):
            async with mine.post("/ui/system/keys", data={"name": "stolen", **fields}) as answer:
                assert answer.status == 403
        async with yours.post(
            "/ui/system/keys", data={"name": "stolen", "csrf": found[1]}, headers={"Origin": "http://evil.example"}
        ) as answer:
            assert answer.status == 403
        assert "stolen" not in await look(mine, "/ui/system")


async def test_key_is_made_shown_once_used_and_revoked(site: Site) -> None:
    async with signed_in(site) as opened:
        made = await press(opened, "/ui/system", "/ui/system/keys", name="build <1>")
        found = re.search(r"<code>(inboxd_([a-z0-9]+)_[\w-]+)</code>", made)
        assert found is not None
        assert "build &lt;1&gt;" in made
        assert found[1] not in await look(opened, "/ui/system")
        answer = await site.ask("GET", "/user/info", headers={"x-api-key": found[1]})
        assert answer.status != 401
        await press(opened, "/ui/system", f"/ui/system/keys/{found[2]}/revoke")
        assert (await site.ask("GET", "/user/info", headers={"x-api-key": found[1]})).status == 401
        token = re.search(r'name="csrf" value="([^"]+)"', await look(opened, "/ui/system"))
        assert token is not None
        async with opened.post("/ui/system/keys", data={"csrf": token[1], "name": ""}) as answer:
            assert answer.status == 400
            assert 'role="alert"' in await answer.text()


async def test_pages_are_compressed_and_files_sent_once(site: Site) -> None:
    async with signed_in(site) as opened:
        plain = await look(opened, "/ui/system")
        async with opened.get("/ui/system", headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert int(answer.headers["Content-Length"]) < len(plain) / 2
        async with opened.get("/ui/static/dashboard.css") as answer:
            tag, sheet = answer.headers["ETag"], await answer.read()
            assert answer.headers["Cache-Control"] == "no-cache"
        async with opened.get("/ui/static/dashboard.css", headers={"If-None-Match": tag}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
        assert len(gzip.compress(sheet)) < 8_000


async def test_unread_mails_are_counted_on_every_page_at_once_after_a_change(site: Site) -> None:
    made = await site.new_connector(name="n", emailAddress="a@example.com")
    first, second = await site.deliver(made, MAIL, MAIL.replace(b"Hello", b"Again"))
    async with signed_in(site) as opened:
        assert unread(await look(opened, "/")) == "2"
        assert unread(await look(opened, f"/ui/mail/{first.id}")) == "1", "reading it marks it"
        assert unread(await press(opened, "/ui/mail", "/ui/mail/change", do="read", id=str(second.id))) == "0"
        assert unread(await press(opened, "/ui/mail", f"/ui/mail/{first.id}/unread")) == "1"
        async with opened.get("/ui/live?now=1") as answer:
            assert await answer.json() == {"unread": 1, "last": second.seq}


async def test_counts_are_looked_up_anew_after_two_seconds_or_a_change(site: Site) -> None:
    made = await site.new_connector(name="n", emailAddress="a@example.com")
    now = 100.0
    counts = Counts(site.services, lambda: now)
    assert await counts.unread() == 0
    await site.deliver(made, MAIL)
    assert await counts.unread() == 0
    now += FRESH_SECONDS
    assert await counts.unread() == 1
    await site.deliver(made, MAIL.replace(b"Hello", b"Again"), first_uid=2)
    counts.forget()
    assert await counts.unread() == 2
    assert sum(sum(hours) for hours in (await counts.by_hour()).values()) == 2


async def test_live_stream_begins_with_the_figures_and_tells_of_new_mail(site: Site) -> None:
    made = await site.new_connector(name="n", emailAddress="a@example.com")
    async with signed_in(site) as opened, opened.get("/ui/live") as answer, asyncio.timeout(15):
        assert await answer.content.readuntil(b"\n\n") == b'event: here\ndata: {"unread": 0, "last": 0}\n\n'
        (mail,) = await site.deliver(made, MAIL)
        told = b""
        while b"event: mail" not in told:
            told = await answer.content.readuntil(b"\n\n")
        assert f'"last": {mail.seq}'.encode() in told


async def test_mail_becomes_a_favourite_and_no_longer(site: Site) -> None:
    made = await site.new_connector(name="n", emailAddress="a@example.com")
    (mail,) = await site.deliver(made, MAIL)
    async with signed_in(site) as opened:
        assert "★ Favourite" in await press(opened, f"/ui/mail/{mail.id}", f"/ui/mail/{mail.id}/favourite")
        assert str(mail.id) in await look(opened, "/ui/mail?q=is:favourite")
        assert "☆ Favourite" in await press(opened, f"/ui/mail/{mail.id}", f"/ui/mail/{mail.id}/favourite")
        assert str(mail.id) not in await look(opened, "/ui/mail?q=is:favourite")


async def test_every_page_answers_on_an_empty_installation_and_after(site: Site) -> None:
    paths = ("/", "/ui/mail", "/ui/outbox", "/ui/connectors", "/ui/connectors/new", "/ui/compose", "/ui/system")
    async with signed_in(site) as opened:
        for path in paths:
            await look(opened, path)
        made = await site.new_connector(name="it's", emailAddress="a@example.com")
        await site.deliver(made, MAIL)
        for path in (*paths, f"/ui/connectors/{made['id']}", f"/ui/connectors/{made['id']}/edit"):
            await look(opened, path)
        assert "inboxctl sync &#39;it&#39;" in await look(opened, f"/ui/connectors/{made['id']}")
        for missing in ("/ui/nowhere", "/ui/mail/none", "/ui/connectors/none", "/ui/static/../app.py"):
            async with opened.get(missing) as answer:
                assert answer.status == 404
                assert "That did not work" in await answer.text()


@pytest.mark.parametrize("state", State)
async def test_connector_is_shown_whatever_state_it_is_in(
    site: Site, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = Status(state, utc_now(), reason="canary")

    def one(_roster: Roster, _id: ConnectorId) -> Status:
        return status

    def all_of_them(_roster: Roster, _id: ConnectorId) -> tuple[Status, ...]:
        return (status, status)

    monkeypatch.setattr(Roster, "status", one)
    monkeypatch.setattr(Roster, "history", all_of_them)
    made = await site.new_connector(name="it", emailAddress="a@example.com")
    async with signed_in(site) as opened:
        for path in ("/", "/ui/connectors", f"/ui/connectors/{made['id']}"):
            page = await look(opened, path)
            assert f"</span>{overview.said(state)}</span>" in page
            assert ("canary" in page) == (path != "/ui/connectors")  # the list is short


def facts(page: str) -> dict[str, str]:
    """What the page's lists of terms say, in words alone; a meter has none beside what is written for those who see."""
    pairs = re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", page, re.DOTALL)
    return {name: " ".join(re.sub("<.*?>", "", said).split()) for name, said in pairs}


async def test_connector_shows_what_it_takes_of_what_it_may(tmp_path: Path) -> None:
    async with (
        open_site(tmp_path, pages=Sessions(), outbox=OutboxSettings(per_day=7), imap=ImapSettings()) as site,
        signed_in(site) as opened,
    ):
        made = await site.new_connector(name="n", emailAddress="a@example.com")
        page = f"/ui/connectors/{made['id']}"
        assert "Budgets" not in await look(opened, page), "it has no server"
        smtp = {"smtpHost": "127.0.0.1", "smtpPort": 1, "smtpUsername": "u", "smtpPassword": "p"}
        assert (await site.ask("POST", f"/connectors/{made['id']}/smtp", smtp)).status == 201
        shown = facts(await look(opened, page))
        assert (shown["Mails sent in a day"], shown["Mails sent in a minute"]) == ("0 of 7", "0")
        assert "Connections open" not in shown, "it cannot fetch"
        imap = {"imapHost": "imap.gmail.com", "imapPort": 1, "imapUsername": "u", "imapPassword": "p"}
        assert (await site.ask("POST", f"/connectors/{made['id']}/imap", imap)).status == 201
        account = site.services.budgets.of("imap.gmail.com", "u")
        await account.login()
        assert account.traffic is not None
        with account.traffic.metered(lambda: 2_100_000_000):
            pass
        async with account.place(Purpose.CHORE):
            shown = facts(await look(opened, page))
            used = (await site.ask_control("GET", f"/control/connectors/{made['id']}/usage")).json
        assert shown["Connections open"] == "1 of 15"
        assert shown["Logins in a minute"] == "1 of 60"
        assert shown["Downloaded in a day"] == "2.1 GB of 2.5 GB"
        assert used["receivedBytes"] == {"used": 2_100_000_000, "limit": 2_500_000_000}
        assert (used["sentInDay"], used["sentInMinute"]) == ({"used": 0, "limit": 7}, {"used": 0, "limit": None})
        resting = DayBudget(2_100_000_000, 2_500_000_000, utc_now() + timedelta(hours=3, minutes=1))
        status = Status(State.THROTTLED, utc_now(), retry_at=utc_now() + timedelta(seconds=61), budget=resting)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(site.services.roster, "status", {ConnectorId(UUID(made["id"])): status}.get)
            rests = re.sub("<.*?>", "", await look(opened, page))
        assert "It goes on in 3 h." in rests
        assert "The next try is in 1 min." in rests


async def test_a_sign_in_at_a_provider_is_its_sessions_alone(site: Site) -> None:
    made = await site.new_connector(name="n", emailAddress="a@example.com")
    imap = {"imapHost": "imap.gmail.com", "imapUsername": "a@example.com", "enabled": False}
    await site.ask("POST", f"/connectors/{made['id']}/imap", imap)
    form = f"/ui/connectors/{made['id']}/sign-in"
    async with signed_in(site) as mine, signed_in(site) as yours, browser(site) as nobody:
        token = re.search(r'name="csrf" value="([^"]+)"', await look(mine, form))
        assert token is not None
        fields = {"csrf": token[1], "do": "begin", "provider": "google", "client_id": "x", "client_secret": "canary"}
        async with mine.post(form, data=fields) as answer:
            waiting, page = answer.url.path_qs, await answer.text()
        state = re.search(r"https://accounts\.google\.com/[^\"]+state=([\w-]+)", page)
        assert state is not None
        assert "canary" not in page + waiting + await look(mine, form)
        assert "accounts.google.com" in await look(mine, waiting)
        assert "accounts.google.com" not in await look(yours, waiting)
        back = f"/?code=c&state={state[1]}"
        async with mine.get(back) as answer:
            assert f"code=c&amp;state={state[1]}" in await answer.text()
        async with yours.get(back) as answer:
            assert answer.status == 404
        async with nobody.get(back, headers={"Sec-Fetch-Site": "cross-site"}) as answer:
            page = await answer.text()
            assert f'content="0; url=/?code=c&amp;state={state[1]}"' in page
            assert "a@example.com" not in page
        for path in (form, f"/ui/connectors/{made['id']}/sign-out"):
            async with mine.post(path, data={"do": "again"}) as answer:
                assert answer.status == 403


async def test_a_key_that_may_not_do_everything_opens_no_page(site: Site) -> None:
    made = await site.ask_control("POST", "/control/keys", {"name": "reader", "scopes": ["read"]})
    async with browser(site) as opened, opened.post("/ui/sign-in", data={"key": made.json["key"]}) as answer:
        assert answer.status == 401
        assert "may not do everything" in await answer.text()


def test_command_prints_a_link_for_here_or_for_a_proxys_name(daemon: Daemon) -> None:
    daemon.start()
    here = daemon.ctl("dashboard")
    assert re.fullmatch(rf"http://127\.0\.0\.1:{daemon.api_port}/ui/enter\?code=[\w-]{{32}}\n", here)
    there = daemon.ctl("dashboard", "--url", "https://mail.example.org/")
    assert there.startswith("https://mail.example.org/ui/enter?code=")
    assert "--url" in daemon.ctl("dashboard", "--url", "mail.example.org", status=2)
