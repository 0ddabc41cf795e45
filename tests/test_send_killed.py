"""Accepted mails, and a daemon that is killed at every stage of handing them over: each is sent once, or is unknown."""

from __future__ import annotations

import random
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from servers import LOOPBACK, Listener, free_port
from servers.breaking import CLOSE, NONSENSE, SILENCE, STAGES, Breaking, behave, breaking
from servers.certs import Certificates
from servers.daemon import KEY, Daemon
from servers.dovecot import User

QUICK = {
    "INBOXD_OUTBOX__RETRY_FIRST_SECONDS": "0.05",
    "INBOXD_OUTBOX__RETRY_MOST_SECONDS": "0.2",
    "INBOXD_OUTBOX__RESOLVE_SECONDS": "0",
    "INBOXD_OUTBOX__CONFIRM_SECONDS": "20",
    "INBOXD_SMTP__GREETING_SECONDS": "2",
    "INBOXD_SMTP__COMMAND_SECONDS": "2",
    "INBOXD_SMTP__START_SECONDS": "2",
    "INBOXD_SMTP__DATA_SECONDS": "2",
}
MAILS, KILLS, THREADS = 500, 20, 6
REPLIES = (b"421 4.3.2 closing\r\n", b"451 4.3.0 later\r\n", b"550 5.7.1 no\r\n", b"554 5.0.0 never\r\n", NONSENSE)


@pytest.fixture
def server(certificates: Certificates) -> Generator[Breaking]:
    made = Breaking(certificates.good.server_context(), "user@example.test", "correct horse")
    with breaking(made):
        yield made


@pytest.fixture
def sending(daemon: Daemon) -> Daemon:
    daemon.settings |= QUICK | {"INBOXD_LOG__LEVEL": "info"}
    return daemon.start()


def connect(daemon: Daemon, server: Breaking) -> dict[str, Any]:
    """A connector that sends through the server over STARTTLS, and reads nothing."""
    made = daemon.connect(
        User("me@example.test", "x", Path("/nonexistent")), Listener(LOOPBACK, free_port()), sync=False
    )
    body = {
        "enabled": True, "smtpHost": server.host, "smtpPort": server.port, "smtpUsername": server.user,
        "smtpPassword": server.password, "startTls": server.tls is not None, "smtpSsl": False,
    }  # fmt: skip
    status, answer = daemon.http("POST", f"/connectors/{made['id']}/smtp", body)
    assert status == 201, answer
    return made


def outbox(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """Every mail in the outbox, by its id."""
    rows: list[dict[str, Any]] = daemon.client.page("/control/outbox", MAILS * 2)["content"]
    return {row["id"]: row for row in rows}


def settled(daemon: Daemon, count: int) -> dict[str, dict[str, Any]]:
    """The outbox once that many mails are in it and none is waiting any more."""

    def done() -> dict[str, dict[str, Any]] | None:
        rows = outbox(daemon)
        open_ones = [row for row in rows.values() if row["state"].lower() in ("queued", "sending", "deferred")]
        return rows if len(rows) >= count and not open_ones else None

    return daemon.until(done, f"{count} settled mails", 120)


def accept(daemon: Daemon, connector: dict[str, Any], number: int, size: int = 2_000) -> None:
    body = {"to": ["bob@example.com"], "subject": f"mail {number}", "body": ("x" * 70 + "\n") * (size // 71)}
    status, answer = daemon.http("POST", f"/inboxes/{connector['inboxId']}", body)
    assert status == 201, answer


@pytest.mark.timeout(180)
def test_a_mail_survives_a_kill_at_every_stage(daemon: Daemon, server: Breaking) -> None:
    daemon.settings |= QUICK | {"INBOXD_SMTP__REUSE_SECONDS": "0", "INBOXD_LOG__LEVEL": "info"}
    sending = daemon.start()
    connector = connect(sending, server)
    for number, stage in enumerate(STAGES, 1):
        killing = Killing(sending, stage)
        server.plan = killing
        # More than the sockets hold, so that its end is not written yet when the server has half of it.
        accept(sending, connector, number, 16_000_000 if stage == "body" else 2_000)
        assert killing.done.wait(20), f"{stage} was not reached\n{sending.log[-3000:]}"
        server.plan = behave
        sending.start()
        rows = settled(sending, number)
        (row,) = [one for one in rows.values() if one["subject"] == f"mail {number}"]
        times, state = server.counts()[row["messageId"]], row["state"].lower()
        expected = {"dot": [("unknown", 1)], "reply": [("unknown", 1), ("sent", 1)]}.get(stage, [("sent", 1)])
        assert (state, times) in expected, stage


class Killing:
    """Kills the daemon once, at this stage, and closes the connection then."""

    def __init__(self, daemon: Daemon, stage: str) -> None:
        self._daemon = daemon
        self._stage = stage
        self.done = threading.Event()

    def __call__(self, stage: str) -> bytes | None:
        process = self._daemon.process
        if stage != self._stage or self.done.is_set() or process is None:
            return None
        process.kill()
        process.wait(15)
        self.done.set()
        return CLOSE


class Mischief:
    """Faults at random stages, as often as is said, from a seed."""

    def __init__(self, seed: int, share: float) -> None:
        self._random = random.Random(seed)
        self._share = share
        self._lock = threading.Lock()
        self.done: Counter[str] = Counter()

    def __call__(self, stage: str) -> bytes | None:
        with self._lock:
            if self._random.random() > self._share:
                return None
            self.done[stage] += 1
            if stage == "reply":
                return CLOSE
            kinds: list[bytes] = [CLOSE, *REPLIES] if stage not in ("body", "starttls") else [CLOSE, REPLIES[1]]
            if self._random.random() < 0.02:
                return SILENCE
            return self._random.choice(kinds)


class Clients:
    """Callers that ask again under the same key until they are answered, whatever becomes of the daemon."""

    def __init__(self, daemon: Daemon, connector: dict[str, Any]) -> None:
        self._url = f"http://{LOOPBACK}:{daemon.api_port}/inboxes/{connector['inboxId']}"
        self._lock = threading.Lock()
        self.accepted = 0

    def send(self, number: int) -> None:
        """Until the daemon says that it has the mail."""
        body = b'{"to":["bob%d@example.com"],"subject":"mail %d","body":"text"}' % (number, number)
        headers = {"x-api-key": KEY, "Content-Type": "application/json", "Idempotency-Key": f"mail-{number}"}
        pause = threading.Event()
        for _ in range(2_000):
            request = urllib.request.Request(self._url, body, headers, method="POST")
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    assert answer.status == 201
                with self._lock:
                    self.accepted += 1
                return
            except (urllib.error.URLError, HTTPException, OSError):
                pause.wait(0.05)
        raise AssertionError("never accepted")


@pytest.mark.timeout(400)
def test_five_hundred_mails_under_twenty_kills_and_faults_at_random(sending: Daemon, server: Breaking) -> None:
    connector = connect(sending, server)
    mischief = Mischief(2026, 0.01)
    server.plan = mischief
    clients = Clients(sending, connector)
    with ThreadPoolExecutor(THREADS) as pool:
        asked = [pool.submit(clients.send, number) for number in range(MAILS)]
        for kill in range(1, KILLS + 1):
            wanted = kill * MAILS // (KILLS + 1)
            sending.until(lambda least=wanted: clients.accepted >= least, f"{wanted} accepted", 120)
            assert sending.process is not None
            sending.process.kill()
            sending.process.wait(15)
            sending.start()
        for one in asked:
            one.result(120)
    server.plan = behave
    rows = settled(sending, MAILS)
    check(rows.values(), server.counts())
    assert mischief.done


def check(rows: Any, taken: Counter[str]) -> None:
    """0 lost, 0 sent twice, every unknown listed."""
    subjects = Counter(row["subject"] for row in rows)
    assert len(subjects) == MAILS
    assert set(subjects.values()) == {1}
    states = Counter(row["state"].lower() for row in rows)
    assert set(states) <= {"sent", "failed", "unknown"}, states
    assert [one for one, times in taken.items() if times > 1] == []
    for row in rows:
        times = taken[row["messageId"]]
        expected = {"sent": (1,), "failed": (0,), "unknown": (0, 1)}[row["state"].lower()]
        assert times in expected, (times, row)
    assert states["sent"] > MAILS * 0.8
