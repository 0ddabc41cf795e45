"""Debian's Chromium on the dashboard, used as a person would, with an eye on whatever it asks for and complains of."""

from __future__ import annotations

import http.client
import shutil
import urllib.parse
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, final

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Response,
    expect,
    sync_playwright,
)

from servers import LOOPBACK
from servers.cradle import Cradle
from servers.daemon import KEY, Daemon

PATIENCE_MS: Final = 20_000
# What a browser says of every answer that is an error; the tests look at the answers themselves.
_OF_ANSWERS: Final = "Failed to load resource"
expect.set_options(timeout=PATIENCE_MS)


def chromium_file() -> str:
    """Where Chromium is."""
    found = shutil.which("chromium")
    assert found is not None, "Chromium is not installed: run make test"
    return found


@final
class Desk:
    """A browser window on a daemon's dashboard.

    `complaints` are what the console and broken scripts said, `strangers` the requests that went anywhere else.
    """

    def __init__(self, context: BrowserContext, daemon: Daemon) -> None:
        self.daemon = daemon
        self.base = f"http://{LOOPBACK}:{daemon.api_port}"
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        context.set_default_timeout(PATIENCE_MS)
        context.on("request", lambda request: self._see(request.url))
        context.on("console", self._hear)
        context.on("weberror", lambda broken: self.complaints.append(str(broken.error)))
        self.page: Page = context.new_page()

    def _see(self, url: str) -> None:
        if not url.startswith((f"{self.base}/", "data:", "blob:", "about:")):
            self.strangers.append(url)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(_OF_ANSWERS):
            self.complaints.append(message.text)

    def open(self, path: str) -> Response:
        """Go to a page by its path."""
        answer = self.page.goto(self.base + path)
        assert answer is not None
        return answer

    @property
    def path(self) -> str:
        """Where the window is, without the server."""
        return self.page.url.removeprefix(self.base)

    def press(self, word: str) -> None:
        """Press the button of that name, which there is one of."""
        self.page.get_by_role("button", name=word, exact=True).click()

    def key(self, name: str) -> None:
        """Press a key, once the page listens for it."""
        self.page.wait_for_load_state()
        self.page.keyboard.press(name)

    def follow(self, word: str) -> None:
        """Follow the first link of that name."""
        self.page.get_by_role("link", name=word, exact=True).first.click()

    def go(self, path: str) -> None:
        """Follow the link to a page in the bar at the top."""
        self.page.locator(f'.bar nav a[href="{path}"]').click()

    def fill(self, **fields: str) -> None:
        """Write into fields, by their ids."""
        for name, value in fields.items():
            self.page.locator(f"#{name}").fill(value)

    def see(self, words: str) -> Locator:
        """Wait until these words are on the page."""
        found = self.page.get_by_text(words).first
        found.wait_for()
        return found

    def notice(self) -> str:
        """What the page tells at its top."""
        return self.page.locator(".notices .notice").inner_text()

    def content(self) -> str:
        """The page's HTML as it stands."""
        return str(self.page.content())


def cookie_of(daemon: Daemon) -> str:
    """A session's token, got by the key as the sign-in form gets it."""
    connection = http.client.HTTPConnection(LOOPBACK, daemon.api_port, timeout=20)
    with closing(connection):
        form = urllib.parse.urlencode({"key": KEY})
        connection.request("POST", "/ui/sign-in", form, {"Content-Type": "application/x-www-form-urlencoded"})
        given = connection.getresponse().getheader("Set-Cookie") or ""
    assert given, "the dashboard did not sign in"
    return given.partition(";")[0].partition("=")[2]


@contextmanager
def desk_on(browser: Browser, daemon: Daemon, *, signed_in: bool = True, **options: Any) -> Generator[Desk]:
    """A window of its own, closed at the end; AssertionError then for complaints, and for strangers asked."""
    context = browser.new_context(**options)
    if signed_in:
        url = f"http://{LOOPBACK}:{daemon.api_port}"
        context.add_cookies([{"name": "inboxd_session", "value": cookie_of(daemon), "url": url, "sameSite": "Strict"}])
    try:
        desk = Desk(context, daemon)
        yield desk
    finally:
        context.close()
    assert desk.complaints == []
    assert desk.strangers == []


@pytest.fixture(scope="module")
def chromium() -> Generator[Browser]:
    """The browser of a module's tests. They are not to be async: Playwright's loop runs as long as it does."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_file())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, certificates: Any, cradle: Cradle) -> Generator[Daemon]:
    """A daemon of a module's tests, started."""
    made = Daemon(Path(tmp_path_factory.mktemp("dashboard")), certificates.ca_file)
    made.cradle = cradle
    try:
        yield made.start()
    finally:
        if not made.process_ended():
            made.stop()


@pytest.fixture
def desk(chromium: Browser, running: Daemon) -> Generator[Desk]:
    """A window on the module's daemon, signed in."""
    with desk_on(chromium, running) as opened:
        yield opened
