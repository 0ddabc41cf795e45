"""Daemons forked from a process that has imported them already: most of what a start costs is its imports.

Run as a program, this file is that process. What a start from nothing is like, tests/test_daemon.py tells.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Final, final

import pytest

# Of the libraries, what the daemon imports as late as when it opens its store.
_NEEDED: Final = (
    "inboxd.cli",
    "inboxd.serve",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.dialects.postgresql.asyncpg",
)


@final
class Forked:
    """A forked process, with what `subprocess.Popen` offers of one."""

    def __init__(self, cradle: Cradle, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._cradle = cradle
        # Nobody else takes the id as long as the cradle has not reaped the process.
        self._descriptor = os.pidfd_open(pid)
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Its exit status, a signal's number negative; None while it runs."""
        return self._status(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status once it has ended; subprocess.TimeoutExpired when it has not in `timeout` seconds."""
        status = self._status(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("inboxd", timeout or 0)
        return status

    def send_signal(self, how: int) -> None:
        """A signal, unless it has ended."""
        with self._lock:
            if self.returncode is None:
                signal.pidfd_send_signal(self._descriptor, how)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _status(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._descriptor], [], [], timeout)[0]:
            with self._lock:
                if self.returncode is None:
                    self.returncode = self._cradle.ask({"ended": self.pid})
                    os.close(self._descriptor)
        return self.returncode


@final
class Cradle:
    """The process that forks; started with the first daemon."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def spawn(self, environment: Mapping[str, str], output: Path) -> Forked:
        """`inboxd run` in this environment, what it says appended to `output`."""
        return Forked(self, self.ask({"environment": dict(environment), "output": str(output)}))

    def ask(self, order: Mapping[str, object]) -> int:
        """Its answer to an order."""
        with self._lock:
            self._process = process = self._process or _start()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
            return int(process.stdout.readline())

    def close(self) -> None:
        """End it; what it forked goes on."""
        if self._process is not None:
            self._process.communicate(timeout=15)


@pytest.fixture(scope="session")
def cradle() -> Generator[Cradle]:
    """The one cradle of a test process."""
    made = Cradle()
    yield made
    made.close()


def _start() -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("INBOXD_")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _rock() -> None:
    """Answer orders. Returns in each process forked, and ends with the orders in this one."""
    for order in map(json.loads, sys.stdin.buffer):
        if "ended" in order:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["ended"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                _become(order["environment"], order["output"])
                return
        os.write(sys.stdout.fileno(), b"%d\n" % answer)
    sys.exit()


def _become(environment: Mapping[str, str], output: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["inboxd", "run"]
    written = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, stream in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(descriptor, stream)
    os.close(written)
    os.close(nothing)


if __name__ == "__main__":
    for module in _NEEDED:
        importlib.import_module(module)
    gc.freeze()
    _rock()
    importlib.import_module("inboxd.cli").main()
