"""A parser process's side of beside.py: a line with the mails' sizes comes, a line for each mail goes back."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import resource
import select
import sys
from typing import Any, Final

from inboxd.mail import confined
from inboxd.mail.child import limit
from inboxd.mail.parse import digest_here

IDLE_SECONDS: Final = 20.0
MEMORY_BYTES: Final = 1 << 30
SHARED_BYTES: Final = 4 << 20  # mapped all the time; a larger batch is mapped for itself
MAX_MAIL_BYTES: Final = 16 << 20  # larger ones are parsed alone
_NICENESS: Final = 5  # whoever waits for a mail that has just arrived goes first


def main(shared: int) -> None:
    """Answer until the daemon ends, or asks nothing for a while; `shared` is the memory that the mails are in."""
    limit(resource.RLIMIT_AS, MEMORY_BYTES)
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_NOFILE, 16)
    os.nice(_NICENESS)
    asked = sys.stdin.buffer  # a line is only asked for when the one before is answered: none waits in its buffer
    with mmap.mmap(shared, SHARED_BYTES, prot=mmap.PROT_READ) as memory:
        while select.select([asked], [], [], IDLE_SECONDS)[0] and (line := asked.readline()):
            for answer in _answers(shared, memory, json.loads(line)):
                text = json.dumps(answer, ensure_ascii=False)
                sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass") + b"\n")
            sys.stdout.buffer.flush()


def _answers(shared: int, memory: mmap.mmap, sizes: list[int]) -> list[tuple[str, list[Any] | None]]:
    if (size := sum(sizes)) > SHARED_BYTES:
        with mmap.mmap(shared, size, prot=mmap.PROT_READ) as larger:
            return [_answer(larger.read(one)) for one in sizes]
    memory.seek(0)
    return [_answer(memory.read(one)) for one in sizes]


def _answer(mail: bytes) -> tuple[str, list[Any] | None]:
    """The mail's SHA-256 and its digest; None when that needs a process with limits."""
    made = digest_here(mail)
    return hashlib.sha256(mail).hexdigest(), None if made is None else confined.pack(made)
