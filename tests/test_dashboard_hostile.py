"""Hostile mail in a browser as people have it: nothing of it runs, loads, leaves its frame, or is saved as a lie."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from urllib.parse import unquote

import pytest
from playwright.sync_api import BrowserContext, Dialog, Page, sync_playwright

from hostile_mail import CANARY, HEADERS, NAMES, OUTSIDE, html, pieces
from servers import LOOPBACK
from servers.browser import PATIENCE_MS, chromium_file, cookie_of
from servers.daemon import KEY, Daemon
from servers.dovecot import Dovecot

AT_ONCE = 60
_END = "the-end"
# What may reach the outside when pictures were asked for. Chromium opens more connections than it then uses.
PICTURES = {
    *("background", "css-attribute", "css-escaped", "css-exfiltration", "css-filter", "css-image-set", "css-url"),
    *("input-image", "meta-policy", "pixel", "srcset", "svg-image", "video", "a silent connection"),
}
PIECES = pieces()
# What a name on a disk must not hold: folders, controls, and marks that show it in another order than it is in.
UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]|^\s*\.*\s*$|[. ]$|\s{5}")


@final
class Trap:
    """The whole world outside: it listens, notes what it is told first, and hangs up."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._socket = socket.create_server((LOOPBACK, 0))
        self.port: int = self._socket.getsockname()[1]
        self._came = threading.Condition()
        threading.Thread(target=self._listen, daemon=True, name="trap").start()

    def close(self) -> None:
        """Listen no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def await_call(self, seconds: float = 15.0, naming: bytes = b"") -> bool:
        """Whether somebody came who said so."""
        with self._came:
            return self._came.wait_for(lambda: any(naming in said for said in self.heard), seconds)

    def _listen(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return
            with caller:
                caller.settimeout(0.2)
                try:
                    said = caller.recv(2_000)
                except OSError:
                    said = b""
            with self._came:
                self.heard.append(said or b"a silent connection")
                self._came.notify_all()


@dataclass(frozen=True, slots=True)
class Watch:
    """The browser, and everything it did.

    `signs`: canaries, dialogs, windows and downloads nobody asked for. `answered`: the URLs that were, whoever did it.
    What was asked of others is what the trap heard: every name is the trap's, or nobody's.
    """

    context: BrowserContext
    page: Page
    base: str
    trap: Trap
    signs: list[str]
    answered: list[str]
    mails: dict[str, dict[str, Any]]

    def clear(self) -> None:
        """Forget what it did so far."""
        self.signs.clear()
        self.answered.clear()
        self.trap.heard.clear()

    def culprits(self) -> set[str]:
        """The pieces that reached the outside."""
        hosts = (re.findall(rb"([a-z0-9-]+)\.%s" % OUTSIDE.encode(), said) or [said] for said in self.trap.heard)
        return {host.decode(errors="replace") for found in hosts for host in found}

    def settle(self) -> None:
        """Ask the outside for something known, and wait until it is heard: whatever was asked before came before it."""
        last = self.context.new_page()
        last.set_content(f'<img src="http://{_END}.{OUTSIDE}/">')
        assert self.trap.await_call(naming=_END.encode())
        last.close()
        self.trap.heard[:] = [said for said in self.trap.heard if _END.encode() not in said]

    def pages(self) -> set[str]:
        """The last segments of the paths of ours that were asked for, files apart."""
        paths = (url.removeprefix(self.base).partition("?")[0] for url in self.answered if not url.startswith("data:"))
        return {path.rpartition("/")[2] for path in paths if not path.startswith("/ui/static/")}

    def frames(self, remote: str = "") -> Generator[list[str]]:
        """Show every mail in a frame as the reader makes it, some at a time: the names of those that are shown."""
        self.page.goto(f"{self.base}/ui/mail/{self.mails['script']['id']}")
        names = list(self.mails)
        for start in range(0, len(names), AT_ONCE):
            shown = names[start : start + AT_ONCE]
            sources = [f"/ui/mail/{self.mails[name]['id']}/frame{remote}" for name in shown]
            assert self.page.evaluate(_SHOW, sources) == len(shown)
            yield shown


# Frames like the one that is there; their number once all are loaded.
_SHOW = """async (sources) => {
  const like = document.querySelector("iframe.body");
  for (const old of document.querySelectorAll("iframe.tried")) old.remove();
  const loads = sources.map((source) => new Promise((loaded) => {
    const frame = like.cloneNode();
    frame.classList.add("tried");
    frame.addEventListener("load", loaded);
    frame.src = source;
    document.body.append(frame);
  }));
  return (await Promise.all(loads)).length;
}"""


@pytest.fixture(scope="module")
def mails(running: Daemon, dovecot_session: Dovecot) -> dict[str, dict[str, Any]]:
    """Every piece, fetched from a real server: its name and what the API says of it."""
    user = dovecot_session.user()
    dovecot_session.bulk_load(user, [piece.raw for piece in PIECES])
    connector = running.connect(user, dovecot_session.starttls)
    running.await_count(connector, len(PIECES))
    return {piece.name: mail for piece, mail in zip(PIECES, running.emails(connector), strict=True)}


@pytest.fixture
def trap() -> Generator[Trap]:
    made = Trap()
    yield made
    made.close()


@pytest.fixture
def context(tmp_path: Path, trap: Trap) -> Generator[BrowserContext]:
    """A browser with a profile, as people have it: without one, Chromium follows no hints of what to connect to.

    Every test has its own: Chromium tries again later, and remembers whom it may want to reach.
    """
    rules = f"MAP *.{OUTSIDE} {LOOPBACK}:{trap.port}, MAP * ~NOTFOUND, EXCLUDE {LOOPBACK}"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=chromium_file(),
            args=[f"--host-resolver-rules={rules}"],
        )
        opened.set_default_timeout(PATIENCE_MS)
        yield opened
        opened.close()


@pytest.fixture
def watch(context: BrowserContext, trap: Trap, running: Daemon, mails: dict[str, Any]) -> Generator[Watch]:
    base = f"http://{LOOPBACK}:{running.api_port}"
    context.add_cookies([{"name": "inboxd_session", "value": cookie_of(running), "url": base, "sameSite": "Strict"}])
    page = context.new_page()
    made = Watch(context, page, base, trap, [], [], mails)

    def refuse(dialog: Dialog) -> None:
        made.signs.append(f"dialog {dialog.message}")
        dialog.dismiss()

    page.on("dialog", refuse)
    page.on("popup", lambda opened: made.signs.append(f"window {opened.url}"))
    page.on("download", lambda saved: made.signs.append(f"download {saved.url}"))
    page.on(
        "console", lambda said: made.signs.append(said.text) if CANARY in said.text and said.type == "log" else None
    )
    page.on("response", lambda response: made.answered.append(response.url))
    made.clear()
    yield made
    page.close()


def test_without_the_frame_and_its_policy_the_trap_catches_them(watch: Watch) -> None:
    watch.page.set_content(html("script") + html("img-onerror") + html("link-preconnect") + html("pixel"))
    assert watch.trap.await_call()
    watch.page.wait_for_function("window.name !== ''")
    assert f"dialog {CANARY}" in watch.signs
    assert "pixel" in watch.culprits()
    watch.page.goto("about:blank")
    watch.clear()
    watch.page.set_content(html("link-preconnect-odd"))
    assert watch.trap.await_call(), "this browser follows no hints: whether mails can use them is not seen"


def test_nothing_runs_nor_is_asked_for_nor_leaves_while_mail_is_read(watch: Watch) -> None:
    for shown in watch.frames():
        page = watch.page
        assert page.url.startswith(f"{watch.base}/ui/mail/")
        assert page.evaluate("window.name") == "", shown
        children = [frame for frame in page.frames if frame.parent_frame is page.main_frame]
        assert all(frame.url.startswith(f"{watch.base}/ui/mail/") for frame in children), [one.url for one in children]
        grandchildren = [frame for frame in page.frames if frame.parent_frame in children]
        assert {frame.url for frame in grandchildren} <= {
            "about:blank",
            "",
            "about:srcdoc",
            "chrome-error://chromewebdata/",
        }
    watch.settle()
    assert watch.signs == []
    assert watch.culprits() == set()
    assert watch.pages() == {"frame", "live", watch.mails["script"]["id"]}


def test_clicks_in_a_mail_run_nothing_and_move_nothing(watch: Watch) -> None:
    page, clickable = watch.page, [name for name in watch.mails if "id=click" in _source(name)]
    assert len(clickable) > 15
    page.goto(f"{watch.base}/ui/mail/{watch.mails['script']['id']}")
    here = page.url
    for name in clickable:
        assert page.evaluate(_SHOW, [f"/ui/mail/{watch.mails[name]['id']}/frame"]) == 1
        page.frame_locator("iframe.tried").locator("#click").evaluate(
            "one => one.dispatchEvent(new MouseEvent('click'))"
        )
    watch.settle()
    windows = [one for one in watch.context.pages if one is not page and one.url != "about:blank"]
    opened = [one.url for one in windows]
    for one in windows:
        one.close()
    assert page.url == here
    assert page.evaluate("window.name") == ""
    assert [sign for sign in watch.signs if CANARY in sign] == []
    assert not any("javascript" in url or "data:" in url for url in opened), opened


def test_pictures_from_elsewhere_are_all_that_is_loaded_when_asked_for(watch: Watch) -> None:
    for _ in watch.frames("?remote=1"):
        assert watch.page.evaluate("window.name") == ""
    assert watch.trap.await_call()
    assert watch.signs == []
    kinds = watch.culprits()
    assert {"pixel", "srcset", "css-url", "background"} <= kinds
    assert kinds <= PICTURES, kinds - PICTURES
    assert not any(b"referer" in said.lower() for said in watch.trap.heard)


def test_a_frame_opened_by_itself_runs_nothing_either(watch: Watch) -> None:
    for name in (
        "script",
        "body-onload",
        "svg-script",
        "iframe-srcdoc",
        "meta-refresh",
        "meta-policy",
        "link-preconnect",
    ):
        watch.page.goto(f"{watch.base}/ui/mail/{watch.mails[name]['id']}/frame")
        assert watch.page.evaluate("window.name") == "", name
        assert watch.page.evaluate("window.origin") == "null", name
    watch.settle()
    assert (watch.signs, watch.culprits()) == ([], set())


def test_html_of_the_api_connects_to_nobody_either(watch: Watch) -> None:
    for name in [name for name in watch.mails if name.startswith(("link-", "iframe-", "meta-", "script"))]:
        watch.page.goto(f"{watch.base}/emails/{watch.mails[name]['id']}/html?apiKey={KEY}")
        assert watch.page.evaluate("window.name") == "", name
        assert watch.page.evaluate("window.origin") == "null", name
    watch.settle()
    assert (watch.signs, watch.culprits()) == ([], set())


def test_what_a_mail_says_of_itself_is_only_ever_text(watch: Watch) -> None:
    told = [*HEADERS, "name-markup", "name-quotes", "html-attached", "type-with-markup", "amp-part", "no-such-charset"]
    inbox = watch.mails["script"]["inboxId"]
    for number in (1, 2, 3, 4):
        watch.page.goto(f"{watch.base}/ui/mail?inbox={inbox}&page={number}")
    for name in told:
        for view in (
            ("html", "headers", "parts", "source", "raw") if name in {"header-names", "amp-part"} else ("text",)
        ):
            watch.page.goto(
                f"{watch.base}/ui/mail/{watch.mails[name]['id']}?view={view}", wait_until="domcontentloaded"
            )
            assert watch.page.title().endswith("· inboxd"), name
    for name in ("subject-markup", "from-markup", "reply-to-markup", "to-markup"):
        for way in ("reply", "forward"):
            watch.page.goto(f"{watch.base}/ui/compose?{way}={watch.mails[name]['id']}&all=1")
    assert (watch.signs, watch.culprits()) == ([], set())
    assert watch.page.evaluate("window.name") == ""
    watch.page.goto(f"{watch.base}/ui/mail/{watch.mails['subject-template']['id']}")
    assert "{{ 7 * 7 }}" in watch.page.locator("h1").inner_text()


def test_attachments_are_saved_under_safe_names_and_shown_by_none(watch: Watch) -> None:
    tried = 0
    for name, mail in watch.mails.items():
        for position in range(4):
            answer = watch.context.request.get(f"{watch.base}/ui/mail/{mail['id']}/attachments/{position}")
            if answer.status == 404:
                continue
            tried += 1
            headers = answer.headers
            given = re.fullmatch(
                r'attachment; filename="([^"]+)"; filename\*=UTF-8\'\'(\S+)', headers["content-disposition"]
            )
            assert given is not None, (name, headers["content-disposition"])
            for saved in (given[1], unquote(given[2])):
                assert UNSAFE.search(saved) is None, (name, saved)
                assert len(saved) <= 255, name
            assert headers["content-type"] == "application/octet-stream"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-security-policy"].startswith("sandbox; default-src 'none'")
            assert "set-cookie" not in headers
    assert tried >= len(NAMES) + 10


def test_the_browser_saves_an_attachment_that_would_be_a_page(watch: Watch, tmp_path: Path) -> None:
    for name, ending in (
        ("html-attached", "page.html"),
        ("svg-attached", "picture.svg"),
        ("name-right-to-left", ".exe"),
    ):
        watch.page.goto(f"{watch.base}/ui/mail/{watch.mails[name]['id']}")
        shown = watch.page.locator(".attached a")
        assert UNSAFE.search(shown.inner_text()) is None, name
        with watch.page.expect_download() as saved:
            shown.click()
        assert saved.value.suggested_filename.endswith(ending)
        assert watch.page.url.endswith(watch.mails[name]["id"])
    assert [sign for sign in watch.signs if CANARY in sign] == []


def _source(name: str) -> str:
    try:
        return html(name)
    except KeyError:
        return ""
