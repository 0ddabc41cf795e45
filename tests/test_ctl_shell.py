"""inboxctl as a program: exit statuses, sockets, terminals, pipes, signals and shell completion."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctl_calls import PROGRAM, call, environment, on_terminal, spawn, stand_in
from inboxd import __version__
from inboxd.ctl_client import SYSTEM_SOCKET, find_socket
from servers.control_state import Row, StandIn, moment

NOBODY = 65_534
SETTINGS = ("INBOXD_CONTROL__SOCKET", "RUNTIME_DIRECTORY", "INBOXD_STATE_DIR", "STATE_DIRECTORY", "XDG_STATE_HOME")


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    with stand_in() as running:
        yield running


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without any setting of inboxd's, at a home of its own."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def arrival(subject: str = "Hello") -> Row:
    """A line of the daemon's watch."""
    return {
        "id": "3f0c2c0e-7b0e-4b63-9d25-8d1b2f5a9f11",
        "inboxId": "5a9f2c0e-7b0e-4b63-9d25-8d1b2f5a9f11",
        "connectorId": "9d252c0e-7b0e-4b63-9d25-8d1b2f5a9f11",
        "connectorName": "work",
        "from": "alice@example.org",
        "subject": subject,
        "sizeBytes": 12_345,
        "receivedAt": moment(1),
        "storedAt": moment(),
    }


def test_exit_status_0_when_done(daemon: StandIn) -> None:
    daemon.add_connector("work")
    result = spawn(daemon, "connector", "list")
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"work@example.com" in result.stdout
    assert b"\x1b" not in result.stdout


def test_exit_status_1_when_the_operation_failed(daemon: StandIn) -> None:
    result = spawn(daemon, "emails", "nobody")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr == b"inboxctl: there is no connector 'nobody'; add one with: inboxctl connector add\n"


@pytest.mark.parametrize("args", [(), ("nonsense",), ("emails",), ("emails", "work", "--limit", "none")])
def test_exit_status_2_when_the_call_makes_no_sense(daemon: StandIn, args: tuple[str, ...]) -> None:
    result = spawn(daemon, *args)
    assert result.returncode == 2
    assert b"Usage: inboxctl" in result.stderr


def test_exit_status_3_when_no_daemon_listens(tmp_path: Path) -> None:
    missing = tmp_path / "control.sock"
    result = spawn(None, "status", "--socket", str(missing))
    assert result.returncode == 3
    assert result.stderr.decode() == (
        f"inboxctl: no daemon at {missing} (no such socket); start it with: systemctl start inboxd, or: inboxd run\n"
    )


def test_a_stale_socket_file_is_told_from_a_missing_one(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
    result = spawn(None, "status", "--socket", str(tmp_path / "s"))
    assert result.returncode == 3
    assert b"(nobody listens on it)" in result.stderr


@contextmanager
def as_somebody_else() -> Generator[None]:
    """Root may open everything, so root becomes nobody for a moment; others are stopped by the mode alone."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


def test_a_socket_of_another_group_names_whom_to_ask(daemon: StandIn) -> None:
    daemon.socket.chmod(0o000)
    with as_somebody_else():
        result = call(daemon, "status")
    assert result.exit_code == 3
    assert f"{daemon.socket}: permission denied" in result.stderr
    assert re.search(
        r"belongs to user \S+ and group \S+: join that group, or use: sudo (-u \S+ )?inboxctl", result.stderr
    )


def test_a_folder_that_may_not_be_entered_is_named_instead(daemon: StandIn) -> None:
    daemon.socket.parent.chmod(0o000)
    with as_somebody_else():
        result = call(daemon, "status")
    daemon.socket.parent.chmod(0o755)
    assert result.exit_code == 3
    assert f"{daemon.socket.parent} belongs to user" in result.stderr


def test_the_socket_is_looked_for_from_the_most_to_the_least_explicit(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fallback = tmp_path / ".local" / "state" / "inboxd" / "control.sock"
    assert find_socket() == (SYSTEM_SOCKET if SYSTEM_SOCKET.exists() else fallback)
    for name, value, found in (
        ("INBOXD_STATE_DIR", "/d", "/d/control.sock"),
        ("RUNTIME_DIRECTORY", "/run/c:/run/other", "/run/c/control.sock"),
        ("INBOXD_CONTROL__SOCKET", "/b", "/b"),
    ):
        bare.setenv(name, value)
        assert find_socket() == Path(found)
    assert find_socket(Path("/a")) == Path("/a")


def test_the_state_folder_is_the_daemons(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setattr("inboxd.ctl_client.SYSTEM_SOCKET", tmp_path / "absent")
    bare.setenv("XDG_STATE_HOME", "/xdg")
    assert find_socket() == Path("/xdg/inboxd/control.sock")
    bare.setenv("STATE_DIRECTORY", "/var/lib/inboxd")
    assert find_socket() == Path("/var/lib/inboxd/control.sock")
    (tmp_path / "system.sock").touch()
    bare.setattr("inboxd.ctl_client.SYSTEM_SOCKET", tmp_path / "system.sock")
    assert find_socket() == tmp_path / "system.sock"


def test_something_that_does_not_speak_http_is_a_failure_not_a_traceback(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with subprocess.Popen(
            [*PROGRAM, "status", "--socket", str(tmp_path / "s")], stderr=subprocess.PIPE, env=environment()
        ) as program:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65_536)
                peer.sendall(b"220 mail.example.com ESMTP\r\n")
            _, error = program.communicate(timeout=30)
    assert program.returncode == 3
    assert error.startswith(b"inboxctl: the daemon at ")
    assert error.count(b"\n") == 1


def test_a_refusal_before_the_whole_body_was_read_is_still_heard(tmp_path: Path) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(10_000_000))
    row = {"id": arrival()["connectorId"], "name": "work"}
    answers = [(200, {"content": [row], "last": True}), (413, {"message": "the body is larger than 1000 bytes"})]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        send = ("send", "work", "--to", "a@example.org", "--subject", "s", "--text", "t", "--attach", str(big))
        with subprocess.Popen(
            [*PROGRAM, *send, "--socket", str(tmp_path / "s")], stderr=subprocess.PIPE, env=environment()
        ) as program:
            for status, content in answers:
                peer, _ = listener.accept()
                with peer:
                    peer.recv(1000)
                    body = json.dumps(content).encode()
                    peer.sendall(b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
            _, error = program.communicate(timeout=30)
    assert (program.returncode, error) == (2, b"inboxctl: the body is larger than 1000 bytes\n")


@contextmanager
def watching(daemon: StandIn, *args: str) -> Generator[subprocess.Popen[bytes]]:
    """A running `inboxctl watch` whose stream stays open after the lines it was given."""
    daemon.hold.clear()
    with subprocess.Popen(
        [*PROGRAM, "watch", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(daemon)
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def test_watch_prints_each_mail_at_once_and_ends_on_ctrl_c(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    daemon.lines = [None, arrival("One\x1b[2J"), None, arrival("Two")]
    with watching(daemon, "work") as program:
        assert program.stdout is not None
        first, second = program.stdout.readline().decode(), program.stdout.readline().decode()
        program.send_signal(signal.SIGINT)
        rest, error = program.communicate(timeout=30)
    assert re.fullmatch(r"\d\d:\d\d:\d\d  work  alice@example\.org  One␛\[2J  12 kB  3f0c2c0e-[0-9a-f-]{27}\n", first)
    assert "  Two  " in second
    assert (program.returncode, rest, error) == (0, b"", b"")
    assert daemon.asked[-1].query == {"connectorId": row["id"]}


def test_watch_json_is_a_line_a_mail(daemon: StandIn) -> None:
    daemon.lines = [arrival(), None, arrival()]
    with watching(daemon, "--json") as program:
        assert program.stdout is not None
        assert [json.loads(program.stdout.readline()) for _ in range(2)] == [daemon.lines[0], daemon.lines[2]]
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=30)
    assert program.returncode == 0
    assert daemon.asked[-1].query == {}


@pytest.mark.parametrize("cut", [False, True])
def test_watch_notices_that_the_daemon_is_gone(daemon: StandIn, cut: bool) -> None:
    daemon.cut = cut
    daemon.lines = [arrival()]
    result = spawn(daemon, "watch")
    assert result.returncode == 3
    assert result.stdout.count(b"\n") == 1
    assert result.stderr.startswith(f"inboxctl: the daemon at {daemon.socket} ".encode())


def test_a_sync_cut_short_is_not_taken_for_done(daemon: StandIn) -> None:
    daemon.add_connector("work")
    daemon.lines = [{"progress": {"done": 1, "total": 9, "receivedBytes": 5}}]
    result = spawn(daemon, "sync", "work")
    assert (result.returncode, result.stdout) == (3, b"")
    assert b"the daemon ended before the sync did" in result.stderr


def test_a_terminal_of_80_columns_holds_every_table(daemon: StandIn) -> None:
    row = daemon.add_connector("a-rather-long-name-of-a-connector-in-a-company", state="parked", reason="no")
    mail = daemon.add_email(row, "A subject that goes on and on, far beyond what any screen can hold in a line")
    event = daemon.add_event(row, message="a message that goes on and on, far beyond what any screen can hold")
    spawn(daemon, "key", "create", "a key with a very long name that nobody would give to it, or would they?")
    for args in (("connector", "list"), ("emails", row["id"]), ("events", row["id"]), ("key", "list")):
        status, shown = on_terminal(daemon, args)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        assert status == 0, plain
        assert max(len(line) for line in plain.splitlines()) <= 80, plain
        assert "…" in plain
    for args, identity in ((("emails", row["id"]), mail["id"]), (("events", row["id"]), event["id"])):
        assert identity in on_terminal(daemon, args)[1]
    assert "\x1b[31mparked" in on_terminal(daemon, ("status",), columns=120)[1]


def test_a_raw_mail_on_a_terminal_is_disarmed(daemon: StandIn) -> None:
    status, shown = on_terminal(daemon, ("email", arrival()["id"], "--raw"))
    assert status == 0
    assert shown == "From: a@example.com\nSubject: raw\n\nbytes \ufffd␀␛[2J kept\n\n"


def test_sync_shows_its_progress_on_a_terminal_only(daemon: StandIn) -> None:
    daemon.add_connector("work")
    result: Row = {"syncResult": {"emailSyncCount": 2000, "logs": [], "emailIds": []}}
    daemon.lines = [
        {"progress": {"done": done, "total": 2000, "receivedBytes": done * 50_000}} for done in (0, 500, 2000)
    ]
    daemon.lines.append({"result": result})
    status, shown = on_terminal(daemon, ("sync", "work"))
    assert status == 0
    assert "2000/2000 mails" in shown
    assert "100 MB (" in shown
    assert "work: 2000 new mails, 100 MB in " in shown
    piped = spawn(daemon, "sync", "work")
    assert (piped.stdout.count(b"\n"), piped.stderr) == (1, b"")


def test_a_locale_without_unicode_loses_signs_but_not_the_answer(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    daemon.add_email(row, "日本語 Grüße")
    result = spawn(daemon, "emails", "work", PYTHONIOENCODING="latin-1")
    assert (result.returncode, result.stderr) == (0, b"")
    assert "??? Grüße".encode("latin-1") in result.stdout


def test_a_reader_that_stops_reading_causes_no_traceback(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    for number in range(100):
        daemon.add_email(row, f"{number} " + "x" * 2000)
    with subprocess.Popen(
        [*PROGRAM, "emails", "work", "--limit", "100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(daemon),
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.readline()
        program.stdout.close()
        assert program.stderr.read() == b""


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "complete -o nosort"), ("zsh", "#compdef inboxctl"), ("fish", "complete --no-files")]
)
def test_completion_prints_the_shells_script(shell: str, sign: str) -> None:
    result = spawn(None, "completion", shell)
    assert result.returncode == 0
    assert sign in result.stdout.decode()
    assert "_INBOXCTL_COMPLETE" in result.stdout.decode()


def completed(daemon: StandIn | None, words: str) -> list[str]:
    """What the shell would offer after `words`."""
    count = str(len(words.split(" ")) - 1)
    result = spawn(daemon, _INBOXCTL_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=count)
    assert result.stderr == b""
    return [line.partition(",")[2] for line in result.stdout.decode().splitlines() if line]


def test_completion_offers_commands_and_connector_names(daemon: StandIn) -> None:
    for name in ("work", "workshop", "home", "evil\x1b[2J"):
        daemon.add_connector(name)
    assert completed(daemon, "inboxctl ev") == ["events"]
    assert completed(daemon, "inboxctl connector s") == ["set", "show"]
    assert completed(daemon, "inboxctl emails wo") == ["work", "workshop"]
    assert completed(daemon, "inboxctl watch h") == ["home"]
    assert completed(daemon, "inboxctl connector show e") == []


def test_completion_is_silent_without_a_daemon(tmp_path: Path) -> None:
    assert completed(None, f"inboxctl --socket {tmp_path}/none emails wo") == []


def test_help_loads_none_of_the_daemon_and_nothing_slow() -> None:
    probe = "import sys; from inboxd.ctl import cli; cli(['--help'], standalone_mode=False); print(*sys.modules)"
    result = subprocess.run([PROGRAM[0], "-c", probe], capture_output=True, env=environment(), timeout=30, check=True)
    loaded = set(result.stdout.decode().splitlines()[-1].split())
    assert not loaded & {"rich", "aiohttp", "asyncio", "sqlalchemy", "pydantic", "uvloop", "inboxd.settings"}


def test_version_is_the_daemons() -> None:
    assert spawn(None, "--version").stdout.decode().split()[-1] == __version__
