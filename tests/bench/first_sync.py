"""The first sync of a large mailbox: inboxd beside its peers and its limits, interleaved, from the same Dovecot.

The peers are mbsync, into a Maildir, and imapflow, into SQLite; the limits are a socket that throws away what it reads,
and SQLite writing the same bytes out of memory.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import corpus
from bench import peers
from bench.peers import Taken
from bench.report import heading
from servers import Listener
from servers.certs import Certificates, issue
from servers.daemon import Daemon
from servers.dovecot import Dovecot, User

Peer = Callable[[Path, Dovecot, User], Taken]
# How many times as long as inboxd each must take at the least.
GOALS = {"mbsync": 3.0, "imapflow": 2.0, "SQLite alone": 1 / 1.5}
PEAK_MB = 150


def inboxd(
    folder: Path, dovecot: Dovecot, user: User, *, count: int, authorities: Path, server: Listener | None = None
) -> Taken:
    """From the request that creates the connector until it listens for new mail, everything stored."""
    daemon = Daemon(folder, authorities)
    daemon.settings = {}
    daemon.start()
    try:
        began = time.perf_counter()
        connector = daemon.connect(user, server or dovecot.starttls)
        while daemon.status(connector)["state"].lower() != "idle":
            time.sleep(0.2)  # each look counts the inbox: seldom enough not to be what is measured
        took = time.perf_counter() - began
        assert daemon.count(connector) == count
        assert daemon.process is not None
        return Taken(took, peers.peak_mb_of(daemon.process.pid))
    finally:
        daemon.stop()


def rounds(folder: Path, dovecot: Dovecot, user: User, who: Mapping[str, Peer], times: int) -> dict[str, list[Taken]]:
    """Each of them once a round, in an empty folder; what each took."""
    taken: dict[str, list[Taken]] = {name: [] for name in who}
    for number in range(times):
        for name, take in who.items():
            place = folder / "taken"
            place.mkdir()
            taken[name].append(take(place, dovecot, user))
            shutil.rmtree(place)
        print(
            f"round {number + 1}: " + ", ".join(f"{name} {taken[name][-1].seconds:.2f} s" for name in who), flush=True
        )
    return taken


def table(taken: Mapping[str, Sequence[Taken]]) -> None:
    """Medians, and how many times as long as inboxd each took: the median of the rounds' ratios."""
    ours = taken["inboxd"]
    print(f"\n{'':14}{'median':>9}{'peak':>9}{'/ inboxd':>10}  goal")
    for name, theirs in taken.items():
        seconds = statistics.median(one.seconds for one in theirs)
        ratio = statistics.median(one.seconds / own.seconds for one, own in zip(theirs, ours, strict=True))
        goal = (
            f"at least {GOALS[name]:.2f}" if name in GOALS else f"peak under {PEAK_MB} MB" if name == "inboxd" else ""
        )
        print(f"{name:14}{seconds:7.2f} s{max(one.peak_mb for one in theirs):6.0f} MB{ratio:10.2f}  {goal}", flush=True)


@contextmanager
def far_mailbox(count: int) -> Generator[tuple[Path, Certificates, Dovecot, User]]:
    """A Dovecot with so many messages of the corpus, and a folder to work in."""
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
            yield folder, certificates, dovecot, user
        finally:
            dovecot.stop(kill=True)


def main(*, quick: bool) -> None:
    """Three rounds of each; one of a tenth of the mails when `quick`."""
    if (words := peers.missing()) is not None:
        sys.exit(words)
    count = 1000 if quick else 10_000
    with far_mailbox(count) as (folder, certificates, dovecot, user):
        peers.install_imapflow(folder / "imapflow")
        size = sum(file.stat().st_size for file in (user.home / "Maildir").rglob("*.tests*"))
        heading(f"first sync: {count} messages, {size / 1e6:.0f} MB, from a local Dovecot")
        who: dict[str, Peer] = {
            "socket drain": peers.drain,
            "SQLite alone": peers.written,
            "inboxd": partial(inboxd, count=count, authorities=certificates.ca_file),
            "mbsync": peers.mbsync,
            "imapflow": partial(peers.imapflow, installed=folder / "imapflow"),
        }
        table(rounds(folder, dovecot, user, who, 1 if quick else 3))
