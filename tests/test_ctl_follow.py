"""inboxctl while the daemon works: the progress of a sync and of a new connector's first one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ctl_calls import PROGRAM, call, environment, on_terminal, spawn, stand_in
from inboxd import ctl_follow
from servers.control_state import Row, StandIn, moment

LOOKING: Row = {"state": "syncing", "progress": None}
HALFWAY: Row = {"state": "syncing", "progress": {"done": 500, "total": 2000, "receivedBytes": 25_000_000}}
LOADING: Row = {
    "state": "syncing",
    "progress": {
        "done": 860, "total": 2000, "receivedBytes": 43_000_000, "backfill": True, "messagesPerSecond": 1234.4,
        "bytesPerSecond": 5_000_000.0, "etaSeconds": 120.2,
    },
}  # fmt: skip
RESULT: Row = {"result": {"syncResult": {"emailSyncCount": 0, "logs": ["S: * OK"], "emailIds": []}}}


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    with stand_in() as running:
        yield running


@pytest.fixture
def add(tmp_path: Path) -> tuple[str, ...]:
    """A call that links a mailbox."""
    (tmp_path / "password").write_text("pw", encoding="utf-8")
    return (
        "connector", "add", "work", "--email", "me@example.com", "--imap-host", "imap.example.com",
        "--password-file", str(tmp_path / "password"),
    )  # fmt: skip


def statuses(daemon: StandIn) -> int:
    """How often the daemon's status was asked for."""
    return sum(asked.path == "/control/status" for asked in daemon.asked)


def test_a_sync_of_unknown_size_says_that_it_looks(daemon: StandIn) -> None:
    daemon.add_connector("work")
    daemon.lines = [None, {"progress": {"done": 0, "total": 0, "receivedBytes": 0}}, RESULT]
    status, shown = on_terminal(daemon, ("sync", "work"))
    assert status == 0
    assert "looking…" in shown
    assert "None" not in shown
    assert "0/0" not in shown


def test_a_first_load_shows_its_rate_and_the_time_left_as_a_bar(daemon: StandIn) -> None:
    daemon.add_connector("work")
    daemon.lines = [{"progress": LOADING["progress"]}, RESULT]
    status, shown = on_terminal(daemon, ("sync", "work"))
    assert status == 0
    for part in ("━", "860/2000 mails", "43 MB (5.0 MB/s)", "2 min left"):
        assert part in shown


def test_status_shows_how_far_a_first_load_is(daemon: StandIn) -> None:
    daemon.add_connector("work", **LOADING)
    daemon.add_connector("slow", state="syncing", progress=LOADING["progress"] | {"messagesPerSecond": 2.25})
    daemon.add_connector("new", state="syncing", progress={"done": 0, "total": 9, "receivedBytes": 0, "backfill": True})
    shown = call(daemon, "status").stdout
    assert "work: backfill 43 % · 1,234 mails/s · 2 min left\n" in shown
    assert "slow: backfill 43 % · 2.2 mails/s · 2 min left\n" in shown
    assert "new: backfill 0 %\n" in shown


def test_without_a_terminal_a_long_sync_says_a_line_now_and_then(
    daemon: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.add_connector("work")
    daemon.lines = [{"progress": LOADING["progress"]}, {"progress": HALFWAY["progress"]}, RESULT]
    assert call(daemon, "sync", "work").stderr == ""
    monkeypatch.setattr(ctl_follow, "_LINE_SECONDS", 0.0)
    told = call(daemon, "sync", "work").stderr
    assert told == "work: backfill 43 % · 1,234 mails/s · 2 min left\nwork: 500/2000 mails, 25 MB\n"


def test_add_on_a_terminal_follows_the_first_sync_to_its_end(daemon: StandIn, add: tuple[str, ...]) -> None:
    daemon.stages = [{"state": "off"}, {"state": "connecting"}, LOOKING, HALFWAY, {"state": "idle", "messages": 2000}]
    status, shown = on_terminal(daemon, add)
    assert status == 0, shown
    for part in ("added work", "connecting…", "looking…", "500/2000 mails", "25 MB ("):
        assert part in shown
    assert shown.endswith("work is idle; its inbox holds 2000 mails\n")
    assert daemon.stages == []


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        (
            {"state": "parked", "reason": "login: NO \x1b[2Jbad password"},
            "work is parked: login: NO ␛[2Jbad password\n",
        ),
        (
            {"state": "waiting", "reason": "connection refused", "failures": 1, "retryAt": moment(-0.5)},
            "work is waiting: connection refused; next try ",
        ),
        ({"state": "polling", "messages": 1}, "work is polling; its inbox holds 1 mail\n"),
    ],
)
def test_add_tells_how_the_first_sync_ended(daemon: StandIn, add: tuple[str, ...], stage: Row, line: str) -> None:
    daemon.stages = [{"state": "connecting"}, stage]
    status, shown = on_terminal(daemon, add)
    assert status == 0
    assert line in shown


@pytest.mark.parametrize("how", ["--no-wait", "--no-sync", "--json"])
def test_add_does_not_wait_when_told_so(daemon: StandIn, add: tuple[str, ...], how: str) -> None:
    status, shown = on_terminal(daemon, (*add, how))
    assert status == 0, shown
    assert statuses(daemon) == 0


def test_add_without_a_terminal_returns_at_once(daemon: StandIn, add: tuple[str, ...]) -> None:
    assert spawn(daemon, *add).returncode == 0
    assert statuses(daemon) == 0


def test_ctrl_c_leaves_the_first_sync_to_the_daemon(daemon: StandIn, add: tuple[str, ...]) -> None:
    daemon.stages = [HALFWAY]
    ours, theirs = os.openpty()
    with (
        subprocess.Popen(
            [*PROGRAM, *add], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(daemon)
        ) as program,
        closing(os.fdopen(theirs, "rb")),
        closing(os.fdopen(ours, "rb", buffering=0)) as terminal,
    ):
        shown = b""
        while b"500/2000 mails" not in shown:
            shown += terminal.read(4096)
        program.send_signal(signal.SIGINT)
        while b"the daemon goes on with the sync" not in shown:
            shown += terminal.read(4096)
        assert program.wait(timeout=30) == 0
    assert b"Traceback" not in shown


def test_sync_json_has_the_log_only_when_asked_for(daemon: StandIn) -> None:
    daemon.add_connector("work")
    daemon.lines = [RESULT]
    quiet, full = (
        json.loads(call(daemon, "sync", "work", "--json", *more).stdout)["result"]["syncResult"]
        for more in ((), ("--log",))
    )
    assert quiet == {"emailSyncCount": 0, "emailIds": []}
    assert full == quiet | {"logs": ["S: * OK"]}


@pytest.mark.parametrize("command", ["watch", "sync"])
def test_a_daemon_that_stops_meanwhile_is_away(daemon: StandIn, command: str) -> None:
    daemon.add_connector("work")
    daemon.lines = [{"message": "inboxd is stopping; ask again later", "status": 503}]
    result = call(daemon, command, "work")
    assert (result.exit_code, result.stderr) == (3, "inboxctl: inboxd is stopping; ask again later\n")
