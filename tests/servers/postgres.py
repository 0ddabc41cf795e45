"""A real PostgreSQL on a Unix socket in a temporary folder, run as the user `postgres` when the tests run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import final

import pytest

_PROGRAMS = Path("/usr/lib/postgresql")
_ROLE = "inboxd"
# The tests kill clients, never the machine, so nothing here needs to reach the disk.
_OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=60")


@final
class PostgresServer:
    """A running server; every database it makes is new."""

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self._folder = folder
        self._cluster = folder / "cluster"
        self._programs = programs
        self._user = user
        self._numbers = count(1)

    def new_database(self, like: str | None = None) -> str:
        """The URL of a fresh database: empty, or a copy of the one at the URL `like`, which nobody uses now."""
        name = f"test_{next(self._numbers)}"
        template = [] if like is None else ["--template", like.partition("@/")[2].partition("?")[0]]
        # Three times as fast as writing it all to the log first, as versions from 15 on do by themselves.
        strategy = ["--strategy=file_copy"] if int(self._programs.parent.name) >= 15 else []
        where = ("--host", str(self._folder), "--username", _ROLE, "--no-password")
        self.run("createdb", *where, *strategy, *template, name)
        return f"postgresql://{_ROLE}@/{name}?host={self._folder}"

    def initialise(self) -> None:
        """Make the cluster: once, before the first start."""
        settings = ("--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        self.run("initdb", "--pgdata", str(self._cluster), "--username", _ROLE, *settings)

    def start(self) -> None:
        """Return once it accepts connections, the first time or after a stop."""
        options = [f"-c {option}" for option in _OPTIONS]
        where = [f"-c unix_socket_directories={self._folder}", "-c listen_addresses="]
        log = str(self._folder / "log")
        cluster = str(self._cluster)
        self.run("pg_ctl", "start", "--wait", "--pgdata", cluster, "--log", log, "--options", " ".join(where + options))

    def stop(self) -> None:
        """End every connection and the server, at once."""
        self.run("pg_ctl", "stop", "--wait", "--pgdata", str(self._cluster), "--mode=fast")

    def run(self, program: str, *arguments: str) -> None:
        """One of PostgreSQL's own programs, to its end; RuntimeError with its words when it fails."""
        # The server outlives pg_ctl and would hold a pipe open, so the words go to a file.
        with tempfile.TemporaryFile() as words:
            command = [str(self._programs / program), *arguments]
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                cwd=self._folder,
                user=self._user,
                extra_groups=None if self._user is None else [],
                check=False,
            )
            if done.returncode != 0:
                words.seek(0)
                raise RuntimeError(f"{program} failed: {words.read().decode(errors='replace')}")


@contextmanager
def run_postgres() -> Generator[PostgresServer]:
    """A server for as long as the block lasts. Fails the test with one line where PostgreSQL is missing."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="inboxd-postgres-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
    server = PostgresServer(folder, programs, user)
    try:
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    found = sorted(_PROGRAMS.glob("*/bin/initdb"), key=lambda program: int(program.parts[-3]))
    if not found:
        pytest.fail("PostgreSQL is not there: install postgresql", pytrace=False)
    return found[-1].parent
