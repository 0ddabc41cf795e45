"""The confined child's side of confined.py: limits first, then parse what comes on standard input."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from inboxd.errors import Invalid, NotFound, Unparsable
from inboxd.mail import confined, elements
from inboxd.mail.parse import described, in_order
from inboxd.mail.parts import attachment_of, body_of, images_of, part_of


def main(arguments: Sequence[str]) -> None:
    """Answer one of MAKERS, its argument in JSON; the exit status says how it went."""
    memory_bytes, cpu_seconds, _ = confined.limits_of(os.fstat(sys.stdin.fileno()).st_size)
    limit(resource.RLIMIT_AS, memory_bytes)
    limit(resource.RLIMIT_CPU, cpu_seconds, grace=1)
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_NOFILE, 16)
    make = MAKERS[arguments[0]]
    try:
        answer = make(sys.stdin.buffer.read(), json.loads(arguments[1]) if len(arguments) > 1 else None)
    except NotFound as error:
        _leave(confined.NOT_FOUND, error)
    except Unparsable as error:
        _leave(confined.UNPARSABLE, error)
    except Invalid as error:
        _leave(confined.INVALID, error)
    except MemoryError:
        _leave(confined.UNPARSABLE, f"parsing needs more than {memory_bytes >> 20} MiB")
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


def _json(answer: object) -> bytes:
    return json.dumps(answer).encode()


# Made of the mail, or the HTML, on standard input, and an argument.
MAKERS: dict[str, Callable[[bytes, Any], bytes]] = {
    "digest": lambda mail, _: confined.write_digest(in_order(mail, described)),
    "body": lambda mail, _: _json(asdict(in_order(mail, body_of))),
    "attachment": lambda mail, position: in_order(mail, lambda _, parts: attachment_of(parts, position)),
    "part": lambda mail, wanted: in_order(mail, lambda _, parts: part_of(parts, *wanted)).encode(),
    "images": lambda mail, _: _json(in_order(mail, lambda _, parts: images_of(parts))),
    "links": lambda source, selector: _json(elements.links(source.decode(), selector)),
    "lines": lambda source, selector: _json(elements.lines(source.decode(), selector)),
}
