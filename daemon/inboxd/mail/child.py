"""The confined child's side of confined.py: limits first, then parse what comes on standard input."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from inboxd.errors import NotFound, Unparsable
from inboxd.mail import confined
from inboxd.mail.parse import in_order
from inboxd.mail.parts import Part, attachment_of, body_of, digest_of


def main(arguments: Sequence[str]) -> None:
    """Answer one of `digest`, `body`, `attachment POSITION`; the exit status says how it went."""
    limit(resource.RLIMIT_AS, confined.MEMORY_BYTES)
    limit(resource.RLIMIT_CPU, confined.CPU_SECONDS, grace=1)
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_NOFILE, 16)
    make = MAKERS[arguments[0]](arguments[1:])
    try:
        answer = in_order(sys.stdin.buffer.read(), make)
    except NotFound as error:
        _leave(confined.NO_SUCH_ATTACHMENT, error)
    except Unparsable as error:
        _leave(confined.UNPARSABLE, error)
    except MemoryError:
        _leave(confined.UNPARSABLE, f"parsing needs more than {confined.MEMORY_BYTES >> 20} MiB")
    else:
        sys.stdout.buffer.write(answer)


def limit(what: int, most: int, *, grace: int = 0) -> None:
    """Lower a resource limit of this process, the hard one `grace` above; never above what the process was given."""
    _, hard = resource.getrlimit(what)
    hard = most + grace if hard == resource.RLIM_INFINITY else min(most + grace, hard)
    resource.setrlimit(what, (min(most, hard), hard))


def _leave(status: int, reason: object) -> None:
    sys.stderr.write(f"{reason}\n")
    sys.exit(status)


MAKERS: dict[str, Callable[[Sequence[str]], Callable[[bytes, list[Part]], bytes]]] = {
    "digest": lambda _: lambda mail, parts: confined.write_digest(digest_of(mail, parts)),
    "body": lambda _: lambda mail, parts: json.dumps(asdict(body_of(mail, parts))).encode(),
    "attachment": lambda rest: lambda _, parts: attachment_of(parts, int(rest[0])),
}
