"""Raw mail to records: the fast parser first, the lenient one for what it refuses, a child for what looks hostile.

All of it blocks and belongs in a worker thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from inboxd.errors import Unparsable
from inboxd.mail import confined, fast, headers, lenient, reports
from inboxd.mail.headers import Headers
from inboxd.mail.parts import Part, attachment_of, body_of, digest_of, images_of, part_of
from inboxd.mails import Body, Digest, Spooled

T = TypeVar("T")

MAX_DELIMITERS = 1_000
MAX_DELIMITERS_LENIENT = 100
MAX_WORDS = 5_000
MAX_HERE_BYTES = 8 << 20  # what its parts take is as much again, and more
MAX_TRUSTED_BYTES = 1 << 20
MAX_TRUSTED_ENCLOSING_BYTES = 16 << 20
MAX_ENCLOSED = 2

# What may be said of a part in encoded words, which this does not read.
_DISGUISED = re.compile(rb"content-t(?:ype|ransfer-encoding)[ \t]*:[^;:]*=\?")


def digest(raw: bytes | bytearray | Spooled) -> Digest:
    """What the mail is about. Never raises: a mail no parser can read gives a Digest with nothing but its `defect`.

    A spooled mail is read by the child alone.
    """
    try:
        if isinstance(raw, Spooled):
            return confined.digest(raw)
        return _anywhere(raw, described, confined.digest)
    except Unparsable as error:
        return Digest(defect=str(error))


def digest_here(mail: bytes) -> Digest | None:
    """As `digest`, where that needs no process of its own; None where it does."""
    if is_suspicious(mail):
        return None
    try:
        return in_order(mail, described, _elsewhere)
    except _Elsewhere:
        return None
    except Unparsable as error:
        return Digest(defect=str(error))


class _Elsewhere(Exception):
    """The mail is to be parsed in a process with limits."""


def _elsewhere(_mail: bytes) -> Digest:
    raise _Elsewhere


def described(raw: bytes, parts: list[Part]) -> Digest:
    """What a mail with these leaves is about, and what it says of others where it is a delivery notice."""
    made = digest_of(raw, parts)
    told = reports.bounces(raw, parts)
    return replace(made, bounces=told) if told else made


def body(raw: bytes | bytearray) -> Body:
    """The readable content and all header fields. Never raises: an unreadable mail still has its header fields."""
    try:
        return _anywhere(raw, body_of, confined.body)
    except Unparsable:
        return Body(text=None, html=None, headers=Headers(bytes(raw)).decoded())


def attachment(raw: bytes | bytearray, position: int) -> bytes:
    """The decoded bytes of the attachment that `digest` lists at `position`; NotFound, or Unparsable."""
    return _anywhere(
        raw, lambda _, parts: attachment_of(parts, position), lambda mail: confined.attachment(mail, position)
    )


def part(raw: bytes | bytearray, content_type: str, index: int, *, strict: bool) -> str:
    """The text of the part at `index` among those of a content type, as by `parts.part_of`; NotFound, or Unparsable."""
    return _anywhere(
        raw,
        lambda _, parts: part_of(parts, content_type, index, strict),
        lambda mail: confined.part(mail, content_type, index, strict=strict),
    )


def images(raw: bytes | bytearray) -> dict[str, str]:
    """The images that the mail's HTML may show, as data URIs by Content-ID, at most 8 MiB of them; or Unparsable."""
    return _anywhere(raw, lambda _, parts: images_of(parts), confined.images)


def _anywhere(raw: bytes | bytearray, make: Callable[[bytes, list[Part]], T], confine: Callable[[bytes], T]) -> T:
    mail = bytes(raw)
    return confine(mail) if len(mail) > MAX_HERE_BYTES or is_suspicious(mail) else in_order(mail, make, confine)


def is_suspicious(mail: bytes) -> bool:
    """Whether parsing might cost more memory or time than the mail's size warrants.

    An empty part costs 5 octets in the mail and about 430 parsed; enclosed mails may hide such parts in base64, and
    each costs its size once more. The fast parser is quadratic in encoded words (50,000 of them: 2.5 s), those at the
    top excepted: it does not see them.
    """
    if _exceeds(mail, b"\n--", MAX_DELIMITERS):
        return True
    if _exceeds(mail, b"=?", MAX_WORDS) and mail.count(b"=?", headers.block_end(mail)) > MAX_WORDS:
        return True
    return len(mail) > MAX_TRUSTED_BYTES and fast.encloses_mail(mail) and _may_hide_parts(mail)


def _may_hide_parts(mail: bytes) -> bool:
    """Whether a mail enclosed in this one is transfer-encoded, as none may be (RFC 2046 §5.2.1), or they are many."""
    if len(mail) > MAX_TRUSTED_ENCLOSING_BYTES:
        return True
    lowered = mail.lower()
    if _DISGUISED.search(lowered):
        return True
    at = 0
    for _ in range(MAX_ENCLOSED + 1):
        at = lowered.find(b"message/", at)
        if at < 0:
            return False
        start = max(lowered.rfind(b"\n--", 0, at), 0)
        end = at + headers.block_end(lowered[at : at + headers.MAX_BLOCK_BYTES])
        if b"base64" in lowered[start:end] or b"quoted-printable" in lowered[start:end]:
            return True
        at += 1
    return True


def _exceeds(mail: bytes, marker: bytes, most: int) -> bool:
    """Whether `marker` occurs more than `most` times, judged from its last octet, which base64 hardly ever holds.

    Looking for one octet is up to 20 times as fast as counting, as long as few are found.
    """
    if len(mail) <= most * len(marker):
        return False
    before = len(marker) - 1
    found, at = 0, before
    for _ in range(2 * most):
        at = mail.find(marker[-1:], at)
        if at < 0:
            return False
        found += mail.startswith(marker, at - before)
        at += 1
    return found + mail.count(marker, at - before) > most


def _is_cheap(mail: bytes) -> bool:
    """Whether the lenient parser may work on it here: each line costs it one match for each level of nesting."""
    return len(mail) <= MAX_TRUSTED_BYTES and not _exceeds(mail, b"\n--", MAX_DELIMITERS_LENIENT)


def in_order(mail: bytes, make: Callable[[bytes, list[Part]], T], confine: Callable[[bytes], T] | None = None) -> T:
    """What `make` makes of the mail's leaves; a costly mail the first parser refuses is handed to `confine`.

    Unparsable when no parser can read it.
    """
    try:
        return make(mail, fast.read(mail))
    except (fast.ParseError, *lenient.FAULTS) as error:
        refusal = f"{type(error).__name__}: {error}"
    if confine is not None and not _is_cheap(mail):
        return confine(mail)
    try:
        return make(mail, lenient.read(mail))
    except lenient.FAULTS as error:
        reason = f"no parser can read it ({refusal[:200]}; {type(error).__name__}: {str(error)[:200]})"
        raise Unparsable(reason) from error
