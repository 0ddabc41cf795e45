"""Header fields for mail of our own: ASCII on the wire, folded, with nothing in them that could end a line."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence

from inboxd.errors import Invalid

MAX_NAME = 76
FOLD_AT = 76
MAX_WORD = 900
_WORD_START, _WORD_END = "=?utf-8?b?", "?="

_BREAKS = re.compile("[\r\n\0\ud800-\udfff]")
_FIELD_NAME = re.compile(r"[!-9;-~]+\Z")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+\Z")
_SPECIALS = re.compile(r'(["\\])')


def check(field: str, value: str) -> str:
    """`value` itself; Invalid naming `field` when it holds CR, LF, NUL or half a character."""
    if _BREAKS.search(value):
        raise Invalid(field, "must not hold line breaks or NUL")
    return value


def check_name(field: str, name: str) -> str:
    """`name` itself; Invalid naming `field` when it cannot be a header field's name (RFC 5322 §3.6.8)."""
    if len(name) > MAX_NAME or not _FIELD_NAME.match(name):
        raise Invalid(field, f"{name[:80]!a} cannot be the name of a header field")
    return name


def text_field(name: str, value: str) -> str:
    """An unstructured field with its CRLF; what is not plain ASCII becomes encoded words (RFC 2047)."""
    value = value.strip()
    if _is_plain(value) and max(map(len, value.split(" "))) <= MAX_WORD:
        return f"{name}: {_folded(value, len(name) + 2)}\r\n"
    return f"{name}: {_encoded(value, len(name) + 2)}\r\n"


def address_field(name: str, mailboxes: Sequence[str]) -> str:
    """A field of mailboxes with its CRLF, one mailbox a line. They come from `mailbox` or are bare addresses."""
    joined = ",\r\n ".join(mailboxes)
    return f"{name}: {joined}\r\n"


def mailbox(display_name: str | None, address: str) -> str:
    """A display name with an address, quoted or encoded as needed."""
    name = (display_name or "").strip()
    if not name:
        return address
    if not _is_plain(name) or len(name) > FOLD_AT:
        return f"{_encoded(name, len('Reply-To: '))}\r\n <{address}>"
    if _ATOMS.match(name):
        return f"{name} <{address}>"
    quoted = _SPECIALS.sub(r"\\\1", name)
    return f'"{quoted}" <{address}>'


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable() and "=?" not in value


def _folded(value: str, column: int) -> str:
    """`value` broken before white space so that lines stay under 78 characters where words allow."""
    lines = [""]
    for token in re.findall(r" *[^ ]+", value):
        if lines[-1] and column + len(token) > FOLD_AT:
            lines.append("")
            column = 0
        lines[-1] += token
        column += len(token)
    return "\r\n".join(lines)


def _encoded(value: str, column: int) -> str:
    words = (_WORD_START + base64.b64encode(chunk).decode("ascii") + _WORD_END for chunk in _chunks(value, column))
    return "\r\n ".join(words)


def _chunks(value: str, column: int) -> Iterator[bytes]:
    """UTF-8 of whole characters, so little at a time that each encoded word stays within its line."""
    around = len(_WORD_START) + len(_WORD_END)
    room = (FOLD_AT - column - around) // 4 * 3
    chunk = b""
    for character in value:
        octets = character.encode()
        if chunk and len(chunk) + len(octets) > room:
            yield chunk
            chunk = b""
            room = (FOLD_AT - 1 - around) // 4 * 3
        chunk += octets
    yield chunk
