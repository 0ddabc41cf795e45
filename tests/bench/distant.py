"""The first sync over a long line, 40 ms there and back: inboxd beside a socket that throws away what it reads."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from bench import first_sync, peers
from bench.report import heading
from servers import LOOPBACK, Listener

ROUND_TRIP_MILLISECONDS = 40
GOAL = 2.0


@contextmanager
def _line(target: Listener) -> Generator[Listener]:
    command = [sys.executable, "-m", "bench.delay", target.host, str(target.port), str(ROUND_TRIP_MILLISECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        try:
            yield Listener(LOOPBACK, int(proxy.stdout.readline()))
        finally:
            proxy.kill()


def main(*, quick: bool) -> None:
    """Three rounds; one when `quick`."""
    count = 500 if quick else 3_000
    with first_sync.far_mailbox(count) as (folder, certificates, dovecot, user), _line(dovecot.starttls) as far:
        heading(f"first sync of {count} messages, {ROUND_TRIP_MILLISECONDS} ms away")
        who: dict[str, first_sync.Peer] = {
            "socket drain": partial(peers.drain, server=far),
            "inboxd": partial(first_sync.inboxd, count=count, authorities=certificates.ca_file, server=far),
        }
        taken = first_sync.rounds(folder, dovecot, user, who, 1 if quick else 3)
    pairs = zip(taken["inboxd"], taken["socket drain"], strict=True)
    ratio = statistics.median(ours.seconds / bare.seconds for ours, bare in pairs)
    print(f"inboxd / socket drain: {ratio:.2f}   goal: {GOAL:g} at the most")
