"""Digests made in processes beside this one, for much mail at once: see worker.py for their side.

Parsing holds the interpreter's lock for half of a first load's time. A mail goes over in memory that both map, its
digest comes back as JSON: a process that mail has broken into cannot reach further than that.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Any, Final, TypeGuard, final

from inboxd.errors import Unparsable
from inboxd.mail import confined
from inboxd.mail.parse import digest
from inboxd.mail.worker import MAX_MAIL_BYTES, SHARED_BYTES
from inboxd.mails import Digest, Spooled

ANSWER_SECONDS: Final = 30.0
_TRIES: Final = 2
_NONSENSE: Final = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)
_START = f"import sys; sys.path[:0] = {confined.PATHS!r}; from inboxd.mail.worker import main; main(int(sys.argv[1]))"


def _is_fit(mail: bytes | bytearray | Spooled) -> TypeGuard[bytes | bytearray]:
    """Whether it may go over in shared memory; what is larger has a process of its own."""
    return not isinstance(mail, Spooled) and len(mail) <= MAX_MAIL_BYTES


def digest_and_hash(mail: bytes | bytearray | Spooled) -> tuple[Digest, bytes]:
    """A mail's digest and the SHA-256 of its bytes; blocking."""
    content_hash = hashlib.sha256()
    for piece in mail.pieces() if isinstance(mail, Spooled) else (mail,):
        content_hash.update(piece)
    return digest(mail), content_hash.digest()


@final
class Parsers:
    """At most `most` processes, started when they are needed; they end by themselves when there is nothing to do.

    Safe for threads, in which it blocks: `threads` are for that, two for each process, so that what one was told is
    made use of while it is asked again. Closing ends the processes.
    """

    def __init__(self, most: int | None = None) -> None:
        most = most or max(1, (os.cpu_count() or 1) // 2)
        self.threads = ThreadPoolExecutor(2 * most, "parsing")
        self._turns = threading.Semaphore(most)
        self._rested: list[_Worker] = []
        self._closed = False

    def digests(self, mails: Sequence[bytes | bytearray | Spooled]) -> list[tuple[Digest, bytes]]:
        """`digest_and_hash` of each mail; blocking.

        A mail that ends its process is parsed alone, in one that has limits.
        """
        fit = [mail for mail in mails if _is_fit(mail)]
        with self._turns:
            answers = iter(self._ask(fit) if fit else [])
        return [next(answers) if _is_fit(mail) else digest_and_hash(mail) for mail in mails]

    @property
    def resting(self) -> list[int]:
        """The processes that wait for something to do."""
        return [worker.pid for worker in self._rested]

    def __enter__(self) -> Parsers:
        return self

    def __exit__(self, _kind: object, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._closed = True
        self.threads.shutdown(wait=False, cancel_futures=True)
        while self._rested:
            self._rested.pop().close()

    def _ask(self, mails: list[bytes | bytearray]) -> list[tuple[Digest, bytes]]:
        for _ in range(_TRIES):
            try:
                worker = self._rested.pop() if self._rested else _Worker()
            except OSError:
                return [digest_and_hash(mail) for mail in mails]
            try:
                made = [_completed(*both) for both in zip(mails, worker.ask(mails), strict=True)]
            except (OSError, EOFError, TimeoutError, *_NONSENSE):
                worker.close()
                continue
            except BaseException:
                worker.close()
                raise
            if self._closed:
                worker.close()
            else:
                self._rested.append(worker)
            return made
        return [_confined(mail) for mail in mails]


def _completed(mail: bytes | bytearray, answer: list[Any]) -> tuple[Digest, bytes]:
    content_hash, made = answer
    if made is None:
        return digest_and_hash(mail)
    return confined.unpack(made), bytes.fromhex(content_hash)


def _confined(mail: bytes | bytearray) -> tuple[Digest, bytes]:
    try:
        made = confined.digest(bytes(mail))
    except Unparsable as error:
        made = Digest(defect=str(error))
    return made, hashlib.sha256(mail).digest()


@final
class _Worker:
    """One process: started, asked any number of times, closed."""

    def __init__(self) -> None:
        self._shared = os.memfd_create("mails", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self._shared, SHARED_BYTES)
            self._memory = mmap.mmap(self._shared, SHARED_BYTES)
            command = [sys.executable, "-I", "-S", "-c", _START, str(self._shared)]
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(self._shared,),
                env={},
                cwd="/",
                bufsize=0,
            )
        except BaseException:
            os.close(self._shared)
            raise

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ask(self, mails: list[bytes | bytearray]) -> list[list[Any]]:
        """For each mail its hash and its digest, None where it is to be parsed alone, if the process makes sense.

        OSError, EOFError, TimeoutError or ValueError when it is of no use any more.
        """
        size = sum(map(len, mails))
        if size > SHARED_BYTES:
            os.ftruncate(self._shared, size)
        with mmap.mmap(self._shared, size) if size > SHARED_BYTES else nullcontext(self._memory) as memory:
            memory.seek(0)
            for mail in mails:
                memory.write(mail)
        self._write(json.dumps([len(mail) for mail in mails]).encode() + b"\n")
        # One by one: a long text read at once would keep the interpreter from everybody else for milliseconds.
        answers = [json.loads(line) for line in self._read(len(mails))]
        if size > SHARED_BYTES:
            os.ftruncate(self._shared, SHARED_BYTES)
        return answers

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)

    def _read(self, count: int) -> list[bytes]:
        """So many lines, in pieces; each must come in time."""
        pieces: list[bytes] = []
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            while count > 0:
                if not ready.select(ANSWER_SECONDS):
                    raise TimeoutError
                if not (piece := os.read(self._process.stdout.fileno(), 1 << 20)):
                    raise EOFError
                pieces.append(piece)
                count -= piece.count(b"\n")
        return b"".join(pieces).splitlines()

    def close(self) -> None:
        """End the process, and wait for that."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.wait()
        self._memory.close()
        os.close(self._shared)
