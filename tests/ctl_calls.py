"""Ways to call inboxctl: inside the test, as a program of its own, and on a terminal."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click.testing

import inboxd
from inboxd.ctl import cli
from servers.control import serve
from servers.control_state import StandIn

PROGRAM = (sys.executable, "-m", "inboxd.ctl")


@contextmanager
def stand_in() -> Generator[StandIn]:
    """A stand-in for the daemon, its socket in a folder anybody may enter and short enough for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="ctl") as folder:
        Path(folder).chmod(0o755)
        with serve(Path(folder) / "control.sock") as daemon:
            yield daemon


def call(daemon: StandIn, *args: str, stdin: str | bytes | None = None) -> click.testing.Result:
    """The outcome of a call in this process, no terminal in sight."""
    return click.testing.CliRunner().invoke(
        cli, ["--socket", str(daemon.socket), *args], input=stdin, prog_name="inboxctl"
    )


def changes(daemon: StandIn) -> list[tuple[str, str, Any]]:
    """Every request that changed something, ids left out."""
    return [
        (asked.method, asked.path.rpartition("/")[2] if asked.path.count("/") > 2 else "", asked.body)
        for asked in daemon.asked
        if asked.method != "GET"
    ]


def environment(daemon: StandIn | None = None, **more: str) -> dict[str, str]:
    """What a program of its own sees: nothing of this machine's settings."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "TMPDIR"}}
    home = {"HOME": "/nonexistent", "PYTHONPATH": str(Path(inboxd.__file__).parents[1]), "TERM": "xterm-256color"}
    socket = {"INBOXD_CONTROL__SOCKET": str(daemon.socket)} if daemon is not None else {}
    return kept | home | socket | more


def spawn(daemon: StandIn | None, *args: str, stdin: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
    """The outcome of a call as a program of its own, its streams piped."""
    return subprocess.run(
        [*PROGRAM, *args], input=stdin, capture_output=True, env=environment(daemon, **more), timeout=30, check=False
    )


def on_terminal(
    daemon: StandIn, args: Sequence[str], typed: Mapping[str, str] | None = None, columns: int = 80
) -> tuple[int, str]:
    """Exit status and everything shown of a call on a terminal; `typed` answers each prompt once it shows itself."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    waiting = dict(typed or {})
    shown = b""
    with subprocess.Popen(
        [*PROGRAM, *args], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(daemon), start_new_session=True
    ) as program:
        os.close(theirs)
        with closing(os.fdopen(ours, "r+b", buffering=0)) as terminal:
            while chunk := _chunk(terminal.fileno()):
                shown += chunk
                for prompt in [prompt for prompt in waiting if prompt.encode() in shown]:
                    terminal.write(waiting.pop(prompt).encode() + b"\n")
        status = program.wait(timeout=30)
    return status, shown.decode().replace("\r\n", "\n")


def _chunk(terminal: int) -> bytes:
    # Linux reports the end of a terminal's last program as an input/output error.
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""
