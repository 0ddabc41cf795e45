"""A daemon that cannot start says why in one line without a secret; its exit status says who has to act."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from servers import LOOPBACK, free_port
from servers.daemon import Daemon

RESTARTED = 1
CONFIGURATION = 2
UNUSABLE = os.EX_CONFIG


def line_after(daemon: Daemon, status: int) -> str:
    """The only line that the daemon, which must end with `status`, has to say."""
    before = len(daemon.log)
    assert daemon.spawn().wait(30) == status, daemon.log
    (line,) = daemon.log[before:].splitlines()
    assert "hunter2" not in line
    return line


def test_file_that_is_no_database_waits_for_a_person(daemon: Daemon) -> None:
    file = daemon.state_dir / "inboxd.db"
    daemon.state_dir.mkdir()
    file.write_bytes(b"something else entirely" * 100)
    line = line_after(daemon, UNUSABLE)
    assert line == f"inboxd: {file}: file is not a database; stop inboxd, move the file away and restore a backup"


def test_damaged_database_waits_for_a_person(daemon: Daemon) -> None:
    daemon.start().stop()
    file = daemon.state_dir / "inboxd.db"
    content = bytearray(file.read_bytes())
    content[100:] = b"\xff" * (len(content) - 100)
    file.write_bytes(content)
    line = line_after(daemon, UNUSABLE)
    assert line.startswith(f"inboxd: {file}: ")
    assert line.endswith("; stop inboxd, move the file away and restore a backup")


def test_database_of_a_newer_program_waits_for_a_person(daemon: Daemon) -> None:
    daemon.start().stop()
    with sqlite3.connect(daemon.state_dir / "inboxd.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    assert line_after(daemon, UNUSABLE).startswith("inboxd: the database was written by a newer inboxd")


def test_database_locked_by_another_program_is_tried_again(daemon: Daemon) -> None:
    daemon.start().stop()
    file = daemon.state_dir / "inboxd.db"
    other = sqlite3.connect(file, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        assert line_after(daemon, RESTARTED) == (
            f"inboxd: {file}: the database is locked by another program; end that one"
        )
    finally:
        other.close()
    daemon.start()


def test_unreachable_postgresql_is_tried_again(daemon: Daemon) -> None:
    port = free_port()
    daemon.settings["INBOXD_STORE__URL"] = f"postgresql://inboxd:hunter2@{LOOPBACK}:{port}/mail"
    assert line_after(daemon, RESTARTED) == (
        f"inboxd: PostgreSQL on {LOOPBACK}:{port}: the database failed: cannot be reached: Connection refused"
    )


def test_postgresql_whose_name_does_not_resolve_is_tried_again(daemon: Daemon) -> None:
    daemon.settings["INBOXD_STORE__URL"] = "postgresql://inboxd:hunter2@no-such-host.invalid/mail"
    line = line_after(daemon, RESTARTED)
    assert line.startswith("inboxd: PostgreSQL on no-such-host.invalid:5432: the database failed: cannot be reached: ")
    assert "Unknown error" not in line


def test_postgresql_socket_folder_is_named(daemon: Daemon, tmp_path: Path) -> None:
    daemon.settings["INBOXD_STORE__URL"] = f"postgresql://inboxd:hunter2@/mail?host={tmp_path}"
    assert line_after(daemon, RESTARTED) == (
        f"inboxd: PostgreSQL on {tmp_path}: the database failed: cannot be reached: No such file or directory"
    )


@pytest.mark.parametrize("content", ["", "hunter2", "aHVudGVyMg=="])
def test_key_file_without_a_key_waits_for_a_person(daemon: Daemon, content: str) -> None:
    daemon.state_dir.mkdir()
    file = daemon.state_dir / "vault.key"
    file.write_text(content, encoding="utf-8")
    assert line_after(daemon, UNUSABLE) == (
        f"inboxd: {file}: is not base64 of 32 bytes; restore the key this store was written with"
    )
    assert file.read_text(encoding="utf-8") == content


@pytest.mark.parametrize("setting", ["API", "METRICS"])
def test_listen_name_that_does_not_resolve_is_tried_again(daemon: Daemon, setting: str) -> None:
    daemon.settings[f"INBOXD_{setting}__LISTEN"] = "no-such-host.invalid:8025"
    line = line_after(daemon, RESTARTED)
    assert line.startswith(f"inboxd: {setting.lower()}.listen: cannot listen on no-such-host.invalid:8025: ")
    assert "Unknown error" not in line


def test_listen_address_of_another_machine_is_tried_again(daemon: Daemon) -> None:
    daemon.settings["INBOXD_API__LISTEN"] = "192.0.2.1:8025"
    assert line_after(daemon, RESTARTED) == (
        "inboxd: api.listen: cannot listen on 192.0.2.1:8025: Cannot assign requested address"
    )


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_database_of_a_third_kind_is_a_mistake_in_the_configuration(daemon: Daemon, command: str) -> None:
    daemon.settings["INBOXD_STORE__URL"] = "mysql://inboxd:hunter2@db.example.org/mail"
    done = subprocess.run(
        [sys.executable, "-m", "inboxd", command], env=daemon.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == CONFIGURATION
    assert done.stdout == ""
    assert done.stderr == (
        "inboxd: store.url: write it as sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME\n"
    )


def test_state_folder_that_is_a_file_is_a_mistake_in_the_configuration(daemon: Daemon) -> None:
    daemon.state_dir.touch()
    assert line_after(daemon, CONFIGURATION) == f"inboxd: state_dir: {daemon.state_dir} cannot be used: File exists"


def test_failed_start_leaves_nothing_in_the_way_of_the_next(daemon: Daemon) -> None:
    daemon.settings["INBOXD_API__LISTEN"] = "192.0.2.1:8025"
    line_after(daemon, RESTARTED)
    del daemon.settings["INBOXD_API__LISTEN"]
    assert daemon.start().stop(signal.SIGINT) == 0
