"""The reader's cost: microseconds of processor time a small message, beside a socket that throws away what it reads.

One answer of 50, and of 16,000, messages comes through a socket pair; only the reading thread's time counts.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import threading
import time
from collections.abc import Callable, Coroutine

import uvloop

from bench.report import heading
from inboxd.imap.link import Link
from inboxd.imap.protocol import Protocol
from inboxd.imap.stream import Fetch, Stream
from servers.sessions import wired

SIZES = (50, 16_000)
GOAL_MICROSECONDS = 10.0
_MAIL = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: bench\r\n\r\n" + b"some words of a small mail\r\n" * 20
_BUFFER_BYTES = 8 << 20


def answer(count: int) -> bytes:
    """What a server says to a FETCH of so many small messages, the tag excepted."""
    items = b'UID %d FLAGS (\\Seen) INTERNALDATE "22-Nov-2026 10:00:00 +0000" RFC822.SIZE %d BODY[] {%d}\r\n%b)\r\n'
    return b"".join(
        b"* %d FETCH (%b" % (uid, items % (uid, len(_MAIL), len(_MAIL), _MAIL)) for uid in range(1, count + 1)
    )


def drained(count: int) -> float:
    """Seconds of a blocking socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        octets = answer(count)
        _send(theirs, octets)
        left = len(octets)
        began = time.thread_time()
        while left:
            left -= len(ours.recv(256 << 10))
        return time.thread_time() - began


async def read(count: int) -> float:
    """Seconds of the reader on uvloop: octets to messages in the caller's hands."""
    protocol = Protocol(None, 0)
    with await wired(protocol) as theirs:
        protocol.greeting, protocol.state = b"OK", "SELECTED"
        command = Fetch(protocol, f"1:{count}", _BUFFER_BYTES)
        protocol.begin(command)
        octets = answer(count) + f"{command.tag} OK done\r\n".encode()
        stream = Stream(command, Link(protocol, "here", 30).until)
        taken = 0
        _send(theirs, octets)
        began = time.thread_time()
        while batch := await stream.take(2 << 20, 100, 0):
            taken += len(batch)
        took = time.thread_time() - began
        assert taken == count
        protocol.transport.abort()
        return took


def _send(sock: socket.socket, octets: bytes) -> None:
    threading.Thread(target=sock.sendall, args=(octets,), daemon=True).start()


def _microseconds(measure: Callable[[], float], count: int, times: int) -> float:
    return statistics.median(measure() for _ in range(times)) / count * 1e6


def _on_uvloop(work: Callable[[int], Coroutine[object, object, float]], count: int) -> Callable[[], float]:
    def run() -> float:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work(count))

    return run


def main(*, quick: bool) -> None:
    """Medians of several answers of each size."""
    heading(f"reader: processor time a message of {len(_MAIL)} bytes")
    for count in SIZES:
        times = (20 if count < 1000 else 3) * (1 if quick else 3)
        bare = _microseconds(lambda count=count: drained(count), count, times)
        ours = _microseconds(_on_uvloop(read, count), count, times)
        print(f"{count:6} in one answer   socket drain {bare:5.2f} us   inboxd {ours:5.2f} us", flush=True)
    print(f"goal: at most {GOAL_MICROSECONDS:g} us, the same for few and for many")
