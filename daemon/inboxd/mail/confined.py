"""Parsing in a child process with limits, for mail that may be built to hurt: see child.py for its side.

The child gets the raw mail, or HTML, as the file that is its standard input, and answers on standard output; it
inherits no other descriptors, no environment and no site packages of the user. It sets its own limits, because code
between fork and exec is unsafe beside threads.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from inboxd.errors import Invalid, NotFound, Unparsable
from inboxd.mails import Address, Attachment, Body, Bounce, Digest, Spooled
from inboxd.model import AttachmentId

# For any mail, and beside that for each of its octets.
MEMORY_BYTES = 512 << 20
CPU_SECONDS = 5
WALL_SECONDS = 10.0
MEMORY_BYTES_A_BYTE = 4
BYTES_A_SECOND = 10_000_000
NOT_FOUND = 3
UNPARSABLE = 4
INVALID = 5

_DEATHS: dict[int, str] = {
    signal.SIGXCPU: "parsing needs more than {cpu_seconds} s of CPU time",
    signal.SIGABRT: "parsing needs more than {memory_mib} MiB",
}
PATHS = [str(Path(__file__).resolve().parents[2]), *(path for path in sys.path if path.endswith("-packages"))]
_START = f"import sys; sys.path[:0] = {PATHS!r}; from inboxd.mail.child import main; main(sys.argv[1:])"


def digest(mail: bytes | Spooled) -> Digest:
    """The digest as the child makes it; Unparsable when it fails, dies or takes too long."""
    return read_digest(_run(mail, "digest"))


def body(mail: bytes) -> Body:
    """The body as the child makes it; Unparsable likewise."""
    return Body(**json.loads(_run(mail, "body")))


def attachment(mail: bytes, position: int) -> bytes:
    """The attachment at `position` as the child finds it; NotFound, or Unparsable likewise."""
    return _run(mail, "attachment", str(position))


def part(mail: bytes, content_type: str, index: int, *, strict: bool) -> str:
    """The text of a part as the child finds it; NotFound, or Unparsable likewise."""
    return _run(mail, "part", json.dumps([content_type, index, strict])).decode()


def images(mail: bytes) -> dict[str, str]:
    """The inline images as the child finds them; Unparsable likewise."""
    return json.loads(_run(mail, "images"))


def links(html: str, selector: str | None) -> list[str]:
    """The links of HTML, within what `selector` matches where it is given; Invalid, or Unparsable likewise."""
    return json.loads(_run(html.encode(), "links", json.dumps(selector)))


def lines(html: str, selector: str) -> list[str]:
    """The lines of text of the elements that `selector` matches; Invalid, or Unparsable likewise."""
    return json.loads(_run(html.encode(), "lines", json.dumps(selector)))


def write_digest(made: Digest) -> bytes:
    """A digest as the child sends it."""
    return json.dumps(pack(made)).encode()


def read_digest(answer: bytes) -> Digest:
    """A digest as the child sent it."""
    return unpack(json.loads(answer))


def pack(made: Digest) -> list[Any]:
    """A digest as JSON can say it: its fields in order."""
    packed = [getattr(made, name) for name in _FIELDS]
    for place, write, _ in _PACKED:
        packed[place] = write(packed[place])
    return packed


def unpack(packed: list[Any]) -> Digest:
    """A digest as it was before it was packed."""
    for place, _, read in _PACKED:
        packed[place] = read(packed[place])
    return Digest(*packed)


def _pack_address(one: Address) -> list[str | None]:
    return [one.raw, one.address, one.name]


def _pack_attachment(one: Attachment) -> list[Any]:
    return [str(one.id), one.position, one.name, one.content_type, one.size_bytes, one.content_id]


def _unpack_attachment(key: str, *rest: Any) -> Attachment:
    return Attachment(AttachmentId(UUID(key)), *rest)


def _pack_bounce(one: Bounce) -> list[str]:
    return [one.message_id, one.recipient, one.action, one.status, one.words]


def _several(
    pack_one: Callable[[Any], object], unpack_one: Callable[..., object]
) -> tuple[Callable[[Any], object], Callable[[Any], object]]:
    return lambda records: [pack_one(one) for one in records], lambda rows: tuple([unpack_one(*row) for row in rows])


_FIELDS = [field.name for field in fields(Digest)]
_ADDRESSES = _several(_pack_address, Address)
# What JSON does not know by itself: how it is written, how it is read.
_WRITTEN: dict[str, tuple[Callable[[Any], object], Callable[[Any], object]]] = {
    "sender": (lambda one: one and _pack_address(one), lambda row: row and Address(*row)),
    "to": _ADDRESSES,
    "cc": _ADDRESSES,
    "bcc": _ADDRESSES,
    "date": (lambda moment: moment and moment.isoformat(), lambda text: text and datetime.fromisoformat(text)),
    "part_types": (list, tuple),
    "attachments": _several(_pack_attachment, _unpack_attachment),
    "bounces": _several(_pack_bounce, Bounce),
}
_PACKED = [(_FIELDS.index(name), *both) for name, both in _WRITTEN.items()]


def limits_of(size_bytes: int) -> tuple[int, int, float]:
    """What the child may take: memory in bytes, CPU time and time in seconds."""
    seconds = size_bytes // BYTES_A_SECOND
    return MEMORY_BYTES + MEMORY_BYTES_A_BYTE * size_bytes, CPU_SECONDS + seconds, WALL_SECONDS + seconds


def _run(given: bytes | Spooled, *what: str) -> bytes:
    command = [sys.executable, "-I", "-S", "-c", _START, *what]
    memory_bytes, cpu_seconds, wall_seconds = limits_of(len(given))
    try:
        child = _ended(command, given, wall_seconds)
    except subprocess.TimeoutExpired as error:
        raise Unparsable(f"parsing took more than {wall_seconds:g} s") from error
    except OSError as error:
        raise Unparsable(f"the parser could not be started: {error.strerror}") from error
    if child.returncode == 0:
        return child.stdout
    words = child.stderr.decode("utf-8", "replace").strip().splitlines()
    if words and child.returncode == NOT_FOUND:
        raise NotFound(words[-1])
    if words and child.returncode == UNPARSABLE:
        raise Unparsable(words[-1])
    if words and child.returncode == INVALID:
        field, _, mistake = words[-1].partition(": ")
        raise Invalid(field, mistake)
    death = _DEATHS.get(-child.returncode, f"the parser died with status {child.returncode}")
    raise Unparsable(death.format(cpu_seconds=cpu_seconds, memory_mib=memory_bytes >> 20))


def _ended(command: list[str], given: bytes | Spooled, seconds: float) -> subprocess.CompletedProcess[bytes]:
    """Files on both sides: what comes through a pipe is held in pieces, and once more when they are joined."""
    with _memory() as memory, _memory() as answer:
        if not isinstance(given, Spooled):
            memory.write(given)
            memory.flush()
        source = given.fileno() if isinstance(given, Spooled) else memory.fileno()
        os.lseek(source, 0, os.SEEK_SET)
        child = subprocess.run(  # noqa: S603
            command, stdin=source, stdout=answer, stderr=subprocess.PIPE, timeout=seconds, env={}, cwd="/", check=False
        )
        answer.seek(0)
        return subprocess.CompletedProcess(command, child.returncode, answer.read(), child.stderr)


def _memory() -> BinaryIO:
    return os.fdopen(os.memfd_create("mail", os.MFD_CLOEXEC), "w+b")
