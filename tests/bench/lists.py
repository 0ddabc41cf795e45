"""Every list at 100,000 messages in one inbox, over HTTP, beside the same page by sqlite3 and a hand-written query.

The peer asks for the total and the page as anybody would, on the same file and its indexes; its searches are LIKE.
"""

from __future__ import annotations

import http.client
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

from bench.mailboxes import COMMON, EVERYWHERE, NONE, RARE, Shelves, put
from bench.report import heading
from servers import LOOPBACK
from servers.certs import issue
from servers.daemon import KEY, Daemon

GOAL_MILLISECONDS = 100
SIZE = 20
_COLUMNS = '"id", "inbox_id", "subject", "sender", "to", "cc", "bcc", "created_at", "read", "excerpt"'


@dataclass(frozen=True, slots=True)
class Peer:
    """The same list by hand: from which table, under which condition, from which row on."""

    where: str = "1"
    values: tuple[object, ...] = ()
    offset: int = 0
    order: str = "ASC"
    table: str = "messages"
    columns: str = _COLUMNS

    def ask(self, connection: sqlite3.Connection) -> str:
        """The page as JSON."""
        (total,) = connection.execute(f"SELECT count(*) FROM {self.table} WHERE {self.where}", self.values).fetchone()
        order = f"ORDER BY created_at {self.order}, seq {self.order} LIMIT {SIZE} OFFSET {self.offset}"
        rows = connection.execute(f"SELECT {self.columns} FROM {self.table} WHERE {self.where} {order}", self.values)
        names = [column[0] for column in rows.description]
        return json.dumps({"content": [dict(zip(names, row, strict=True)) for row in rows], "total": total})


@dataclass(frozen=True, slots=True)
class List:
    """One list: a request, and the peer's way to the same rows where there is one."""

    name: str
    path: str
    peer: Peer | None = None
    body: object = None


def _lists(shelves: Shelves, count: int, middle: datetime) -> list[List]:
    box, key = shelves.largest, shelves.largest.hex
    paged, every = f"/inboxes/{box}/emails/paginated", "/emails"
    of_box, last, half = "inbox_id = ?", count // SIZE - 1, count // SIZE // 2
    moment = middle.isoformat().replace("+00:00", "Z")
    micro = (middle - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    three = [("inboxId", str(one)) for one in (box, *shelves.others[:2])]
    keys = tuple(one.hex for one in (box, *shelves.others[:2]))

    def of(path: str, *more: tuple[str, object], **query: object) -> str:
        return f"{path}?{urlencode([*more, *query.items()], quote_via=quote)}"

    def search(label: str, words: str) -> List:
        where = "inbox_id = ? AND seq IN (SELECT seq FROM searched WHERE text LIKE ?)"
        peer = Peer(where, (key, f"%{words}%"))
        return List(f"getEmailsPaginated search, {label}", of(every, inboxId=box, searchFilter=words), peer)

    return [
        List("getEmails", of(f"/inboxes/{box}/emails", limit=SIZE, sort="DESC"), Peer(of_box, (key,), order="DESC")),
        List("getEmails unreadOnly", of(f"/inboxes/{box}/emails", limit=SIZE, unreadOnly="true")),
        List("getInboxEmailsPaginated first", paged, Peer(of_box, (key,))),
        List("getInboxEmailsPaginated middle", of(paged, page=half), Peer(of_box, (key,), half * SIZE)),
        List("getInboxEmailsPaginated last", of(paged, page=last), Peer(of_box, (key,), last * SIZE)),
        List("getInboxEmailsPaginated size=100", of(paged, size=100, sort="DESC")),
        List("getEmailsPaginated first", every, Peer()),
        List("getEmailsPaginated middle", of(every, page=half), Peer(offset=half * SIZE)),
        List("getEmailsPaginated last", of(every, page=last), Peer(offset=last * SIZE)),
        List(
            "getEmailsPaginated unreadOnly",
            of(every, inboxId=box, unreadOnly="true"),
            Peer("inbox_id = ? AND read = 0", (key,)),
        ),
        List(
            "getEmailsPaginated favourited",
            of(every, inboxId=box, favourited="true", page=1),
            Peer("inbox_id = ? AND favourite = 1", (key,), SIZE),
        ),
        List(
            "getEmailsPaginated since",
            of(every, inboxId=box, since=moment),
            Peer("inbox_id = ? AND created_at >= ?", (key, micro)),
        ),
        List(
            "getEmailsPaginated before, last",
            of(every, inboxId=box, before=moment, page=half - 1),
            Peer("inbox_id = ? AND created_at < ?", (key, micro), (half - 1) * SIZE),
        ),
        List("getEmailsPaginated three inboxes", of(every, *three), Peer("inbox_id IN (?, ?, ?)", keys)),
        List(
            "getEmailsPaginated three inboxes, middle",
            of(every, *three, page=half),
            Peer("inbox_id IN (?, ?, ?)", keys, half * SIZE),
        ),
        search("in 1 mail", RARE),
        search("in some", COMMON),
        search("in every mail", EVERYWHERE),
        List("getEmailsPaginated search, in every, middle", of(every, inboxId=box, searchFilter=EVERYWHERE, page=half)),
        search("in none", NONE),
        search("two letters", "th"),
        search("two rare letters", "qj"),
        List("getEmailsOffsetPaginated middle", of("/emails/offset-paginated", page=half), Peer(offset=half * SIZE)),
        List(
            "searchEmails in some",
            "/emails/search",
            body={"inboxIds": [str(box)], "searchFilter": COMMON, "pageSize": 20},
        ),
        List("getEmailCount", "/emails/emails/count"),
        List("getUnreadEmailCount", "/emails/unreadCount"),
        List("getInboxEmailCount", f"/inboxes/{box}/emails/count"),
        List("getLatestEmail", "/emails/latest"),
        List("getLatestEmailInInbox1", of("/emails/latestIn", inboxId=box)),
        List("getSentEmails", "/sent", Peer(table="sent", columns='"id", "inbox_id", "subject", "to", "created_at"')),
        List("getInboxSentEmails", f"/inboxes/{box}/sent"),
        List("getAttachments", "/attachments", Peer(table="attachments", columns='"id", "name", "created_at"')),
        List("getAttachments of an inbox, filtered", of("/attachments", inboxId=box, fileNameFilter="42")),
        List("getAllInboxes", "/inboxes/paginated"),
        List("getAllInboxes search", of("/inboxes/paginated", search="box7")),
        List("waitForLatestEmail there already", of("/waitForLatestEmail", inboxId=box, timeout=1000, sort="DESC")),
    ]


def _times(work: Callable[[], object], times: int) -> list[float]:
    """Milliseconds of each call, after two that are not counted."""
    taken: list[float] = []
    for _ in range(times + 2):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return taken[2:]


def _request(connection: http.client.HTTPConnection, one: List) -> bytes:
    headers = {"x-api-key": KEY, "content-type": "application/json"}
    body = None if one.body is None else json.dumps(one.body)
    connection.request("GET" if body is None else "POST", one.path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status < 300, f"{one.name}: {answer.status} {content[:200]!r}"
    return content


def _measure(daemon: Daemon, database: Path, lists: list[List], times: int) -> None:
    slow: list[str] = []
    print(f"{'list':46} {'p50':>8} {'p95':>8}   {'goal':8} {'sqlite3':>8}  ratio")
    with (
        closing(http.client.HTTPConnection(LOOPBACK, daemon.api_port, timeout=60)) as connection,
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader,
    ):
        for one in lists:
            taken = sorted(_times(lambda one=one: _request(connection, one), times))
            p50, p95 = statistics.median(taken), taken[int(len(taken) * 0.95)]
            verdict = "yes" if p95 < GOAL_MILLISECONDS else "NO"
            line = f"{one.name:46} {p50:5.1f} ms {p95:5.1f} ms   {verdict:8}"
            if one.peer is not None:
                peer = statistics.median(_times(lambda peer=one.peer: peer.ask(reader), max(5, times // 5)))
                line += f" {peer:5.1f} ms  {p50 / peer:.2f}"
            print(line, flush=True)
            slow += [one.name] if verdict == "NO" else []
    print(f"p95 under {GOAL_MILLISECONDS} ms: all but {', '.join(slow)}" if slow else "p95 under 100 ms: all")


def main(*, quick: bool) -> None:
    """One store, built once, then every list in turn."""
    count = 10_000 if quick else 100_000
    heading(f"lists: {count} messages in one inbox")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        daemon = Daemon(folder, issue(folder).ca_file)
        daemon.settings = {}
        daemon.state_dir.mkdir(mode=0o700)
        database = daemon.state_dir / "inboxd.db"
        shelves = put(database, count)
        with closing(sqlite3.connect(database)) as reader:
            wanted = "SELECT created_at FROM messages WHERE inbox_id = ? ORDER BY created_at LIMIT 1 OFFSET ?"
            (micro,) = reader.execute(wanted, (shelves.largest.hex, count // 2)).fetchone()
        daemon.start()
        try:
            middle = datetime.fromtimestamp(micro // 1_000_000, UTC).replace(microsecond=micro % 1_000_000)
            _measure(daemon, database, _lists(shelves, count, middle), 50)
        finally:
            daemon.stop()
