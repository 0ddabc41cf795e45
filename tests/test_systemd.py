"""The unit as systemd judges it, and the notification protocol as its socket receives it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from inboxd.notify import Notifier, watchdog_seconds

UNIT = Path(__file__).parents[1] / "systemd" / "inboxd.service"
EXPOSURE_AT_MOST = 15  # tenths


def lines_of(unit: str) -> list[str]:
    return [line for line in unit.splitlines() if line and not line.startswith(("#", "["))]


def values(unit: str, name: str) -> list[str]:
    return [line.partition("=")[2] for line in lines_of(unit) if line.startswith(f"{name}=")]


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("systemd-analyze")
    assert tool is not None, "systemd-analyze is missing: apt install systemd"
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, env={"LC_ALL": "C"})


@pytest.fixture
def unit() -> str:
    return UNIT.read_text(encoding="utf-8")


def test_unit_is_verified_by_systemd(unit: str, tmp_path: Path) -> None:
    """On a copy, because the daemon is not installed where the unit looks for it."""
    copy = tmp_path / "inboxd.service"
    (command,) = values(unit, "ExecStart")
    copy.write_text(unit.replace(command.split()[0], "/bin/true"), encoding="utf-8")
    verdict = analyze("verify", "--man=no", str(copy))
    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


def test_unit_with_an_unknown_key_would_not_pass(unit: str, tmp_path: Path) -> None:
    copy = tmp_path / "inboxd.service"
    copy.write_text(unit.replace("PrivateTmp=", "PrivateTemp=").replace("/opt/inboxd/bin/inboxd", "/bin/true"))
    assert "PrivateTemp" in analyze("verify", "--man=no", str(copy)).stderr


def test_exposure_is_low() -> None:
    verdict = analyze("security", "--offline=true", f"--threshold={EXPOSURE_AT_MOST}", "--no-pager", str(UNIT))
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    assert "Overall exposure level" in verdict.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("WatchdogSec", "30"),
        ("DynamicUser", "yes"),
        ("StateDirectory", "inboxd"),
        ("StateDirectoryMode", "0700"),
        ("RuntimeDirectory", "inboxd"),
        ("RuntimeDirectoryMode", "0750"),
        ("UMask", "0077"),
        ("LimitCORE", "0"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "2 78"),
        ("TimeoutStopSec", "15"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
    ],
)
def test_unit_keeps_what_was_agreed(unit: str, name: str, value: str) -> None:
    assert values(unit, name) == [value]


def test_absent_credentials_do_not_keep_the_service_from_starting(unit: str) -> None:
    """With a path after the name, systemd would refuse to start without the file."""
    names = ("vault.key", "vault.previous_key", "api.key", "relay.password")
    assert values(unit, "LoadCredential") == [f"inboxd.{name}" for name in names]


# --- the notification protocol ----------------------------------------------------------------------------------------


@pytest.fixture
def supervisor(tmp_path: Path) -> Generator[socket.socket]:
    """systemd's side: a bound datagram socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(5)
        yield receiver


@pytest.fixture
def notifier(supervisor: socket.socket) -> Generator[Notifier]:
    made = Notifier({"NOTIFY_SOCKET": supervisor.getsockname()})
    yield made
    made.close()


def test_each_message_arrives_as_one_datagram(supervisor: socket.socket, notifier: Notifier) -> None:
    assert all((notifier.ready(), notifier.status("3 connectors"), notifier.watchdog(), notifier.stopping()))
    received = [supervisor.recv(4096) for _ in range(4)]
    assert received == [b"READY=1", b"STATUS=3 connectors", b"WATCHDOG=1", b"STOPPING=1"]


def test_reload_carries_the_monotonic_clock(supervisor: socket.socket, notifier: Notifier) -> None:
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    after = time.monotonic_ns() // 1000
    sent = re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=([0-9]+)", supervisor.recv(4096))
    assert sent is not None
    assert before <= int(sent[1]) <= after


def test_status_cannot_smuggle_another_assignment(supervisor: socket.socket, notifier: Notifier) -> None:
    notifier.status("server said\nMAINPID=1\r\nREADY=1\0x\u2028\x1b[2J")
    assert supervisor.recv(4096) == b"STATUS=server said MAINPID=1  READY=1 x  [2J"


def test_long_status_is_cut_between_characters(supervisor: socket.socket, notifier: Notifier) -> None:
    notifier.status("ü" * 5_000 + "\udc80")
    message = supervisor.recv(65_536)
    assert len(message) < 2_048
    assert message.decode().rstrip("ü") == "STATUS="


def test_abstract_socket_is_spoken_to() -> None:
    name = f"@inboxd-test-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name[1:])
        receiver.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": name})
        assert notifier.ready()
        assert receiver.recv(4096) == b"READY=1"
        notifier.close()


@pytest.mark.parametrize("address", [None, "", "relative", "@", "/", "vsock:2:1234", "/" + "x" * 200])
def test_without_a_usable_socket_nothing_happens(address: str | None) -> None:
    notifier = Notifier({} if address is None else {"NOTIFY_SOCKET": address})
    assert not any((notifier.ready(), notifier.status("x"), notifier.reloading(), notifier.watchdog()))
    notifier.close()


def test_vanished_socket_does_no_harm_and_a_new_one_is_found(tmp_path: Path, notifier: Notifier) -> None:
    (tmp_path / "notify").unlink()
    assert not notifier.watchdog()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        assert notifier.watchdog()
        assert receiver.recv(4096) == b"WATCHDOG=1"


def test_full_socket_never_blocks(supervisor: socket.socket, notifier: Notifier) -> None:
    """Nobody reads: the kernel's queue fills up and the rest is dropped, at once."""
    taken = [notifier.watchdog() for _ in range(5_000)]
    assert taken[0]
    assert not taken[-1]
    supervisor.setblocking(False)
    for _ in range(sum(taken)):
        assert supervisor.recv(64) == b"WATCHDOG=1"
    assert notifier.watchdog()


def test_environment_is_read_by_default(supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", supervisor.getsockname())
    notifier = Notifier()
    notifier.ready()
    assert supervisor.recv(4096) == b"READY=1"
    notifier.close()


def test_child_does_not_inherit_the_socket(notifier: Notifier) -> None:
    notifier.ready()
    held = notifier._socket  # pyright: ignore[reportPrivateUsage]
    assert held is not None
    assert not held.get_inheritable()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "٣"}, None),
    ],
)
def test_watchdog_interval(environment: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environment) == seconds
