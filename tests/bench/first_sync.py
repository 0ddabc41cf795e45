"""The first sync of a large mailbox: inboxd beside mbsync, interleaved, from the same Dovecot."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import corpus
from bench.report import heading
from servers.certs import issue
from servers.daemon import Daemon
from servers.dovecot import Dovecot, User

MBSYNC = """
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


def _mbsync(folder: Path, dovecot: Dovecot, user: User) -> float:
    config = folder / "mbsyncrc"
    config.write_text(
        MBSYNC.format(
            host=dovecot.starttls.host,
            port=dovecot.starttls.port,
            user=user.name,
            password=user.password,
            folder=folder,
        )
    )
    began = time.perf_counter()
    done = subprocess.run(["mbsync", "-q", "-c", str(config), "bench"], capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        print(f"mbsync: {done.stderr.splitlines()[0] if done.stderr else done.returncode}", file=sys.stderr)
    return took


def _inboxd(folder: Path, dovecot: Dovecot, user: User, count: int, authorities: Path) -> tuple[float, int]:
    daemon = Daemon(folder, authorities)
    daemon.settings = {}
    daemon.start()
    try:
        began = time.perf_counter()
        connector = daemon.connect(user, dovecot.starttls)
        while daemon.status(connector)["state"].lower() != "idle":
            time.sleep(0.2)  # each look counts the inbox: seldom enough not to be what is measured
        took = time.perf_counter() - began
        assert daemon.count(connector) == count
        assert daemon.process is not None
        peak = Path(f"/proc/{daemon.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]
        return took, int(peak) // 1024
    finally:
        daemon.stop()


def main(*, quick: bool) -> None:
    """Three rounds of each."""
    if shutil.which("mbsync") is None:
        sys.exit("mbsync is missing: apt-get install isync")
    count = 1000 if quick else 10_000
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        certificates = issue(folder)
        dovecot = Dovecot(folder / "dovecot", certificates)
        dovecot.start()
        try:
            user = dovecot.user()
            dovecot.bulk_load(user, corpus.messages(count))
            dovecot.fetch_all(user)  # Dovecot's own indexes are made once, before anybody is measured
            size = sum(file.stat().st_size for file in (user.home / "Maildir").rglob("*.tests*"))
            heading(f"first sync: {count} messages, {size / 1e6:.0f} MB, from a local Dovecot")
            _rounds(folder, dovecot, user, count, certificates.ca_file, rounds=1 if quick else 3)
        finally:
            dovecot.stop(kill=True)


def _rounds(folder: Path, dovecot: Dovecot, user: User, count: int, authorities: Path, *, rounds: int) -> None:
    ratios: list[float] = []
    for number in range(rounds):
        theirs_folder, ours_folder = folder / f"mbsync{number}", folder / f"inboxd{number}"
        theirs_folder.mkdir()
        ours_folder.mkdir()
        theirs = _mbsync(theirs_folder, dovecot, user)
        shutil.rmtree(theirs_folder)
        ours, peak = _inboxd(ours_folder, dovecot, user, count, authorities)
        shutil.rmtree(ours_folder)
        ratios.append(ours / theirs)
        print(
            f"mbsync {theirs:6.2f} s   inboxd {ours:6.2f} s ({count / ours:.0f} messages/s, peak {peak} MB)"
            f"   inboxd / mbsync {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"inboxd / mbsync, median: {statistics.median(ratios):.2f} (goal: at most 1)")
