"""Every page of the dashboard with 100 connectors and 100,000 messages: how long the server takes, how much is sent."""

from __future__ import annotations

import asyncio
import http.client
import re
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

from bench.mailboxes import COMMON, EVERYWHERE, put
from bench.report import heading
from inboxd.model import Connector, ConnectorId, Inbox, InboxId, utc_now
from inboxd.store import connectors
from inboxd.store.engine import open_store
from servers import LOOPBACK
from servers.certs import issue
from servers.daemon import KEY, Daemon

GOAL_MILLISECONDS = 100
GOAL_BYTES = 60_000
CONNECTORS = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """A page as it came: what was sent for it, and its text."""

    milliseconds: float
    sent_bytes: int
    text: str


class Browser:
    """Signed in by the key."""

    def __init__(self, daemon: Daemon) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, daemon.api_port, timeout=60)
        form = urlencode({"key": KEY})
        self._connection.request("POST", "/ui/sign-in", form, {"Content-Type": "application/x-www-form-urlencoded"})
        answer = self._connection.getresponse()
        answer.read()
        self._headers = {"Cookie": str(answer.headers["Set-Cookie"]).partition(";")[0]}

    def get(self, path: str, encoding: str = "gzip") -> Answer:
        """Load a page."""
        began = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers | {"Accept-Encoding": encoding})
        answer = self._connection.getresponse()
        content = answer.read()
        taken = (time.perf_counter() - began) * 1000
        assert answer.status == 200, f"{path}: {answer.status} {content[:300]!r}"
        return Answer(taken, len(content), "" if encoding == "gzip" else content.decode())

    def first(self, page: str, pattern: str) -> str:
        """What the pattern's group finds in a page."""
        found = re.search(pattern, self.get(page, "identity").text)
        assert found is not None, page
        return found[1]

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


async def _link_more(url: str) -> None:
    async with open_store(url) as store:
        for number in range(CONNECTORS - 5):
            inbox = Inbox(InboxId(uuid4()), f"person{number}@department{number % 7}.example.test", utc_now())
            name = f"Person {number} of department {number % 7}"
            made = Connector(ConnectorId(uuid4()), inbox.id, name, inbox.email_address, False, utc_now())
            await connectors.add(store, made, inbox=inbox)


def _pages(browser: Browser, count: int) -> dict[str, str]:
    """A name and a path for each page."""
    mail = browser.first("/ui/mail", r'href="(/ui/mail/[0-9a-f-]{36})')
    connector = browser.first("/ui/connectors", r'href="(/ui/connectors/[0-9a-f-]{36})"[^>]*>large')
    return {
        "overview": "/",
        "connectors": "/ui/connectors",
        "connector": connector,
        "edit": f"{connector}/edit",
        "add": "/ui/connectors/new",
        "mail": "/ui/mail",
        "mail, middle": f"/ui/mail?page={count // 100}",
        "mail, last": f"/ui/mail?page={count // 50}",
        "mail, unread": "/ui/mail?q=is:unread",
        "mail, search": f"/ui/mail?{urlencode({'q': COMMON})}",
        "mail, search in every": f"/ui/mail?{urlencode({'q': EVERYWHERE})}",
        "message": mail,
        "message in a search": f"{mail}?{urlencode({'q': EVERYWHERE})}",
        "headers": f"{mail}?view=headers",
        "compose": "/ui/compose",
        "reply": f"/ui/compose?reply={mail.rpartition('/')[2]}",
        "outbox": "/ui/outbox",
        "system": "/ui/system",
        "figures": "/ui/live?now=1",
        "style sheet": "/ui/static/dashboard.css",
        "script": "/ui/static/dashboard.js",
    }


def _measure(browser: Browser, pages: dict[str, str], times: int) -> None:
    missed: list[str] = []
    print(f"{'page':24} {'p50':>8} {'p95':>8} {'sent':>8}   goal")
    for name, path in pages.items():
        answers = [browser.get(path) for _ in range(times + 1)][1:]
        taken = sorted(answer.milliseconds for answer in answers)
        p95, sent = taken[int(len(taken) * 0.95)], max(answer.sent_bytes for answer in answers)
        verdict = "yes" if p95 < GOAL_MILLISECONDS and sent < GOAL_BYTES else "NO"
        print(
            f"{name:24} {statistics.median(taken):5.1f} ms {p95:5.1f} ms {sent / 1000:5.1f} KB   {verdict}", flush=True
        )
        missed += [name] if verdict == "NO" else []
    print(f"under 100 ms and 60 KB: all but {', '.join(missed)}" if missed else "under 100 ms and 60 KB: all")


def main(*, quick: bool) -> None:
    """One store, built once, then every page in turn."""
    count = 10_000 if quick else 100_000
    heading(f"pages: {CONNECTORS} connectors, {count} messages in one inbox")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        daemon = Daemon(folder, issue(folder).ca_file)
        daemon.settings = {}
        daemon.state_dir.mkdir(mode=0o700)
        database = daemon.state_dir / "inboxd.db"
        put(database, count)
        asyncio.run(_link_more(f"sqlite:///{database}"))
        daemon.start()
        try:
            with closing(Browser(daemon)) as browser:
                _measure(browser, _pages(browser, count), 20 if quick else 50)
        finally:
            daemon.stop()
