"""The process itself: starting, stopping, its sockets, its place in systemd."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import urllib.error
from pathlib import Path
from uuid import uuid4

import pytest

from inboxd import __version__
from servers.daemon import KEY, Daemon
from servers.dovecot import Dovecot

SIMPLE = b"Subject: hello\r\n\r\nhello\r\n"


@pytest.fixture
def daemon(daemon: Daemon) -> Daemon:
    """Started from nothing, as it is outside the tests."""
    daemon.cradle = None
    return daemon


def test_daemon_starts_from_variables_alone_and_ends_on_sigterm(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.scrape("/livez").strip() == "ok"
    assert daemon.metric("inboxd_build_info", version=__version__) == 1
    assert daemon.stop() == 0
    assert not daemon.socket.exists()


def test_sigterm_ends_sessions_in_the_middle_of_everything(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user()
    daemon.start()
    connector = daemon.connect(user, dovecot.tls, tls="implicit")
    daemon.await_state(connector, "idle")
    waiting = subprocess.Popen(
        ["curl", "-s", "-m", "20", "-H", f"x-api-key: {KEY}",
         f"http://127.0.0.1:{daemon.api_port}/waitForLatestEmail?inboxId={connector['inboxId']}&timeout=20000"],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    watching = subprocess.Popen(
        [sys.executable, "-c", "from inboxd.ctl import main; main()", "--socket", str(daemon.socket), "watch"],
        env=daemon.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    dovecot.append(user, SIMPLE)
    daemon.await_count(connector, 1)
    assert daemon.stop() == 0
    waiting.wait(10)
    watching.wait(10)
    assert "Traceback" not in daemon.log


def test_control_socket_is_open_to_its_group_and_closed_to_others(daemon: Daemon) -> None:
    daemon.start()
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o660


def test_socket_of_a_killed_daemon_is_replaced(daemon: Daemon) -> None:
    daemon.start().stop(signal.SIGKILL)
    assert daemon.socket.exists()
    daemon.start()
    assert daemon.ctl("status")


def test_foreign_file_in_the_sockets_place_is_left_alone(daemon: Daemon) -> None:
    daemon.socket.write_text("precious")
    assert daemon.spawn().wait(15) == 2
    assert daemon.socket.read_text() == "precious"
    assert "control.socket" in daemon.log


def test_second_daemon_on_the_same_state_folder_is_refused(
    daemon: Daemon, tmp_path: Path, certificates: object
) -> None:
    daemon.start()
    second = Daemon(tmp_path, Path("/nonexistent"))
    second.state_dir = daemon.state_dir
    second.socket = tmp_path / "other.sock"
    second.log_file = tmp_path / "second.log"
    assert second.spawn().wait(15) != 0
    assert "another inboxd" in second.log
    assert "Traceback" not in second.log


def test_port_in_use_is_one_clear_line(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", daemon.api_port)):
        assert daemon.spawn().wait(15) == 1
    assert daemon.log.splitlines()[-1].startswith("inboxd: api.listen: cannot listen on")


def test_store_of_a_newer_inboxd_is_refused_with_a_clear_line(daemon: Daemon) -> None:
    daemon.start().stop()
    with sqlite3.connect(daemon.state_dir / "inboxd.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999_from_the_future'")
    database.close()
    assert daemon.spawn().wait(15) != 0
    assert "newer" in daemon.log.splitlines()[-1]
    assert "Traceback" not in daemon.log


def test_hangup_changes_the_log_level_and_a_bad_file_changes_nothing(daemon: Daemon, tmp_path: Path) -> None:
    config = tmp_path / "inboxd.toml"
    config.write_text('[log]\nlevel = "info"\n')
    del daemon.settings["INBOXD_LOG__LEVEL"]
    with daemon.log_file.open("ab") as sink:
        daemon.process = subprocess.Popen(
            [sys.executable, "-m", "inboxd", "run", "--config", str(config)],
            env=daemon.environment,
            stdout=sink,
            stderr=sink,
        )
    daemon.until(daemon.is_ready, "the daemon to be ready")
    config.write_text('[log]\nlevel = "warning"\nshape = "round"\n')
    daemon.process.send_signal(signal.SIGHUP)
    daemon.until(lambda: "reload_refused" in daemon.log, "the refusal")
    assert "log.shape: no such setting" in daemon.log
    config.write_text('[log]\nlevel = "debug"\n[imap]\npoll_seconds = 5\n')
    daemon.process.send_signal(signal.SIGHUP)
    daemon.until(lambda: '"reloaded"' in daemon.log, "the reload")
    assert '"log_level": "debug"' in daemon.log
    assert '"restart_needed_for": ["imap.poll_seconds"]' in daemon.log
    (tmp_path / "connectors.d").mkdir()
    (tmp_path / "connectors.d" / "work.toml").write_text("nonsense = 1\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.until(lambda: "there is no key 'nonsense'" in daemon.log, "the new folder's files")
    assert daemon.stop() == 0


def test_daemon_whose_store_takes_no_writes_is_alive_but_not_ready(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.process is not None
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
    daemon.until(lambda: "store_unwritable" in daemon.log, "the failing write")
    with pytest.raises(urllib.error.HTTPError) as refused:
        daemon.scrape("/readyz")
    with refused.value as answer:
        assert (answer.code, b"takes no writes" in answer.read()) == (503, True)
    assert daemon.scrape("/livez").strip() == "ok"


def test_systemd_hears_ready_watchdog_and_stopping(daemon: Daemon, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify.sock"))
        manager.settimeout(20)
        daemon.settings |= {"NOTIFY_SOCKET": str(tmp_path / "notify.sock"), "WATCHDOG_USEC": "600000"}
        daemon.start()
        heard: set[str] = set()
        while not {"READY=1", "WATCHDOG=1"} <= heard:
            heard |= set(manager.recv(4096).decode().splitlines())
        assert any(line.startswith("STATUS=") for line in heard)
        assert daemon.stop() == 0
        while "STOPPING=1" not in heard:
            heard |= set(manager.recv(4096).decode().splitlines())


def test_watchdog_is_starved_while_the_loop_hangs(daemon: Daemon, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify.sock"))
        manager.settimeout(20)
        daemon.settings |= {"NOTIFY_SOCKET": str(tmp_path / "notify.sock"), "WATCHDOG_USEC": "300000"}
        daemon.start()
        while "WATCHDOG=1" not in manager.recv(4096).decode():
            pass
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGSTOP)
        manager.settimeout(0.5)
        with pytest.raises(TimeoutError):
            _listen_for_ever(manager)
        daemon.process.send_signal(signal.SIGCONT)
        manager.settimeout(20)
        assert "WATCHDOG=1" in manager.recv(4096).decode()


def _listen_for_ever(manager: socket.socket) -> None:
    while True:
        manager.recv(4096)


def test_configuration_mistakes_are_one_line_each_with_status_2(tmp_path: Path) -> None:
    config = tmp_path / "inboxd.toml"
    config.write_text('stat_dir = "/x"\n[api]\nlisten = "here"\n[log]\nlevel = "loud"\n')
    clean = {k: v for k, v in os.environ.items() if not k.startswith("INBOXD_")}
    done = subprocess.run(
        [sys.executable, "-m", "inboxd", "check-config", "--config", str(config)],
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    for start in ("inboxd: stat_dir: no such setting", "inboxd: api.listen: ", "inboxd: log.level: "):
        assert any(line.startswith(start) for line in lines), lines


def test_without_any_key_the_api_answers_401_and_says_how_to_make_one(daemon: Daemon) -> None:
    environment = daemon.environment
    environment.pop("INBOXD_API__KEY")
    with daemon.log_file.open("ab") as sink:
        daemon.process = subprocess.Popen(
            [sys.executable, "-m", "inboxd", "run"], env=environment, stdout=sink, stderr=sink
        )
    daemon.until(daemon.is_ready, "the daemon to be ready")
    status, answer = daemon.http("GET", "/connectors", key=None)
    assert status == 401
    assert "inboxctl key create" in answer["message"]
    made = daemon.ctl("key", "create", "ci", "--quiet").strip()
    assert daemon.http("GET", "/connectors", key=made)[0] == 200
    assert daemon.http("GET", "/connectors", key=made[:-1] + "x")[0] == 401
    (row,) = daemon.client.get("/control/keys")
    daemon.ctl("key", "revoke", row["id"])
    assert daemon.http("GET", "/connectors", key=made)[0] == 401


def test_thousand_ids_fit_into_one_query(daemon: Daemon) -> None:
    daemon.start()
    status, inbox = daemon.http("POST", "/inboxes")
    assert status == 201
    ids = [str(uuid4()) for _ in range(999)] + [inbox["id"]]
    status, found = daemon.http("GET", "/inboxes?size=1&" + "&".join(f"include={one}" for one in ids))
    assert (status, [one["id"] for one in found]) == (200, [inbox["id"]])
