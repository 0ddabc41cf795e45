"""What keeps others out of the dashboard, at every address it has: headers, tokens, origins, sessions, secrets."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from api_site import KEY, MAIL, Site, database_bytes, open_site
from inboxd.dashboard import guard
from inboxd.dashboard.app import COOKIE
from inboxd.dashboard.pages import ROWS
from inboxd.dashboard.sessions import IDLE, Sessions
from inboxd.model import utc_now

SECRET = "a-secret-of-the-form-4711"
FILLED = {"action": "pause", "decision": "retry", "key": "setting"}
FORMS = [
    re.sub(r"{(\w+)}", lambda found: FILLED.get(found[1], str(uuid4())), row.path)
    for row in ROWS
    if row.method == "POST"
]
ELSEWHERE = (
    {"Origin": "https://evil.test"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://["},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
)


class Clock:
    """Time that a test may move."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def site(tmp_path: Path, clock: Clock) -> AsyncGenerator[Site]:
    async with open_site(tmp_path, pages=Sessions(clock)) as opened:
        yield opened


@asynccontextmanager
async def visitor(site: Site, cookie: str = "") -> AsyncGenerator[aiohttp.ClientSession]:
    """Somebody with this cookie, who follows nothing and keeps nothing."""
    headers = {"Cookie": f"{COOKIE}={cookie}"} if cookie else {}
    async with aiohttp.ClientSession(site.url, cookie_jar=aiohttp.DummyCookieJar(), headers=headers) as opened:
        yield opened


async def cookie_for(site: Site, key: str = KEY, before: str = "") -> str:
    """The session that a key begins."""
    async with (
        visitor(site, before) as opened,
        opened.post("/ui/sign-in", data={"key": key}, allow_redirects=False) as answer,
    ):
        assert answer.status == 303
        return answer.cookies[COOKIE].value


async def status(opened: aiohttp.ClientSession, method: str, path: str, **more: object) -> int:
    async with opened.request(method, path, allow_redirects=False, **more) as answer:  # pyright: ignore[reportArgumentType]
        await answer.read()
        return answer.status


async def token(opened: aiohttp.ClientSession) -> str:
    async with opened.get("/ui/system") as answer:
        found = re.search(r'data-csrf="([^"]+)"', await answer.text())
        assert found is not None
        return found[1]


async def test_every_answer_has_every_header(site: Site) -> None:
    connector = await site.new_connector(name="one")
    (mail,) = await site.deliver(connector, MAIL)
    ids = {"id": str(mail.id), "event": str(uuid4()), "position": "0", "name": "dashboard.css"}
    gets = {re.sub(r"{(\w+)}", lambda found: ids[found[1]], row.path) for row in ROWS if row.method == "GET"} - {
        "/ui/live"
    }
    others = {
        "/ui/live?now=1",
        "/ui/sign-in",
        "/ui/enter?code=x",
        "/ui/static/dashboard.js",
        "/ui/static/no",
        "/ui",
        "/ui/no",
    }
    for cookie in ("", await cookie_for(site)):
        async with visitor(site, cookie) as opened:
            for method, path in [("GET", path) for path in sorted(gets | others)] + [("POST", path) for path in FORMS]:
                async with opened.request(method, path, allow_redirects=False) as answer:
                    for name, value in guard.HEADERS.items():
                        if name == "Content-Security-Policy":
                            assert "default-src 'none'" in answer.headers[name], path
                        elif (name, path.rpartition("/")[2]) in {
                            ("X-Frame-Options", "frame"),
                            ("Referrer-Policy", "frame"),
                        }:
                            assert answer.headers[name] in {"SAMEORIGIN", "no-referrer", value}, path
                        elif not (name == "Cache-Control" and "/static/" in path):
                            assert answer.headers[name] == value, (path, name)
    policy = guard.HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert {"frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} <= {
        one.strip() for one in policy.split(";")
    }


async def test_no_form_counts_without_the_token_of_its_session(site: Site) -> None:
    mine, others = await cookie_for(site), await cookie_for(site)
    async with visitor(site) as stranger, visitor(site, mine) as opened, visitor(site, others) as other:
        foreign, own = await token(other), await token(opened)
        for path in FORMS:
            assert await status(stranger, "POST", path, data={"csrf": own}) == 401, path
            for wrong in ({}, {"csrf": ""}, {"csrf": "x"}, {"csrf": foreign}, {"csrf": own[:-1]}, {"csrf": "é"}):
                assert await status(opened, "POST", path, data=wrong) == 403, (path, wrong)
            assert await status(opened, "POST", f"{path}?csrf={own}") == 403, path
            assert await status(opened, "POST", path, data={"csrf": own}) in {200, 303, 400, 404}, path
            assert await status(opened, "GET", path, params={"csrf": own}) in {200, 404, 405}, path


async def test_nobody_is_signed_out_by_another_page(site: Site) -> None:
    async with visitor(site, await cookie_for(site)) as opened:
        own = await token(opened)
        assert await status(opened, "POST", "/ui/sign-out", data={"csrf": "x"}) == 403
        assert await status(opened, "GET", "/ui/system") == 200
        assert await status(opened, "POST", "/ui/sign-out", data={"csrf": own}) == 303
        assert await status(opened, "GET", "/ui/system") == 303
        assert await status(opened, "POST", "/ui/sign-out") == 303  # there is nothing to end


async def test_forms_and_names_of_other_sites_are_refused(site: Site) -> None:
    cookie = await cookie_for(site)
    async with visitor(site, cookie) as opened:
        own = await token(opened)
        for path in (*FORMS, "/ui/sign-in", "/ui/sign-out"):
            for headers in ELSEWHERE:
                assert await status(opened, "POST", path, data={"csrf": own, "key": KEY}, headers=headers) == 403, (
                    path,
                    headers,
                )
        for name in ("evil.test", "127.0.0.1.evil.test", "localhost.evil.test:80", "[::1].evil.test", "evil.test:8025"):
            for path in ("/", "/ui/sign-in", "/ui/mail", "/ui/static/dashboard.js", "/ui/live"):
                assert await status(opened, "GET", path, headers={"Host": name}) == 421, (name, path)
        assert (
            await status(opened, "POST", "/ui/sign-out", headers={"Host": "evil.test", "Origin": "http://evil.test"})
            == 421
        )
        assert await status(opened, "GET", "/ui/system") == 200


async def test_session_is_new_with_every_sign_in_and_ends_with_time_and_its_key(site: Site, clock: Clock) -> None:
    fixed = "A" * 43
    given = await cookie_for(site, before=fixed)
    assert given != fixed
    assert await cookie_for(site, before=given) != given
    async with visitor(site, fixed) as opened:
        assert await status(opened, "GET", "/ui/system") == 303
    made = (await site.ask_control("POST", "/control/keys", {"name": "to be revoked"})).json
    revoked = await cookie_for(site, made["key"])
    async with visitor(site, given) as opened, visitor(site, revoked) as other:
        assert (await status(opened, "GET", "/ui/system"), await status(other, "GET", "/ui/system")) == (200, 200)
        await site.ask_control("DELETE", f"/control/keys/{made['id']}")
        clock.now += IDLE / 2
        assert await status(opened, "GET", "/ui/system") == 200
        clock.now += IDLE * 1.01
        assert await status(opened, "GET", "/ui/system") == 303


async def test_cookie_is_for_this_server_alone(site: Site) -> None:
    async with visitor(site) as opened:
        for proxied, secure in (({}, False), ({"X-Forwarded-Proto": "https"}, True)):
            sent = {"key": KEY}
            async with opened.post("/ui/sign-in", data=sent, headers=proxied, allow_redirects=False) as answer:
                cookie = answer.cookies[COOKIE]
                assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
                assert (bool(cookie["secure"]), cookie["domain"]) == (secure, "")
                assert len(cookie.value) >= 43
        for wanted in ("//evil.test", "https://evil.test", "/\\evil.test", "javascript:alert(1)", "/\n/evil.test"):
            sent = {"key": KEY, "next": wanted}
            async with opened.post("/ui/sign-in", data=sent, allow_redirects=False) as answer:
                assert answer.headers["Location"] == "/", wanted


async def test_notices_wait_for_a_page_that_shows_them(site: Site) -> None:
    async with visitor(site, await cookie_for(site)) as opened:
        data = {"csrf": await token(opened), "do": "read"}
        assert await status(opened, "POST", "/ui/mail/change", data=data) == 303
        async with opened.get("/ui/mail", headers={"X-Live": "1"}) as answer:
            assert "No mail was ticked." not in await answer.text()
        async with opened.get("/ui/mail") as answer:
            assert "No mail was ticked." in await answer.text()


async def test_password_of_the_form_is_in_no_page_log_or_database(site: Site, tmp_path: Path) -> None:
    form = {"name": "kept", "email": "me@example.test", "password": SECRET, "smtp_password": SECRET + "-too"}
    form |= {"imap_host": "127.0.0.1", "imap_port": "9", "imap_tls": "none", "imap_user": "me"}
    pages: list[str] = []
    with capture_logs() as logs:
        async with visitor(site, await cookie_for(site)) as opened:
            form["csrf"] = await token(opened)
            for do in ("find", "test", "nothing", "start"):
                for change in ({}, {"imap_port": "no number"}):
                    async with opened.post("/ui/connectors/new", data=form | change | {"do": do}) as answer:
                        pages.append(await answer.text())
            (row,) = (await site.ask("GET", "/connectors")).json["content"]
            for path in ("", "/edit"):
                async with opened.get(f"/ui/connectors/{row['id']}{path}") as answer:
                    pages.append(await answer.text())
    assert len(pages) == 10
    for kept in (*pages, repr(logs), database_bytes(tmp_path).decode(errors="replace")):
        assert SECRET not in kept
        assert KEY not in kept
